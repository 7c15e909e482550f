"""Every setting of Stovetop, read from `STOVETOP_*`; the one place where they are documented.

A setting may also be a file of the folder `STOVETOP_SECRETS`, named as its variable but in small
letters, so that a password is in no environment; where both are there, the variable holds.
"""

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)


class Settings(BaseSettings):
    """One machine's settings; the defaults are the embedded size.

    Raises pydantic.ValidationError naming the variable when a value does not fit.
    """

    model_config = SettingsConfigDict(env_prefix="STOVETOP_", env_ignore_empty=True)

    data: Annotated[Path, Field(description="folder that holds everything of one installation")] = (
        Path("stovetop-data")
    )
    database_url: Annotated[
        str | None,
        Field(description="postgresql://USER@HOST/NAME; default: SQLite, in the data folder"),
    ] = None
    database_password: Annotated[
        SecretStr | None, Field(description="of the user in `database_url`, where that has none")
    ] = None
    shards: Annotated[
        str | None,
        Field(
            description="s3://BUCKET/PREFIX of the shards, at AWS_ENDPOINT_URL; default: a folder "
            "in the data folder",
            pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w.-]+)*/?$",
        ),
    ] = None
    shard_cache_bytes: Annotated[
        int, Field(description="local copies of such shards, on each machine", ge=1 << 20)
    ] = 20 << 30

    host: Annotated[str, Field(description="address that the server listens on")] = "127.0.0.1"
    port: Annotated[int, Field(description="port of the server", ge=0, le=65535)] = 7420
    url: Annotated[str, Field(description="server that the command line talks to")] = (
        "http://127.0.0.1:7420"
    )
    key: Annotated[SecretStr | None, Field(description="API key of the command line")] = None

    allowed_hosts: Annotated[
        str,
        Field(
            description="names under which the server is reached, comma between them, besides the "
            "loopback's and `host`; a request for another is refused (DNS rebinding)"
        ),
    ] = ""
    trusted_proxies: Annotated[
        str,
        Field(
            description="addresses whose X-Forwarded-For and -Proto are believed, comma between "
            "them"
        ),
    ] = ""
    browser_session_s: Annotated[
        float, Field(description="how long a browser stays signed in, seconds", gt=0)
    ] = 43_200.0
    max_requests_per_min: Annotated[
        int, Field(description="requests of one key, each API process by itself", ge=1)
    ] = 60_000
    max_changes_per_min: Annotated[
        int, Field(description="commands and other changes of one key", ge=1)
    ] = 1_200
    max_events_per_min: Annotated[
        int, Field(description="events and log lines of one key", ge=1)
    ] = 12_000_000
    max_events_per_day: Annotated[
        int | None, Field(description="quota of events of one key; default: none", ge=1)
    ] = None
    max_failures_per_min: Annotated[
        int, Field(description="requests of one address without a good key", ge=1)
    ] = 120

    kafka: Annotated[
        str | None,
        Field(
            description="Kafka brokers, host:port with commas between; default: the embedded log",
            pattern=r"^[^,:\s]+:\d+(,[^,:\s]+:\d+)*$",
        ),
    ] = None
    kafka_topic: Annotated[
        str, Field(description="the event log's topic and consumer group, of one database only")
    ] = "stovetop-events"
    kafka_replication: Annotated[
        int, Field(description="copies of a new topic; 1 is synced to its disk", ge=1, le=9)
    ] = 1
    kafka_retention_s: Annotated[
        float, Field(description="how long a new topic keeps what is not consumed, seconds", gt=0)
    ] = 604_800.0
    num_partitions: Annotated[
        int, Field(description="partitions of a new event log, fixed at its creation", ge=1, le=256)
    ] = 8
    log_grace_s: Annotated[
        float, Field(description="how long consumed records stay in the event log, seconds", ge=0)
    ] = 86_400.0
    max_body_bytes: Annotated[int, Field(description="largest request body, inflated")] = 16 << 20
    max_event_bytes: Annotated[int, Field(description="largest single event")] = 1 << 20
    max_batch_events: Annotated[int, Field(description="most events in one request")] = 1_000

    session_idle_s: Annotated[
        float, Field(description="a longer gap in event time ends an episode, seconds", gt=0)
    ] = 60.0
    open_tail_s: Annotated[
        float,
        Field(description="wall seconds without news until an open tail is replayed", gt=0),
    ] = 60.0
    max_episode_actions: Annotated[int, Field(description="longer episodes are cut", ge=1)] = 3_000
    eval_percent: Annotated[
        int, Field(description="sessions held out for evaluation, per cent", ge=0, le=50)
    ] = 10

    frame_width: Annotated[int, Field(description="width of a recorded frame, pixels", ge=32)] = 128
    frame_height: Annotated[int, Field(description="height of a recorded frame", ge=24)] = 96
    encoder: Annotated[
        Path | None, Field(description="encoder folder; default: the one that is shipped")
    ] = None
    policy: Annotated[
        Path | None, Field(description="TOML file of rules that answer a run's signals")
    ] = None
    keep_checkpoints: Annotated[
        int, Field(description="automatic checkpoints that stay, newest of each branch", ge=1)
    ] = 5
    agent_url: Annotated[
        str | None,
        Field(description="OpenAI-compatible endpoint of an agent, up to /chat/completions"),
    ] = None
    agent_model: Annotated[str, Field(description="model there; rules: the rule-based twin")] = (
        "rules"
    )
    agent_key: Annotated[SecretStr | None, Field(description="API key of that endpoint")] = None
    lease_s: Annotated[float, Field(description="a worker's claim on work, seconds", gt=0)] = 30.0
    pulse: Annotated[
        Path | None,
        Field(description="file that a worker renews while it lives, for `python -m ingest.pulse`"),
    ] = None
    adopt_every_s: Annotated[
        float, Field(description="how often a run looks for fresh samples, seconds", gt=0)
    ] = 5.0

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  (there is none)
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  (its folder is fixed)
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What goes before what: arguments, the environment, the folder of secrets."""
        secrets = SecretsSettingsSource(settings_cls, os.environ.get("STOVETOP_SECRETS") or None)
        return init_settings, env_settings, secrets

    @property
    def resolved_database_url(self) -> str:
        """The SQLAlchemy URL in force, with its password."""
        if self.database_url is None:
            return f"sqlite:///{self.data.absolute() / 'stovetop.db'}"
        if self.database_password is None:
            return self.database_url
        from sqlalchemy import make_url  # noqa: PLC0415  (0.2 s that a client need not pay)

        url = make_url(self.database_url)
        if url.password is None:
            url = url.set(password=self.database_password.get_secret_value())
        return url.render_as_string(hide_password=False)

    @property
    def max_record_bytes(self) -> int:
        """What no record of the event log exceeds: a refused line as long as a body, in base64."""
        return self.max_body_bytes * 4 // 3 + (1 << 20)

    @property
    def event_log_path(self) -> Path:
        """The embedded event log's own database file."""
        return self.data / "events.db"

    @property
    def shards_path(self) -> Path:
        """The folder of the shards."""
        return self.data / "shards"

    @property
    def runs_path(self) -> Path:
        """The folder of the runs' checkpoints."""
        return self.data / "runs"
