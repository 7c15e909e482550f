"""Every exchange of an agent, a line of JSON each, written as it happens.

In: what was said and what came back. Out: lines `{"at": ..., "what": ..., ...}` appended to a file,
or nowhere. A key is never part of what is said: it travels in headers, which are not written.
"""

import json
import time
from pathlib import Path
from typing import Self, TextIO


class Transcript:
    """A file of lines; without a path nothing is kept."""

    def __init__(self, path: Path | None = None) -> None:
        """Raises OSError where the file can't be written."""
        self._file: TextIO | None = None if path is None else path.open("a", encoding="utf-8")

    def write(self, what: str, **said: object) -> None:
        """Append one line; it is on disk before anything else is said."""
        if self._file is None:
            return
        self._file.write(json.dumps({"at": time.time(), "what": what, **said}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """End the file."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
