"""A server that misbehaves as told: for what a real one does only on its bad days.

Each request takes the next step of the script; the last step is repeated.
"""

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Received:
    """One request as it came; `at` is monotonic seconds."""

    at: float
    path: str
    headers: dict[str, str]
    lines: list[bytes]


@dataclass
class Exchange:
    """One request in the hands of a step."""

    handler: BaseHTTPRequestHandler
    received: Received
    closing: threading.Event

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.handler.send_response(status)
        self.handler.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.end_headers()
        self.handler.wfile.write(body)


Step = Callable[[Exchange], None]


@dataclass
class ScriptedServer:
    """The address, and the requests so far."""

    url: str
    requests: list[Received] = field(default_factory=list)


@contextmanager
def scripted(*script: Step, port: int = 0) -> Iterator[ScriptedServer]:
    """Serve the script on loopback."""
    steps = list(script)
    lock = threading.Lock()
    closing = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            lines = body.split(b"\n") if body else []
            received = Received(time.monotonic(), self.path, dict(self.headers), lines)
            with lock:
                served.requests.append(received)
                step = steps.pop(0) if len(steps) > 1 else steps[0]
            step(Exchange(self, received, closing))

        do_GET = do_POST  # noqa: N815  (http.server's name)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    served = ScriptedServer(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def accept(exchange: Exchange) -> None:
    """Say that every line was new."""
    verdicts = {"accepted": len(exchange.received.lines), "duplicate": 0, "rejected": []}
    exchange.answer(202, json.dumps(verdicts).encode())


def answer(status: int, body: bytes = b"", **headers: str) -> Step:
    """A step that always answers the same."""
    return lambda exchange: exchange.answer(status, body, **headers)


def drop(exchange: Exchange) -> None:
    """End the connection without an answer."""
    exchange.handler.close_connection = True


def break_off(exchange: Exchange) -> None:
    """End the connection within the answer."""
    exchange.handler.send_response(202)
    exchange.handler.send_header("Content-Length", "1000")
    exchange.handler.end_headers()
    exchange.handler.wfile.write(b'{"accepted": ')
    exchange.handler.close_connection = True


def hang(exchange: Exchange) -> None:
    """Never answer."""
    exchange.closing.wait()
    exchange.handler.close_connection = True
