"""Where shards lie: a place that publishes a file whole, gives it back, lists and removes.

In: a finished temporary file and its name. Out: a local file with a shard's bytes, for whoever
reads. Guaranteed by each: what was published is durable and whole under its name, and never
changes; a name that is not there is FileNotFoundError, and a place that is away another OSError.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Stored:
    """A published file: its name, its size in bytes, and when it came, in seconds since 1970."""

    path: str
    num_bytes: int
    modified_at: float


class ShardStore(Protocol):
    """Shards by their names, such as `frames/ab/abcd.tar`; for any number of threads."""

    @property
    def temporaries(self) -> Path:
        """The local folder in which a writer writes what it then publishes."""

    def publish(self, temporary: Path, path: str) -> None:
        """Make a finished local file durable under its name; the temporary one is gone then."""

    def local(self, path: str) -> Path:
        """A local file with the bytes of a shard, to be opened soon.

        Raises FileNotFoundError where there is none.
        """

    def drop_copy(self, path: str) -> None:
        """Have a shard that was found damaged fetched anew, where its file is but a copy."""

    def assert_reachable(self) -> None:
        """Raises OSError where nothing at all can be found at the moment."""

    def remove(self, path: str) -> None:
        """Remove a file; one that is gone already is no error."""

    def listed(self) -> Iterator[Stored]:
        """What is published, in no order; what comes or goes meanwhile may be in it or not."""
