"""The health of a run that really trains."""

import threading
from collections.abc import Callable

from sqlalchemy import Engine, select

from ingest.database import read, write
from tests.trainer.asking import ask_now, asking, metric, the_run, wait_until
from tests.trainer.runs import make_mix
from tests.trainer.tiny import TinyFamily
from trainer.tables import HealthSignal

pytest_plugins = ("tests.trainer.live_runs",)

Training = Callable[..., str]


def test_a_rate_far_too_high_is_named_at_the_first_step(training: Training, engine: Engine) -> None:
    training(2, lr=5.0)
    with read(engine) as session:
        first = session.scalars(select(HealthSignal).order_by(HealthSignal.step)).first()
    assert first is not None
    assert (first.name, first.state, first.step) == ("update_ratio", "started", 1)
    assert "lower the lr" in first.message


def test_the_change_of_the_weights_is_a_metric_of_every_twentieth_step(
    training: Training, engine: Engine
) -> None:
    training(45)
    ratios = metric(engine, "update_ratio")
    assert list(ratios) == [1, 21, 41]
    assert all(0 < (ratio or 0.0) < 0.1 for ratio in ratios.values())


def test_a_run_without_samples_is_starved_until_it_has_some(
    training: Training, family: TinyFamily, engine: Engine
) -> None:
    with write(engine) as session:
        make_mix(session, "empty", coming=1.0)
    family.witness.during = asking(engine, {2: [("set_mix", {"name": "empty"})]})

    def client() -> None:
        steps = family.witness.steps
        wait_until(lambda: bool(steps) and the_run(engine).signals == "starvation")
        ask_now(engine, "set_mix", name="mix")

    thread = threading.Thread(target=client)
    thread.start()
    assert training(12) == "finished"
    thread.join()
    assert the_run(engine).signals == ""
    with read(engine) as session:
        rows = session.scalars(select(HealthSignal).order_by(HealthSignal.step)).all()
    assert [(row.step, row.name, row.state) for row in rows] == [
        (2, "starvation", "started"),
        (10, "starvation", "ended"),
    ]
