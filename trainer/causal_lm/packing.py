"""Documents become the rows of one training batch; pure, and nothing in it is random.

In: the tokens of documents in draw order. Out: rows of the model's context length. The documents
are joined with an end token before, between and after them, and cut into rows that overlap by one
token: the last token of a row begins the next one. So every token but the first end, each
document's first and its end among them, is predicted exactly once, and a batch is a function of its
documents alone. No row but the last is padded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainer.causal_lm.tokens import Tokens

IGNORED = -100  # what torch's cross entropy and transformers leave out


@dataclass(frozen=True, eq=False)
class Rows:
    """int64 (R, context) each; a label is its own input or IGNORED, the model shifts them.

    The first of a row is IGNORED, as the row before has predicted it, and so is padding.
    """

    input_ids: Tokens
    labels: Tokens


def pack(documents: Sequence[Tokens], *, context: int, end: int) -> Rows:
    """Pack documents of any lengths; at least one row."""
    mark = np.array([end], np.int64)
    stream = np.concatenate([mark, *(part for tokens in documents for part in (tokens, mark))])
    num_rows = max(1, -(-(stream.size - 1) // (context - 1)))
    at = np.arange(num_rows)[:, None] * (context - 1) + np.arange(context)
    is_padding = at >= stream.size
    input_ids = np.where(is_padding, end, stream[np.minimum(at, stream.size - 1)])
    labels = np.where(is_padding, IGNORED, input_ids)
    labels[:, 0] = IGNORED
    return Rows(input_ids, labels)
