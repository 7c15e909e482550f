"""Simulated sessions through the SDK, as production would send them, only faster.

In: sessions of wire events (`wire_events`), each in order of time. Out: the ids, all acknowledged.
Guaranteed: sessions that overlap in time are sent interleaved; an id is (session, sequence), so the
same seed posted twice is stored once; nothing is dropped, posting waits for the server instead.
Decision: at most half of the client's queue is used; a server that takes nothing for 60 s, or for
5 s once posting was told to stop, is an error.
"""

import heapq
import math
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from ingest.client import Client

PATIENCE_S = 60.0
LAST_PATIENCE_S = 5.0


class PostError(Exception):
    """A simulated event was not stored."""


def post_sessions(
    sessions: Iterable[Iterable[Mapping[str, Any]]],
    client: Client,
    *,
    speed: float = math.inf,
    stop: threading.Event | None = None,
) -> list[str]:
    """Post sessions at `speed` times real time, until `stop`; the ids in the order of posting.

    Real time counts from the first event's timestamp; nobody else may use the client meanwhile.
    Raises PostError when the server rejects an event or takes none for 60 s.
    """
    if not speed > 0:
        raise ValueError(f"speed is {speed}; it must be above 0 (1: as fast as the people were)")
    stop = stop or threading.Event()
    before = client.stats()
    started_at = time.monotonic()
    first: float | None = None
    posted: list[str] = []
    for event in heapq.merge(*sessions, key=_timestamp):
        first = event["timestamp"] if first is None else first
        due_at = started_at + (event["timestamp"] - first) / speed
        if stop.wait(max(due_at - time.monotonic(), 0.0)):
            break
        if client.stats().queued * 2 >= client.queue_size:
            _settle(client, PATIENCE_S)
        event_id = f"{event['session_id']}:{event['sequence']}"
        client.capture(**event, event_id=event_id)
        posted.append(event_id)
    _settle(client, LAST_PATIENCE_S if stop.is_set() else PATIENCE_S)
    after = client.stats()
    num_lost = after.rejected + after.dropped - before.rejected - before.dropped
    if num_lost:
        raise PostError(f"{num_lost} of {len(posted)} events were not taken: {after.last_error}")
    return posted


def _settle(client: Client, patience_s: float) -> None:
    """Wait for the server's verdicts on what was captured so far."""
    if not client.flush(patience_s):
        reason = client.stats().last_error
        raise PostError(f"the server took nothing for {patience_s:.0f} s: {reason}")


def _timestamp(event: Mapping[str, Any]) -> float:
    return float(event["timestamp"])
