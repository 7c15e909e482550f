"""Anybody's own Trainer on several ranks."""

import json

import pytest

from tests.trainer.asking import commands, metric
from tests.trainer.own import NUM_SAMPLES
from tests.trainer.ranks.conftest import Job


@pytest.fixture
def own(first_job: dict[str, Job]) -> Job:
    return first_job["own"]


def seen_by(job: Job, rank: int) -> dict[str, list[object]]:
    seen: dict[str, list[object]] = json.loads((job.task.data / f"own-{rank}.json").read_text())
    return seen


def test_every_rank_draws_as_the_plain_trainer_s_does(own: Job) -> None:
    for rank in range(2):
        seen = seen_by(own, rank)
        assert seen["indices"][: len(seen["plain"])] == seen["plain"]


def test_it_is_steered_on_every_rank_and_a_rollback_is_exact(own: Job) -> None:
    done = commands(own.engine)
    assert [c.state for c in done] == ["applied", "applied", "rejected", "applied"]
    tip = json.loads(done[3].before_json or "{}")["step"]
    for rank in range(2):
        seen = seen_by(own, rank)
        assert seen["rates"][2:4] == [0.01, 0.02]
        for name in ("indices", "losses"):
            assert seen[name][tip : tip + 20] == seen[name][5:25]


def test_evaluate_is_done_by_all_ranks_together_and_recorded_once(own: Job) -> None:
    evaluated = commands(own.engine)[1]
    after = json.loads(evaluated.after_json or "{}")
    [(step, loss)] = metric(own.engine, "eval:loss").items()
    assert (step, loss) == (after["step"], after["metrics"]["eval_loss"])
    judged = [seen_by(own, rank)["judged"] for rank in range(2)]
    assert {*judged[0], *judged[1]} == {*range(NUM_SAMPLES)}
    assert max(map(len, judged)) < NUM_SAMPLES
