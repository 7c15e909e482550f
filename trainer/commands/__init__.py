"""What may be asked of a run, and the way from whoever asks to the trainer's memory.

kinds, course             the closed union of commands; the course of a learning rate
references, inline_mix    what a command names, looked up; a mix that it brings along
idempotency, undoing      once however often it is sent; what may be undone
limits                    how many commands and how far a rate, where a key is limited
queue, approval           stored in one order, settled by the run that holds the lease; proposals
inbox                     received: in memory between two steps, once each
"""
