"""The replay worker: episodes that wait become samples, `python -m ingest.replay.worker`.

In: claims on episodes. Out: for each, one frame shard, and in ONE transaction its samples, their
places, the revision that adds them and retires the version before, and the episode's new state. The
transaction checks that the claim still holds. A crash before it leaves at most a file that nothing
points at; the lease returns, and the redo writes the same bytes over it. A failure is counted
against its episode (see `queue`); a full disk or an absent database is waited out and counted
against none. Any number of workers may run. A lease is renewed when a third of it has passed.
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Self
from uuid import uuid4

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from ingest.buffer import (
    FRAME,
    add_samples,
    add_shard,
    lock_buffer,
    new_revision,
    num_live,
    retire,
    spaced,
    unplace,
)
from ingest.cut import EpisodeGone, episode_actions
from ingest.cut_plan import SUPERSEDED
from ingest.database import open_engine, read, write
from ingest.process import begin_process
from ingest.replay.drawn import DrawnDesktop
from ingest.replay.environment import Environment
from ingest.replay.queue import (
    Claim,
    begin_next_version,
    claim_next,
    fail,
    finish,
    held_episode,
    release,
    renew,
)
from ingest.replay.recording import Recording, ReplayError, environment_of, record
from ingest.settings import Settings
from ingest.shard_store import open_store
from ingest.shards import sweep_temporaries
from ingest.tables import Episode, Shard

POLL_S = 0.2
OUTAGE_WAIT_S = 1.0
ABANDONED_S = 3_600.0

log = structlog.get_logger()


class _ClaimLostError(Exception):
    """Another worker or a newer version took the episode; what was replayed is dropped."""


class _StopAskedError(Exception):
    """The worker was asked to stop in the middle of an episode."""


class ReplayWorker:
    """Replays episodes one by one in desktops that `make_environment` gives; `close` it."""

    def __init__(
        self, engine: Engine, settings: Settings, make_environment: Callable[[], Environment]
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._store = open_store(settings)
        self._make_environment = make_environment
        self._environment = make_environment()
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._stop = threading.Event()
        self._renew_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the desktop."""
        self._environment.close()

    def run(self, stop: threading.Event) -> None:
        """Replay what waits until told to stop; an episode in progress is given back then."""
        self._stop = stop
        sweep_temporaries(self._store, ABANDONED_S)
        while not stop.is_set():
            try:
                if not self.replay_next():
                    stop.wait(POLL_S)
            except (OSError, OperationalError) as error:
                log.warning("replay_waits", reason=str(error))
                stop.wait(OUTAGE_WAIT_S)

    def replay_next(self) -> bool:
        """Replay one waiting episode; False when none waits.

        Raises OSError for the disk and sqlalchemy's OperationalError for the database.
        """
        claim = self._claim()
        if claim is None:
            return False
        if claim.environment not in (None, environment_of(self._environment)):
            self._until_answered(partial(self._begin_next_version, claim))
            return True
        recording: Recording | None = None
        try:
            recording = self._record(claim)
            self._until_answered(partial(self._finish, claim, recording))
        except ReplayError as error:
            self._until_answered(partial(self._count_failure, claim, str(error)))
            self._environment.close()
            self._environment = self._make_environment()
        except (_ClaimLostError, EpisodeGone):
            log.info("replay_claim_lost", episode_id=claim.episode_id, version=claim.version)
            if recording is not None:
                self._until_answered(partial(self._drop_forgotten, claim, recording))
        except _StopAskedError:
            self._release(claim)
        except OSError:
            self._until_answered(partial(self._release, claim))
            raise
        return True

    def _claim(self) -> Claim | None:
        lease_s = self._settings.lease_s
        self._renew_at = time.monotonic() + lease_s / 3
        with write(self._engine) as session:
            return claim_next(session, self._holder, now=time.time(), lease_s=lease_s)

    def _record(self, claim: Claim) -> Recording:
        with read(self._engine) as session:
            actions = episode_actions(session, claim.episode_id)
        return record(
            self._environment,
            actions,
            self._store,
            key=(claim.episode_id, claim.version),
            before_step=partial(self._keep, claim),
        )

    def _keep(self, claim: Claim) -> None:
        """Between two steps: stop when asked to, renew the lease when it is time."""
        if self._stop.is_set():
            raise _StopAskedError
        if time.monotonic() >= self._renew_at:
            self._until_answered(partial(self._renew, claim))

    def _renew(self, claim: Claim) -> None:
        lease_s = self._settings.lease_s
        self._renew_at = time.monotonic() + lease_s / 3
        with write(self._engine) as session:
            if not renew(session, claim, now=time.time(), lease_s=lease_s):
                raise _ClaimLostError

    def _finish(self, claim: Claim, recording: Recording) -> None:
        now = time.time()
        num_added = len(recording.samples)
        with write(self._engine) as session:
            lock_buffer(session)
            num_retired = num_live(session, [claim.episode_id])
            kind = "superseded" if num_retired else "replayed"
            if claim.environment is not None:
                kind = "repaired"
            revision = new_revision(session, kind, added=num_added, retired=num_retired, now=now)
            episode = held_episode(session, claim)
            if episode is None:
                raise _ClaimLostError
            tasks = spaced(recording.tasks)
            finish(episode, environment=recording.environment, tasks=tasks, now=now)
            retire(session, [claim.episode_id], revision)
            numbers = add_samples(session, episode, recording.samples, revision)
            if claim.environment is not None:
                unplace(session, numbers, FRAME)
            placed = list(zip(numbers, recording.spans, strict=True))
            add_shard(session, recording.shard, FRAME, placed=placed, revision=revision, now=now)
        log.info(
            "episode_replayed",
            episode_id=claim.episode_id,
            version=claim.version,
            shard_id=recording.shard.shard_id,
            num_samples=num_added,
            revision=revision,
        )

    def _drop_forgotten(self, claim: Claim, recording: Recording) -> None:
        """Remove the shard of an episode that nobody will replay any more."""
        with read(self._engine) as session:
            episode = session.get(Episode, claim.episode_id)
            is_over = episode is None or episode.state == SUPERSEDED
            is_indexed = session.get(Shard, recording.shard.shard_id) is not None
        if is_over and not is_indexed:
            self._store.remove(recording.shard.path)

    def _count_failure(self, claim: Claim, error: str) -> None:
        with write(self._engine) as session:
            is_parked = fail(session, claim, error)
        log.warning("replay_failed", episode_id=claim.episode_id, error=error, is_parked=is_parked)

    def _begin_next_version(self, claim: Claim) -> None:
        with write(self._engine) as session:
            begin_next_version(session, claim)
        log.info("desktop_changed", episode_id=claim.episode_id, environment=claim.environment)

    def _release(self, claim: Claim) -> None:
        with write(self._engine) as session:
            release(session, claim)

    def _until_answered(self, transact: Callable[[], None]) -> None:
        """Repeat a transaction until the database answers: its absence is no episode's fault."""
        while True:
            try:
                return transact()
            except OperationalError as error:
                log.warning("database_waited_for", reason=str(error))
                if self._stop.wait(OUTAGE_WAIT_S):
                    raise


def main() -> None:
    """Run one worker on this machine until SIGTERM or SIGINT."""
    settings = Settings()
    stop = begin_process(settings)
    engine = open_engine(settings.resolved_database_url)

    def make_desktop() -> Environment:
        return DrawnDesktop(settings.frame_width, settings.frame_height)

    with ReplayWorker(engine, settings, make_desktop) as worker:
        worker.run(stop)
    engine.dispose()


if __name__ == "__main__":
    main()
