"""The encode worker: frame shards get latents of one encoder, `python -m trainer.encode`.

In: live frame shards with samples of the `train` split that have no latent of this encoder yet, the
newest first, so that fresh samples do not queue behind a re-encoding of everything; held-out ones
are never drawn, and the evaluation encodes what it judges by. Out: for each a latent shard,
and in one transaction its samples' places and a revision. A shard whose bytes are not what was
written is quarantined with its samples and reported; one that this encoder can't take is reported
and left alone; either way the worker goes on. Samples that were lost with a latent shard come back
with the next one. Any number of workers may run: each shard is claimed by lease (`ingest.leases`),
which is renewed when a third of it has passed.
"""

import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import structlog
from sqlalchemy import ColumnElement, Engine, exists, func, or_, select
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session, aliased

from ingest.buffer import (
    FRAME,
    LIVE,
    add_shard,
    bring_back,
    is_set_apart,
    latest_revision,
    lock_buffer,
    new_revision,
    quarantine,
    sample_key,
    unplace,
)
from ingest.database import open_engine, read, share_turn, write
from ingest.forgetting.tombstones import TURN
from ingest.leases import ShardClaim, claim_shard, release_shard, renew_shard
from ingest.process import begin_process
from ingest.settings import Settings
from ingest.shard_store import ShardStore, open_store
from ingest.shards import CorruptShardError, Span, WrittenShard, find_sound
from ingest.tables import Placement, Sample, Shard
from trainer.neuralos.encoder import SHIPPED, Encoder, load
from trainer.neuralos.latent_shards import (
    Frame,
    UnsuitableShardError,
    read_frames,
    write_latents,
)

POLL_S = 0.2
OUTAGE_WAIT_S = 1.0
LEASE_S = 30.0
SHARDS_A_LOOK = 16

log = structlog.get_logger()


class _ClaimLostError(Exception):
    """Another worker has the shard; what was encoded here is dropped."""


class EncodeWorker:
    """Encodes what has no latent of `encoder` yet; a shard is held for `lease_s` seconds."""

    def __init__(
        self, engine: Engine, store: ShardStore, encoder: Encoder, *, lease_s: float = LEASE_S
    ) -> None:
        encoder_hash = encoder.hash
        self.representation = f"latent:{encoder_hash}"
        self._folder = f"latents/{encoder_hash}"
        self._engine = engine
        self._store = store
        self._encoder = encoder
        self._lease_s = lease_s
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._renew_at = 0.0
        self._done_revision = 0  # up to here every sample has its latent, or can't have one
        self._set_aside: set[str] = set()

    def run(self, stop: threading.Event) -> None:
        """Encode what comes until told to stop; a shard in progress is finished before that."""
        while not stop.is_set():
            try:
                if not self.encode_some(stop):
                    stop.wait(POLL_S)
            except (OSError, OperationalError) as error:
                log.warning("encode_waits", reason=str(error))
                stop.wait(OUTAGE_WAIT_S)

    def encode_some(self, stop: threading.Event) -> bool:
        """Encode the newest few of the shards that wait; False when none is left for this worker.

        Raises OSError when the disk takes nothing, OperationalError when the database is absent.
        """
        with read(self._engine) as session:
            newest = latest_revision(session)
            if newest == self._done_revision:
                return False
            waiting = _waiting_shards(session, self.representation, self._done_revision)
        waiting = [shard for shard in waiting if shard.shard_id not in self._set_aside]
        if not waiting:
            self._done_revision = newest
        num_claimed = 0
        for shard in waiting:
            if stop.is_set():
                return True
            if claim := self._claim(shard.shard_id):
                self._encode(claim, shard)
                num_claimed += 1
            if num_claimed == SHARDS_A_LOOK:
                break
        return num_claimed > 0

    def _claim(self, shard_id: str) -> ShardClaim | None:
        """Claim a shard, unless another worker has it or has encoded it meanwhile."""
        now = time.time()
        self._renew_at = time.monotonic() + self._lease_s / 3
        with write(self._engine) as session:
            claim = claim_shard(session, shard_id, self._holder, now=now, lease_s=self._lease_s)
            if claim is None or _unplaced(session, shard_id, self.representation):
                return claim
            release_shard(session, claim)
        return None

    def _encode(self, claim: ShardClaim, shard: Shard) -> None:
        try:
            path = self._sound(shard)
            if path is None:
                return
            frames = self._keeping(claim, read_frames(path))
            written, spans = write_latents(frames, self._encoder, self._store, self._folder)
            self._place(claim, written, spans)
        except CorruptShardError as error:
            self._quarantine(shard.shard_id, str(error))
        except UnsuitableShardError as error:
            self._leave_alone(shard.shard_id, str(error))
        except (IntegrityError, _ClaimLostError):
            log.info("encoded_elsewhere", shard_id=shard.shard_id)
        finally:
            self._release(claim)

    def _keeping(self, claim: ShardClaim, frames: Iterable[Frame]) -> Iterator[Frame]:
        """The frames as they come; between two of them the lease is renewed when it is time."""
        for frame in frames:
            if time.monotonic() >= self._renew_at:
                self._renew(claim)
            yield frame

    def _renew(self, claim: ShardClaim) -> None:
        self._renew_at = time.monotonic() + self._lease_s / 3
        with write(self._engine) as session:
            if not renew_shard(session, claim, now=time.time(), lease_s=self._lease_s):
                raise _ClaimLostError

    def _release(self, claim: ShardClaim) -> None:
        with write(self._engine) as session:
            release_shard(session, claim)

    def _sound(self, shard: Shard) -> Path | None:
        """The shard's file; None where it can't be read."""
        try:
            return find_sound(self._store, shard.path, shard.checksum)
        except OSError as error:  # of this file; what is wrong with the whole disk shows in writing
            self._store.assert_reachable()
            self._leave_alone(shard.shard_id, str(error))
            return None

    def _place(self, claim: ShardClaim, written: WrittenShard, spans: Mapping[str, Span]) -> None:
        frames_id, now = claim.shard_id, time.time()
        with write(self._engine) as session:
            share_turn(session, TURN)
            lock_buffer(session)
            if not release_shard(session, claim):
                if session.get(Shard, frames_id) is None:  # forgotten, or written anew without some
                    self._drop(session, written)
                raise _ClaimLostError
            numbers = _unplaced(session, frames_id, self.representation)
            if lost := numbers.keys() - spans.keys():
                raise CorruptShardError(f"{frames_id} lacks {min(lost)} and {len(lost) - 1} more")
            if not numbers:
                self._drop(session, written)
                return
            revision = new_revision(session, "encoded", added=len(numbers), retired=0, now=now)
            placed = [(number, spans[key]) for key, number in numbers.items()]
            bring_back(session, list(numbers.values()), revision)
            unplace(session, list(numbers.values()), self.representation)
            add_shard(
                session, written, self.representation, placed=placed, revision=revision, now=now
            )
        log.info(
            "shard_encoded",
            frames_id=frames_id,
            shard_id=written.shard_id,
            num_samples=len(numbers),
            revision=revision,
        )

    def _drop(self, session: Session, written: WrittenShard) -> None:
        """Nobody wants it: it is encoded elsewhere, under this very name, or it is forgotten."""
        if session.get(Shard, written.shard_id) is None:
            self._store.remove(written.path)

    def _quarantine(self, shard_id: str, reason: str) -> None:
        with write(self._engine) as session:
            num_lost = quarantine(session, shard_id, now=time.time())
        log.error("shard_quarantined", shard_id=shard_id, num_samples=num_lost, reason=reason)

    def _leave_alone(self, shard_id: str, reason: str) -> None:
        self._set_aside.add(shard_id)
        log.error("shard_left_alone", shard_id=shard_id, reason=reason)


def _waiting_shards(session: Session, representation: str, after_revision: int) -> list[Shard]:
    newest = func.max(Placement.added_revision)
    return list(
        session.scalars(
            select(Shard)
            .join(Placement, Placement.shard_id == Shard.shard_id)
            .join(Sample, Sample.number == Placement.sample_number)
            .where(
                Placement.representation == FRAME,
                Placement.added_revision > after_revision,
                Shard.state == "live",
                Sample.split == "train",
                _is_wanted(),
                ~_has_place(representation),
            )
            .group_by(Shard.shard_id)
            .order_by(newest.desc())
        )
    )


def _unplaced(session: Session, shard_id: str, representation: str) -> dict[str, int]:
    """Numbers by key of a frame shard's samples that need a place in the representation."""
    rows = session.execute(
        select(Sample.episode_id, Sample.episode_version, Sample.position, Sample.number)
        .join(Placement, Placement.sample_number == Sample.number)
        .where(
            Placement.shard_id == shard_id,
            _is_wanted(),
            ~_has_place(representation),
        )
    )
    return {sample_key(episode, version, place): number for episode, version, place, number in rows}


def _has_place(representation: str) -> ColumnElement[bool]:
    latent = aliased(Placement)
    lost = select(Shard.shard_id).where(Shard.state != LIVE).correlate(None)
    return exists().where(
        latent.sample_number == Sample.number,
        latent.representation == representation,
        latent.shard_id.not_in(lost),
    )


def _is_wanted() -> ColumnElement[bool]:
    return or_(Sample.retired_revision.is_(None), is_set_apart())


def main() -> None:
    """Run one worker on this machine until SIGTERM or SIGINT."""
    settings = Settings()
    stop = begin_process(settings)
    engine = open_engine(settings.resolved_database_url)
    encoder = load(settings.encoder or SHIPPED)
    store = open_store(settings)
    EncodeWorker(engine, store, encoder, lease_s=settings.lease_s).run(stop)
    engine.dispose()


if __name__ == "__main__":
    main()
