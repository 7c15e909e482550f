"""What a command names: a mix, a checkpoint, a branch, looked up in SQL.

In: a session and a name. Out: what is meant, or `CommandRefused` with the field and the fix. The
queue asks when a command is submitted and the trainer asks again where it is received.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from ingest.slices import SliceError, get_mix, shares_of
from trainer.commands.kinds import AnyCommand, MixChange, Rollback, Save, SetMix
from trainer.mix.adopt import policies
from trainer.mix.slice_sampler import SlicePolicy
from trainer.tables import UNSETTLED, Branch, Checkpoint, Command

NAMES_SHOWN = 5


class CommandRefused(ValueError):
    """A command that can not be carried out: which argument, and why."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field
        self.detail = detail


@dataclass(frozen=True, slots=True)
class MixVersion:
    """One version of a mix: shares by slice, which sum to 1, and the slices' own limits.

    The limits are those of the moment at which the mix was taken over, and stay with it.
    """

    name: str
    version: int
    shares: dict[str, float]
    policies: dict[str, SlicePolicy]


def find_mix(session: Session, change: MixChange, field: str = "name") -> MixVersion:
    """The mix that is meant, in its newest version unless one is named.

    Raises CommandRefused naming `field`, also for weights that nobody has stored as a version.
    """
    if change.name is None:
        raise CommandRefused(field, "the weights were never stored; ask for them through the API")
    try:
        mix = get_mix(session, change.name, change.version)
    except SliceError as error:
        raise CommandRefused(field, str(error)) from error
    shares = shares_of(mix)
    return MixVersion(mix.name, mix.version, shares, policies(session, shares))


def mix_of(command: AnyCommand) -> MixChange | None:
    """The mix that a command asks for, if any."""
    if isinstance(command, SetMix):
        return command
    return command.set_mix if isinstance(command, Rollback) else None


def check_references(session: Session, run_id: str, command: AnyCommand) -> None:
    """Refuse a command whose mix, checkpoint or branch could not be taken.

    A checkpoint that an unsettled `save` will make counts as there. Raises CommandRefused.
    """
    if isinstance(command, Save) and command.name is not None:
        _check_name_is_free(session, run_id, command.name)
    if isinstance(command, Rollback):
        _check_checkpoint(session, run_id, command.checkpoint)
        _check_branch_is_free(session, run_id, command.branch)
    change = mix_of(command)
    if change is not None and change.weights is None:
        find_mix(session, change, "name" if isinstance(command, SetMix) else "set_mix.name")


def _check_name_is_free(session: Session, run_id: str, name: str) -> None:
    taken = select(Checkpoint).where(Checkpoint.run_id == run_id, Checkpoint.name == name)
    if session.scalars(taken).first() is not None:
        raise CommandRefused("name", f"the run has a checkpoint {name!r}; choose another name")


def _check_branch_is_free(session: Session, run_id: str, branch: str | None) -> None:
    if branch is not None and session.get(Branch, (run_id, branch)) is not None:
        raise CommandRefused("branch", f"the run has a branch {branch!r}; choose another name")


def _check_checkpoint(session: Session, run_id: str, wanted: str) -> None:
    known = select(Checkpoint).where(
        Checkpoint.run_id == run_id,
        Checkpoint.removed_at.is_(None),
        or_(Checkpoint.checkpoint_id == wanted, Checkpoint.name == wanted),
    )
    if session.scalars(known).first() is not None:
        return
    coming = select(Command.args_json).where(
        Command.run_id == run_id,
        Command.kind == "save",
        Command.state.in_(UNSETTLED),
    )
    if wanted not in {json.loads(args).get("name") for args in session.scalars(coming)}:
        newest = (
            select(Checkpoint.name)
            .where(Checkpoint.run_id == run_id, Checkpoint.removed_at.is_(None))
            .order_by(Checkpoint.created_at.desc())
            .limit(NAMES_SHOWN)
        )
        raise no_checkpoint(wanted, session.scalars(newest).all())


def no_checkpoint(wanted: str, newest: Sequence[str]) -> CommandRefused:
    """The refusal of a checkpoint that a run does not have; it names some that it has."""
    known = f"its newest are {', '.join(newest)}" if newest else "it has none yet"
    return CommandRefused("checkpoint", f"the run has no checkpoint {wanted!r}; {known}")
