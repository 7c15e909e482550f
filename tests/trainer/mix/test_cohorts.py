"""What an adoption brings to one slice, folded and packed."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.adoptions import slice_change
from trainer.mix.cohorts import (
    SliceChange,
    fold,
    pack_flags,
    pack_numbers,
    unpack_flags,
    unpack_numbers,
)

INT64 = st.integers(-(2**63), 2**63 - 1)
STEPS = st.lists(st.sets(st.integers(0, 20)), max_size=8)


@given(st.lists(INT64))
def test_packed_numbers_come_back_in_their_order(numbers: list[int]) -> None:
    array = np.array(numbers, dtype=np.int64)
    assert unpack_numbers(pack_numbers(array)).tolist() == numbers


def test_a_drawn_batch_packs_into_a_few_bytes_a_number() -> None:
    drawn = np.random.default_rng(0).integers(0, 1_000_000, 64)
    assert len(pack_numbers(drawn)) < 4 * 64
    assert len(pack_numbers(np.arange(10_000))) < 500


@given(st.lists(st.booleans()))
def test_packed_flags_come_back(flags: list[bool]) -> None:
    packed = pack_flags(np.array(flags, dtype=np.bool_))
    assert unpack_flags(packed, len(flags)).tolist() == flags


@given(STEPS)
def test_a_fold_leaves_the_members_that_the_changes_left(memberships: list[set[int]]) -> None:
    """Each entry is who is a member after one more adoption; members keep their newest joining."""
    changes, joined, before = [], {}, set()
    for number, members in enumerate(memberships, start=1):
        added, removed = sorted(members - before), sorted(before - members)
        changes.append(
            slice_change(
                added,
                number=number,
                owners=[number * 100 + n for n in added],
                changing=[n for n in added if n % 2],
                removed=removed,
            )
        )
        joined |= dict.fromkeys(added, number)
        before = members
    folded = fold(changes)
    assert folded.added.tolist() == sorted(before)
    assert folded.adopted.tolist() == [joined[n] for n in sorted(before)]
    assert folded.owners.tolist() == [joined[n] * 100 + n for n in sorted(before)]
    assert folded.is_change.tolist() == [n % 2 == 1 for n in sorted(before)]
    assert folded.removed.size == 0


def test_a_change_counts_what_joins_and_what_leaves() -> None:
    assert len(slice_change([1, 2], removed=[3])) == 3
    assert len(SliceChange()) == 0
