"""Sends events as fast as a server takes them: the load of `benchmarks/ingest.py`, in one process.

`python -m benchmarks.ingest_load URL KEY --connections N --requests M --batch B` sends M requests
of B events over each of N connections, all of them made beforehand, on bare sockets, so that the
server has the other core to itself. Prints one JSON line: what was acknowledged, in how long.
"""

import argparse
import json
import re
import resource
import socket
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

SESSIONS_AT_ONCE = 20  # of one connection, their events taking turns
SESSION_EVENTS = 500
START = 1_754_600_000.0
TICK_S = 0.25

_ANSWER = re.compile(
    rb"HTTP/1\.1 202 .*?\r\ncontent-length: (\d+)\r\n.*?\r\n\r\n", re.DOTALL | re.IGNORECASE
)
_ACCEPTED = re.compile(rb'"accepted":(\d+)')


@dataclass
class Sent:
    """What one connection got acknowledged, and how long each request took."""

    num_events: int = 0
    seconds: list[float] = field(default_factory=list)


def event_line(user: str, number: int) -> bytes:
    """One action of a NeuralOS user, as the SDK puts it on the wire."""
    turn, place = divmod(number, SESSIONS_AT_ONCE)
    visit, sequence = divmod(turn, SESSION_EVENTS)
    session_id = f"{user}-{visit}-{place}"
    return (
        f'{{"event_id":"{user}-{number:012d}","session_id":"{session_id}","sequence":{sequence},'
        f'"timestamp":{START + turn * TICK_S},"kind":"action","payload":{{"x":{number % 512},'
        f'"y":{number * 7 % 384},"is_left_click":{"true" if number % 9 == 0 else "false"},'
        '"is_right_click":false,"keys_down":[],"keys_up":[],"wheel_delta_x":0,"wheel_delta_y":0}}'
    ).encode()


def bodies(user: str, num_requests: int, batch: int) -> Iterator[bytes]:
    """The bodies of one connection's requests, NDJSON."""
    for first in range(0, num_requests * batch, batch):
        yield b"\n".join(event_line(user, number) for number in range(first, first + batch))


def request(host: str, key: str, body: bytes) -> bytes:
    """The bytes of one request."""
    head = (
        f"POST /v1/events HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/x-ndjson\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def send(address: tuple[str, int], requests: Sequence[bytes], sent: Sent) -> None:
    """Send one request after another; raises RuntimeError for an answer that is no 202."""
    with socket.create_connection(address) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for each in requests:
            start = time.perf_counter()
            connection.sendall(each)
            sent.num_events += _acknowledged(connection)
            sent.seconds.append(time.perf_counter() - start)


def _acknowledged(connection: socket.socket) -> int:
    answer = b""
    while True:
        piece = connection.recv(65_536)
        answer += piece
        head = _ANSWER.match(answer)
        if head and len(answer) == head.end() + int(head[1]):
            accepted = _ACCEPTED.search(answer, head.end())
            assert accepted is not None
            return int(accepted[1])
        if not piece or (not head and b"\r\n\r\n" in answer):
            raise RuntimeError(f"the server answered {answer[:500]!r}")


def main() -> None:
    """Send all, and say how it went."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest_load")
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--requests", type=int, default=100, help="of each connection")
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--name", default="load", help="begins the ids of all events")
    given = parser.parse_args()
    parts = urlsplit(given.url)
    address = (str(parts.hostname), int(parts.port or 80))
    prepared = [
        [
            request(parts.netloc, given.key, body)
            for body in bodies(f"{given.name}-{number}", given.requests, given.batch)
        ]
        for number in range(given.connections)
    ]
    sent = [Sent() for _ in prepared]
    threads = [
        threading.Thread(target=send, args=(address, requests, each))
        for requests, each in zip(prepared, sent, strict=True)
    ]
    cpu_before, start = time.process_time(), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu_before
    taken = sorted(taken for each in sent for taken in each.seconds)
    num_events = sum(each.num_events for each in sent)
    assert num_events == given.connections * given.requests * given.batch, "not all were new"
    said = {
        "events": num_events,
        "requests": len(taken),
        "seconds": round(seconds, 3),
        "events_per_s": round(num_events / seconds),
        "request_ms_p50": round(statistics.median(taken) * 1e3, 2),
        "request_ms_p99": round(taken[int(len(taken) * 0.99)] * 1e3, 2),
        "client_cpu_share": round(cpu_s / seconds, 2),
        "client_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main()
