"""How a run trains `tiny`: settings measured on one thread of two shared cores (see `Recipe`)."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of continual training from the shipped base."""

    batch_size: int = 12
    window: int = 24
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    save_every: int = 100  # steps between automatic checkpoints


RECIPE = Recipe()
