"""The topic that is the log: made once, with what it promises stated, and looked at when opened.

In: what the settings want. Out: the topic as it is. Guaranteed: a record is acknowledged once it
survives a power cut: on so many brokers that one may be lost, or, where there is one copy, synced
to its disk (`flush.messages=1`: about half the throughput of one connection, nothing with many).
Decision: the number of partitions is the topic's from its making on, as a session must stay in one;
only the size limit is raised later, where the settings come to need more.
"""

from dataclasses import dataclass

import structlog
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import TopicAlreadyExistsError, for_code

from ingest.log.interface import LogUnavailable

UNKNOWN_TOPIC = 3  # Kafka's error code

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """What a topic is made with; the largest record is in bytes."""

    name: str
    num_partitions: int
    replication: int
    retention_s: float
    max_record_bytes: int

    def configs(self) -> dict[str, str]:
        """Kafka's words for it."""
        one_copy = self.replication == 1
        durable = {"flush.messages": "1"} if one_copy else {"min.insync.replicas": "2"}
        return durable | {
            "cleanup.policy": "delete",
            "retention.ms": str(int(self.retention_s * 1000)),
            "max.message.bytes": str(self.max_record_bytes),
            # The broker's clock, not the clients', says how old a record is.
            "message.timestamp.type": "LogAppendTime",
            "unclean.leader.election.enable": "false",
        }


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it is; the id is Kafka's own, another one when it is made again."""

    name: str
    topic_id: str
    num_partitions: int


def ensure_topic(admin: KafkaAdminClient, plan: TopicPlan) -> Topic:
    """The topic, made by the plan if there is none; raises KafkaError or LogUnavailable."""
    topic = _describe(admin, plan.name)
    if topic is None:
        _create(admin, plan)
        topic = _describe(admin, plan.name)
    if topic is None:
        raise LogUnavailable(f"can't open: the brokers don't know the topic {plan.name} yet")
    if topic.num_partitions != plan.num_partitions:
        log.warning(
            "setting_ignored",
            setting="STOVETOP_NUM_PARTITIONS",
            value=plan.num_partitions,
            kept=topic.num_partitions,
        )
    _ensure_room(admin, plan)
    return topic


def _describe(admin: KafkaAdminClient, name: str) -> Topic | None:
    [found] = admin.describe_topics([name])
    if found["error_code"] == UNKNOWN_TOPIC:
        return None
    if found["error_code"]:
        raise for_code(found["error_code"])(f"topic {name}")
    return Topic(name, str(found["topic_id"]), len(found["partitions"]))


def _create(admin: KafkaAdminClient, plan: TopicPlan) -> None:
    wanted = {
        "num_partitions": plan.num_partitions,
        "replication_factor": plan.replication,
        "configs": plan.configs(),
    }
    try:
        admin.create_topics({plan.name: wanted}, wait_for_metadata=True)
    except TopicAlreadyExistsError:  # another process of ours was faster
        admin.wait_for_topics([plan.name])
        return
    log.info("topic_created", topic=plan.name, **wanted)


def _ensure_room(admin: KafkaAdminClient, plan: TopicPlan) -> None:
    """Raise the size limit of a topic that was made for smaller records."""
    resource = ConfigResource(ConfigResourceType.TOPIC, plan.name)
    key = "max.message.bytes"
    described = admin.describe_configs([resource], config_filter="all")
    limit = int(described["topic"][plan.name][key]["value"])
    if limit >= plan.max_record_bytes:
        return
    change = ConfigResource(ConfigResourceType.TOPIC, plan.name, {key: str(plan.max_record_bytes)})
    admin.alter_configs([change], incremental=True)
    log.info("topic_limit_raised", topic=plan.name, old=limit, new=plan.max_record_bytes)
