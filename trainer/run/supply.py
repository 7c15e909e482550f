"""What a run draws from, as the run sees it: the buffer through a mix, or somebody's own dataset.

In: how many micro-batches a step takes. Out: its samples, and a position that a checkpoint holds.
Guaranteed by each: the same position gives the same samples, and the state is that of the last step
handed out, whatever was read ahead.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from trainer.checkpoints.folder import RunPosition
from trainer.commands.references import MixVersion
from trainer.family import Tensors
from trainer.journal.entries import Entry
from trainer.mix.adopt import AdoptionPlan
from trainer.mix.permutation import IntArray
from trainer.mix.sampler import MixStatus


@dataclass(frozen=True, slots=True)
class Repeat:
    """Adoptions that a branch had seen, to be taken again, none newer before `until_step` is done.

    The branch is the run's own after a crash, or the one whose data a rollback holds.
    """

    branch: str
    until_step: int
    is_own: bool


@dataclass(frozen=True, slots=True)
class Drawn:
    """One step's samples: their numbers in draw order, int64, and the model's arguments."""

    numbers: IntArray
    micro_batches: list[Tensors]


class Supply(Protocol):
    """The training thread's own."""

    mix: MixVersion
    adoption: int
    hold_until: int | None

    @property
    def status(self) -> MixStatus:
        """Wanted and actual shares, as of the last step."""

    def draw(self, num_micro_batches: int) -> Drawn:
        """The next step's samples. Raises NothingToDraw when there are none for now."""

    def check_mix(self, mix: MixVersion, field: str) -> None:
        """Raises CommandRefused, naming the command's field, where there is nothing to mix."""

    def set_mix(self, mix: MixVersion) -> None:
        """Draw from another mix, which was checked, from the next step on."""

    def adopt(self, branch: str, next_step: int) -> list[Entry]:
        """Take over what is due before `next_step`; the answer is to be journalled."""

    def is_adopting(self, next_step: int) -> bool:
        """Whether `adopt` would take anything over before `next_step`."""

    def take(self, plan: AdoptionPlan) -> None:
        """Take over what another rank has decided upon."""

    def state_dict(self) -> dict[str, Any]:
        """The position after the last step."""

    def restore(self, position: RunPosition, repeats: Sequence[Repeat]) -> None:
        """Stand where a checkpoint did. Raises OperationalError with nothing changed."""

    def close(self) -> None:
        """Let go of threads, workers and files."""
