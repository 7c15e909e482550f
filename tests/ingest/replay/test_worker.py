"""What `ingest.replay.worker` promises."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, event, func, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from ingest.actions import Action
from ingest.buffer import latest_revision, sample_key
from ingest.database import read, write
from ingest.replay.drawn import DrawnDesktop
from ingest.replay.environment import Environment, Step
from ingest.replay.queue import requeue
from ingest.replay.worker import ReplayWorker
from ingest.settings import Settings
from ingest.shards import read_span, split_members, verify
from ingest.tables import Episode, EventRow, Placement, Revision, Sample, Shard
from tests.factories import action_payload, make_episode, make_events, make_session
from tests.waiting import wait_until

DEADLINE_S = 60.0


class TroubledDesktop:
    """A drawn desktop that first runs `trouble` at every click."""

    name, version = "drawn", "troubled"

    def __init__(self, settings: Settings, trouble: Callable[[], None]) -> None:
        self._desktop = DrawnDesktop(settings.frame_width, settings.frame_height)
        self._trouble = trouble

    def reset(self) -> None:
        self._desktop.reset()

    def step(self, action: Action) -> Step:
        if action.left:
            self._trouble()
        return self._desktop.step(action)

    def close(self) -> None:
        self._desktop.close()


def fail() -> None:
    raise RuntimeError("the screen went dark")


def make_worker(
    engine: Engine, settings: Settings, trouble: Callable[[], None] | None = None
) -> ReplayWorker:
    def make_desktop() -> Environment:
        if trouble:
            return TroubledDesktop(settings, trouble)
        return DrawnDesktop(settings.frame_width, settings.frame_height)

    return ReplayWorker(engine, settings, make_desktop)


@pytest.fixture
def worker(engine: Engine, settings: Settings) -> Iterator[ReplayWorker]:
    with make_worker(engine, settings) as worker:
        yield worker


def replay_all(worker: ReplayWorker) -> int:
    num_replayed = 0
    while worker.replay_next():
        num_replayed += 1
    return num_replayed


def assert_every_placement_checks_out(session: Session, settings: Settings) -> None:
    """Every shard's bytes are what was written, every place holds its own sample's members."""
    for shard in session.scalars(select(Shard)):
        verify(settings.shards_path / shard.path, shard.checksum)
    rows = session.execute(
        select(Sample, Placement, Shard)
        .join(Placement, Placement.sample_number == Sample.number)
        .join(Shard, Shard.shard_id == Placement.shard_id)
    ).all()
    for sample, placement, shard in rows:
        data = read_span(settings.shards_path / shard.path, placement.offset, placement.length)
        key = sample_key(sample.episode_id, sample.episode_version, sample.position)
        assert data.startswith(f"{key}.png".encode())
        assert set(split_members(data)) == {"png", "json"}
    assert len(rows) == session.scalar(select(func.count()).select_from(Sample))


def test_an_episode_becomes_as_many_samples_as_actions_in_one_revision(
    engine: Engine, settings: Settings, worker: ReplayWorker
) -> None:
    with write(engine) as session:
        owner = make_session(session, user_id="ann", split="eval")
        episode_id = make_episode(session, owner, 5).episode_id
    assert replay_all(worker) == 1
    with read(engine) as session:
        samples = session.scalars(select(Sample).order_by(Sample.number)).all()
        assert [sample.position for sample in samples] == [0, 1, 2, 3, 4]
        assert {(s.episode_id, s.user_id, s.split) for s in samples} == {
            (episode_id, "ann", "eval")
        }
        revision = session.scalars(select(Revision)).one()
        assert (revision.kind, revision.num_added, revision.num_retired) == ("replayed", 5, 0)
        episode = session.get_one(Episode, episode_id)
        assert (episode.state, episode.replayed_version) == ("replayed", 1)
        assert episode.environment == samples[0].environment
        assert_every_placement_checks_out(session, settings)


def test_a_sample_points_at_the_event_that_led_to_it(engine: Engine, worker: ReplayWorker) -> None:
    with write(engine) as session:
        make_episode(session, payloads=4)
    replay_all(worker)
    with read(engine) as session:
        rows = session.execute(
            select(Sample.position, EventRow.position, Sample.timestamp, EventRow.timestamp).join(
                EventRow, EventRow.number == Sample.event_number
            )
        ).all()
        assert all((row[0], row[2]) == (row[1], row[3]) for row in rows)
        assert len(rows) == 4


def test_a_newer_version_retires_the_samples_of_the_one_before(
    engine: Engine, settings: Settings, worker: ReplayWorker
) -> None:
    with write(engine) as session:
        owner = make_session(session)
        episode_id = make_episode(session, owner, 3).episode_id
    replay_all(worker)
    with write(engine) as session:
        owner = session.merge(owner)
        (late,) = make_events(session, owner, [action_payload()])
        late.episode_id, late.position = episode_id, 3
        session.execute(update(Episode).values(version=2, num_actions=4, state="waiting"))
    replay_all(worker)
    with read(engine) as session:
        rows = session.execute(
            select(Sample.episode_version, Sample.added_revision, Sample.retired_revision)
        ).all()
        assert sorted(rows, key=str) == [(1, 1, 2)] * 3 + [(2, 2, None)] * 4
        revision = session.get_one(Revision, 2)
        assert (revision.kind, revision.num_added, revision.num_retired) == ("superseded", 4, 3)
        assert_every_placement_checks_out(session, settings)


def test_a_replay_that_a_newer_version_overtakes_leaves_nothing(
    engine: Engine, settings: Settings
) -> None:
    def overtake() -> None:
        with write(engine) as session:
            session.execute(update(Episode).values(version=Episode.version + 1, state="open"))

    with write(engine) as session:
        make_episode(session, payloads=[action_payload(is_left_click=True)])
    with make_worker(engine, settings, overtake) as worker:
        assert replay_all(worker) == 1
    with read(engine) as session:
        assert session.scalar(select(func.count()).select_from(Sample)) == 0
        assert latest_revision(session) == 0
        assert session.scalars(select(Episode.state)).all() == ["open"]


def test_what_another_desktop_would_show_is_a_version_of_its_own(
    engine: Engine, settings: Settings, worker: ReplayWorker
) -> None:
    """An episode is to be made anew, and the desktop is another one by now."""
    with write(engine) as session:
        episode_id = make_episode(session).episode_id
    replay_all(worker)
    with write(engine) as session:
        requeue(session.get_one(Episode, episode_id))
    with make_worker(engine, settings, trouble=lambda: None) as other:
        replay_all(other)
    with read(engine) as session:
        episode = session.get_one(Episode, episode_id)
        assert (episode.version, episode.environment) == (2, "drawn/troubled")
        live = session.scalars(select(Sample).where(Sample.retired_revision.is_(None)))
        assert [(each.episode_version, each.environment) for each in live] == [
            (2, "drawn/troubled")
        ] * 3


def test_an_episode_that_breaks_the_desktop_is_parked_and_holds_up_nobody(
    engine: Engine, settings: Settings
) -> None:
    with write(engine) as session:
        broken = make_episode(session, payloads=[action_payload(is_left_click=True)]).episode_id
        sound = make_episode(session).episode_id
    with make_worker(engine, settings, fail) as worker:
        replay_all(worker)
    with read(engine) as session:
        parked = session.get_one(Episode, broken)
        assert (parked.state, parked.attempts) == ("parked", 3)
        assert "the screen went dark" in str(parked.error)
        assert session.get_one(Episode, sound).state == "replayed"


def test_a_payload_that_can_not_be_read_parks_its_episode(
    engine: Engine, worker: ReplayWorker
) -> None:
    with write(engine) as session:
        episode_id = make_episode(session, payloads=1).episode_id
        session.execute(update(EventRow).values(payload_json="[1]"))
    replay_all(worker)
    with read(engine) as session:
        assert session.get_one(Episode, episode_id).state == "parked"


def test_a_long_replay_keeps_its_lease(engine: Engine, settings: Settings) -> None:
    settings = settings.model_copy(update={"lease_s": 0.3})
    expiries = []

    def take_time() -> None:
        with read(engine) as session:
            expiries.append(session.scalars(select(Episode.lease_expires_at)).one())
        deadline = time.monotonic() + 0.11
        while time.monotonic() < deadline:
            pass

    with write(engine) as session:
        make_episode(session, payloads=[action_payload(is_left_click=True)] * 4)
    with make_worker(engine, settings, take_time) as worker:
        replay_all(worker)
    assert len(set(expiries)) >= 2
    with read(engine) as session:
        assert session.scalars(select(Episode.attempts)).all() == [0]


def test_a_stopped_worker_gives_its_episode_back(engine: Engine, settings: Settings) -> None:
    stop = threading.Event()
    with write(engine) as session:
        make_episode(session, payloads=[action_payload(is_left_click=True)] * 50)
    with make_worker(engine, settings, stop.set) as worker:
        worker.run(stop)
    with read(engine) as session:
        episode = session.scalars(select(Episode)).one()
        assert (episode.state, episode.attempts, episode.lease_holder) == ("waiting", 0, None)


def test_a_full_disk_is_no_episodes_fault(engine: Engine, settings: Settings) -> None:
    settings.shards_path.write_text("a file where the folder should be")
    with write(engine) as session:
        episode_id = make_episode(session).episode_id
    with make_worker(engine, settings) as worker:
        with pytest.raises(OSError, match="shards"):
            worker.replay_next()
        settings.shards_path.unlink()
        assert replay_all(worker) == 1
    with read(engine) as session:
        episode = session.get_one(Episode, episode_id)
        assert (episode.state, episode.attempts) == ("replayed", 0)


def test_an_absent_database_is_no_episodes_fault(engine: Engine, settings: Settings) -> None:
    def go_away_once() -> None:
        event.listen(engine, "begin", refuse, once=True)

    def refuse(_connection: object) -> None:
        raise OperationalError("BEGIN", {}, Exception("the database is gone"))

    with write(engine) as session:
        make_episode(session, payloads=[action_payload(is_left_click=True)])
    with make_worker(engine, settings, go_away_once) as worker:
        assert replay_all(worker) == 1
    with read(engine) as session:
        episode = session.scalars(select(Episode)).one()
        assert (episode.state, episode.attempts) == ("replayed", 0)


def start_worker_process(settings: Settings) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "ingest.replay.worker"],
        env=os.environ | {"STOVETOP_DATA": str(settings.data), "STOVETOP_LEASE_S": "1"},
        stdout=subprocess.DEVNULL,
    )


def test_killing_the_worker_anywhere_neither_loses_nor_doubles_a_sample(
    engine: Engine, settings: Settings
) -> None:
    num_episodes = 20
    with write(engine) as session:
        for index in range(num_episodes):
            make_episode(session, payloads=20 + index)

    def num_in(state: str) -> int:
        with read(engine) as session:
            found = session.scalars(select(Episode).where(Episode.state == state))
            return len(found.all())

    for num_done in (1, 8):
        process = start_worker_process(settings)
        wait_until(lambda num_done=num_done: num_in("replayed") >= num_done, DEADLINE_S)
        wait_until(lambda: num_in("leased") == 1, DEADLINE_S)
        process.kill()
        process.wait()
    process = start_worker_process(settings)
    wait_until(lambda: num_in("replayed") == num_episodes, DEADLINE_S)
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_S) == 0

    with read(engine) as session:
        samples = session.execute(
            select(Sample.episode_id, func.count(), func.max(Sample.position))
            .where(Sample.retired_revision.is_(None))
            .group_by(Sample.episode_id)
        ).all()
        actions = session.execute(
            select(Episode.episode_id, Episode.num_actions, Episode.num_actions - 1)
        ).all()
        assert sorted(samples) == sorted(actions)
        assert session.scalar(select(func.count()).select_from(Shard)) == num_episodes
        assert_every_placement_checks_out(session, settings)
