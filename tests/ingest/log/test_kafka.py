"""The log on a real Kafka: the contract, and what only brokers can do to it."""

import uuid
from collections.abc import Callable

import pytest

from ingest.log import EventLog
from ingest.log.kafka.log import KafkaLog
from ingest.log.kafka.topic import TopicPlan
from tests.ingest.log.contract import NUM_PARTITIONS, LogContract
from tests.kafka.broker import Broker


@pytest.fixture
def plan() -> TopicPlan:
    return TopicPlan(
        name=f"t-{uuid.uuid4().hex}",
        num_partitions=NUM_PARTITIONS,
        replication=1,
        retention_s=3_600,
        max_record_bytes=4 << 20,
    )


class TestKafkaLog(LogContract):
    @pytest.fixture
    def open_again(self, broker: Broker, plan: TopicPlan) -> Callable[[], EventLog]:
        return lambda: KafkaLog(broker.address, plan)
