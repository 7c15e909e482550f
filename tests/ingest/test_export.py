"""What `stovetop export` gives others, as the stock webdataset library and pyarrow read it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import webdataset
from pyarrow import parquet
from sqlalchemy import select

import ingest.export
from ingest.database import read, write
from ingest.export import Exported, ExportFailed, export
from ingest.shard_store import open_store
from ingest.shards import split_members
from ingest.slices import SliceError, save_slice
from ingest.sources import withdraw
from ingest.tables import Placement, Sample, SessionRow, Shard
from tests.intake import Intake, wire_event
from tests.stock import END, Stocked
from tests.stock import stocked as make_stock

NUM_FRAMES, NUM_DOCUMENTS = 8, 3


@pytest.fixture
def stocked(intake: Intake) -> Stocked:
    return make_stock(intake)


def export_of(stocked: Stocked, folder: Path, **asked: Any) -> Exported:
    store = open_store(stocked.intake.settings)
    with read(stocked.intake.engine) as session:
        return export(session, store, folder, **asked)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves files to the collector
def opened(folder: Path) -> dict[str, dict[str, bytes]]:
    """All samples by key, by webdataset."""
    paths = sorted(str(path) for path in folder.glob("*.tar"))
    found = {}
    for sample in webdataset.WebDataset(paths, shardshuffle=False, empty_check=False):
        members = {name: data for name, data in sample.items() if not name.startswith("__")}
        found[sample["__key__"]] = members
    return found


def described(folder: Path) -> list[dict[str, Any]]:
    """All rows of the Parquet file."""
    rows: list[dict[str, Any]] = parquet.read_table(folder / "samples.parquet").to_pylist()
    return rows


def indexed(stocked: Stocked) -> dict[int, tuple[Sample, dict[str, bytes]]]:
    """All samples by number, with what the installation's own shards hold of them."""
    shards = stocked.intake.settings.shards_path
    query = select(Sample, Placement, Shard.path).join(
        Placement, Placement.sample_number == Sample.number
    )
    with read(stocked.intake.engine) as session:
        rows = session.execute(query.join(Shard, Shard.shard_id == Placement.shard_id)).all()
    return {
        sample.number: (
            sample,
            split_members((shards / path).read_bytes()[place.offset :][: place.length]),
        )
        for sample, place, path in rows
    }


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_everything_comes_out_bit_for_bit_with_its_description(
    stocked: Stocked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.export, "SAMPLES_PER_TAR", 4)
    monkeypatch.setattr(ingest.export, "PAGE", 3)
    folder = tmp_path / "new" / "export"
    done = export_of(stocked, folder)
    assert (done.num_samples, done.num_tars) == (NUM_FRAMES + NUM_DOCUMENTS, 3)
    samples, rows = opened(folder), {row["number"]: row for row in described(folder)}
    known = indexed(stocked)
    assert rows.keys() == known.keys()
    for number, (sample, members) in known.items():
        row = rows[number]
        assert samples[row["key"]] == members
        assert (row["episode_id"], row["position"]) == (sample.episode_id, sample.position)
        assert (row["split"], row["timestamp"]) == (sample.split, sample.timestamp)
        assert row["changes"] == sample.changes.split()
        assert row["session_id"] in {"a", "b", "texts"}
        assert row["representation"] == ("document" if row["session_id"] == "texts" else "frame")
        assert (folder / row["tar"]).is_file()
    assert sorted(path.name for path in folder.parent.iterdir()) == ["export"]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_slice_is_exported_as_a_run_may_draw_it(stocked: Stocked, tmp_path: Path) -> None:
    with write(stocked.intake.engine) as session:
        for visit in session.scalars(select(SessionRow)):
            visit.split = "train"
        for sample in session.scalars(select(Sample)):
            sample.split = "eval" if sample.environment == "text/1" else "train"
        save_slice(session, "all", "", actor="me", now=1.0)
    done = export_of(stocked, tmp_path / "export", slice_name="all")
    assert done.num_samples == len(opened(tmp_path / "export")) == NUM_FRAMES
    with pytest.raises(SliceError, match="no slice 'other'"):
        export_of(stocked, tmp_path / "other", slice_name="other")
    assert [path.name for path in tmp_path.iterdir() if "export" in path.name] == ["export"]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_earlier_revision_is_exported_as_it_was(stocked: Stocked, tmp_path: Path) -> None:
    before = export_of(stocked, tmp_path / "one")
    acts = [wire_event(n, "late") for n in range(4)]
    stocked.intake.post(*acts, wire_event(4, "late", **END))
    stocked.work()
    now = export_of(stocked, tmp_path / "two")
    again = export_of(stocked, tmp_path / "three", revision=before.revision)
    assert now.num_samples == before.num_samples + 4
    assert again == before
    assert opened(tmp_path / "three") == opened(tmp_path / "one")
    assert described(tmp_path / "three") == described(tmp_path / "one")
    with pytest.raises(ExportFailed, match=f"revision: {now.revision + 1} is not from 0"):
        export_of(stocked, tmp_path / "four", revision=now.revision + 1)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"no tar")])
def test_a_shard_that_can_not_be_read_leaves_nothing_behind(
    stocked: Stocked, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(stocked.documents)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ExportFailed, match="stovetop verify"):
        export_of(stocked, tmp_path / "export")
    assert sorted(tmp_path.iterdir()) == before


def test_nothing_is_written_over(stocked: Stocked, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    export_of(stocked, folder)
    with pytest.raises(ExportFailed, match="not empty"):
        export_of(stocked, folder)
    shutil.rmtree(folder)
    folder.write_text("mine")
    with pytest.raises(ExportFailed, match="not empty"):
        export_of(stocked, folder)
    assert folder.read_text() == "mine"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_nothing_of_a_source_in_quarantine_goes_out(stocked: Stocked, tmp_path: Path) -> None:
    with write(stocked.intake.engine) as session:
        withdraw(session, "demo")
    assert export_of(stocked, tmp_path / "export").num_samples == 0
    assert described(tmp_path / "export") == []
