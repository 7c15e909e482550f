"""The NeuralOS model family at the size `tiny`: 128x96 frames, an f8 encoder, a 12x16 latent grid.

A frame's way through this folder, top to bottom:

encoder      a frame becomes a latent (16, 12, 16) and back
windows      stored latents and actions become the tensors of one training batch
tracker      actions and the frame before become a map of what the screen should show
renderer     a map becomes the frame's latent, by diffusion
model        both as one module that returns a loss, for the Hugging Face Trainer
rollout      both as a player: one action in, one frame out, state carried
suites       held-out episodes, replayed: true frames, what else could have been, what is judged
evaluate     a checkpoint judged on a suite
examiner     which episodes judge it
recipe       the training settings that were measured to work
build_*      the shipped base model, made again from its seeds
"""
