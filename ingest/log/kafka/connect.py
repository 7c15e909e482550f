"""kafka-python's clients, opened whole or not at all.

A client that finds no broker raises from its constructor and leaves its thread running (3.0.12):
with a try a second that would be a thread a second for as long as the brokers are away.
"""

from collections.abc import Callable
from typing import TypeVar

from kafka.net.compat import KafkaNetClient

BOOTSTRAP_MS = 2_000
RECONNECT_MS = 1_000

Client = TypeVar("Client")


def open_client(make: Callable[..., Client], brokers: str, **config: object) -> Client:
    """A client of these brokers (`host:port`, with commas between); raises KafkaError."""
    connections: list[KafkaNetClient] = []

    def connect(**options: object) -> KafkaNetClient:
        connections.append(KafkaNetClient(**options))
        return connections[0]

    try:
        return make(
            bootstrap_servers=brokers.split(","),
            bootstrap_timeout_ms=BOOTSTRAP_MS,
            reconnect_backoff_max_ms=RECONNECT_MS,
            kafka_client=connect,
            **config,
        )
    except BaseException:
        for connection in connections:
            connection.close()
        raise
