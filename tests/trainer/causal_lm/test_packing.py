"""Documents become rows: every token is predicted once, by the one before it."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainer.causal_lm.packing import IGNORED, pack

END = 9
texts = st.lists(st.lists(st.integers(0, 8), max_size=12), min_size=1, max_size=5)


@given(texts, st.integers(2, 9))
def test_every_token_is_predicted_once_from_the_one_before_it(
    documents: list[list[int]], context: int
) -> None:
    rows = pack([np.array(each, np.int64) for each in documents], context=context, end=END)
    pairs = [
        (int(before), int(wanted))
        for ids, labels in zip(rows.input_ids, rows.labels, strict=True)
        for before, wanted in zip(ids[:-1], labels[1:], strict=True)
        if wanted != IGNORED
    ]
    stream = [END, *(token for each in documents for token in (*each, END))]
    assert pairs == list(pairwise(stream))


@given(texts, st.integers(2, 9))
def test_rows_are_as_long_as_the_context_and_only_the_last_is_padded(
    documents: list[list[int]], context: int
) -> None:
    rows = pack([np.array(each, np.int64) for each in documents], context=context, end=END)
    assert rows.input_ids.shape == rows.labels.shape
    assert rows.input_ids.shape[1] == context
    assert (rows.labels[:-1, 1:] != IGNORED).all()
    assert (rows.labels[:, 0] == IGNORED).all()


def test_no_document_at_all_is_a_row_without_labels() -> None:
    rows = pack([], context=4, end=END)
    assert rows.input_ids.tolist() == [[END] * 4]
    assert (rows.labels == IGNORED).all()
