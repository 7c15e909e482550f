"""Data used: samples of the buffer become optimizer steps of a running job.

A batch's way through this folder, top to bottom; each folder's own page maps it:

encode        frames into latents, a worker of its own
ranks/        several processes that train one run
mix/          which samples the next step draws, by exact shares; drawn samples as arrays
commands/     what may be asked of a run, and how it reaches the trainer's memory
journal/      what a run did, carried to SQL beside the loop
checkpoints/  verified states of the whole run
loop/         a transformers.Trainer that is steered at step boundaries
health/       what is wrong with a run, named, and a file's answers to it
run/          a run's life, in which all of these meet
recipes       the model families by name
family        what a run asks of a model family
neuralos/     a model family: encoder, tracker, renderer, evaluation
causal_lm/    a model family: GPT-2 on documents
evaluate      held-out samples judge a checkpoint, another worker
"""
