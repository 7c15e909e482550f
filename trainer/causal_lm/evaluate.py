"""Judges a causal language model on held-out documents: its loss on each, and how sure that is.

In: a checkpoint's folder. Out: the mean loss in nats a token with its 95 % interval over documents,
and bits a byte, which also compares models with different tokenizers. The suite `held_out` is the
newest 256 documents of the `eval` split, whole, each alone in its rows.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session
from torch.nn import functional
from transformers import PreTrainedModel

from ingest.buffer import DOCUMENT
from ingest.database import read
from ingest.shard_store import ShardStore
from ingest.sources import released
from ingest.tables import Placement, Sample
from trainer.causal_lm.document_reader import DocumentTexts
from trainer.causal_lm.model import load_model
from trainer.causal_lm.packing import IGNORED, Rows, pack
from trainer.causal_lm.tokens import open_tokenizer
from trainer.family import Judgement
from trainer.mix.permutation import IntArray
from trainer.mix.stream import ShardDamaged

SUITES: Final = ("held_out",)
MAX_DOCUMENTS = 256
ROWS_A_FORWARD = 16
Z_95 = 1.96


@dataclass(frozen=True)
class Score:
    """One document's summed loss in nats over so many predicted tokens, its end among them."""

    nats: float
    num_tokens: int
    num_bytes: int


@dataclass(frozen=True)
class HeldOutResult:
    """One model on held-out documents; a number that is none (a diverged model's) is None."""

    suite: str
    loss: float | None  # nats a token
    interval: tuple[float, float] | None  # of the loss, 95 %; None for a single document
    bits_per_byte: float | None
    num_documents: int
    num_tokens: int
    num_bytes: int


class DocumentExaminer:
    """A `trainer.family.Examiner` of documents."""

    def __init__(self, engine: Engine, store: ShardStore) -> None:
        self._engine = engine
        self._store = store

    def judge(self, suite: str, checkpoint: Path, environment: str) -> Judgement:
        """Judge one model; see `HeldOutResult`."""
        if suite not in SUITES:
            raise ValueError(f"suite: {suite!r} is none of {', '.join(SUITES)}")
        with read(self._engine) as session:
            numbers = _held_out(session, environment)
        if not numbers.size:
            raise ValueError(f"suite {suite!r}: no document is in the split `eval` yet")
        result = summarise(suite, self._scores(checkpoint, numbers))
        return Judgement(dataclasses.asdict(result), {"loss": result.loss})

    def _scores(self, checkpoint: Path, numbers: IntArray) -> list[Score]:
        model = load_model(checkpoint)
        tokenizer = open_tokenizer(checkpoint, model.config.vocab_size)
        documents = DocumentTexts(self._engine, self._store)
        try:
            texts = documents.texts(numbers)
        except ShardDamaged as damaged:
            raise ValueError(str(damaged)) from damaged
        finally:
            documents.close()
        context: int = model.config.max_position_embeddings
        rows = [
            pack([tokenizer.encode(text)], context=context, end=tokenizer.end) for text in texts
        ]
        return [score(model, packed, len(text)) for packed, text in zip(rows, texts, strict=True)]


def score(model: PreTrainedModel, rows: Rows, num_bytes: int) -> Score:
    """The loss of one document's rows."""
    nats = 0.0
    with torch.no_grad():
        for start in range(0, len(rows.input_ids), ROWS_A_FORWARD):
            some = slice(start, start + ROWS_A_FORWARD)
            logits = model(input_ids=torch.from_numpy(rows.input_ids[some])).logits[:, :-1]
            wanted = torch.from_numpy(rows.labels[some])[:, 1:]
            nats += functional.cross_entropy(
                logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="sum"
            ).item()
    return Score(nats, int((rows.labels != IGNORED).sum()), num_bytes)


def summarise(suite: str, scores: Sequence[Score]) -> HeldOutResult:
    """The mean over all tokens, and its interval over documents.

    Documents are drawn, tokens are not: the mean is a ratio of two sums over documents, with the
    variance of a ratio estimator (Cochran, Sampling Techniques, 1977, chapter 6).
    """
    nats = np.array([each.nats for each in scores])
    num_tokens = np.array([each.num_tokens for each in scores])
    num_bytes = sum(each.num_bytes for each in scores)
    loss = float(nats.sum() / num_tokens.sum())
    half = _half_width(nats - loss * num_tokens, int(num_tokens.sum()))
    is_number = math.isfinite(loss)
    return HeldOutResult(
        suite=suite,
        loss=loss if is_number else None,
        interval=(loss - half, loss + half) if is_number and half is not None else None,
        bits_per_byte=float(nats.sum()) / math.log(2) / num_bytes if is_number else None,
        num_documents=len(scores),
        num_tokens=int(num_tokens.sum()),
        num_bytes=num_bytes,
    )


def _half_width(residuals: NDArray[np.float64], total: int) -> float | None:
    count = len(residuals)
    if count == 1:
        return None
    return Z_95 * math.sqrt(count / (count - 1) * float(np.square(residuals).sum())) / total


def _held_out(session: Session, environment: str) -> IntArray:
    """Documents of the `eval` split and of released sources, newest first."""
    query = (
        select(Sample.number)
        .join(Placement, Placement.sample_number == Sample.number)
        .where(
            Sample.split == "eval",
            Sample.environment == environment,
            Sample.retired_revision.is_(None),
            Sample.source.in_(released()),
            Placement.representation == DOCUMENT,
        )
        .order_by(Sample.timestamp.desc(), Sample.number.desc())
        .limit(MAX_DOCUMENTS)
    )
    return np.array(session.scalars(query).all(), np.int64)
