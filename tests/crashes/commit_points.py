"""The named commit points: the moments at which a process that dies could lose or double.

A point is a call in the product and where in it the process dies: before the call, after it has
returned, or, where it is a transaction, with everything written and nothing committed, or right
after the commit. The product knows nothing of this; `arm` puts a trap around the call. A point
that does not fire within a round fails the matrix, so the list can't rot.
"""

import importlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

BEFORE, AFTER, UNCOMMITTED, COMMITTED = "before", "after", "uncommitted", "committed"


@dataclass(frozen=True)
class CommitPoint:
    """Where a program dies: `target` is `module:name`; it is one of the first so many calls."""

    program: str
    name: str
    target: str
    moment: str
    calls: int = 1
    log: str | None = None  # the event log that has it, where not every one does


POINTS = (
    CommitPoint("api", "request read, nothing kept", "ingest.receive:_append", BEFORE, 5),
    CommitPoint(
        "api",
        "records written, not committed",
        "ingest.log.embedded:_transaction",
        UNCOMMITTED,
        5,
        "embedded",
    ),
    CommitPoint(
        "api",
        "records sent, not acknowledged",
        "ingest.log.kafka.producer:KafkaProducer.send",
        AFTER,
        5,
        "kafka",
    ),
    CommitPoint("api", "records kept, not answered", "ingest.receive:_append", AFTER, 5),
    CommitPoint("consumer", "offsets found", "ingest.consume:write", COMMITTED, 4),
    CommitPoint("consumer", "records read, nothing stored", "ingest.consume:unfold", BEFORE, 5),
    CommitPoint("consumer", "offset moved, no rows", "ingest.consume:_move_offsets", AFTER, 5),
    CommitPoint("consumer", "rows written, not committed", "ingest.consume:store", AFTER, 5),
    CommitPoint("consumer", "rows committed", "ingest.consume:Consumer._store", AFTER, 5),
    CommitPoint("consumer", "episodes planned", "ingest.cut:plan_session", AFTER, 5),
    CommitPoint("consumer", "session cut, not committed", "ingest.cut:_apply", AFTER, 5),
    CommitPoint("consumer", "episodes not committed", "ingest.cut:write", UNCOMMITTED, 3),
    CommitPoint("consumer", "episodes committed", "ingest.cut:write", COMMITTED, 3),
    CommitPoint(
        "consumer",
        "texts written, not named",
        "ingest.shard_store.folder:FolderStore.publish",
        BEFORE,
    ),
    CommitPoint(
        "consumer",
        "texts named, folder not synced",
        "ingest.shard_store.folder:sync",
        BEFORE,
        2,
    ),
    CommitPoint("consumer", "texts named, not indexed", "ingest.documents:new_revision", BEFORE),
    CommitPoint("consumer", "texts indexed, not committed", "ingest.documents:write", UNCOMMITTED),
    CommitPoint("consumer", "texts committed", "ingest.documents:write", COMMITTED),
    CommitPoint(
        "consumer", "file trimmed", "ingest.log.embedded:EmbeddedLog.trim", AFTER, log="embedded"
    ),
    CommitPoint(
        "consumer", "topic trimmed", "ingest.log.kafka.log:KafkaLog.trim", AFTER, log="kafka"
    ),
    CommitPoint("replay", "claim not committed", "ingest.replay.queue:Claim.__init__", AFTER),
    CommitPoint("replay", "claimed", "ingest.replay.worker:ReplayWorker._record", BEFORE, 3),
    CommitPoint("replay", "amid an episode", "ingest.replay.worker:ReplayWorker._keep", BEFORE, 20),
    CommitPoint(
        "replay",
        "frames written, not named",
        "ingest.shard_store.folder:FolderStore.publish",
        BEFORE,
        3,
    ),
    CommitPoint(
        "replay",
        "frames named, folder not synced",
        "ingest.shard_store.folder:sync",
        BEFORE,
        4,
    ),
    CommitPoint(
        "replay", "frames named, not indexed", "ingest.replay.worker:new_revision", BEFORE, 3
    ),
    CommitPoint(
        "replay", "samples written, shard not", "ingest.replay.worker:add_shard", BEFORE, 3
    ),
    CommitPoint(
        "replay", "frames indexed, not committed", "ingest.replay.worker:write", UNCOMMITTED, 4
    ),
    CommitPoint(
        "replay", "frames committed", "ingest.replay.worker:ReplayWorker._finish", AFTER, 3
    ),
    CommitPoint("encode", "claim not committed", "trainer.encode:claim_shard", AFTER, 3),
    CommitPoint("encode", "claimed", "trainer.encode:EncodeWorker._encode", BEFORE, 3),
    CommitPoint(
        "encode",
        "latents written, not named",
        "ingest.shard_store.folder:FolderStore.publish",
        BEFORE,
        3,
    ),
    CommitPoint(
        "encode",
        "latents named, folder not synced",
        "ingest.shard_store.folder:sync",
        BEFORE,
        4,
    ),
    CommitPoint("encode", "latents named, not indexed", "trainer.encode:new_revision", BEFORE, 3),
    CommitPoint("encode", "latents indexed, not committed", "trainer.encode:add_shard", AFTER, 3),
    CommitPoint("encode", "latents committed", "trainer.encode:EncodeWorker._place", AFTER, 3),
    CommitPoint("train", "run taken, not committed", "trainer.journal.lease:write", UNCOMMITTED),
    CommitPoint("train", "run taken", "trainer.journal.lease:write", COMMITTED),
    CommitPoint(
        "train", "steps taken, not written", "trainer.journal.journal:Journal._commit", BEFORE, 5
    ),
    CommitPoint(
        "train", "steps written, not committed", "trainer.journal.journal:write", UNCOMMITTED, 5
    ),
    CommitPoint("train", "steps committed", "trainer.journal.journal:write", COMMITTED, 5),
    CommitPoint(
        "train",
        "checkpoint copied, not written",
        "trainer.checkpoints.folder:Unfinished.finish",
        BEFORE,
    ),
    CommitPoint(
        "train", "checkpoint written, not sealed", "trainer.checkpoints.folder:_seal_files", BEFORE
    ),
    CommitPoint(
        "train", "checkpoint sealed, not named", "trainer.checkpoints.folder:check_files", AFTER
    ),
    CommitPoint(
        "train",
        "checkpoint named, not listed",
        "trainer.checkpoints.folder:Unfinished.finish",
        AFTER,
    ),
)


def arm(point: CommitPoint, call: int) -> None:
    """Let this process die of SIGKILL at the n-th call of a point, 1 being the first."""
    module, _, path = point.target.partition(":")
    *owners, attribute = path.split(".")
    owner = importlib.import_module(module)
    for name in owners:
        owner = getattr(owner, name)
    trap = _Trap(call)
    wrap = _around_transaction if point.moment in (UNCOMMITTED, COMMITTED) else _around_call
    setattr(owner, attribute, wrap(getattr(owner, attribute), point.moment, trap))


class _Trap:
    def __init__(self, call: int) -> None:
        self._calls_left = call

    def spring(self) -> None:
        self._calls_left -= 1
        if self._calls_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _around_call(
    call: Callable[Parameters, Result], moment: str, trap: _Trap
) -> Callable[Parameters, Result]:
    @wraps(call)
    def trapped(*args: Parameters.args, **options: Parameters.kwargs) -> Result:
        if moment == BEFORE:
            trap.spring()
        result = call(*args, **options)
        if moment == AFTER:
            trap.spring()
        return result

    return trapped


def _around_transaction(
    open_: Callable[Parameters, AbstractContextManager[Result]], moment: str, trap: _Trap
) -> Callable[Parameters, AbstractContextManager[Result]]:
    @contextmanager
    def trapped(*args: Parameters.args, **options: Parameters.kwargs) -> Iterator[Result]:
        with open_(*args, **options) as transaction:
            yield transaction
            if moment == UNCOMMITTED:
                trap.spring()
        if moment == COMMITTED:
            trap.spring()

    return trapped
