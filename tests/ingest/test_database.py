"""The database's file: made by an upgrade alone."""

from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from ingest.database import open_engine, read, upgrade
from ingest.settings import Settings


def num_runs(engine: Engine) -> int:
    with read(engine) as session:
        return int(session.execute(text("SELECT count(*) FROM runs")).scalar_one())


def test_a_file_that_has_gone_away_is_an_error_and_none_is_made_in_its_place(
    settings: Settings, engine: Engine
) -> None:
    """An empty one would be written to by whoever comes next, and be lost with it."""
    database, elsewhere = settings.data / "stovetop.db", settings.data / "elsewhere.db"
    database.rename(elsewhere)
    with pytest.raises(OperationalError, match="unable to open"):
        num_runs(engine)
    assert not database.exists()
    elsewhere.rename(database)
    assert num_runs(engine) == 0


def test_a_folder_may_be_called_anything(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "50% of #1?")
    upgrade(settings)
    engine = open_engine(settings.resolved_database_url)
    assert num_runs(engine) == 0
    engine.dispose()
