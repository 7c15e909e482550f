"""Weights given with a command, made a stored version of a mix of the run's own.

In: a command as it was asked. Out: the same command naming a mix and its version, so that the log,
the lineage and a rerun after a crash name what was drawn from, like for any other mix. The mix is
called `inline-<beginning of the run's id>`; each command that gives weights makes its next version.
"""

import time

from sqlalchemy.orm import Session

from ingest.slices import SliceError, save_mix
from trainer.commands.kinds import AnyCommand, MixChange, Rollback, SetMix
from trainer.commands.references import CommandRefused, mix_of


def with_stored_mix(session: Session, run_id: str, command: AnyCommand, actor: str) -> AnyCommand:
    """The command with its weights stored. Raises CommandRefused naming the weight at fault."""
    change = mix_of(command)
    if change is None or change.weights is None:
        return command
    inside = "" if isinstance(command, SetMix) else "set_mix."
    try:
        mix = save_mix(
            session, f"inline-{run_id[:16]}", change.weights, actor=actor, now=time.time()
        )
    except SliceError as error:
        field = error.field.replace("shares", "weights", 1)
        detail = str(error).removeprefix(f"{error.field}: ")
        raise CommandRefused(f"{inside}{field}", detail) from error
    if isinstance(command, Rollback):
        stored = MixChange(name=mix.name, version=mix.version)
        return command.model_copy(update={"set_mix": stored})
    return SetMix(name=mix.name, version=mix.version)
