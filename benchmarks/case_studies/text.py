"""The standard library's sources as documents: `python benchmarks/case_studies/text.py --key KEY`.

In: the sources of the running interpreter, in order of their names. Out: `document` events through
the SDK, a session a file. A document is a top-level definition, or several short ones, of 200 to
4,000 bytes; a longer one is cut at a line's end. The same interpreter gives the same documents,
with the same ids: sent twice, they are stored once.
"""

import argparse
import ast
import sysconfig
import tokenize
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ingest.client import Client
from ingest.simulate.post import post_sessions

PACKAGES = (
    "asyncio", "collections", "concurrent", "email", "http", "importlib", "json", "logging",
    "multiprocessing", "unittest", "urllib", "xml",
)  # fmt: skip
MIN_BYTES, MAX_BYTES = 200, 4_000
START = 1_754_600_000.0
SECONDS_A_DOCUMENT = 1.0


def source_files(stdlib: Path | None = None) -> list[Path]:
    """The library's top-level modules and those of a few packages, by name."""
    stdlib = stdlib or Path(sysconfig.get_path("stdlib"))
    packaged = [path for name in PACKAGES for path in (stdlib / name).rglob("*.py")]
    return sorted([*stdlib.glob("*.py"), *packaged])


def documents(source: str, max_bytes: int = MAX_BYTES) -> list[str]:
    """A module's source as documents, in order; what is shorter than MIN_BYTES is left out."""
    lines = source.splitlines(keepends=True)
    starts = [0, *(_first_line(node) for node in ast.parse(source).body if _is_definition(node))]
    found: list[str] = []
    waiting = ""
    for start, end in pairwise([*starts, len(lines)]):
        waiting += "".join(lines[start:end])
        if _num_bytes(waiting) >= MIN_BYTES:
            found += _cut(waiting, max_bytes)
            waiting = ""
    return [text for text in found if MIN_BYTES <= _num_bytes(text) <= max_bytes]


def sessions(
    paths: Sequence[Path], *, max_documents: int | None = None, max_bytes: int = MAX_BYTES
) -> list[list[Any]]:
    """The wire events of these files, a session each, a second between documents."""
    made: list[list[dict[str, Any]]] = []
    num_documents = 0
    for path in paths:
        with tokenize.open(path) as file:
            texts = documents(file.read(), max_bytes)
        if max_documents is not None:
            texts = texts[: max_documents - num_documents]
        made.append(list(_events(path, texts, START + SECONDS_A_DOCUMENT * num_documents)))
        num_documents += len(texts)
    return made


def _events(path: Path, texts: Sequence[str], start: float) -> Iterator[dict[str, Any]]:
    name = f"{path.parent.name}.{path.stem}"
    for sequence, text in enumerate(texts):
        yield {
            "session_id": name,
            "sequence": sequence,
            "timestamp": start + SECONDS_A_DOCUMENT * sequence,
            "kind": "document",
            "payload": {"text": text, "module": name},
        }


def _is_definition(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


def _first_line(node: ast.stmt) -> int:
    """The index of a definition's first line, its decorators' included."""
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(each.lineno for each in decorators)]) - 1


def _cut(text: str, max_bytes: int) -> Iterator[str]:
    piece = ""
    for line in text.splitlines(keepends=True):
        if piece and _num_bytes(piece) + _num_bytes(line) > max_bytes:
            yield piece
            piece = ""
        piece += line
    yield piece


def _num_bytes(text: str) -> int:
    return len(text.encode())


def main() -> None:
    """Send them all; prints one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:7420", help="the server")
    parser.add_argument("--key", required=True, help="an API key of the role ingest")
    parser.add_argument("--max-documents", type=int, help="no more than so many")
    parser.add_argument("--max-bytes", type=int, default=MAX_BYTES, help="of one document")
    asked = parser.parse_args()
    made = sessions(source_files(), max_documents=asked.max_documents, max_bytes=asked.max_bytes)
    with Client(asked.url, asked.key) as client:
        posted = post_sessions(made, client)
    print(f"{len(posted)} documents of {sum(map(bool, made))} files sent")


if __name__ == "__main__":
    main()
