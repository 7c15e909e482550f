"""Shards as objects of S3-style storage, read through a local cache.

In: files. Out: objects, and local copies of them. Guaranteed: an object appears whole (a PUT is
atomic); what storage answers with is FileNotFoundError for a name that is not there and another
OSError for all else. Where it is, who we are, and how to sign comes from the environment, as
everybody's tools read it: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_REGION and the like. Decision: a
shard is fetched as a whole, for a run reads all of it within a pass, and its checksum is of all.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import s3fs
from botocore.exceptions import BotoCoreError, ClientError

from ingest.settings import Settings
from ingest.shard_store.cache import ShardCache
from ingest.shard_store.store import Stored

# Of one attempt; botocore makes three before it gives up.
_PATIENCE = {"connect_timeout": 5, "read_timeout": 30, "retries": {"max_attempts": 2}}


def open_remote_store(settings: Settings) -> "RemoteStore":
    """The store of `STOVETOP_SHARDS`, an s3:// URL, with its cache in the data folder."""
    assert settings.shards is not None
    cache = ShardCache(settings.data / "shard-cache", settings.shard_cache_bytes)
    return RemoteStore(settings.shards, cache)


class RemoteStore:
    """Shards below one prefix of a bucket."""

    def __init__(self, url: str, cache: ShardCache) -> None:
        self._root = url.removeprefix("s3://").rstrip("/")
        self._cache = cache
        self._objects: Any = s3fs.S3FileSystem(
            use_listings_cache=False,
            skip_instance_cache=True,  # it would outlive a change of the environment
            config_kwargs=_PATIENCE,
        )

    @property
    def temporaries(self) -> Path:
        """See `ShardStore`; what is published becomes a copy in the cache at once."""
        return self._cache.temporaries

    def publish(self, temporary: Path, path: str) -> None:
        """See `ShardStore`."""
        with _answers():
            self._objects.put_file(str(temporary), self._key(path))
        self._cache.put(temporary, path)

    def local(self, path: str) -> Path:
        """See `ShardStore`."""

        def fetch(temporary: Path) -> None:
            with _answers():
                self._objects.get_file(self._key(path), str(temporary))

        return self._cache.get(path, fetch)

    def drop_copy(self, path: str) -> None:
        """See `ShardStore`."""
        self._cache.drop(path)

    def assert_reachable(self) -> None:
        """See `ShardStore`."""
        with _answers():
            self._objects.call_s3("head_bucket", Bucket=self._root.partition("/")[0])

    def remove(self, path: str) -> None:
        """See `ShardStore`; copies on other machines go with their caches' turnover."""
        self._cache.drop(path)
        with _answers():
            self._objects.rm_file(self._key(path))

    def listed(self) -> Iterator[Stored]:
        """See `ShardStore`."""
        with _answers():
            found = self._objects.find(self._root, detail=True)
        for key, about in found.items():
            path = key.removeprefix(f"{self._root}/")
            yield Stored(path, about["size"], about["LastModified"].timestamp())

    def _key(self, path: str) -> str:
        return f"{self._root}/{path}"


@contextmanager
def _answers() -> Iterator[None]:
    """What s3fs lets through of the library below it, as OSError."""
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise OSError(f"the shards' storage: {error}") from error
