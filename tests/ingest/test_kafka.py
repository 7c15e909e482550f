"""The line's beginning on a real Kafka: endpoint, brokers, consumers, rows."""

import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fastapi.testclient import TestClient
from kafka import KafkaAdminClient, TopicPartition
from sqlalchemy import Engine

from ingest.consume import Consumer, run
from ingest.database import write
from ingest.keys import create_key
from ingest.log import NewRecord, open_log
from ingest.settings import Settings
from tests.intake import Intake, wire_event
from tests.kafka.broker import Broker
from tests.serving import ingest_app
from tests.waiting import wait_until


@pytest.fixture
def settings(settings: Settings, broker: Broker) -> Settings:
    """An installation whose log is a topic of its own; nothing else is set."""
    kafka = {"kafka": broker.address, "kafka_topic": f"t-{uuid.uuid4().hex}", "num_partitions": 4}
    return settings.model_copy(update=kafka)


@pytest.fixture
def intake(settings: Settings, engine: Engine) -> Iterator[Intake]:
    with write(engine) as session:
        key = create_key(session, "ingest", "demo")
    with open_log(settings) as event_log:
        app = ingest_app(settings, engine, event_log)
        with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as client:
            yield Intake(settings, engine, event_log, client)


class Sender(threading.Thread):
    """One session after another, each event until it is acknowledged."""

    def __init__(self, intake: Intake, name: str) -> None:
        super().__init__()
        self._intake = intake
        self._session_id = name
        self.stop = threading.Event()
        self.acknowledged: list[str] = []
        self.num_refused = 0

    def run(self) -> None:
        while not self.stop.is_set():
            start = len(self.acknowledged)
            events = [wire_event(start + n, self._session_id) for n in range(5)]
            answer = self._intake.post(*events)
            if answer.status_code == 202:
                self.acknowledged += [str(event["event_id"]) for event in events]
            else:
                assert answer.status_code == 503, answer.text
                assert int(answer.headers["Retry-After"]) > 0
                self.num_refused += 1
                self.stop.wait(0.05)


@contextmanager
def sending(intake: Intake, count: int) -> Iterator[list[Sender]]:
    senders = [Sender(intake, f"s-{number}") for number in range(count)]
    for sender in senders:
        sender.start()
    try:
        yield senders
    finally:
        for sender in senders:
            sender.stop.set()
        for sender in senders:
            sender.join()


def wait_for_more(senders: list[Sender], count: int = 20) -> None:
    reached = [len(sender.acknowledged) + count for sender in senders]
    wait_until(
        lambda: all(
            len(s.acknowledged) >= wanted for s, wanted in zip(senders, reached, strict=True)
        ),
        within_s=90,
    )


@contextmanager
def consuming(settings: Settings) -> Iterator[threading.Thread]:
    stop = threading.Event()
    thread = threading.Thread(target=run, args=[settings, stop])
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join()


def assert_stored_once(intake: Intake, senders: list[Sender]) -> None:
    stored = [event.event_id for event in intake.events()]
    assert sorted(stored) == sorted(key for sender in senders for key in sender.acknowledged)
    assert sum(row.num_events for row in intake.sessions()) == len(stored)
    assert intake.dead_letters() == []


def test_the_same_installation_on_brokers_takes_events_to_episodes(intake: Intake) -> None:
    intake.take(*[wire_event(number) for number in range(30)])
    assert intake.num_events() == 30
    assert [episode.num_actions for episode in intake.episodes()] == [30]
    assert not intake.settings.event_log_path.exists()


def test_brokers_that_restart_cost_a_503_and_nothing_else(intake: Intake, broker: Broker) -> None:
    with consuming(intake.settings), sending(intake, 4) as senders:
        wait_for_more(senders)
        broker.stop()
        refused = [sender.num_refused for sender in senders]
        wait_until(
            lambda: all(s.num_refused > before for s, before in zip(senders, refused, strict=True)),
            within_s=60,
        )
        broker.start()
        wait_for_more(senders)
        broker.kill()
        broker.start()
        wait_for_more(senders)
        for sender in senders:
            sender.stop.set()
            sender.join()
        wanted = sum(len(sender.acknowledged) for sender in senders)
        wait_until(lambda: intake.num_events() >= wanted, within_s=60)
    assert_stored_once(intake, senders)


def test_consumers_that_join_and_leave_neither_lose_nor_double(intake: Intake) -> None:
    with sending(intake, 6) as senders:
        with consuming(intake.settings):
            wait_for_more(senders)
            with consuming(intake.settings):
                wait_for_more(senders)
            with consuming(intake.settings):
                wait_for_more(senders)
        wait_for_more(senders, 5)
    intake.consume()
    assert_stored_once(intake, senders)


def test_what_a_killed_consumer_held_is_taken_over(intake: Intake) -> None:
    environment = os.environ | {
        "STOVETOP_DATA": str(intake.settings.data),
        "STOVETOP_KAFKA": str(intake.settings.kafka),
        "STOVETOP_KAFKA_TOPIC": intake.settings.kafka_topic,
        "STOVETOP_NUM_PARTITIONS": str(intake.settings.num_partitions),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-m", "ingest.consume"]
    with sending(intake, 4) as senders:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        wait_until(lambda: intake.num_events() > 20, within_s=60)
        process.kill()
        process.wait()
        with consuming(intake.settings):
            before = intake.num_events()
            wait_until(lambda: intake.num_events() > before, within_s=60)
    intake.consume()
    assert_stored_once(intake, senders)


def test_a_stale_consumer_that_still_holds_records_brings_none_in(intake: Intake) -> None:
    with Consumer(intake.engine, intake.event_log, intake.settings) as stale:
        stale.drain()
        intake.post(wire_event(0), wire_event(0, "s-2"), wire_event(0, "s-3"))
        polled = stale._reader.poll(20.0, 100)
        stale._reader.close()
        intake.consume()
        rows = [(event.number, event.event_id) for event in intake.events()]
        stale._reader = Replayed(polled, stale)
        stale.step(0)
    assert len(rows) == 3
    assert [(event.number, event.event_id) for event in intake.events()] == rows


class Replayed:
    """A reader that gives what another one had read before it lost its partitions."""

    def __init__(self, polled: list[object], consumer: Consumer) -> None:
        self._polled = polled
        self._consumer = consumer

    def poll(self, _timeout_s: float, _max_records: int) -> list[object]:
        polled, self._polled = self._polled, []
        return polled

    def restart(self, partition: int) -> None:
        self._consumer._committed_offset(partition)

    def close(self) -> None:
        pass


def test_a_record_that_can_not_be_read_is_a_dead_letter_and_the_stream_goes_on(
    intake: Intake,
) -> None:
    poison = [NewRecord(partition, b"\x00 no envelope") for partition in range(4)]
    intake.event_log.append(poison)
    intake.take(*[wire_event(0, f"s-{number}") for number in range(12)])
    assert intake.num_events() == 12
    [letter] = intake.dead_letters()
    assert (letter.code, letter.original) == ("unreadable_record", b"\x00 no envelope")


def test_retention_that_overtook_an_offset_is_a_dead_letter_and_the_stream_goes_on(
    intake: Intake, broker: Broker
) -> None:
    intake.take(wire_event(0))
    intake.post(wire_event(1))
    admin = KafkaAdminClient(bootstrap_servers=broker.address)
    topic = intake.settings.kafka_topic
    admin.delete_records({TopicPartition(topic, partition): -1 for partition in range(4)})
    admin.close()
    intake.take(wire_event(2))
    assert [event.event_id for event in intake.events()] == ["s-1-0", "s-1-2"]
    [letter] = intake.dead_letters()
    assert letter.code == "lost_to_retention"
    assert "offsets 1 to 1" in letter.detail


def test_a_request_that_is_too_large_for_a_record_is_split_and_whole_in_sql(intake: Intake) -> None:
    texts = [wire_event(n, kind="document", payload={"text": "x" * 60_000}) for n in range(40)]
    intake.take(*texts)
    assert intake.num_events() == 40
    reader = intake.event_log.reader(lambda _partition: 0)
    records = reader.poll(20.0, 100)
    while more := reader.poll(0.0, 100):
        records += more
    reader.close()
    assert len(records) > 1
    assert max(len(record.value) for record in records) <= 1 << 20


def test_a_line_as_long_as_a_body_fits_in_a_record(intake: Intake) -> None:
    line = b"x" * (intake.settings.max_body_bytes - 1)
    good = wire_event(0)
    answer = intake.post_log(line)
    assert answer.status_code == 422
    intake.take(good)
    [letter] = intake.dead_letters()
    assert letter.original == line


def test_the_status_tells_how_much_waits(intake: Intake) -> None:
    began = time.monotonic()
    intake.post(wire_event(0))
    intake.post(wire_event(1))
    assert intake.event_log.num_waiting(dict.fromkeys(range(4), 0)) == 2
    intake.consume()
    assert time.monotonic() - began < 60
