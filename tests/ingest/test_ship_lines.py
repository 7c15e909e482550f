"""Chunks of a log file: every line once, whatever the file holds and wherever reading stops."""

import io
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import ingest.ship_lines
from ingest.ship_lines import Chunk, Line, Position, read_chunk

PIECES = [b"\n", b"\r\n", b" ", b"\t" * 18, b"{}", b"ab c", b"0123456789abcdef", b"\x00\xff\r"]
CONTENT = st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join)


@pytest.fixture(autouse=True, scope="module")
def small_bounds() -> Iterator[None]:
    """Bounds that a few bytes reach."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest.ship_lines, "MAX_CHUNK_LINES", 3)
        patch.setattr(ingest.ship_lines, "MAX_CHUNK_BYTES", 64)
        patch.setattr(ingest.ship_lines, "MAX_LINE_BYTES", 16)
        patch.setattr(ingest.ship_lines, "READ_BYTES", 17)
        yield


def chunks(content: bytes, start: Position, *, takes_tail: bool) -> Iterator[Chunk]:
    """All chunks from a position on."""
    chunk = read_chunk(io.BytesIO(content), start, takes_tail=takes_tail)
    while chunk.end != start:
        yield chunk
        start = chunk.end
        chunk = read_chunk(io.BytesIO(content), start, takes_tail=takes_tail)


def read_all(content: bytes, start: Position, *, takes_tail: bool) -> tuple[list[Line], Position]:
    """The lines of all chunks, and where they end."""
    read = list(chunks(content, start, takes_tail=takes_tail))
    return [line for chunk in read for line in chunk.lines], (read[-1].end if read else start)


def numbered(content: bytes) -> list[tuple[int, int]]:
    """What there is to account for, the obvious way: number and length of every line."""
    lines = enumerate(content.split(b"\n"), start=1)
    return [(number, len(line)) for number, line in lines if line.strip() or len(line) > 16]


@given(content=CONTENT)
def test_all_lines_come_once_in_order_with_their_numbers(content: bytes) -> None:
    lines, _ = read_all(content, Position(), takes_tail=True)
    assert [(line.number, line.num_bytes) for line in lines] == numbered(content)


@given(before=CONTENT, added=CONTENT)
def test_a_file_that_grows_between_looks_gives_the_same_lines(before: bytes, added: bytes) -> None:
    lines, end = read_all(before, Position(), takes_tail=False)
    more, end = read_all(before + added, end, takes_tail=True)
    assert [(line.number, line.num_bytes) for line in lines + more] == numbered(before + added)
    assert end.num_bytes == len(before + added)


@given(before=CONTENT, added=CONTENT)
@example(before=b"{}", added=b"\n{}")
def test_a_tail_that_was_taken_comes_again_only_where_it_grew(before: bytes, added: bytes) -> None:
    lines, end = read_all(before, Position(), takes_tail=True)
    more, _ = read_all(before + added, end, takes_tail=True)
    kept = [line for line in lines if line.number <= end.num_lines or not added]
    assert [(line.number, line.num_bytes) for line in kept + more] == numbered(before + added)


@given(content=CONTENT)
def test_only_lines_beyond_the_limit_are_cut_short(content: bytes) -> None:
    for chunk in chunks(content, Position(), takes_tail=True):
        for line in chunk.lines:
            whole = content.split(b"\n")[line.number - 1]
            assert line.is_too_long == (len(whole) > 16)
            assert line.is_too_long or line.content == whole.strip()


@given(content=CONTENT)
def test_chunks_are_bounded(content: bytes) -> None:
    start = Position()
    for chunk in chunks(content, start, takes_tail=True):
        assert len(chunk.lines) <= 3
        longest = max((line.num_bytes for line in chunk.lines), default=0)
        assert chunk.end.num_bytes - start.num_bytes <= 64 + max(longest, 16) + 1
        start = chunk.end


def test_an_unfinished_line_that_was_taken_comes_again_only_when_it_grew() -> None:
    (taken,) = chunks(b"one\ntw", Position(), takes_tail=True)
    assert taken.end == Position(offset=4, num_lines=1, tail=2)
    assert list(chunks(b"one\ntw", taken.end, takes_tail=True)) == []
    (grown,) = chunks(b"one\ntwo\n", taken.end, takes_tail=False)
    assert [(line.number, line.content) for line in grown.lines] == [(2, b"two")]
