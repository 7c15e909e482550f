"""Posting simulated sessions: all of them stored, in the order and at the pace that was asked."""

import threading
import time
from collections.abc import Iterator

import pytest

import ingest.simulate.post
from ingest.client import Client
from ingest.simulate import OLD_SKILLS, simulate_session, wire_events
from ingest.simulate.post import PostError, post_sessions
from tests.scripted_server import hang, scripted
from tests.serving import Ingesting

START = 1_754_600_000.0


def session(session_id: str, started_at: float = START) -> list[dict[str, object]]:
    actions = simulate_session(7, OLD_SKILLS, num_tasks=3)
    events = wire_events(
        [actions, actions], session_id=session_id, user_id="sim-1", started_at=started_at
    )
    return list(events)


@pytest.fixture
def client(server: Ingesting) -> Iterator[Client]:
    with Client(server.url, server.key) as client:
        yield client


def test_every_event_of_every_session_is_stored(server: Ingesting, client: Client) -> None:
    sessions = [session("one"), session("other")]
    posted = post_sessions(sessions, client)
    assert len(posted) == sum(map(len, sessions))
    assert sorted(event.event_id for event in server.logged()) == sorted(posted)


def test_sessions_at_the_same_time_are_interleaved(client: Client) -> None:
    sessions = [session("one"), session("other", START + 1.0)]
    posted = post_sessions(sessions, client)
    events = {f"{e['session_id']}:{e['sequence']}": e for each in sessions for e in each}
    timestamps = [float(str(events[event_id]["timestamp"])) for event_id in posted]
    assert timestamps == sorted(timestamps)
    assert {event_id.partition(":")[0] for event_id in posted[:20]} == {"one", "other"}


def test_the_same_session_posted_twice_keeps_its_ids(server: Ingesting, client: Client) -> None:
    first = post_sessions([session("one")], client)
    second = post_sessions([session("one")], client)
    assert first == second
    assert {event.event_id for event in server.logged()} == set(first)


def test_a_queue_smaller_than_the_session_drops_nothing(server: Ingesting) -> None:
    with Client(server.url, server.key, queue_size=4) as client:
        posted = post_sessions([session("one")], client)
        assert client.stats().sent == len(posted)


def test_events_are_posted_at_the_pace_asked_for(client: Client) -> None:
    events = session("one")
    lasts_s = float(str(events[-1]["timestamp"])) - float(str(events[0]["timestamp"]))
    started = time.monotonic()
    post_sessions([events], client, speed=lasts_s / 0.5)
    assert 0.5 <= time.monotonic() - started < 5.0


def test_stopped_it_returns_what_was_stored(server: Ingesting, client: Client) -> None:
    stop = threading.Event()

    def stopping() -> Iterator[dict[str, object]]:
        for number, event in enumerate(session("one")):
            if number == 5:
                stop.set()
            yield event

    posted = post_sessions([stopping()], client, stop=stop)
    assert len(posted) == 5
    assert [event.event_id for event in server.logged()] == posted


def test_a_rejected_event_is_an_error(client: Client) -> None:
    with pytest.raises(PostError, match="1 of 1 events were not taken"):
        post_sessions([[session("no such name")[0]]], client)


def test_a_server_that_takes_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest.simulate.post, "PATIENCE_S", 0.1)
    with scripted(hang) as server:
        client = Client(server.url, "key", timeout_s=1.0)
        with pytest.raises(PostError, match="took nothing"):
            post_sessions([session("one")], client)
        client.close(0.0)


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
def test_a_speed_that_is_none_is_refused(client: Client, speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        post_sessions([], client, speed=speed)
