"""kill -9 of trainer, API or both at random moments, while somebody goes on asking over HTTP."""

import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import httpx
from sqlalchemy import Engine, select

from control_api.listener import listen
from ingest.database import read
from ingest.settings import Settings
from tests.trainer.apart import Apart
from tests.trainer.asking import Taken, commands, recorded
from tests.waiting import wait_until
from trainer.run.training import Workplace
from trainer.tables import Branch, Checkpoint, Command

pytest_plugins = ("tests.trainer.live_runs",)

ROUNDS = ["api", "trainer", "both"]
FIRST_RATE = 0.01
ROLLBACK_EVERY = 12
ROLLED_BACK_S = 30.0
SETTLED = ("applied", "rejected", "failed", "expired", "cancelled")


class Api:
    """The API's process, on a listener that outlives it, as under `stovetop up`."""

    def __init__(self, settings: Settings) -> None:
        self._listener = listen("127.0.0.1", 0)
        self._environment = {"STOVETOP_DATA": str(settings.data), "PYTHONPATH": str(Path.cwd())}
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.start()

    def start(self) -> None:
        number = self._listener.fileno()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "control_api.serve", "--fd", str(number)],
            env=self._environment,
            pass_fds=(number,),
            stdout=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()
        self._listener.close()


class Asker:
    """Asks one thing after the other, each until it is answered; `acknowledged` were, by id."""

    def __init__(self, url: str, key: str, dice: random.Random) -> None:
        self._client = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=10.0
        )
        self._dice = dice
        self._is_over = threading.Event()
        self.acknowledged: list[str] = []
        self._thread = threading.Thread(target=self._work)

    def start(self) -> None:
        self._thread.start()

    def _work(self) -> None:
        count = 0
        while not self._is_over.wait(self._dice.uniform(0.0, 0.05)):
            count += 1
            self.ask(*self._next(count))

    def _next(self, count: int) -> tuple[str, dict[str, object]]:
        if count % ROLLBACK_EVERY == 1:
            return "save", {"name": f"save-{count}"}
        if count % ROLLBACK_EVERY == 0:
            name = f"save-{count - ROLLBACK_EVERY + 1}"
            return "rollback", {"checkpoint": name, "branch": f"b{count}"}
        return "set_lr", {"value": self._dice.uniform(1e-4, 1e-2)}

    def ask(self, kind: str, args: dict[str, object]) -> None:
        """Send it again, under the same key, until somebody answers."""
        header = {"Idempotency-Key": uuid4().hex}
        while True:
            try:
                answer = self._client.post(
                    "/v1/runs/run/commands", json={"kind": kind, "args": args}, headers=header
                )
            except httpx.TransportError:
                continue
            assert answer.status_code in (200, 201), answer.text
            self.acknowledged.append(answer.json()["command_id"])
            return

    def end(self) -> None:
        """Ask no more by itself."""
        self._is_over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def close(self) -> None:
        self.end()
        self._client.close()


def test_whatever_is_killed_and_whenever_nothing_is_lost(
    place: Workplace, engine: Engine, make_key: Callable[[str], str], tmp_path: Path
) -> None:
    dice = random.Random(random.getrandbits(32))  # pytest-randomly says its seed
    before: dict[str, dict[int, Taken]] = {}
    with (
        closing(Api(place.settings)) as api,
        closing(Asker(api.url, make_key("operator"), dice)) as asker,
    ):
        run = Apart(place.settings, tmp_path / "log")
        run.wait_for_steps(1)
        asker.start()
        for victim in ROUNDS:
            run.wait_for_steps(dice.randint(20, 60))
            if victim != "api":
                run.kill()
                before = check_kept(engine, before)
            if victim != "trainer":
                api.kill()
                api.start()
            if victim != "api":
                run = Apart(place.settings, tmp_path / "log")
        run.wait_for_steps(20)
        wait_until(lambda: len(asker.acknowledged) > ROLLBACK_EVERY, ROLLED_BACK_S)
        asker.end()
        asker.ask("stop", {})
        assert run.join() == 0
        wait_until(lambda: all(row.state in SETTLED for row in commands(engine)))

    check_kept(engine, before)
    rows = commands(engine)
    assert [row.command_id for row in rows] == asker.acknowledged
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    assert {row.state for row in rows} == {"applied"}
    check_rates(engine, rows)


def recorded_branches(engine: Engine) -> dict[str, dict[int, Taken]]:
    with read(engine) as session:
        names = list(session.scalars(select(Branch.name)))
    return {name: recorded(engine, name) for name in names}


def check_kept(engine: Engine, before: dict[str, dict[int, Taken]]) -> dict[str, dict[int, Taken]]:
    """Each step that SQL knew before is there as it was; what SQL knows now."""
    now = recorded_branches(engine)
    for branch, steps in before.items():
        assert {step: now[branch][step] for step in steps} == steps
    return now


def check_rates(engine: Engine, rows: list[Command]) -> None:
    """Every step of every branch ran under the rate that the log of commands says."""
    with read(engine) as session:
        branches = session.scalars(select(Branch)).all()
        saved = {row.checkpoint_id: row.lr for row in session.scalars(select(Checkpoint))}
    asked = {
        (row.branch, row.effective_step): json.loads(row.after_json or "")["lr"]
        for row in rows
        if row.kind == "set_lr"
    }
    assert len(branches) > 1
    for branch in branches:
        steps = recorded(engine, branch.name)
        assert list(steps) == list(range(branch.from_step + 1, branch.from_step + 1 + len(steps)))
        rate = saved.get(branch.from_checkpoint or "", FIRST_RATE)
        for step, (seen, _ids, _loss) in steps.items():
            rate = asked.get((branch.name, step), rate)
            assert seen == rate
