"""One read finds a file's seal, and puts parts of it where they are wanted."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.checkpoints import seals
from trainer.checkpoints.seals import read_sealed

DATA = bytes(range(256)) * 5


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("seals") / "file"
    path.write_bytes(DATA)
    return path


@given(
    cuts=st.lists(st.integers(0, len(DATA)), unique=True, max_size=8).map(sorted),
    piece=st.integers(1, 400),
)
@settings(max_examples=60, deadline=None)
def test_parts_hold_their_bytes_and_the_seal_is_that_of_the_file(
    path: Path, cuts: list[int], piece: int
) -> None:
    ends = dict(zip(cuts[::2], cuts[1::2], strict=False))
    parts = {start: memoryview(bytearray(end - start)) for start, end in ends.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seals, "PIECE_BYTES", piece)
        found = read_sealed(path, parts)
    assert found == read_sealed(path, {})
    assert found.num_bytes == len(DATA)
    assert all(bytes(part) == DATA[at : at + len(part)] for at, part in parts.items())


def test_a_part_beyond_the_end_is_no_error_but_another_seal(tmp_path: Path, path: Path) -> None:
    short = tmp_path / "short"
    short.write_bytes(DATA[:300])
    found = read_sealed(short, {200: memoryview(bytearray(900))})
    assert found.num_bytes == 300
    assert found != read_sealed(path, {})


def test_one_other_bit_is_another_seal(tmp_path: Path, path: Path) -> None:
    changed = bytearray(DATA)
    changed[700] ^= 1
    other = tmp_path / "other"
    other.write_bytes(changed)
    assert read_sealed(other, {}) != read_sealed(path, {})
