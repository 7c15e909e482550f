"""The database goes away, in each way in which a file can: no step waits, and nothing is lost.

`python -m tests.trainer.run.test_outage SECONDS` does the same for as long as one likes.
"""

import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from itertools import pairwise
from pathlib import Path

from sqlalchemy import Engine

from ingest.database import open_engine, upgrade
from ingest.settings import Settings
from tests.trainer.apart import Apart
from tests.trainer.asking import ask_now, commands, is_received, recorded, wait_for_state
from tests.trainer.runs import fill
from tests.waiting import wait_until
from trainer.run.training import Workplace

pytest_plugins = ("tests.trainer.live_runs",)

AWAY_S = 2.5
LONGEST_STEP_S = 1.0  # on a busy machine; SQL's lock is waited for 5 s, where anybody waits
Absence = Callable[[Settings, int], AbstractContextManager[None]]


@contextmanager
def locked_by_another(settings: Settings, _pid: int) -> Iterator[None]:
    with closing(sqlite3.connect(settings.data / "stovetop.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def folder_elsewhere(settings: Settings, _pid: int) -> Iterator[None]:
    """Something else stands where it was."""
    elsewhere = settings.data.with_name("elsewhere")
    settings.data.rename(elsewhere)
    settings.data.touch()
    yield
    settings.data.unlink()
    elsewhere.rename(settings.data)


@contextmanager
def files_elsewhere(settings: Settings, _pid: int) -> Iterator[None]:
    elsewhere = settings.data.with_name("elsewhere")
    elsewhere.mkdir()
    files = [path.name for path in settings.data.glob("stovetop.db*")]
    for name in files:
        (settings.data / name).rename(elsewhere / name)
    yield
    assert not list(settings.data.glob("stovetop.db*"))  # nobody has made an empty one
    for name in files:
        (elsewhere / name).rename(settings.data / name)
    elsewhere.rmdir()


@contextmanager
def a_disk_that_takes_nothing(_settings: Settings, pid: int) -> Iterator[None]:
    """The process can write no more than the first KiB of any file: database, log, checkpoint."""
    usual = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1024, usual[1]))
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, usual)


ABSENCES: list[Absence] = [
    locked_by_another,
    folder_elsewhere,
    files_elsewhere,
    a_disk_that_takes_nothing,
]


def survive(settings: Settings, engine: Engine, log_path: Path, away_s: float) -> None:
    """One run through all of them; what SQL holds afterwards is what the optimizer did."""
    run = Apart(settings, log_path)
    run.wait_for_steps(50)
    for number, absence in enumerate(ABSENCES, 1):
        before = ask_now(engine, "set_lr", value=0.01 + 0.001 * number)
        wait_until(lambda before=before: is_received(engine, before))
        engine.dispose()
        with absence(settings, run.pid):
            is_over_at = time.monotonic() + away_s
            wait_until(lambda at=is_over_at: time.monotonic() > at, 2 * away_s)
        after = ask_now(engine, "set_lr", value=0.02 + 0.001 * number)
        wait_for_state(engine, after, "applied")  # in order, so all that was taken is in SQL
    ask_now(engine, "stop")
    assert run.join() == 0

    steps = run.steps
    assert max(b.at - a.at for a, b in pairwise(steps)) < LONGEST_STEP_S
    assert [(s.lr, s.ids, s.loss) for s in steps] == list(recorded(engine).values())
    for command in commands(engine)[:-1]:
        assert command.state == "applied"
        assert command.effective_step is not None
    rates = [0.01, *(rate + 0.001 * n for n in range(1, 5) for rate in (0.01, 0.02))]
    assert list(dict.fromkeys(step.lr for step in steps)) == rates


def test_in_whatever_way_it_goes_no_step_waits_and_nothing_is_lost(
    place: Workplace, engine: Engine, tmp_path: Path
) -> None:
    survive(place.settings, engine, tmp_path / "log", AWAY_S)


def main() -> None:
    """By hand, for 60 s each."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data=Path(folder) / "data")
        upgrade(settings)
        engine = open_engine(settings.resolved_database_url)
        fill(engine)
        survive(settings, engine, Path(folder) / "log", float(sys.argv[1]))
        sys.stdout.write(f"{len(recorded(engine))} steps, all as they were taken\n")


if __name__ == "__main__":
    main()
