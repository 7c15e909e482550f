"""A run in a process of its own, which tells of each optimizer step as it sees it.

It is forked by a server that has imported torch already, which would take most of the test's time.
A step takes at least 5 ms, most of it asleep, so that two cores leave room for who disturbs it.
"""

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from torch.optim import Optimizer

from ingest.database import open_engine
from ingest.logs import log_to
from ingest.settings import Settings
from tests.trainer.tiny import TinyFamily, Witness
from tests.waiting import wait_until
from trainer.run.rows import RunOptions, find_or_make_run
from trainer.run.training import Workplace, train

STEP_S = 0.005
SAVE_EVERY = 10
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Noted:
    """A step as the optimizer took it; `at` is the clock that all processes share."""

    at: float
    lr: float
    ids: list[int]
    loss: float


class Apart:
    """A run called `run`, under way; `steps` are those that this process has taken so far.

    Its log is `log_path`: on the disk, as that of a supervised process is.
    """

    def __init__(self, settings: Settings, log_path: Path) -> None:
        self.steps: list[Noted] = []
        processes = multiprocessing.get_context("forkserver")
        processes.set_forkserver_preload([__name__])
        told, telling = processes.Pipe(duplex=False)
        self._process = processes.Process(
            target=_train, args=(settings, log_path, telling), daemon=True
        )
        self._process.start()
        telling.close()
        self._listener = threading.Thread(target=self._listen, args=(told,), daemon=True)
        self._listener.start()

    def _listen(self, told: "Connection[Noted, Noted]") -> None:
        with told, suppress(EOFError, OSError):
            while True:
                self.steps.append(told.recv())

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process.pid is not None
        return self._process.pid

    def wait_for_steps(self, count: int) -> None:
        """Until it has taken so many more."""
        wanted = len(self.steps) + count
        wait_until(lambda: len(self.steps) >= wanted or not self._process.is_alive(), PATIENCE_S)
        assert self._process.is_alive()

    def kill(self) -> None:
        """By SIGKILL."""
        self._process.kill()
        self.join()

    def join(self) -> int | None:
        """Wait for its end; the exit code."""
        self._process.join(PATIENCE_S)
        self._listener.join(PATIENCE_S)
        return self._process.exitcode


class _Telling(Witness):
    """A witness that says at once what it sees."""

    def __init__(self, tell: Callable[[Noted], None]) -> None:
        super().__init__()
        self._tell = tell

    def step(self, optimizer: Optimizer, args: object, kwargs: object) -> None:
        super().step(optimizer, args, kwargs)
        seen = self.steps[-1]
        self._tell(Noted(time.monotonic(), seen.lr, seen.ids, seen.loss))
        time.sleep(STEP_S)


def _train(settings: Settings, log_path: Path, telling: "Connection[Noted, Noted]") -> None:
    with log_path.open("a") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    log_to(sys.stdout)
    engine = open_engine(settings.resolved_database_url)
    witness = _Telling(telling.send)
    family = TinyFamily(witness, save_every=SAVE_EVERY)
    run = find_or_make_run(engine, "run", RunOptions(max_steps=1_000_000, mix="mix"), family)
    often = settings.model_copy(update={"adopt_every_s": 0.02})
    with witness.watching():
        train(Workplace(engine, often, threading.Event()), run, family)
    engine.dispose()
