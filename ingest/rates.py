"""How fast somebody may ask: token buckets, one a key or address, in this process's memory.

In: who asks, and for how much. Out: nothing, or 429 with `Retry-After`. Guaranteed: over any time t
nobody gets more than a period's allowance and what t refills, but for the last request, which may
be larger than what is left (else a batch above the allowance could never come); a refused request
costs nothing. Memory is bounded: of more than MAX_OWNERS, the one that asked longest ago is
forgotten. Decision: each API process counts by itself, so that no request waits for another's
count; N processes allow up to N times as much.
"""

import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from ingest.keys import LAST_USED_EVERY_S
from ingest.problems import Problem
from ingest.settings import Settings

MAX_OWNERS = 10_000
MINUTE_S = 60.0
DAY_S = 86_400.0


@dataclass(slots=True)
class _Bucket:
    level: float
    at: float


class Buckets:
    """An allowance per owner and period, which refills evenly."""

    def __init__(
        self, allowance: int, period_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.allowance = allowance
        self.period_s = period_s
        self._per_s = allowance / period_s
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, owner: str, amount: float = 1.0) -> float:
        """Take an amount, where anything is left; else the seconds until something is."""
        with self._lock:
            now = self._clock()
            bucket = self._buckets.setdefault(owner, _Bucket(self.allowance, now))
            self._buckets.move_to_end(owner)
            bucket.level = min(self.allowance, bucket.level + (now - bucket.at) * self._per_s)
            bucket.at = now
            if len(self._buckets) > MAX_OWNERS:
                self._buckets.popitem(last=False)
            if bucket.level < 1.0:
                return (1.0 - bucket.level) / self._per_s
            bucket.level -= amount
            return 0.0


class Rates:
    """All allowances of one API process."""

    def __init__(self, settings: Settings) -> None:
        self._requests = Buckets(settings.max_requests_per_min, MINUTE_S)
        self._changes = Buckets(settings.max_changes_per_min, MINUTE_S)
        self._events = Buckets(settings.max_events_per_min, MINUTE_S)
        quota = settings.max_events_per_day
        self._quota = None if quota is None else Buckets(quota, DAY_S)
        self._failures = Buckets(settings.max_failures_per_min, MINUTE_S)
        self._uses = Buckets(1, LAST_USED_EVERY_S)

    def take_request(self, key_id: str) -> None:
        """Count a request of a key. Raises Problem 429, as the others do."""
        _take(self._requests, key_id, 1, "requests of this key")

    def take_change(self, key_id: str) -> None:
        """Count a change that a key asks for."""
        _take(self._changes, key_id, 1, "changes of this key")

    def take_events(self, key_id: str, count: int) -> None:
        """Count the events of one request."""
        _take(self._events, key_id, count, "events of this key")
        if self._quota is not None:
            _take(self._quota, key_id, count, "events of this key")

    def is_use_to_record(self, key_id: str) -> bool:
        """Whether a key's use may be written down now: once in LAST_USED_EVERY_S."""
        return self._uses.take(key_id) == 0.0

    def take_failure(self, address: str) -> None:
        """Count a request without a good key; good ones from the same address are not held up."""
        _take(self._failures, network_of(address), 1, "requests of your address without a good key")


def network_of(address: str) -> str:
    """What one machine can't change at will: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False))


def _take(buckets: Buckets, owner: str, amount: int, what: str) -> None:
    wait_s = buckets.take(owner, amount)
    if wait_s > 0:
        raise Problem(
            429,
            "Too many requests",
            f"at most {buckets.allowance} {what} in {buckets.period_s:g} s; "
            f"send it again in {math.ceil(wait_s)} s",
            headers={"Retry-After": str(math.ceil(wait_s))},
        )
