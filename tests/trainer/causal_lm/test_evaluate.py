"""A checkpoint judged on held-out documents."""

import json
import math
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from sqlalchemy import Engine, select

from ingest.database import read, write
from ingest.settings import Settings
from ingest.shard_store import open_store
from tests.trainer.causal_lm.conftest import Hold, prose
from tests.trainer.runs import make_run
from trainer.causal_lm.evaluate import DocumentExaminer, Score, score, summarise
from trainer.causal_lm.family import CausalLMFamily
from trainer.causal_lm.model import load_model
from trainer.causal_lm.packing import pack
from trainer.causal_lm.tokens import END_OF_BYTES, ByteTokenizer
from trainer.evaluate import EvaluationWorker
from trainer.tables import Checkpoint, Evaluation, Metric


@pytest.fixture
def checkpoint(settings: Settings) -> Path:
    """An untrained model as a checkpoint."""
    torch.manual_seed(1)
    path = settings.runs_path / "run" / "main" / "step-3"
    load_model(None).save_pretrained(path)
    return path


@pytest.fixture
def examiner(engine: Engine, settings: Settings) -> DocumentExaminer:
    return DocumentExaminer(engine, open_store(settings))


def test_the_loss_of_one_document_is_transformers_own(checkpoint: Path) -> None:
    """Of a document that fits into one row, where nothing is cut."""
    model = load_model(checkpoint)
    text = prose(1).encode()[:90]
    tokens = [END_OF_BYTES, *text, END_OF_BYTES]
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor([tokens]), labels=torch.tensor([tokens])).loss
    rows = pack([ByteTokenizer().encode(text)], context=128, end=END_OF_BYTES)
    scored = score(model, rows, len(text))
    assert scored.num_tokens == 91
    assert scored.nats / scored.num_tokens == pytest.approx(float(wanted), rel=1e-5)


def test_a_mean_is_over_tokens_and_its_interval_over_documents() -> None:
    result = summarise("held_out", [Score(20.0, 10, 9), Score(30.0, 10, 9), Score(100.0, 40, 38)])
    assert result.loss == 150 / 60
    residuals = np.array([20 - 25, 30 - 25, 100 - 100])
    half = 1.96 * math.sqrt(3 / 2 * np.square(residuals).sum()) / 60
    assert result.interval == pytest.approx((2.5 - half, 2.5 + half))
    assert result.bits_per_byte == pytest.approx(150 / math.log(2) / 56)


def test_the_interval_holds_the_truth_19_times_in_20() -> None:
    draw = np.random.default_rng(5)
    num_held = 0
    for _ in range(400):
        lengths = draw.integers(20, 400, 60)
        rates = draw.normal(2.0, 0.3, 60)
        scores = [Score(float(n * r), int(n), int(n)) for n, r in zip(lengths, rates, strict=True)]
        interval = summarise("held_out", scores).interval
        assert interval is not None
        num_held += interval[0] <= 2.0 <= interval[1]
    assert 0.91 <= num_held / 400 <= 0.98


def test_one_document_has_no_interval() -> None:
    assert summarise("held_out", [Score(20.0, 10, 9)]).interval is None


def test_a_model_that_diverged_has_no_number() -> None:
    result = summarise("held_out", [Score(math.nan, 10, 9), Score(20.0, 10, 9)])
    assert (result.loss, result.interval, result.bits_per_byte) == (None, None, None)


def test_only_documents_of_the_eval_split_judge(
    examiner: DocumentExaminer, checkpoint: Path, hold: Hold
) -> None:
    hold([prose(n) for n in range(5)])
    hold([prose(n) for n in range(3)], split="eval")
    judged = examiner.judge("held_out", checkpoint, "text/1")
    assert judged.result["num_documents"] == 3
    assert judged.metrics == {"loss": judged.result["loss"]}
    assert judged.result["loss"] == pytest.approx(math.log(257), rel=0.05)


def test_an_unknown_suite_and_an_empty_one_are_refused(
    examiner: DocumentExaminer, checkpoint: Path
) -> None:
    with pytest.raises(ValueError, match="'fresh' is none of held_out"):
        examiner.judge("fresh", checkpoint, "text/1")
    with pytest.raises(ValueError, match="no document is in the split `eval` yet"):
        examiner.judge("held_out", checkpoint, "text/1")


def test_a_damaged_shard_fails_the_evaluation_and_not_its_worker(
    examiner: DocumentExaminer, checkpoint: Path, hold: Hold, settings: Settings
) -> None:
    hold([prose(1)], split="eval")
    shutil.rmtree(settings.shards_path / "documents")
    with pytest.raises(ValueError, match="No such file"):
        examiner.judge("held_out", checkpoint, "text/1")


def test_the_worker_asks_the_runs_family(
    engine: Engine, settings: Settings, checkpoint: Path, hold: Hold
) -> None:
    hold([prose(n) for n in range(3)], split="eval")
    with write(engine) as session:
        run = make_run(session, recipe=CausalLMFamily.name)
        run.environment = CausalLMFamily.environment
        shared = {"run_id": "run", "checkpoint_id": "c", "created_at": time.time()}
        path = str(checkpoint.relative_to(settings.runs_path))
        where = {"branch": "main", "step": 3, "name": "main-3", "path": path}
        where |= {"lr": 0.001, "is_kept": False, "note": "", "digest": "", "num_bytes": 0}
        session.add(Checkpoint(**shared, **where))
        session.flush()
        asked = {"evaluation_id": "e", "suite": "held_out", "state": "waiting", "attempts": 0}
        session.add(Evaluation(**shared, **asked))
    assert EvaluationWorker(engine, settings).evaluate_next()
    with read(engine) as session:
        done = session.scalars(select(Evaluation)).one()
        metric = session.scalars(select(Metric)).one()
    result = json.loads(done.result_json or "")
    assert (done.state, done.error) == ("done", None)
    assert (metric.name, metric.step, metric.value) == ("eval:held_out:loss", 3, result["loss"])
