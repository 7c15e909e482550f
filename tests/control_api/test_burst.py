"""A burst of commands at a run that trains: all are settled, in the order of their numbers."""

import json
import threading
from collections.abc import Callable
from itertools import pairwise

from fastapi.testclient import TestClient
from sqlalchemy import Engine

from tests.trainer.asking import commands
from tests.trainer.tiny import TinyFamily

pytest_plugins = ("tests.trainer.live_runs",)

NUM_CALLERS, NUM_EACH, BURST_AT, LAST = 4, 250, 3, 6


def test_a_thousand_at_once_are_settled_in_order_at_the_next_boundary(
    training: Callable[..., str], family: TinyFamily, operator: TestClient, engine: Engine
) -> None:
    answered: list[int] = []

    def post_many(caller: int) -> None:
        for count in range(NUM_EACH):
            lr = 1e-6 * (1 + caller * NUM_EACH + count)
            body = {"kind": "set_lr", "args": {"value": lr}}
            answered.append(operator.post("/v1/runs/run/commands", json=body).status_code)

    def during(count: int) -> None:
        if count == BURST_AT:
            callers = [threading.Thread(target=post_many, args=(i,)) for i in range(NUM_CALLERS)]
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join()

    family.witness.during = during
    assert training(LAST) == "finished"

    rows = commands(engine)
    assert answered == [201] * (NUM_CALLERS * NUM_EACH)
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    assert {(row.state, row.effective_step) for row in rows} == {("applied", BURST_AT + 1)}
    settled_at = [row.settled_at or 0.0 for row in rows]
    assert settled_at == sorted(settled_at)
    values = [before_and_after(row.before_json, row.after_json) for row in rows]
    assert all(after == before for (_, after), (before, _) in pairwise(values))
    assert family.witness.steps[BURST_AT].lr == values[-1][1]


def before_and_after(before: str | None, after: str | None) -> tuple[float, float]:
    return json.loads(before or "")["lr"], json.loads(after or "")["lr"]
