"""The log on a real Kafka: the contract, and what only brokers can do to it."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.structs import MemberState

from ingest.log import EventLog, LogRecord, LogUnavailable, NewRecord
from ingest.log.kafka.log import KafkaLog
from ingest.log.kafka.topic import TopicPlan
from tests.ingest.log.contract import NUM_PARTITIONS, LogContract, all_records, from_start
from tests.kafka.broker import Broker
from tests.waiting import wait_until

BOUND_S = 15.0  # what an operation that takes 5 s at most may take on a busy machine


@pytest.fixture
def plan() -> TopicPlan:
    return TopicPlan(
        name=f"t-{uuid.uuid4().hex}",
        num_partitions=NUM_PARTITIONS,
        replication=1,
        retention_s=3_600,
        max_record_bytes=4 << 20,
    )


@pytest.fixture
def log(broker: Broker, plan: TopicPlan) -> Iterator[KafkaLog]:
    with KafkaLog(broker.address, plan) as log:
        yield log


@pytest.fixture
def admin(broker: Broker) -> Iterator[KafkaAdminClient]:
    admin = KafkaAdminClient(bootstrap_servers=broker.address)
    yield admin
    admin.close()


def topic_config(admin: KafkaAdminClient, name: str) -> dict[str, str]:
    found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    return {key: item["value"] for key, item in found["topic"][name].items()}


class TestKafkaLog(LogContract):
    @pytest.fixture
    def open_again(self, broker: Broker, plan: TopicPlan) -> Callable[[], EventLog]:
        return lambda: KafkaLog(broker.address, plan)


def test_a_topic_is_made_with_what_it_promises(
    log: KafkaLog, admin: KafkaAdminClient, plan: TopicPlan
) -> None:
    assert log.num_partitions == NUM_PARTITIONS
    assert topic_config(admin, plan.name) == {
        "cleanup.policy": "delete",
        "flush.messages": "1",
        "max.message.bytes": str(4 << 20),
        "message.timestamp.type": "LogAppendTime",
        "retention.ms": "3600000",
        "unclean.leader.election.enable": "false",
    }


def test_a_topic_with_copies_acknowledges_what_two_brokers_have(plan: TopicPlan) -> None:
    copied = TopicPlan(plan.name, 8, 3, 60.0, 1 << 20).configs()
    assert copied["min.insync.replicas"] == "2"
    assert "flush.messages" not in copied


def test_the_size_limit_of_a_topic_grows_with_the_setting(
    broker: Broker, log: KafkaLog, admin: KafkaAdminClient, plan: TopicPlan
) -> None:
    wide = TopicPlan(plan.name, NUM_PARTITIONS, 1, 3_600, 24 << 20)
    long = NewRecord(0, b"x" * (22 << 20))
    with KafkaLog(broker.address, wide) as opened:
        opened.append([long])
        assert [len(record.value) for record in all_records(opened)] == [22 << 20]
    assert topic_config(admin, plan.name)["max.message.bytes"] == str(24 << 20)
    with pytest.raises(LogUnavailable, match="larger than"):
        log.append([long])


def test_brokers_that_are_not_there_are_told_of_soon(plan: TopicPlan) -> None:
    began, threads = time.monotonic(), threading.active_count()
    with pytest.raises(LogUnavailable, match="can't open"):
        KafkaLog("127.0.0.1:9", plan)
    assert time.monotonic() - began < BOUND_S
    assert threading.active_count() == threads


def test_brokers_that_hang_are_waited_for_with_a_bound_and_then_not_at_all(
    broker: Broker, log: KafkaLog
) -> None:
    log.append([NewRecord(0, b"before")])
    broker.freeze()
    try:
        began = time.monotonic()
        with pytest.raises(LogUnavailable, match="can't append"):
            log.append([NewRecord(0, b"during")])
        waited_s = time.monotonic() - began
        with pytest.raises(LogUnavailable, match="away"):
            log.append([NewRecord(0, b"refused")])
        refused_s = time.monotonic() - began - waited_s
        with pytest.raises(LogUnavailable, match="can't count"):
            log.num_waiting({0: 0})
    finally:
        broker.thaw()
    assert 2 < waited_s < BOUND_S
    assert refused_s < 0.5
    wait_until(lambda: takes(log, b"after"))
    values = [record.value for record in all_records(log)]
    assert values[0] == b"before"
    assert values[-1] == b"after"
    assert b"refused" not in values


def takes(log: KafkaLog, value: bytes) -> bool:
    try:
        log.append([NewRecord(0, value)])
    except LogUnavailable:
        return False
    return True


def partitions_of(records: list[LogRecord]) -> set[int]:
    return {record.partition for record in records}


def test_readers_share_the_partitions_and_one_that_leaves_hands_over(log: KafkaLog) -> None:
    first, second = log.reader(from_start), log.reader(from_start)

    def shares_are_fair() -> bool:
        log.append([NewRecord(partition, b"x") for partition in range(NUM_PARTITIONS)])
        shares = [partitions_of(reader.poll(0.2, 100)) for reader in (first, second)]
        return not shares[0] & shares[1] and shares[0] | shares[1] == {0, 1, 2} and all(shares)

    wait_until(shares_are_fair, within_s=60)
    second.close()
    log.append([NewRecord(partition, b"last") for partition in range(NUM_PARTITIONS)])
    rest: set[int] = set()

    def has_all() -> bool:
        rest.update(r.partition for r in first.poll(0.1, 100) if r.value == b"last")
        return rest == {0, 1, 2}

    wait_until(has_all, within_s=60)
    first.close()


def test_a_rebalance_whose_reason_went_away_is_seen_to_its_end(
    broker: Broker, log: KafkaLog
) -> None:
    reader = log.reader(from_start)
    assert reader.poll(0.0, 10) == []
    kafka = reader._member._kafka
    coordinator, polled, poll = kafka._coordinator, [], kafka.poll
    kafka.poll = lambda timeout_ms: polled.append(poll(timeout_ms=timeout_ms)) or polled[-1]
    broker.freeze()
    try:
        coordinator.request_rejoin()
        wait_until(lambda: coordinator.state is MemberState.REBALANCING)
        coordinator.rejoin_needed = False  # which metadata does that is as it was before
        before = len(polled)
        wait_until(lambda: len(polled) > before + 1)  # one that began after that, too
    finally:
        broker.thaw()
    wait_until(lambda: coordinator.state is MemberState.STABLE)
    log.append([NewRecord(1, b"after")])
    assert [record.value for record in reader.poll(30.0, 10)] == [b"after"]
    reader.close()


def test_a_member_whose_database_hangs_holds_up_nobody(log: KafkaLog) -> None:
    hangs = threading.Event()

    def slow_start(_partition: int) -> int:
        hangs.wait(60)
        return 0

    slow = log.reader(slow_start)
    thread = threading.Thread(target=slow.poll, args=(0.0, 10))
    thread.start()
    log.append([NewRecord(partition, b"x") for partition in range(NUM_PARTITIONS)])
    swift = log.reader(from_start)
    wait_until(lambda: bool(swift.poll(0.1, 10)), within_s=60)
    hangs.set()
    thread.join()
    slow.close()
    swift.close()


def test_what_retention_took_is_told_as_a_gap_and_the_rest_is_read(
    log: KafkaLog, admin: KafkaAdminClient, plan: TopicPlan
) -> None:
    log.append([NewRecord(0, str(number).encode()) for number in range(3)])
    resource = ConfigResource(ConfigResourceType.TOPIC, plan.name, {"retention.ms": "1"})
    admin.alter_configs([resource], incremental=True)
    wait_until(lambda: log.num_waiting({0: 0}) == 0, within_s=60)
    kept = ConfigResource(ConfigResourceType.TOPIC, plan.name, {"retention.ms": "3600000"})
    admin.alter_configs([kept], incremental=True)
    log.append([NewRecord(0, b"young")])
    records = all_records(log)
    assert (records[0].lost_from, records[0].offset, records[0].value) == (0, 2, b"")
    assert records[1:] == [LogRecord(0, 3, b"young")]
