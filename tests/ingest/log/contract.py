"""What every event log must do; an implementation's test subclasses `LogContract`.

    class TestMyLog(LogContract):
        @pytest.fixture
        def open_again(self, ...) -> Callable[[], EventLog]: ...

`open_again` opens one and the same log, of `NUM_PARTITIONS`, each time it is called.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator

import pytest

from ingest.log import EventLog, LogRecord, NewRecord

NUM_PARTITIONS = 3
OpenLog = Callable[[], EventLog]


def from_start(_partition: int) -> int:
    return 0


def all_records(log: EventLog, start: Callable[[int], int] = from_start) -> list[LogRecord]:
    """Everything from the given offsets on."""
    reader = log.reader(start)
    records: list[LogRecord] = []
    while polled := reader.poll(0.0, 10):
        records += polled
    reader.close()
    return records


def values(records: list[LogRecord]) -> dict[int, list[bytes]]:
    """Of each partition, in order; that a trimmed beginning is gone may be told by a gap."""
    by_partition: defaultdict[int, list[bytes]] = defaultdict(list)
    for record in records:
        if record.lost_from is None:
            by_partition[record.partition].append(record.value)
    return dict(by_partition)


class LogContract:
    """The tests; nothing in them knows how a log is made."""

    @pytest.fixture
    def log(self, open_again: OpenLog) -> Iterator[EventLog]:
        with open_again() as log:
            yield log

    def test_an_empty_log_gives_nothing(self, log: EventLog) -> None:
        assert all_records(log) == []

    def test_records_come_back_in_the_order_of_their_partition(self, log: EventLog) -> None:
        log.append([NewRecord(0, b"a"), NewRecord(1, b"b"), NewRecord(0, b"c")])
        log.append([NewRecord(0, b"d")])
        assert values(all_records(log)) == {0: [b"a", b"c", b"d"], 1: [b"b"]}

    def test_values_are_bytes_of_any_kind_and_size(self, log: EventLog) -> None:
        sent = [b"", b"\x00\xff\n", b"x" * 1_000_000]
        log.append([NewRecord(2, value) for value in sent])
        assert values(all_records(log)) == {2: sent}

    def test_offsets_grow_within_a_partition(self, log: EventLog) -> None:
        log.append([NewRecord(1, str(n).encode()) for n in range(20)])
        offsets = [record.offset for record in all_records(log)]
        assert offsets == sorted(set(offsets))

    def test_reading_goes_on_behind_any_record(self, log: EventLog) -> None:
        log.append([NewRecord(n % 2, str(n).encode()) for n in range(10)])
        records = all_records(log)
        next_offsets: defaultdict[int, int] = defaultdict(int)
        for index, last in enumerate(records):
            next_offsets[last.partition] = last.offset + 1
            rest = all_records(log, next_offsets.__getitem__)
            assert values(rest) == values(records[index + 1 :])

    def test_a_poll_gives_no_more_than_it_was_asked_for(self, log: EventLog) -> None:
        log.append([NewRecord(0, b"x")] * 5)
        reader = log.reader(from_start)
        assert [len(reader.poll(0.0, 2)) for _ in range(4)] == [2, 2, 1, 0]
        reader.close()

    def test_a_reader_waits_for_what_comes(self, log: EventLog) -> None:
        reader = log.reader(from_start)
        assert reader.poll(0.0, 10) == []
        threading.Timer(0.05, log.append, [[NewRecord(1, b"late")]]).start()
        assert [record.value for record in reader.poll(10.0, 10)] == [b"late"]
        reader.close()

    def test_a_log_is_the_same_when_it_is_opened_again(self, open_again: OpenLog) -> None:
        with open_again() as first:
            first.append([NewRecord(0, b"kept")])
            log_id = first.log_id
        with open_again() as second:
            assert second.log_id == log_id
            assert second.num_partitions == NUM_PARTITIONS
            assert values(all_records(second)) == {0: [b"kept"]}

    def test_two_openings_write_into_one_log(self, log: EventLog, open_again: OpenLog) -> None:
        with open_again() as other:
            log.append([NewRecord(0, b"here")])
            other.append([NewRecord(0, b"there")])
            assert values(all_records(log)) == {0: [b"here", b"there"]}

    def test_threads_lose_nothing_and_keep_their_own_order(self, log: EventLog) -> None:
        def produce(thread: int) -> None:
            for number in range(25):
                log.append([NewRecord(thread % NUM_PARTITIONS, b"%d %d" % (thread, number))])

        threads = [threading.Thread(target=produce, args=[n]) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seen: defaultdict[int, list[int]] = defaultdict(list)
        for record in all_records(log):
            producer, number = map(int, record.value.split())
            assert record.partition == producer % NUM_PARTITIONS
            seen[producer].append(number)
        assert dict(seen) == {producer: list(range(25)) for producer in range(8)}

    def test_a_partition_that_does_not_exist_is_refused_with_its_neighbours(
        self, log: EventLog
    ) -> None:
        with pytest.raises(ValueError, match="partition"):
            log.append([NewRecord(0, b"x"), NewRecord(NUM_PARTITIONS, b"y")])
        assert all_records(log) == []

    def test_trimming_drops_what_lies_before_and_nothing_else(self, log: EventLog) -> None:
        log.append([NewRecord(n % 2, str(n).encode()) for n in range(6)])
        records = all_records(log)
        before = {record.partition: record.offset + 1 for record in records[:4]}
        assert log.trim(before, grace_s=0) == 4
        assert values(all_records(log)) == values(records[4:])

    def test_trimming_respects_the_grace(self, log: EventLog) -> None:
        log.append([NewRecord(0, b"young")])
        [young] = all_records(log)
        assert log.trim({0: young.offset + 1}, grace_s=3_600) == 0
        assert values(all_records(log)) == {0: [b"young"]}

    def test_an_offset_is_never_used_again(self, log: EventLog) -> None:
        log.append([NewRecord(0, b"old")])
        [old] = all_records(log)
        log.trim({0: old.offset + 1}, grace_s=0)
        log.append([NewRecord(0, b"new")])
        [new] = all_records(log, lambda _partition: old.offset + 1)
        assert new.offset > old.offset
        assert new.value == b"new"

    def test_a_restarted_partition_goes_on_where_its_start_is_by_then(self, log: EventLog) -> None:
        log.append([NewRecord(n % 2, str(n).encode()) for n in range(8)])
        starts = [0, 0, 0]
        reader = log.reader(starts.__getitem__)
        records = reader.poll(0.0, 8)
        behind = {record.value: record.offset + 1 for record in records}
        starts[0], starts[1] = behind[b"2"], behind[b"1"]
        reader.restart(0)
        again = [reader.poll(0.0, 8), reader.poll(0.0, 8)]
        reader.close()
        assert again == [[record for record in records if record.value in (b"4", b"6")], []]
