"""Transactions: what holds on SQLite and on PostgreSQL alike, and what several writers rely on."""

import threading
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest
from sqlalchemy import Engine, func, select, update

from ingest.buffer import new_revision
from ingest.consume import Consumer
from ingest.database import next_number, read, take_turn, write
from ingest.instance import ensure_instance
from ingest.slices import list_slices, save_slice
from ingest.tables import Counter, EventRow, Instance, Revision, SessionRow
from tests.intake import Intake, wire_event

NOW = 1_754_600_000.0
A_MOMENT_S = 0.2


def revisions(engine: Engine) -> list[int]:
    with read(engine) as session:
        return list(session.scalars(select(Revision.number).order_by(Revision.number)))


def test_a_smaller_number_is_never_committed_later(engine: Engine) -> None:
    """The first writer commits last: the second waits for it, and no reader sees a gap."""
    may_commit, has_number = threading.Event(), threading.Event()

    def slow() -> int:
        with write(engine) as session:
            number = new_revision(session, "placed", added=0, retired=0, now=NOW)
            has_number.set()
            assert may_commit.wait(10)
        return number

    def quick() -> int:
        assert has_number.wait(10)
        with write(engine) as session:
            return new_revision(session, "placed", added=0, retired=0, now=NOW)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(slow), pool.submit(quick)
        assert has_number.wait(10)
        with pytest.raises(TimeoutError):
            second.result(A_MOMENT_S)
        assert revisions(engine) == []
        may_commit.set()
        assert (first.result(10), second.result(10)) == (1, 2)
    assert revisions(engine) == [1, 2]


def test_a_writer_that_gives_up_leaves_no_gap(engine: Engine) -> None:
    with write(engine) as session:
        next_number(session, "things")
        session.rollback()
    with write(engine) as session:
        assert next_number(session, "things") == 1


def test_many_writers_take_each_number_once(engine: Engine) -> None:
    def take(_: int) -> int:
        with write(engine) as session:
            return next_number(session, "things")

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(take, range(100))) == list(range(1, 101))


def test_a_reader_sees_one_moment(engine: Engine) -> None:
    count = select(func.count()).select_from(Counter)
    with read(engine) as reader:
        assert reader.scalar(count) == 0
        with write(engine) as session:
            next_number(session, "things")
        assert reader.scalar(count) == 0
    with read(engine) as reader:
        assert reader.scalar(count) == 1


def test_turns_of_one_name_are_taken_one_after_the_other(engine: Engine) -> None:
    inside: list[int] = []

    def enter(_: int) -> int:
        with write(engine) as session:
            take_turn(session, "door")
            inside.append(1)
            num_inside = len(inside)
            threading.Event().wait(0.01)
            inside.pop()
        return num_inside

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(enter, range(16))) == {1}


def test_processes_that_start_at_once_make_one_instance(engine: Engine) -> None:
    def start(_: int) -> str:
        with write(engine) as session:
            return ensure_instance(session)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(start, range(8)))) == 1
    with read(engine) as session:
        assert session.scalar(select(func.count()).select_from(Instance)) == 1


def test_a_slice_that_two_save_at_once_is_saved(engine: Engine) -> None:
    def save(number: int) -> None:
        with write(engine) as session:
            save_slice(session, "fresh", f"age<{number + 1}d", actor="test", now=NOW)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(save, range(16)))
    with read(engine) as session:
        assert [each.name for each in list_slices(session)] == ["fresh"]


def test_names_are_ordered_by_their_bytes(engine: Engine) -> None:
    """Not as English would (a, B, a-b ...): both databases, and Python, agree."""
    names = ["b", "B", "a", "A", "a-b", "a_b", "ab", "\u00e4", "z", "_", "1", "10", "9"]
    with write(engine) as session:
        for name in names:
            next_number(session, name)
    with read(engine) as session:
        ordered = session.scalars(select(Counter.name).order_by(Counter.name)).all()
        above = session.scalars(select(Counter.name).where(Counter.name > "a")).all()
    assert ordered == sorted(names)
    assert sorted(above) == [name for name in sorted(names) if name > "a"]


def test_a_sequence_of_53_bits_is_stored(intake: Intake) -> None:
    intake.take(wire_event(0, sequence=2**53 - 1, timestamp=4_102_444_799.999))
    [event] = intake.events()
    assert (event.sequence, event.timestamp) == (2**53 - 1, 4_102_444_799.999)


def test_text_with_nul_is_taken_and_nothing_of_it_is_lost(intake: Intake) -> None:
    payload = {"x": 1, "note": "a\x00b", "k\x00y": "c"}
    intake.take(wire_event(0, payload=payload), wire_event(1))
    [event, _] = intake.rows(EventRow, "number")
    assert orjson.loads(event.payload_json) == payload


def test_a_line_that_is_refused_for_a_name_with_nul_is_a_dead_letter(intake: Intake) -> None:
    line = b'{"session_id": "s", "timestamp": 1754600000.0, "inputs": {"n\\u0000": NaN}}'
    answer = intake.post_log(line)
    assert "\x00" in answer.json()["rejected"][0]["detail"]
    intake.take(wire_event(0))
    [letter] = intake.dead_letters()
    assert letter.original == line
    assert letter.detail.replace("\u2400", "\x00") == answer.json()["rejected"][0]["detail"]
    assert intake.num_events() == 1


def test_events_that_come_while_their_session_is_cut_are_cut_next(intake: Intake) -> None:
    """Another consumer cuts: its `needs_cut = False` may not hide what comes meanwhile."""
    intake.post(wire_event(0))
    with Consumer(intake.engine, intake.event_log, intake.settings) as consumer:
        consumer.step(0)
        with write(intake.engine) as session:
            session.execute(update(SessionRow).values(needs_cut=True))
        intake.post(wire_event(1))
        with ThreadPoolExecutor(1) as pool:
            with write(intake.engine) as other:
                row = other.scalars(select(SessionRow).with_for_update()).one()
                row.needs_cut = False
                other.flush()
                step = pool.submit(consumer.step, 0)
                with pytest.raises(TimeoutError):
                    step.result(A_MOMENT_S)
            assert step.result(10) == 1
    intake.consume()
    assert [episode.num_actions for episode in intake.episodes()] == [2]
