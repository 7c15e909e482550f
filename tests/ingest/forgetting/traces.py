"""What is left of somebody in an installation's files: every byte under them is looked at."""

from collections.abc import Sequence
from pathlib import Path

from ingest.settings import Settings
from tests.databases import Database, PostgresDatabase


def files_with(settings: Settings, database: Database, *markers: str) -> Sequence[str]:
    """The files that hold a marker: in the data folder, and of a database that lies elsewhere."""
    files = [path for path in settings.data.rglob("*") if path.is_file()]
    if isinstance(database, PostgresDatabase):
        files += database.written_anew()
    wanted = [marker.encode() for marker in markers]
    return [str(path) for path in files if _holds(path, wanted)]


def _holds(path: Path, markers: Sequence[bytes]) -> bool:
    data = path.read_bytes()
    return any(marker in data for marker in markers)
