"""Data used: samples of the buffer become optimizer steps of a running job.

A batch's way through this folder, top to bottom:

encode                              frames into latents, a worker of its own
adopt, planner, cohorts, adoptions  which revision of the buffer a run sees, from which step on
mix, shares, slice_sampler, passes  pure: which samples the next step draws, by exact shares
supply, stream                      drawn samples as tensors, read ahead and rewindable
interactive, boundary               a transformers.Trainer that obeys at step boundaries
observed, metrics, journal          what a step really did, carried to SQL beside the loop
health, policy                      what is wrong with a run, named, and a file's answers to it
checkpoints, register, hf_state     verified states of the whole run, and which there are
evaluate                            held-out sessions judge a checkpoint, another worker
neuralos/                           the model family: encoder, tracker, renderer, evaluation

A command's way meets it at the boundary:

commands, references, command_queue what may be asked, checked, and stored in order
idempotency, inline_mix             once however often it is sent; its weights as a stored mix
inbox                               it reaches the trainer's memory
settling, apply, tuning, live       it is carried out between two steps, or refused with the reason
schedule, course, groups            the rate, its course over the next steps, by parameter group
optimizer_settings                  betas, eps, weight decay, momentum, where the optimizer has them
modules, frozen, resetting          modules by name: what stands still, and what starts anew
aspects, undoing                    what was in force before, and what may be brought back

A run's life holds both: `run` begins a process, `training` puts the parts together and takes them
apart, `lease` and `holder` see that one process holds the run, `take_over`, `rerun` and `lineage`
let the next one go on exactly where a dead one was.
"""
