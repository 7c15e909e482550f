"""What may be undone: a command that is the latest of its kind on the branch the run is on.

In: the branch's applied commands in their order. Out: the one to be undone with what it had found,
or `NotUndoable` with the reason. What was undone counts as if it had never been, so that commands
are undone one after the other, newest first. The API asks before it stores an undo, from the rows;
the trainer asks again where it is applied, from memory, for rows may lag behind.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from trainer.commands.references import CommandRefused
from trainer.tables import UNSETTLED, Command, Run

# Kinds that change the same thing are of one kind here.
_ASPECTS = {
    "set_lr": "lr",
    "set_optimizer": "optimizer",
    "set_mix": "mix",
    "freeze": "frozen",
    "unfreeze": "frozen",
    "pause": "paused",
    "resume": "paused",
    "rollback": "rollback",
}


class NotUndoable(CommandRefused):
    """The command can not be undone any more, or never could."""

    def __init__(self, detail: str) -> None:
        super().__init__("command", detail)


@dataclass(frozen=True, slots=True)
class Done:
    """A command that was applied, and what was in force before it."""

    command_id: str
    number: int
    kind: str
    arguments: Mapping[str, Any]
    before: Mapping[str, Any]


class Undoables:
    """The applied commands of one branch that were not undone, by what they change."""

    def __init__(self) -> None:
        self._done: dict[str, list[Done]] = {}

    def note(self, done: Done) -> None:
        """A command was applied; to be told of each, in order."""
        if done.kind == "undo":
            undone = done.arguments["command"]
            for stack in self._done.values():
                if stack and stack[-1].command_id == undone:
                    stack.pop()
        elif done.kind in _ASPECTS:
            self._done.setdefault(_ASPECTS[done.kind], []).append(done)

    def find(self, command_id: str) -> Done:
        """The command, where it may be undone. Raises NotUndoable."""
        for stack in self._done.values():
            for done in stack:
                if done.command_id == command_id:
                    return _latest(done, stack[-1])
        raise NotUndoable("it does not hold on the run's branch, or was undone before")


def _latest(wanted: Done, latest: Done) -> Done:
    if wanted is not latest:
        raise NotUndoable(f"{latest.kind} #{latest.number} came after it; undo that first")
    return wanted


def load_undoables(session: Session, run_id: str, branch: str) -> Undoables:
    """What may be undone on a branch, as far as its rows say."""
    undoables = Undoables()
    for row in session.scalars(
        select(Command)
        .where(
            Command.run_id == run_id,
            Command.branch == branch,
            Command.state == "applied",
            Command.kind.in_((*_ASPECTS, "undo")),
        )
        .order_by(Command.number)
    ):
        undoables.note(
            Done(
                row.command_id,
                row.number,
                row.kind,
                json.loads(row.args_json),
                json.loads(row.before_json or "{}"),
            )
        )
    return undoables


def check_undo(session: Session, run_id: str, command_id: str) -> Command:
    """The command that may be undone, before its undo is stored. Raises NotUndoable."""
    row = session.get(Command, command_id)
    if row is None or row.run_id != run_id:
        raise NotUndoable("the run was never asked for such a command")
    if row.kind not in _ASPECTS:
        raise NotUndoable(f"{row.kind} can't be undone; these can: {', '.join(_ASPECTS)}")
    if row.state == "pending":
        raise NotUndoable("it is still pending; cancel it instead")
    if row.state != "applied":
        raise NotUndoable(f"it is {row.state}, and only what was applied can be undone")
    branch = session.get_one(Run, run_id).branch
    if row.branch != branch:
        raise NotUndoable(f"it belongs to branch {row.branch!r}, and the run is on {branch!r}")
    _check_nothing_is_coming(session, row)
    load_undoables(session, run_id, branch).find(command_id)
    return row


def _check_nothing_is_coming(session: Session, wanted: Command) -> None:
    unsettled = select(Command).where(Command.run_id == wanted.run_id, Command.state.in_(UNSETTLED))
    for coming in session.scalars(unsettled.order_by(Command.number)):
        aspect = _ASPECTS.get(coming.kind)
        undoes_it = json.loads(coming.args_json).get("command") == wanted.command_id
        if undoes_it or aspect in ("rollback", _ASPECTS[wanted.kind]):
            raise NotUndoable(f"{coming.kind} #{coming.number} is on its way")
