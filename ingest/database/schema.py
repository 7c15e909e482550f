"""The schema, which comes from `migrations/` only, and is brought to its newest version here."""

from pathlib import Path
from typing import TYPE_CHECKING

from ingest.settings import Settings

if TYPE_CHECKING:
    import alembic.config


def upgrade(settings: Settings) -> None:
    """Bring the schema to the newest version, creating the data folder where needed."""
    import alembic.command  # noqa: PLC0415  (0.4 s that only the schema's upgrade needs to pay)

    settings.data.mkdir(parents=True, exist_ok=True)
    alembic.command.upgrade(alembic_config(settings.resolved_database_url), "head")


def alembic_config(url: str) -> "alembic.config.Config":
    """Alembic's configuration for one database, independent of the working folder."""
    import alembic.config  # noqa: PLC0415  (as in `upgrade`)

    import migrations  # noqa: PLC0415  (a data package: only the schema's upgrade needs it)

    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config
