"""Which samples the next step draws, and how they come to it.

adopt, cohorts, planner          which revision of the buffer a run sees, from which step on
adoptions                        which it has seen, in SQL
sampler, shares, slice_sampler   pure: the next step's samples, by exact shares over slices
passes, members, permutation     pure: each sample of a slice once a pass, in keyed order
owners, history                  pure: nobody's samples fill a pass, nothing twice in a step
stream                           drawn samples as arrays, read ahead of the step and rewindable
shard_files                      the files that they are read from, verified and found again
"""
