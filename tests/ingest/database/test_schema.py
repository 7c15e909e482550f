"""The migrations: up, down and up again, alike on both databases and equal to the tables."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import alembic.command
import pytest
from sqlalchemy import inspect

from ingest.database import alembic_config, open_engine, read, upgrade
from ingest.database.transactions import migrating
from ingest.settings import Settings
from tests.databases import POSTGRESQL, SQLITE
from tests.postgres import Cluster


@pytest.fixture(params=[SQLITE, POSTGRESQL])
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """A database without a schema."""
    if request.param == SQLITE:
        return Settings(data=tmp_path, database_url=f"sqlite:///{tmp_path / 'bare.db'}")
    cluster: Cluster = request.getfixturevalue("cluster")
    name = f"bare_{tmp_path.name}"[:60]
    cluster.create(name)
    return Settings(data=tmp_path, database_url=cluster.url(name))


def tables(settings: Settings) -> set[str]:
    engine = open_engine(settings.resolved_database_url)
    names = set(inspect(engine).get_table_names())
    engine.dispose()
    return names


def test_the_schema_goes_up_and_down_and_up_again(bare: Settings) -> None:
    upgrade(bare)
    whole = tables(bare)
    assert {"events", "runs", "commands"} <= whole
    alembic.command.downgrade(alembic_config(bare.resolved_database_url), "base")
    assert tables(bare) == {"alembic_version"}
    upgrade(bare)
    assert tables(bare) == whole


def test_the_migrations_make_what_the_tables_say(bare: Settings) -> None:
    upgrade(bare)
    alembic.command.check(alembic_config(bare.resolved_database_url))


def test_who_migrates_is_alone(bare: Settings) -> None:
    """Ten processes that upgrade at once are one after the other; the first does all."""

    def migrate(_: int) -> bool:
        with migrating(bare.resolved_database_url) as connection:
            is_first = not inspect(connection).has_table("made")
            if is_first:
                connection.exec_driver_sql("CREATE TABLE made (number integer)")
            return is_first

    with ThreadPoolExecutor(10) as pool:
        assert sorted(pool.map(migrate, range(10))) == [False] * 9 + [True]


def test_every_whole_number_has_64_bits(bare: Settings) -> None:
    """SQLite's have them anyway."""
    upgrade(bare)
    engine = open_engine(bare.resolved_database_url)
    with read(engine) as session:
        narrow = [
            f"{table}.{column['name']}"
            for inspector in [inspect(session.connection())]
            for table in inspector.get_table_names()
            for column in inspector.get_columns(table)
            if str(column["type"]) in ("SMALLINT", "INTEGER", "REAL")
        ]
    engine.dispose()
    assert bare.resolved_database_url.startswith("sqlite") or narrow == []
