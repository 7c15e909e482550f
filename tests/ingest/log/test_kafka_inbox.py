"""The hand-over between polling and storing: pure, so any order of things can be tried."""

from hypothesis import given
from hypothesis import strategies as st

from ingest.log import LogRecord
from ingest.log.kafka.inbox import Inbox

PARTITIONS = (0, 1)


def record(partition: int, offset: int, size: int = 1) -> LogRecord:
    return LogRecord(partition, offset, b"x" * size)


def started(*partitions: int, max_bytes: int = 100) -> Inbox:
    inbox = Inbox(max_bytes)
    inbox.join()
    inbox.hold(partitions)
    for partition in partitions:
        inbox.start(partition, 0)
    inbox.seeks()
    return inbox


def test_a_partition_flows_from_its_start_on_and_not_before() -> None:
    inbox = Inbox()
    inbox.hold([0])
    inbox.put([record(0, 7)])
    assert inbox.waiting_for_start() == [0]
    assert list(inbox.flowing()) == []
    inbox.start(0, 7)
    assert inbox.seeks() == {0: 7}
    assert list(inbox.flowing()) == [0]
    inbox.put([record(0, 6), record(0, 7)])
    assert inbox.take(10) == [record(0, 7)]


def test_what_was_polled_before_the_seek_is_dropped() -> None:
    inbox = started(0)
    inbox.start(0, 3)
    inbox.put([record(0, 5)])  # from before: 3 and 4 would be missing
    assert inbox.take(10) == []
    inbox.seeks()
    inbox.put([record(0, 3)])
    assert inbox.take(10) == [record(0, 3)]


def test_what_was_not_taken_of_a_released_partition_is_dropped_and_its_neighbours_stay() -> None:
    inbox = started(0, 1)
    inbox.put([record(0, 0), record(1, 0)])
    inbox.release([0])
    inbox.put([record(0, 1)])
    assert inbox.take(10) == [record(1, 0)]


def test_nothing_flows_while_too_much_waits() -> None:
    inbox = started(0, max_bytes=10)
    inbox.put([record(0, 0, size=9)])
    assert list(inbox.flowing()) == [0]
    inbox.put([record(0, 1, size=9)])
    assert list(inbox.flowing()) == []
    inbox.take(1)
    assert list(inbox.flowing()) == [0]


def test_it_is_settled_once_the_group_decided_and_every_start_is_known() -> None:
    inbox = Inbox()
    assert not inbox.view().is_settled
    inbox.hold([0])
    inbox.join()
    assert not inbox.view().is_settled
    inbox.start(0, 4)
    assert inbox.view() == (True, {0: 4})


def test_a_start_of_what_went_meanwhile_is_nothing() -> None:
    inbox = started(0)
    inbox.release([0])
    inbox.start(0, 4)
    assert inbox.seeks() == {}


actions = st.lists(
    st.tuples(
        st.sampled_from(["hold", "release", "start", "put", "take"]),
        st.sampled_from(PARTITIONS),
        st.integers(0, 20),
    ),
    max_size=60,
)


@given(actions)
def test_records_of_one_start_come_in_order_and_once(steps: list[tuple[str, int, int]]) -> None:
    inbox = Inbox()
    at: dict[int, int] = {}  # where the log is read, as Kafka would
    last: dict[int, int] = {}
    for step, partition, number in steps:
        if step in ("hold", "release"):
            getattr(inbox, step)([partition])
            last.pop(partition, None)
        elif step == "start":
            inbox.start(partition, number)
            last.pop(partition, None)
        elif step == "take":
            for taken in inbox.take(number + 1):
                assert taken.offset > last.get(taken.partition, -1)
                last[taken.partition] = taken.offset
        elif partition in inbox.flowing():
            at.update(inbox.seeks())
            begin = at.setdefault(partition, 0)
            inbox.put(record(partition, begin + n) for n in range(3))
            at[partition] = begin + 3
