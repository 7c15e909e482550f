"""`GET /metrics`: the line, and this process's requests, as Prometheus reads them.

In: the counts of `stages.py`, and each request as it ends. Out: Prometheus' text format.
Guaranteed: no label comes from a request, so that nobody can make series without end.
Decision: what SQL knows is asked of it at each scrape. That is true of all processes together, and
no worker needs a port; only how requests go is counted, by each API process for itself.
"""

import time
from collections.abc import Iterator

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_api.request import Database
from control_api.stages import Stages, count_stages
from ingest.access import require
from ingest.openapi import problems

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# What each count is by, where it is by something.
LABELS = {
    "sessions": "split",
    "episodes": "state",
    "shards": "representation",
    "latents": "representation",
    "runs": "state",
    "evaluations": "state",
}

router = APIRouter(
    tags=["stages"],
    dependencies=[Depends(require("viewer"))],
    responses=problems(400, 401, 403, 408, 413, 429, 503),
)


class RequestMeter:
    """Times every request, by its route and how it ended."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        self._seconds = Histogram(
            "stovetop_request_seconds",
            "HTTP requests of this process, until their last byte was answered",
            ["method", "route", "status"],
            registry=registry,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, timed."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), "none"

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            route = getattr(scope.get("route"), "path", "none")
            seconds = time.perf_counter() - began
            self._seconds.labels(method, route, status).observe(seconds)


class _Line(Collector):
    """The stages' counts, as gauges."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """A family a stage; what is not known at the moment has no value."""
        for name, field in Stages.model_fields.items():
            count = getattr(self._stages, name)
            label = LABELS.get(name)
            family = GaugeMetricFamily(
                f"stovetop_{name}", field.description or name, labels=[label] if label else []
            )
            counts = {(): count} if label is None else {(key,): each for key, each in count.items()}
            for key, value in counts.items():
                if value is not None:
                    family.add_metric(key, value)
            yield family


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def get_metrics(request: Request, engine: Database) -> Response:
    """The line and this process's requests, for Prometheus."""
    line = CollectorRegistry()
    line.register(_Line(count_stages(engine, request.app.state.event_log)))
    text = generate_latest(line) + generate_latest(request.app.state.meters)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})
