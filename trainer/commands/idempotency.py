"""Requests that may come twice: the same key and body are the same command.

In: a request with an `Idempotency-Key`. Out: the command that it made the first time, if any. A key
belongs to one caller and one run for as long as the command is kept. Guaranteed: of two requests at
once one makes the command and the other finds it, for the run's row is locked before the look.
"""

import json
from dataclasses import dataclass
from typing import Self

from sqlalchemy import select
from sqlalchemy.orm import Session

from ingest.ids import content_id
from trainer.commands.kinds import AnyCommand
from trainer.tables import Command, Run


class KeyReused(RuntimeError):
    """The key came before with another body."""


@dataclass(frozen=True, slots=True)
class Request:
    """A caller's key, and what it came with."""

    key: str
    digest: str

    @classmethod
    def of(cls, key: str, command: AnyCommand, reason: str) -> Self:
        """The request that asks for this."""
        body = json.dumps([command.kind, command.arguments(), reason], sort_keys=True)
        return cls(key, content_id(body))


def find_repeated(session: Session, run_id: str, actor: str, request: Request) -> Command | None:
    """The command that this very request made before; the run stays locked until the end.

    Raises KeyReused where the key made another one.
    """
    session.get(Run, run_id, with_for_update=True)
    made = session.scalar(
        select(Command).where(
            Command.run_id == run_id,
            Command.actor == actor,
            Command.idempotency_key == request.key,
        )
    )
    if made is not None and made.request_digest != request.digest:
        raise KeyReused(f"this key came with {made.kind} #{made.number} before; make a new one")
    return made
