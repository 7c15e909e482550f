"""The HTTP API: one FastAPI app over one installation's database and event log.

All state is in SQL and in the log: any process of it can die, any other can answer. What a request
may do is decided by its key's role; an app with a route that declares none does not start.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from control_api import (
    audit,
    checkpoints,
    commands,
    deadletters,
    forgetting,
    health,
    keys,
    metrics,
    mixes,
    page,
    proposals,
    runs,
    samples,
    scrape,
    sessions,
    sign_in,
    signals,
    slices,
    sources,
    stages,
)
from control_api.borders import BodyBound, SafeHeaders
from control_api.guard import DESCRIPTION_PATH, check_guarded
from control_api.lost_runs import LostRuns
from control_api.origins import KnownOrigins
from control_api.request_ids import RequestIds
from ingest import problems, receive
from ingest.database import open_engine, write
from ingest.instance import ensure_instance
from ingest.log import open_log
from ingest.rates import Rates
from ingest.settings import Settings
from ingest.shard_store import open_store

NOUNS = (
    runs,
    commands,
    proposals,
    metrics,
    signals,
    checkpoints,
    sources,
    slices,
    mixes,
    sessions,
    samples,
    deadletters,
    forgetting,
    stages,
    scrape,
    keys,
    audit,
    health,
    sign_in,
    page,
)
DESCRIPTION = (
    "Keeps a deployed model learning from what people do with it. Send `Authorization: Bearer KEY` "
    "with a key of `stovetop keys create`; `viewer` reads, `operator` reads and changes, `ingest` "
    "sends events, `admin` does all. A page signs in (`POST /v1/sign-in`) and has a cookie "
    "instead. Times are seconds since 1970, UTC. Lists answer `{items, total, next}`; pass `next` "
    "as `cursor` to go on."
)


def create_app(settings: Settings) -> FastAPI:
    """The app of one installation, whose schema must be there (`stovetop db upgrade`)."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        check_guarded(app)
        engine = open_engine(settings.resolved_database_url)
        event_log = open_log(settings)
        with write(engine) as session:
            app.state.instance_id = ensure_instance(session)
        app.state.engine, app.state.event_log = engine, event_log
        app.state.store = open_store(settings)
        with LostRuns(engine):
            yield
        event_log.close()
        engine.dispose()

    app = FastAPI(
        title="Stovetop",
        version=health.VERSION,
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url=DESCRIPTION_PATH,
        # Their scripts come from elsewhere, and would act as whoever is signed in.
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings, app.state.rates = settings, Rates(settings)
    app.state.meters = CollectorRegistry()
    app.add_middleware(BodyBound)
    app.add_middleware(KnownOrigins, settings=settings)
    app.add_middleware(SafeHeaders)
    app.add_middleware(RequestIds)
    app.add_middleware(scrape.RequestMeter, registry=app.state.meters)
    problems.install(app)
    app.include_router(receive.router)
    for noun in NOUNS:
        app.include_router(noun.router)
    return app
