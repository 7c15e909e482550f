"""Data used: samples of the buffer become optimizer steps of a running job.

A batch's way through this folder, top to bottom:

encode           frames into latents, a worker of its own
adopt            which revision of the buffer a run sees, and from which step on
cohorts, mix     pure: what is drawn next, by exact shares
stream           drawn samples as tensors, prefetched and rewindable
interactive      a transformers.Trainer that obeys commands at step boundaries
commands, inbox  what may be asked of a run, and how it arrives
health, policy   what is wrong with a run, named, and a file's answers to it
checkpoints      verified, restorable states; metrics leave beside the loop
run              a run's outer life: lease, resume, end
evaluate         held-out sessions judge a checkpoint, in a process of its own
neuralos/        the model family: encoder, tracker, renderer, evaluation
"""
