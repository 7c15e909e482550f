"""A transformers.Trainer that is steered: Hugging Face's loop as it is, and what may change in it.

interactive                any Trainer class, made to obey at its step boundaries
observed, update_ratio     what a step really did, seen where it happens
schedule, groups           the live learning rate, by parameter group
optimizer_settings         betas, eps, weight decay, momentum, where the optimizer has them
modules, frozen, resetting modules by name: what stands still, and what starts anew
"""
