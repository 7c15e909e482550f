"""A real server on loopback for tests: any ASGI app in uvicorn, and the smallest app that ingests.

`serving(app)` gives the address. `Ingesting` is one installation's endpoint with what a test wants
to know about it: a key, the events that its log holds, and their rows once consumed.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI
from sqlalchemy import Engine

from control_api.listener import listen
from ingest import problems, receive
from ingest.access import require
from ingest.database import write
from ingest.envelope import Envelope
from ingest.events import Event
from ingest.instance import ensure_instance
from ingest.keys import Caller, create_key
from ingest.log import EventLog
from ingest.rates import Rates
from ingest.settings import Settings

SOURCE = "demo"


@contextmanager
def serving(app: FastAPI, port: int = 0) -> Iterator[str]:
    """The app's address while it runs; requests wait in the listener until it does."""
    listener = listen("127.0.0.1", port)
    config = uvicorn.Config(app, ws="none", log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@dataclass(frozen=True)
class Ingesting:
    """One installation that takes events at `url`; `key` may ingest for `SOURCE`."""

    url: str
    key: str
    settings: Settings
    engine: Engine
    event_log: EventLog

    def make_key(self, source: str) -> str:
        """Another key that may ingest."""
        with write(self.engine) as session:
            return create_key(session, "ingest", source)

    def logged(self) -> list[Event]:
        """The events of the log as they came, resent ones again."""
        reader = self.event_log.reader(lambda _partition: 0)
        events: list[Event] = []
        while records := reader.poll(0.0, 1_000):
            events += (event for r in records for event in Envelope.unpack(r.value).events)
        reader.close()
        return events


@contextmanager
def ingesting(
    settings: Settings, engine: Engine, event_log: EventLog, port: int = 0
) -> Iterator[Ingesting]:
    """Serve the endpoint of one installation."""
    app = ingest_app(settings, engine, event_log)
    with write(engine) as session:
        key = create_key(session, "ingest", SOURCE)
    with serving(app, port) as url:
        yield Ingesting(url, key, settings, engine, event_log)


def ingest_app(settings: Settings, engine: Engine, event_log: EventLog) -> FastAPI:
    """The endpoint alone, and the route that a shipper's cursor needs."""
    app = FastAPI()
    app.state.settings, app.state.rates = settings, Rates(settings)
    app.state.engine, app.state.event_log = engine, event_log
    problems.install(app)
    app.include_router(receive.router)

    @app.get("/v1/instance")
    def instance(caller: Annotated[Caller, Depends(require())]) -> dict[str, str]:
        with write(engine) as session:
            return {"instance_id": ensure_instance(session), "source": caller.source}

    return app
