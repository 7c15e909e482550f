"""`stovetop export` at the terminal; what it writes is tested in `ingest/test_export.py`."""

from pathlib import Path

from sqlalchemy import Engine, select

from ingest.database import read
from ingest.tables import AuditEntry
from tests.control_api.shell import Shell, said


def test_an_export_says_what_it_holds_and_is_written_down(
    shell: Shell, engine: Engine, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    done = said(shell("export", str(folder), "--json"))
    assert done == {"folder": str(folder), "revision": 0, "num_samples": 0, "num_tars": 0}
    with read(engine) as session:
        entry = session.scalars(select(AuditEntry).where(AuditEntry.subject == str(folder))).one()
    assert entry.action == "buffer.export"


def test_what_can_not_be_exported_is_said_in_a_line(shell: Shell, tmp_path: Path) -> None:
    done = shell("export", str(tmp_path / "out"), "--slice", "nothing")
    assert done.exit_code == 1
    assert "no slice 'nothing'; save it first" in done.stderr
    assert not (tmp_path / "out").exists()
