"""A run's life: one process that trains, obeys at step boundaries, and goes on after any end.

__main__, rows            `python -m trainer.run`: a run's row is found or made
training                  every part put together, and taken apart in order
take_over, rerun          what a process that died had recorded, done again
boundary                  between two steps: the one place where a run changes
orders, follower          what rank 0 tells the other ranks to do, and how they do the same
supply                    mix, adoptions and stream as one: the next batch
settling, apply, effect   a command is carried out, or refused with the reason
limit                     how far a limited key's command may move the rates
tuning, aspects           what is learnt and how fast; what was in force, and back to it
live                      where the run stands; saved and restored as a whole
"""
