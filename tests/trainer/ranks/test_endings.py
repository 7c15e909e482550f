"""How a job of several ranks goes on, and how it ends: patience, death, damage, errors."""

import threading

import pytest
from sqlalchemy import select

from ingest.database import read
from ingest.settings import Settings
from ingest.tables import Shard
from tests.trainer.asking import commands, metric, the_run
from tests.trainer.ranks.conftest import SHORT_TIMEOUT_S, Installs, Job
from tests.trainer.ranks.job import RankFamily
from tests.trainer.ranks.jobs import whole
from tests.trainer.tiny import Witness
from trainer.ranks.alone import RankLost
from trainer.ranks.group import is_of_another
from trainer.run.rows import RunOptions, find_or_make_run
from trainer.run.training import Workplace, train


@pytest.fixture
def patient(first_job: dict[str, Job]) -> Job:
    """A slow checkpoint, a pause, and a rollback to what rank 1 does not find on its disk."""
    return first_job["patient"]


def test_a_pause_longer_than_the_timeout_breaks_nothing(patient: Job) -> None:
    pause, resume, _rollback = commands(patient.engine)
    assert (pause.state, resume.state) == ("applied", "applied")
    assert (resume.received_at or 0) - (pause.settled_at or 0) > 1.5 * SHORT_TIMEOUT_S
    assert the_run(patient.engine).state == "finished"


def test_a_checkpoint_that_one_rank_can_t_read_fails_the_rollback_on_all(patient: Job) -> None:
    failed = commands(patient.engine)[-1]
    assert failed.state == "failed"
    assert "rank 1: CheckpointDamaged" in (failed.error or "")
    assert [len(steps) for steps in patient.steps] == [40, 40]
    assert list(metric(patient.engine, "loss")) == list(range(1, 41))


def test_a_rank_that_is_killed_loses_the_job_and_a_restart_goes_on_exactly(
    first_job: dict[str, Job], second_job: dict[str, Job], patient: Job
) -> None:
    """As if nothing had been: a pause and a rollback that failed have changed nothing either."""
    killed, again = first_job["killed"], second_job["again"]
    assert killed.ended.exit_code != 0
    assert the_run(killed.engine).state == "lost"
    for after, steps in zip(again.steps, patient.steps, strict=True):
        assert [(s.ids, s.loss) for s in after] == [(s.ids, s.loss) for s in steps[20:]]
    assert metric(again.engine, "loss") == metric(patient.engine, "loss")
    assert the_run(again.engine).state == "finished"


def test_one_process_takes_up_what_two_had(
    installs: Installs, first_job: dict[str, Job], patient: Job
) -> None:
    killed, witness = first_job["killed"], Witness()
    settings = Settings(data=installs.copy(killed.task.data, "alone"))
    engine = installs.engine(settings.data)
    family = RankFamily(witness=witness)
    run = find_or_make_run(engine, "run", RunOptions(), family)
    with witness.watching():
        assert train(Workplace(engine, settings, threading.Event()), run, family) == "finished"
    drawn = [whole([s.ids for s in shares]) for shares in zip(*patient.steps, strict=True)]
    assert [step.ids for step in witness.steps] == drawn[20:]


def test_a_shard_that_one_rank_can_t_read_is_set_apart_and_a_restart_goes_on(
    second_job: dict[str, Job], third_job: dict[str, Job]
) -> None:
    damaged, whole_again = second_job["damaged"], third_job["whole"]
    assert damaged.ended.exit_code != 0
    assert the_run(damaged.engine).state == "lost"
    assert "set apart" in damaged.ended.log
    [path] = damaged.task.damaged.values()
    with read(whole_again.engine) as session:
        shard = session.scalars(select(Shard).where(Shard.path == path)).one()
    assert shard.state == "quarantined"
    assert the_run(whole_again.engine).state == "finished", whole_again.ended.log[-3000:]
    assert list(metric(whole_again.engine, "loss")) == list(range(1, 21))


def test_an_error_of_rank_0_s_own_fails_the_run_with_it(third_job: dict[str, Job]) -> None:
    raising = third_job["raising"]
    assert raising.ended.exit_code != 0
    run = the_run(raising.engine)
    assert (run.state, run.error) == ("failed", "ArithmeticError: the model can't go on")
    assert list(metric(raising.engine, "loss")) == list(range(1, 12))


def test_a_run_that_has_taken_all_its_steps_is_no_error_of_any_rank(
    four_ranks: dict[str, Job],
) -> None:
    ended = four_ranks["finished"].ended
    assert ended.exit_code == 0, ended.log[-3000:]
    assert ended.log.count("nothing_to_train") == 4


def test_an_error_is_another_rank_s_only_where_a_connection_says_so() -> None:
    broken = RuntimeError("[gloo/transport/tcp/pair.cc:545] Connection closed by peer")
    wrapped = ValueError("half way")
    wrapped.__cause__ = broken
    assert all(map(is_of_another, [broken, wrapped, RankLost("silent")]))
    own = [RuntimeError("CUDA out of memory"), ValueError("gloo/transport"), KeyboardInterrupt()]
    assert not any(map(is_of_another, own))
