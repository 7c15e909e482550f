"""`stovetop doctor` finds what is made to be wrong, names the fix, and changes nothing."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, text

from control_api import doctor
from control_api.doctor import Finding, examine
from ingest.buffer import quarantine
from ingest.database import read, write
from ingest.keys import create_key
from ingest.settings import Settings
from ingest.tables import DeadLetter, Episode, SessionRow, Shard, Source
from tests.control_api.rows import make_run
from tests.control_api.shell import Shell
from tests.databases import Database
from tests.factories import make_episode, make_samples, make_session
from tests.intake import Intake, wire_event
from tests.waiting import wait_until

NOW = time.time()


@pytest.fixture
def keyed(engine: Engine) -> Engine:
    """Somebody may send, so that a fresh installation is sound."""
    with write(engine) as session:
        create_key(session, "ingest", "demo")
    return engine


def found(settings: Settings) -> list[tuple[str, str]]:
    """Subjects and details; each has a fix."""
    findings = examine(settings, now=NOW)
    assert all(each.fix for each in findings)
    return [(each.subject, each.detail) for each in findings]


def cut_late(engine: Engine) -> None:
    with write(engine) as session:
        owner = make_session(session)
        owner.needs_cut, owner.received_at = True, NOW - 61


def replay_late(engine: Engine) -> None:
    with write(engine) as session:
        make_episode(session).state = "waiting"
        session.flush()
        session.scalars(select(SessionRow)).one().received_at = NOW - 601


def replay_dead(engine: Engine) -> None:
    replay_late(engine)
    with write(engine) as session:
        episode = session.scalars(select(Episode)).one()
        episode.state, episode.lease_expires_at = "leased", NOW - 61


def park(engine: Engine) -> None:
    with write(engine) as session:
        make_episode(session, state="parked")


def kill_a_letter(engine: Engine) -> None:
    with write(engine) as session:
        for code, age_s in (("conflict", 1.0), ("invalid", 90_000.0)):
            letter = DeadLetter(dead_letter_id=code, code=code, received_at=NOW - age_s)
            letter.source, letter.detail, letter.original = "demo", "", b""
            session.add(letter)


def distrust(engine: Engine) -> None:
    with write(engine) as session:
        make_session(session, source="stranger")
        session.get_one(Source, "stranger").released_revision = None


def damage(engine: Engine) -> None:
    with write(engine) as session:
        make_samples(session)
        quarantine(session, session.scalars(select(Shard.shard_id)).one(), now=NOW)


def lose_a_run(engine: Engine) -> None:
    with write(engine) as session:
        make_run(session, state="lost")
        make_run(session, "other", state="failed", error="no room")


def age_a_key(engine: Engine) -> None:
    with write(engine) as session:
        create_key(session, "viewer", "page", expires_at=NOW + 86_400)


FAULTS: list[tuple[Callable[[Engine], None], list[tuple[str, str]]]] = [
    (cut_late, [("consumer", "1 sessions with new events wait to be cut")]),
    (replay_late, [("replay", "1 episodes wait to be replayed for over 10 minutes")]),
    (replay_dead, [("replay", "1 episodes wait to be replayed for over 10 minutes")]),
    (park, [("replay", "1 episodes are parked: their replay failed three times")]),
    (kill_a_letter, [("dead letters", "1 of the last day: conflict")]),
    (distrust, [("sources", "stranger sends, and nobody learns from it: it is in quarantine")]),
    (damage, [("shards", "1 are damaged and set apart")]),
    (
        lose_a_run,
        [("runs", "online is lost at step 10"), ("runs", "other is failed at step 10: no room")],
    ),
]


def test_a_fresh_installation_with_a_key_is_sound(settings: Settings, keyed: Engine) -> None:
    assert found(settings) == []
    with write(keyed) as session:
        session.execute(text("DELETE FROM api_keys"))
    assert found(settings) == [("keys", "there is none")]


@pytest.mark.parametrize(("make", "expected"), FAULTS)
def test_what_is_wrong_is_found(
    settings: Settings,
    keyed: Engine,
    make: Callable[[Engine], None],
    expected: list[tuple[str, str]],
) -> None:
    make(keyed)
    assert found(settings) == expected


def test_a_key_that_ends_soon_is_named(settings: Settings, keyed: Engine) -> None:
    age_a_key(keyed)
    [(subject, detail)] = found(settings)
    assert subject == "keys"
    assert detail.endswith("(viewer, page) expires within a week")


def test_a_consumer_that_stands_still_is_told_from_one_that_works(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake.post(wire_event(0))
    intake.consume()
    assert found(intake.settings) == []
    intake.post(wire_event(1))
    monkeypatch.setattr(doctor, "LOG_LOOK_S", 0.2)
    said = ("consumer", "1 records wait in the event log and none is taken")
    assert found(intake.settings) == [said]
    monkeypatch.setattr(doctor, "LOG_LOOK_S", 60.0)
    monkeypatch.setattr(doctor.time, "sleep", lambda _s: intake.consume())
    assert found(intake.settings) == []


def test_a_log_that_has_gone_is_told_and_none_is_made_in_its_place(intake: Intake) -> None:
    intake.take(wire_event(0))
    path = intake.settings.event_log_path
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    assert found(intake.settings) == [("log", f"{path} is not there any more")]
    assert not path.exists()


def test_a_disk_that_is_nearly_full_is_told(
    settings: Settings, keyed: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "LOW_DISK", 1 << 60)
    [(subject, detail)] = found(settings)
    assert (subject, keyed.url.database is None) == ("disk", False)
    assert f"MiB are free at {settings.data}" in detail


def test_whatever_is_away_it_says_so(
    settings: Settings, keyed: Engine, database: Database, tmp_path: Path
) -> None:
    keyed.dispose()
    with database.away():
        assert found(settings)[0] == ("database", "does not answer")
    wait_until(lambda: found(settings) == [])
    with write(keyed) as session:
        session.execute(text("UPDATE alembic_version SET version_num = 'old'"))
    [finding] = examine(settings)
    assert finding.fix == "run `stovetop db upgrade`"
    nowhere = tmp_path / "nowhere"
    elsewhere = settings.model_copy(update={"data": nowhere, "database_url": None})
    assert found(elsewhere) == [("data", f"{nowhere} is not there")]
    assert not nowhere.exists()


def test_at_the_terminal_it_ends_with_1_where_something_is_wrong(
    shell: Shell, engine: Engine
) -> None:
    done = shell("doctor")
    assert (done.exit_code, done.stdout) == (0, "nothing is wrong\n")
    park(engine)
    done = shell("doctor", "--json")
    assert done.exit_code == 1
    value = json.loads(done.stdout)
    assert value["is_sound"] is False
    [finding] = [Finding(**each) for each in value["findings"]]
    assert finding.fix == "`GET /v1/episodes?state=parked` says why"
    with read(engine) as session:
        assert session.scalars(select(Episode.state)).one() == "parked"
