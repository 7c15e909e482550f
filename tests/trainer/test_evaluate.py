"""The evaluation worker: held-out sessions judge a checkpoint, and nothing is judged twice."""

import json
import shutil
import time
from collections.abc import Sequence

import pytest
from sqlalchemy import Engine, select

from ingest.database import read, write
from ingest.settings import Settings
from ingest.simulate import OLD_SKILLS, simulate_session
from tests.factories import make_episode, make_session
from tests.trainer.runs import make_run
from trainer.evaluate import MAX_ATTEMPTS, EvaluationWorker
from trainer.neuralos.model import SHIPPED
from trainer.tables import Checkpoint, Evaluation, Metric

NUM_TASKS = 8


@pytest.fixture
def worker(settings: Settings, engine: Engine) -> EvaluationWorker:
    """A worker beside one run that has one checkpoint, the shipped model."""
    shutil.copytree(SHIPPED, settings.runs_path / "run" / "main" / "step-3")
    with write(engine) as session:
        make_run(session, recipe="neuralos")
        session.add(
            Checkpoint(
                checkpoint_id="checkpoint",
                run_id="run",
                branch="main",
                step=3,
                lr=5e-4,
                name="main-3",
                note="",
                path="run/main/step-3",
                digest="",
                num_bytes=0,
                is_kept=False,
                created_at=time.time(),
            )
        )
    return EvaluationWorker(engine, settings)


def hold_out(engine: Engine, seeds: Sequence[int], *, split: str = "eval") -> None:
    """Replayed episodes of simulated people."""
    with write(engine) as session:
        for seed in seeds:
            done = simulate_session(seed, OLD_SKILLS, num_tasks=NUM_TASKS)
            owner = make_session(session, split=split)
            episode = make_episode(
                session, owner, [action.payload for action in done], state="replayed"
            )
            episode.environment = "drawn/1"


def ask(engine: Engine, suite: str, **changed: object) -> None:
    values = {"state": "waiting", "attempts": 0} | changed
    with write(engine) as session:
        session.add(
            Evaluation(
                evaluation_id=suite,
                run_id="run",
                checkpoint_id="checkpoint",
                suite=suite,
                created_at=time.time(),
                **values,
            )
        )


def evaluation(engine: Engine) -> Evaluation:
    with read(engine) as session:
        return session.scalars(select(Evaluation)).one()


def test_held_out_sessions_judge_a_checkpoint_and_its_step_gets_the_metric(
    worker: EvaluationWorker, engine: Engine
) -> None:
    hold_out(engine, [1, 2])
    ask(engine, "old_skills")
    assert worker.evaluate_next()
    done = evaluation(engine)
    assert (done.state, done.error) == ("done", None)
    result = json.loads(done.result_json or "")
    assert result["num_episodes"] == 2
    assert result["num_change"] == result["num_no_change"] > 0
    with read(engine) as session:
        metric = session.scalars(select(Metric)).one()
    assert (metric.branch, metric.step, metric.name, metric.value) == (
        "main",
        3,
        "eval:old_skills:balanced_accuracy",
        result["balanced_accuracy"],
    )
    assert not worker.evaluate_next()


def test_training_sessions_judge_nothing(worker: EvaluationWorker, engine: Engine) -> None:
    hold_out(engine, [1], split="train")
    ask(engine, "old_skills")
    assert worker.evaluate_next()
    assert "no case" in (evaluation(engine).error or "")


def test_an_evaluation_that_fails_three_times_is_failed_with_its_error(
    worker: EvaluationWorker, engine: Engine
) -> None:
    ask(engine, "juggling")
    for _ in range(MAX_ATTEMPTS):
        assert worker.evaluate_next()
    failed = evaluation(engine)
    assert (failed.state, failed.attempts) == ("failed", MAX_ATTEMPTS)
    assert "'juggling' is none of fresh, old_skills" in (failed.error or "")
    assert not worker.evaluate_next()


def test_a_dead_workers_claim_returns(worker: EvaluationWorker, engine: Engine) -> None:
    ask(engine, "juggling", state="leased", attempts=1, lease_expires_at=time.time() - 1)
    assert worker.evaluate_next()
    assert evaluation(engine).attempts == 2


def test_a_claim_that_lives_is_left_alone(worker: EvaluationWorker, engine: Engine) -> None:
    ask(engine, "juggling", state="leased", attempts=1, lease_expires_at=time.time() + 60)
    assert not worker.evaluate_next()


def test_what_kills_its_worker_three_times_is_failed(
    worker: EvaluationWorker, engine: Engine
) -> None:
    ask(engine, "juggling", state="leased", attempts=MAX_ATTEMPTS, lease_expires_at=1.0)
    assert not worker.evaluate_next()
    assert "died 3 times" in (evaluation(engine).error or "")
