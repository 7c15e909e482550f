"""Pure checks of what a run really did, from its steps as recorded and the client's own clock.

A command answered `received` at client time t must hold in every step that began after t. The
judge here is the lr that the optimizer had and the sample numbers in the batch, never the word of
the command's row.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepSeen:
    """One optimizer step as recorded: `started_at` in seconds since 1970."""

    branch: str
    step: int
    started_at: float
    lr: float
    samples: tuple[int, ...]


def began_after(steps: Iterable[StepSeen], branch: str, received_at: float) -> list[StepSeen]:
    """Steps of one branch that began after a command was answered `received`, in order."""
    return sorted(
        (s for s in steps if s.branch == branch and s.started_at > received_at),
        key=lambda s: s.step,
    )


def stale_lr_steps(steps: Sequence[StepSeen], lr: float) -> int:
    """How many of these steps ran with another learning rate."""
    return sum(1 for s in steps if s.lr != lr)


def worst_share_error(
    steps: Sequence[StepSeen], members: Collection[int], share: float
) -> tuple[float, int]:
    """Largest |drawn - share * n| over every prefix of the draws, and the number of draws n.

    The sampler promises that it stays below the number of slices (ARCHITECTURE.md, mix).
    """
    drawn, total, worst = 0, 0, 0.0
    for step in steps:
        for number in step.samples:
            total += 1
            drawn += number in members
            worst = max(worst, abs(drawn - share * total))
    return worst, total


def began_between(steps: Iterable[StepSeen], start: float, end: float) -> int:
    """How many steps began inside a span of the client's clock (a pause: none may)."""
    return sum(1 for s in steps if start < s.started_at < end)


@dataclass(frozen=True, slots=True)
class Repeat:
    """How a branch repeated its parent after a rollback that held the data."""

    num_steps: int
    differing_losses: int
    differing_samples: int

    @property
    def is_exact(self) -> bool:
        """Whether anything was compared and all of it was equal, bit for bit."""
        return self.num_steps > 0 and self.differing_losses == 0 and self.differing_samples == 0


def compare_repeat(
    first: Mapping[int, StepSeen],
    again: Mapping[int, StepSeen],
    first_loss: Mapping[int, float],
    again_loss: Mapping[int, float],
) -> Repeat:
    """Compare the steps that both branches took, by step number."""
    both = sorted(first.keys() & again.keys() & first_loss.keys() & again_loss.keys())
    return Repeat(
        num_steps=len(both),
        differing_losses=sum(first_loss[step] != again_loss[step] for step in both),
        differing_samples=sum(first[step].samples != again[step].samples for step in both),
    )
