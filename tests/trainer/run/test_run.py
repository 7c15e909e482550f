"""The trainer's process: its options, its words when it can't train, its end on SIGTERM."""

import os
import signal
import subprocess
import sys

from sqlalchemy import Engine, select

from ingest.database import write
from ingest.settings import Settings
from tests.trainer.asking import the_run
from tests.trainer.runs import make_mix
from tests.waiting import wait_until
from trainer.tables import Run


def command(settings: Settings, *arguments: str) -> tuple[list[str], dict[str, str]]:
    environment = os.environ | {"STOVETOP_DATA": str(settings.data), "OMP_NUM_THREADS": "1"}
    return [sys.executable, "-m", "trainer.run", *arguments], environment


def test_what_can_not_be_trained_is_said_without_a_traceback(settings: Settings) -> None:
    line, environment = command(settings, "--name", "n", "--mix", "nothing")
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no mix 'nothing'; save it first" in done.stderr
    assert "Traceback" not in done.stderr


def test_sigterm_ends_a_run_that_waits_for_samples(settings: Settings, engine: Engine) -> None:
    with write(engine) as session:
        make_mix(session, old=1.0)
    line, environment = command(settings, "--name", "n", "--mix", "mix", "--max-steps", "5")
    with subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: has_started(engine))
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    run = the_run(engine)
    assert (run.state, run.holder, run.max_steps) == ("stopped", None, 5)


def has_started(engine: Engine) -> bool:
    with write(engine) as session:
        return session.scalar(select(Run.holder)) is not None


def test_an_unknown_recipe_is_named_and_so_are_the_known_ones(settings: Settings) -> None:
    line, environment = command(settings, "--name", "n", "--recipe", "poetry")
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "recipe: 'poetry' is none of neuralos, causal_lm" in done.stderr
    assert "Traceback" not in done.stderr
