"""The consumer: what becomes of records, once, whatever happens in between."""

import threading
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import OperationalError

from ingest.consume import Consumer, run
from ingest.database import read, write
from ingest.event_rows import split_of
from ingest.log import NewRecord, open_log
from ingest.log.embedded import EmbeddedLog
from ingest.settings import Settings
from ingest.tables import LogOffset, Sample
from tests.intake import START, Intake, wire_event
from tests.waiting import wait_until


def test_an_event_becomes_a_row_with_all_that_it_said(intake: Intake) -> None:
    intake.take(wire_event(0, user_id="u-1", model="m-7", frame="f00d"))
    [event] = intake.events()
    assert (event.source, event.event_id, event.kind, event.sequence, event.timestamp) == (
        "demo",
        "s-1-0",
        "action",
        0,
        START,
    )
    assert (event.model, event.frame) == ("m-7", "f00d")


def test_a_session_that_turns_out_to_be_somebodys_was_theirs_from_the_first_sample_on(
    intake: Intake,
) -> None:
    text_of = {"kind": "document", "payload": {"text": "once"}}
    intake.take(wire_event(0, **text_of))
    intake.take(wire_event(1, user_id="ann", **text_of))
    assert [sample.user_id for sample in intake.rows(Sample)] == ["ann", "ann"]


def test_a_session_counts_its_events_and_their_span(intake: Intake) -> None:
    intake.take(wire_event(1), wire_event(2))
    intake.take(wire_event(0), wire_event(9))
    [session] = intake.sessions()
    assert (session.session_id, session.num_events) == ("s-1", 4)
    assert (session.first_timestamp, session.last_timestamp) == (START, START + 9 / 4)
    assert not session.needs_cut


def test_the_same_session_id_of_two_sources_is_two_sessions(intake: Intake) -> None:
    intake.take(wire_event(0))
    other = [
        NewRecord(r.partition, r.value.replace(b'"demo"', b'"other"')) for r in records(intake)
    ]
    intake.event_log.append(other)
    intake.consume()
    assert len(intake.sessions()) == len(intake.events()) == 2


def records(intake: Intake) -> list[NewRecord]:
    reader = intake.event_log.reader(lambda _partition: 0)
    polled = reader.poll(0.0, 1_000)
    reader.close()
    return [NewRecord(record.partition, record.value) for record in polled]


def test_an_event_that_the_log_has_twice_is_stored_once(intake: Intake) -> None:
    intake.post(wire_event(0))
    intake.post(wire_event(0), wire_event(1))
    intake.consume()
    assert [event.event_id for event in intake.events()] == ["s-1-0", "s-1-1"]
    assert intake.sessions()[0].num_events == 2


def test_the_first_of_an_identity_wins_and_the_second_is_a_dead_letter(intake: Intake) -> None:
    intake.post(wire_event(0, payload={"x": 1}))
    for _ in range(2):
        intake.post(wire_event(0, payload={"x": 2}))
        intake.consume()
    [event] = intake.events()
    assert event.payload_json == '{"x":1.0}'
    [letter] = intake.dead_letters()
    assert letter.code == "conflict"
    assert b'"x":2.0' in letter.original


def test_a_conflict_within_one_request_is_a_dead_letter_too(intake: Intake) -> None:
    intake.post(wire_event(0, payload={"x": 1}), wire_event(0, payload={"x": 2}))
    intake.consume()
    assert len(intake.events()) == len(intake.dead_letters()) == 1


def test_a_record_that_can_not_be_read_is_a_dead_letter_and_the_next_is_taken(
    intake: Intake,
) -> None:
    intake.event_log.append([NewRecord(0, b"\x00 no envelope")])
    intake.take(wire_event(0))
    [letter] = intake.dead_letters()
    assert (letter.code, letter.original) == ("unreadable_record", b"\x00 no envelope")
    assert len(intake.events()) == 1


def test_a_session_keeps_the_split_of_its_first_sight(intake: Intake) -> None:
    intake.take(wire_event(0))
    [before] = intake.sessions()
    users = [user for user in map(str, range(1_000)) if split_of(user, "", 10) != before.split]
    intake.take(wire_event(1, user_id=users[0]))
    [after] = intake.sessions()
    assert (after.user_id, after.split) == (users[0], before.split)


def test_all_sessions_of_a_user_are_on_one_side(intake: Intake) -> None:
    intake.take(*[wire_event(0, f"s-{n}", user_id="same") for n in range(20)])
    assert len({session.split for session in intake.sessions()}) == 1


def test_about_eval_percent_of_the_sessions_are_held_out() -> None:
    splits = [split_of(None, str(n), 10) for n in range(10_000)]
    assert 900 < splits.count("eval") < 1_100
    assert split_of(None, "any", 0) == "train"


def test_more_events_than_a_transaction_takes_are_all_stored(intake: Intake) -> None:
    for start in range(0, 1_200, 400):
        intake.post(*[wire_event(n) for n in range(start, start + 400)])
    intake.consume()
    assert [event.sequence for event in intake.events()] == list(range(1_200))


def test_offsets_go_with_the_rows(intake: Intake) -> None:
    intake.take(wire_event(0))
    with read(intake.engine) as session:
        offsets = session.scalars(select(LogOffset.next_offset)).all()
    assert len(offsets) == intake.event_log.num_partitions
    assert sorted(offsets)[-2:] == [0, 2]


def test_a_failing_transaction_leaves_the_offset_where_it_was(intake: Intake) -> None:
    intake.post(wire_event(0))
    with Consumer(intake.engine, intake.event_log, intake.settings) as consumer:
        with write(intake.engine) as session:
            session.execute(text("ALTER TABLE events RENAME TO hidden"))
        with pytest.raises(OperationalError):
            consumer.step(0)
        with write(intake.engine) as session:
            session.execute(text("ALTER TABLE hidden RENAME TO events"))
    assert intake.sessions() == []
    intake.consume()
    assert len(intake.events()) == 1


def test_a_consumer_that_was_overtaken_changes_nothing_and_goes_on_behind(intake: Intake) -> None:
    with Consumer(intake.engine, intake.event_log, intake.settings) as stale:
        intake.take(wire_event(0))
        stale.step(0)
        assert intake.sessions()[0].num_events == 1
        intake.post(wire_event(1))
        stale.drain()
    assert [event.event_id for event in intake.events()] == ["s-1-0", "s-1-1"]


def test_of_two_consumers_at_once_only_one_brings_a_record_in(intake: Intake) -> None:
    for number in range(40):
        intake.post(wire_event(number, f"s-{number % 7}"))
    consumers = [Consumer(intake.engine, intake.event_log, intake.settings) for _ in range(2)]
    threads = [threading.Thread(target=consumer.drain) for consumer in consumers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for consumer in consumers:
        consumer.close()
    assert intake.num_events() == sum(row.num_events for row in intake.sessions()) == 40
    assert intake.dead_letters() == []


def test_records_that_a_database_refused_are_stored_by_the_same_consumer_later(
    intake: Intake,
) -> None:
    intake.post(wire_event(0))
    with Consumer(intake.engine, intake.event_log, intake.settings) as consumer:
        with write(intake.engine) as session:
            session.execute(text("ALTER TABLE events RENAME TO hidden"))
        with pytest.raises(OperationalError):
            consumer.step(0)
        with write(intake.engine) as session:
            session.execute(text("ALTER TABLE hidden RENAME TO events"))
        consumer.drain()
    assert intake.num_events() == 1


def test_a_new_log_is_read_from_its_start(intake: Intake, tmp_path: Path) -> None:
    intake.take(wire_event(0))
    intake.post(wire_event(1))
    with EmbeddedLog(tmp_path / "other.db", num_partitions=2) as other:
        other.append([NewRecord(0, record.value) for record in records(intake)])
        with Consumer(intake.engine, other, intake.settings) as consumer:
            consumer.drain()
    assert len(intake.events()) == 2


def test_consumed_records_are_trimmed_after_their_grace(intake: Intake) -> None:
    intake.take(wire_event(0))
    without_grace = intake.settings.model_copy(update={"log_grace_s": 0.0})
    with Consumer(intake.engine, intake.event_log, without_grace) as consumer:
        intake.post(wire_event(1))
        consumer.drain()
    assert records(intake) == []
    assert len(intake.events()) == 2


def test_a_running_consumer_brings_new_events_to_rows_until_told_to_stop(
    intake: Intake, settings: Settings
) -> None:
    stop = threading.Event()
    thread = threading.Thread(target=run, args=[settings, stop])
    thread.start()
    intake.post(wire_event(0))
    wait_until(lambda: len(intake.episodes()) == 1)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


def test_a_consumer_outlives_a_database_that_fails_for_a_while(
    intake: Intake, settings: Settings
) -> None:
    with write(intake.engine) as session:
        session.execute(text("ALTER TABLE log_offsets RENAME TO hidden"))
    stop = threading.Event()
    thread = threading.Thread(target=run, args=[settings, stop])
    thread.start()
    intake.post(wire_event(0))
    with write(intake.engine) as session:
        session.execute(text("ALTER TABLE hidden RENAME TO log_offsets"))
    wait_until(lambda: len(intake.events()) == 1)
    stop.set()
    thread.join(10)


def test_the_settings_open_the_log_in_the_data_folder(settings: Settings) -> None:
    with open_log(settings) as log:
        assert log.num_partitions == settings.num_partitions
    assert settings.event_log_path.exists()
