"""What `ingest.shards` promises."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from ingest.shard_store import FolderStore
from ingest.shards import (
    CorruptShardError,
    ShardWriter,
    Span,
    WrittenShard,
    read_span,
    split_members,
    sweep_temporaries,
    verify,
)

SAMPLES = [
    {"png": b"first picture", "json": b'{"position": 0}'},
    {"png": b"", "json": b'{"position": 1}'},
    {"png": b"x" * 1024, "json": b'{"position": 2}'},
]


def write_shard(
    folder: Path, samples: list[dict[str, bytes]] | None = None
) -> tuple[WrittenShard, list[Span]]:
    with ShardWriter(FolderStore(folder), "frames") as writer:
        spans = [
            writer.add([(f"episode-1-{index:05d}.{name}", data) for name, data in sample.items()])
            for index, sample in enumerate(SAMPLES if samples is None else samples)
        ]
        return writer.publish(), spans


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_every_sample_reads_back_by_its_span(tmp_path: Path) -> None:
    shard, spans = write_shard(tmp_path)
    read = [read_span(tmp_path / shard.path, span.offset, span.length) for span in spans]
    assert [split_members(data) for data in read] == SAMPLES


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b.npy", "c"]), st.binary(max_size=1500))))
def test_splitting_undoes_writing_for_any_bytes(
    tmp_path_factory: pytest.TempPathFactory, samples: list[dict[str, bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    shard, spans = write_shard(folder, samples)
    data = (folder / shard.path).read_bytes()
    assert [
        split_members(data[span.offset : span.offset + span.length]) for span in spans
    ] == samples


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # it leaves its file open
def test_the_stock_webdataset_library_reads_a_shard(tmp_path: Path) -> None:
    shard, _ = write_shard(tmp_path)
    read = list(webdataset.WebDataset(str(tmp_path / shard.path), shardshuffle=False))
    assert [sample["__key__"] for sample in read] == [f"episode-1-{i:05d}" for i in range(3)]
    assert [{"png": sample["png"], "json": sample["json"]} for sample in read] == SAMPLES


def test_a_small_member_costs_two_blocks(tmp_path: Path) -> None:
    _, spans = write_shard(tmp_path, [{"json": b"{}"}])
    assert spans == [Span(0, 1024)]


def test_the_same_samples_give_the_same_shard(tmp_path: Path) -> None:
    first, _ = write_shard(tmp_path)
    second, _ = write_shard(tmp_path)
    assert first == second
    assert files_below(tmp_path) == [tmp_path / first.path]


def test_other_samples_give_another_shard(tmp_path: Path) -> None:
    assert write_shard(tmp_path)[0].shard_id != write_shard(tmp_path, [{"a": b""}])[0].shard_id


def test_nothing_stays_behind_when_writing_fails(tmp_path: Path) -> None:
    samples = [{"png": b"data"}, {"\u00e9": b"a name that no plain header takes"}]
    with pytest.raises(UnicodeEncodeError):
        write_shard(tmp_path, samples)
    assert files_below(tmp_path) == []


def test_a_shard_is_not_visible_before_it_is_published(tmp_path: Path) -> None:
    with ShardWriter(FolderStore(tmp_path), "frames") as writer:
        writer.add([("a.png", b"data")])
        assert not (tmp_path / "frames").exists()


def test_an_intact_shard_verifies(tmp_path: Path) -> None:
    shard, _ = write_shard(tmp_path)
    verify(tmp_path / shard.path, shard.checksum)


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"\x01" + data[1:]])
def test_a_damaged_shard_does_not_verify(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    shard, _ = write_shard(tmp_path)
    path = tmp_path / shard.path
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CorruptShardError, match=shard.shard_id):
        verify(path, shard.checksum)


def test_reading_past_a_short_file_is_corruption(tmp_path: Path) -> None:
    shard, spans = write_shard(tmp_path)
    path = tmp_path / shard.path
    path.write_bytes(path.read_bytes()[: spans[-1].offset + 10])
    with pytest.raises(CorruptShardError):
        read_span(path, spans[-1].offset, spans[-1].length)


@pytest.mark.parametrize("data", [b"no header", b"\0" * 512, b"x" * 2000])
def test_bytes_that_are_no_members_are_corruption(data: bytes) -> None:
    with pytest.raises(CorruptShardError):
        split_members(data)


def test_only_old_temporaries_are_swept(tmp_path: Path) -> None:
    with ShardWriter(FolderStore(tmp_path), "frames") as writer:
        dead = tmp_path / "writing" / "dead.tar"
        dead.write_bytes(b"half a shard")
        os.utime(dead, (0, 0))
        assert sweep_temporaries(FolderStore(tmp_path), older_than_s=3600) == 1
        assert not dead.exists()
        writer.add([("a.png", b"data")])
        assert (tmp_path / writer.publish().path).exists()
