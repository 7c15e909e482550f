"""What every shard store promises, a folder and S3-style storage alike."""

import time
from pathlib import Path

import pytest

from ingest.settings import Settings
from ingest.shard_store import ShardStore, open_store
from ingest.shards import CorruptShardError, ShardWriter, WrittenShard, find_sound, verify
from tests.s3 import S3, serving

A_MB = 1 << 20


@pytest.fixture(params=["folder", "s3"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "folder":
        return Settings(data=tmp_path / "data")
    return Settings(data=tmp_path / "data", shards=request.getfixturevalue("s3").url)


@pytest.fixture
def store(settings: Settings) -> ShardStore:
    return open_store(settings)


def publish(store: ShardStore, data: bytes = b"data") -> WrittenShard:
    with ShardWriter(store, "frames") as writer:
        writer.add([("a.png", data)])
        return writer.publish()


def elsewhere(settings: Settings, tmp_path: Path) -> ShardStore:
    """The same shards, seen from another machine where they are remote."""
    return open_store(settings.model_copy(update={"data": tmp_path / "other"}))


def test_what_was_published_is_there_for_everybody(
    settings: Settings, store: ShardStore, tmp_path: Path
) -> None:
    shard = publish(store)
    reader = elsewhere(settings, tmp_path) if settings.shards else open_store(settings)
    path = find_sound(reader, shard.path, shard.checksum)
    assert path.stat().st_size == shard.num_bytes
    assert list(store.temporaries.glob("*")) == []


def test_what_is_published_is_listed_with_its_size_and_time(store: ShardStore) -> None:
    shards = [publish(store, bytes([number])) for number in range(3)]
    with ShardWriter(store, "frames") as writer:
        writer.add([("a.png", b"not yet")])
        listed = list(store.listed())
    assert {(each.path, each.num_bytes) for each in listed} == {
        (shard.path, shard.num_bytes) for shard in shards
    }
    assert all(abs(each.modified_at - time.time()) < 60 for each in listed)


def test_what_was_removed_is_gone(store: ShardStore) -> None:
    shard = publish(store)
    store.remove(shard.path)
    store.remove(shard.path)
    assert list(store.listed()) == []
    with pytest.raises(FileNotFoundError):
        verify(store.local(shard.path), shard.checksum)


def test_publishing_again_changes_nothing(store: ShardStore) -> None:
    shard = publish(store)
    assert publish(store) == shard
    assert [each.path for each in store.listed()] == [shard.path]
    find_sound(store, shard.path, shard.checksum)


def test_a_name_that_is_not_there_is_not_found(store: ShardStore) -> None:
    publish(store)
    with pytest.raises(FileNotFoundError):
        store.local("frames/ab/abcd.tar").open()
    store.assert_reachable()


def test_a_damaged_copy_is_fetched_anew(s3: S3, tmp_path: Path) -> None:
    store = open_store(Settings(data=tmp_path, shards=s3.url))
    shard = publish(store)
    store.local(shard.path).write_bytes(b"damaged")
    find_sound(store, shard.path, shard.checksum)


def test_a_damaged_shard_is_found(s3: S3, tmp_path: Path) -> None:
    store = open_store(Settings(data=tmp_path, shards=s3.url))
    shard, other = publish(store), publish(store, b"other")
    with pytest.raises(CorruptShardError):
        find_sound(store, shard.path, other.checksum)


def test_the_least_recently_used_copies_go_beyond_the_limit(s3: S3, tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, shards=s3.url, shard_cache_bytes=8 * A_MB)
    store = open_store(settings)
    shards = [publish(store, bytes([number]) * A_MB) for number in range(12)]
    cached = {path.name for path in (tmp_path / "shard-cache").rglob("*.tar")}
    assert Path(shards[0].path).name not in cached
    assert Path(shards[-1].path).name in cached
    assert sum(p.stat().st_size for p in (tmp_path / "shard-cache").rglob("*.tar")) <= 8 * A_MB
    find_sound(store, shards[0].path, shards[0].checksum)


def test_storage_that_is_away_is_an_error_that_passes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with serving() as s3:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        store = open_store(Settings(data=tmp_path, shards=s3.url))
        shard = publish(store)
        store.drop_copy(shard.path)
    with pytest.raises(OSError, match="storage") as local:
        store.local(shard.path)
    assert not isinstance(local.value, FileNotFoundError)
    with pytest.raises(OSError, match="storage"):
        store.assert_reachable()


@pytest.mark.parametrize("url", ["bucket/prefix", "s3://", "s3://b/../c d", "file:///etc"])
def test_what_is_no_such_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="shards"):
        Settings(shards=url)
