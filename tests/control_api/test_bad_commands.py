"""A thousand bad commands at a run that trains: none is accepted, and the run does not notice."""

import json
from collections import Counter
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from tests.control_api.bad_commands import GOOD, bad_commands
from tests.trainer.asking import ask_now, commands
from tests.trainer.stepping import stepping
from tests.trainer.tiny import TinyFamily
from trainer.commands.kinds import parse

pytest_plugins = ("tests.trainer.live_runs",)

SAVED_AT, BAD_AT, TIP = 2, 3, 8
BODIES = [
    b"{",
    b"[]",
    b"null",
    b'"pause"',
    b"{}",
    b'{"args": {}}',
    b'{"kind": null}',
    b'{"kind": 5}',
    b'{"kind": "pause", "args": []}',
    b'{"kind": "pause", "args": null}',
    b'{"kind": "pause", "reason": 5}',
    b'{"kind": "pause", "extra": 1}',
    b'{"kind": "pause", "reason": "' + b"x" * 501 + b'"}',
    b'{"kind": "\xff"}',
]


@pytest.mark.parametrize(("kind", "arguments"), GOOD)
def test_what_is_spoilt_was_good(kind: str, arguments: dict[str, object]) -> None:
    assert parse(kind, arguments).kind == kind


def test_none_is_accepted_and_the_run_is_the_same_bit_for_bit(
    training: Callable[..., str], family: TinyFamily, operator: TestClient, engine: Engine
) -> None:
    """All of them in the midst of one step; then the steps since once more, without them."""
    refused: Counter[int] = Counter()
    accepted: list[str] = []
    bad = list(bad_commands())

    def post(content: bytes) -> str:
        answer = operator.post(
            "/v1/runs/run/commands", content=content, headers={"Content-Type": "application/json"}
        )
        refused[answer.status_code] += 1
        command_id: str = answer.json().get("command_id", "")
        return command_id

    def during(count: int) -> None:
        if count == SAVED_AT:
            ask_now(engine, "save", name="good")
        if count == BAD_AT:
            for body in BODIES:
                assert not post(body)
            for _, kind, arguments in bad:
                accepted.append(post(json.dumps({"kind": kind, "args": arguments}).encode()))
        if count == TIP:
            ask_now(engine, "rollback", checkpoint="good", hold_data=True)

    family.witness.during = during
    with stepping() as steps:
        assert training(TIP) == "finished"

    assert len({wrong for wrong, _, _ in bad}) >= 30
    assert len({json.dumps(command) for _, *command in bad}) >= 1_000
    assert set(refused) <= {201, 400, 409, 422}
    states = {command.command_id: command.state for command in commands(engine)}
    assert {states[command_id] for command_id in accepted if command_id} == {"rejected"}
    assert list(states.values()).count("applied") == 2
    assert [step.after for step in steps[BAD_AT - 1 : TIP]] == [step.after for step in steps[TIP:]]
