"""Where shards lie: a folder on one machine, S3-style storage in production, by `STOVETOP_SHARDS`.

store    what each of them does
folder   files, renamed into place
remote   objects, each of which is read as a whole through the cache
cache    local copies, the least recently used of which go beyond a size

Outside this folder nothing asks which of them it is.
"""

from ingest.settings import Settings
from ingest.shard_store.folder import FolderStore
from ingest.shard_store.store import ShardStore, Stored

__all__ = ["FolderStore", "ShardStore", "Stored", "open_store"]


def open_store(settings: Settings) -> ShardStore:
    """The installation's; what it opens is closed with the process."""
    if settings.shards is None:
        return FolderStore(settings.shards_path)
    from ingest.shard_store.remote import open_remote_store  # noqa: PLC0415  (s3fs takes 0.5 s)

    return open_remote_store(settings)
