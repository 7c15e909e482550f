"""The `stovetop` command: data on stdout, talk on stderr, exit codes that tell."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from typer.main import get_command

from control_api.cli.app import app as stovetop
from ingest.database import read, write
from ingest.keys import authenticate
from tests.control_api.rows import make_checkpoint, make_run, make_signal
from tests.control_api.shell import Shell, said
from trainer.commands import queue as command_queue
from trainer.commands.inbox import Inbox
from trainer.commands.kinds import SetLr
from trainer.commands.queue import Settlement

LOGS = Path(__file__).parents[1] / "samples"


def test_a_key_is_made_and_shown_once(shell: Shell, engine: Engine) -> None:
    made = said(shell("keys", "create", "--role", "ingest", "--source", "shop", "--json"))
    with read(engine) as session:
        caller = authenticate(session, made["key"])
    assert caller is not None
    assert (caller.role, caller.source) == ("ingest", "shop")
    assert set(made) == {"key", "key_id", "role", "source", "is_released", "expires_at", "limits"}


def test_a_keys_source_is_its_role_unless_named(shell: Shell) -> None:
    assert said(shell("keys", "create", "--role", "viewer", "--json"))["source"] == "viewer"


def test_a_key_in_a_fresh_folder_brings_the_schema_along(shell: Shell, tmp_path: Path) -> None:
    fresh = str(tmp_path / "fresh")
    said(shell("keys", "create", "--data", fresh, "--role", "viewer", "--json"))
    assert said(shell("db", "upgrade", "--data", fresh, "--json"))["upgraded"]


def test_an_unknown_role_is_refused_by_name(shell: Shell) -> None:
    refused = shell("keys", "create", "--role", "boss")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("stovetop: role: 'boss' is none of ingest,")


def test_shipping_counts_every_line_and_does_it_once(shell: Shell) -> None:
    folder = str(LOGS / "neuralos_logs_dirty")
    first = said(shell("ship", folder, "--json"))
    assert first["torn"] == 1
    assert first["rejected"] == 2
    again = said(shell("ship", folder, "--json"))
    assert again == {"sent": 0, "duplicate": 0, "rejected": 0, "torn": 0}


def test_a_line_that_is_no_event_is_named_on_stderr(shell: Shell) -> None:
    shipped = shell("ship", str(LOGS / "neuralos_logs_dirty"))
    assert shipped.exit_code == 0
    assert "session_1754700863_1.jsonl:18: torn" in shipped.stderr
    assert "1 torn" in shipped.stdout


def test_a_path_that_is_not_there_ends_with_1(shell: Shell, tmp_path: Path) -> None:
    assert shell("ship", str(tmp_path / "gone")).exit_code == 1


def test_simulated_people_are_stored_and_may_come_again(shell: Shell) -> None:
    stored = said(shell("simulate", "--sessions", "2", "--seed", "3", "--json"))
    assert (stored["sessions"], stored["seed"]) == (2, 3)
    assert stored["events"] > 20


def test_a_slice_and_a_mix_are_saved_and_listed(shell: Shell) -> None:
    said(shell("slices", "set", "fresh", "task:open_browser", "--json"))
    said(shell("slices", "set", "rest", "-task:open_browser", "--json"))
    assert said(shell("mixes", "set", "half", "fresh=1", "rest=1", "--json"))["version"] == 1
    assert shell("mixes", "list").stdout.split() == [
        *("name", "version", "shares"),
        *("half", "1", "fresh", "50%,", "rest", "50%"),
    ]
    assert "-task:open_browser" in shell("slices", "list").stdout


def test_runs_are_listed_for_people_and_for_programs(shell: Shell, engine: Engine) -> None:
    assert "no runs yet" in shell("runs").stderr
    with write(engine) as session:
        make_run(session)
    assert said(shell("runs", "--json"))["items"][0]["name"] == "online"
    assert "10 of 100" in shell("runs").stdout


def test_a_runs_health_is_shown_with_what_to_do(shell: Shell, engine: Engine) -> None:
    with write(engine) as session:
        run = make_run(session, signals="divergence")
        make_signal(session, run, 9, "divergence", command_id="c1")
        make_signal(session, run, 8, "plateau")
    shown = shell("health", "online", "--last", "1")
    assert "on now: divergence" in shown.stderr
    assert shown.stdout.splitlines()[1].split() == [
        *("9", "main", "divergence", "started"),
        *("look", "at", "the", "step's", "samples;", "a", "policy", "has", "answered"),
    ]
    health = said(shell("health", "online", "--json"))
    assert (health["on"], health["total"], len(health["items"])) == (["divergence"], 2, 2)
    assert "divergence" in shell("runs").stdout


def test_a_policy_that_is_none_is_named_before_anything_is_trained(
    shell: Shell, tmp_path: Path
) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("[[rule]]\n")
    refused = shell("train", "--name", "n", "--policy", str(path))
    assert refused.exit_code == 1
    assert f"policy {path}: rule.0.name: Field required" in refused.stderr


def test_a_recipe_that_is_none_is_named_before_anything_is_trained(shell: Shell) -> None:
    refused = shell("train", "--name", "n", "--recipe", "poetry")
    assert refused.exit_code == 1
    assert "recipe: 'poetry' is none of neuralos, causal_lm" in refused.stderr


@pytest.fixture
def run_id(engine: Engine) -> str:
    """A run with a checkpoint."""
    with write(engine) as session:
        run = make_run(session)
        make_checkpoint(session, run, "before", 5)
        return run.run_id


@pytest.fixture
def obedient(engine: Engine, run_id: str) -> Iterator[None]:
    """A run that obeys: the real inbox, and settlements as the trainer writes them."""
    stop = threading.Event()

    def obey() -> None:
        with Inbox(engine, run_id, after=0) as inbox:
            while not stop.wait(0.01):
                for received in inbox.take():
                    after = (
                        {"lr": received.command.value}
                        if isinstance(received.command, SetLr)
                        else {}
                    )
                    with write(engine) as session:
                        command_queue.settle(
                            session,
                            Settlement(
                                received.command_id,
                                "applied",
                                at=1.0,
                                branch="main",
                                effective_step=11,
                                before={},
                                after=after,
                            ),
                        )

    thread = threading.Thread(target=obey)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.usefixtures("obedient")
def test_a_command_waits_for_its_outcome_and_says_the_step(shell: Shell) -> None:
    done = shell("lr", "online", "0.0002", "--reason", "it oscillates")
    assert done.stdout == "set_lr holds from step 11: lr 0.0002\n"
    command = said(shell("lr", "online", "0.0001", "--json"))
    assert (command["state"], command["effective_step"]) == ("applied", 11)


@pytest.mark.usefixtures("obedient")
@pytest.mark.parametrize(
    ("arguments", "kind", "args"),
    [
        (["pause", "online"], "pause", {}),
        (["resume", "online"], "resume", {}),
        (["stop", "online"], "stop", {}),
        (
            ["save", "online", "--name", "x", "--note", "y"],
            "save",
            {"name": "x", "note": "y", "keep": True},
        ),
        (["save", "online", "--no-keep"], "save", {"note": "", "keep": False}),
        (["evaluate", "online", "fresh"], "evaluate", {"suite": "fresh"}),
        (
            ["lr", "online", "0.1", "--schedule", "cosine", "--steps", "9", "--group", "decay"],
            "set_lr",
            {
                "schedule": {"shape": "cosine", "to": 0.1, "steps": 9, "warm_up_steps": 0},
                "group": "decay",
            },
        ),
        (
            ["optimizer", "online", "--betas", "0.8", "0.9", "--weight-decay", "0.1"],
            "set_optimizer",
            {"betas": [0.8, 0.9], "weight_decay": 0.1},
        ),
        (["freeze", "online", "a", "b.0"], "freeze", {"modules": ["a", "b.0"]}),
        (["unfreeze", "online", "a"], "unfreeze", {"modules": ["a"]}),
        (
            ["rollback", "online", "before", "--branch", "b", "--lr", "0.1", "--hold-data"],
            "rollback",
            {
                "checkpoint": "before",
                "branch": "b",
                "set_lr": {"value": 0.1},
                "hold_data": True,
            },
        ),
    ],
)
def test_each_command_asks_for_what_it_says(
    shell: Shell, arguments: list[str], kind: str, args: dict[str, Any]
) -> None:
    command = said(shell(*arguments, "--json"))
    assert (command["kind"], command["args"]) == (kind, args)


@pytest.mark.usefixtures("obedient")
def test_a_command_is_undone_by_its_id(shell: Shell) -> None:
    lr = said(shell("lr", "online", "0.0002", "--json"))
    undo = said(shell("undo", lr["command_id"], "--reason", "too low", "--json"))
    assert (undo["kind"], undo["state"]) == ("undo", "applied")
    assert undo["reason"] == "undoes set_lr #1: too low"
    again = shell("undo", lr["command_id"])
    assert again.exit_code == 1
    assert "was undone before" in again.stderr


def test_a_pending_command_is_cancelled(shell: Shell, run_id: str) -> None:
    pause = said(shell("pause", run_id, "--wait", "0", "--json"))
    cancelled = said(shell("cancel", pause["command_id"], "--json"))
    assert (cancelled["kind"], cancelled["state"]) == ("pause", "cancelled")
    assert shell("cancel", pause["command_id"]).stdout == "pause is cancelled\n"
    assert shell("cancel", "nobody").exit_code == 1


def test_a_mix_may_be_given_as_shares(shell: Shell, run_id: str) -> None:
    said(shell("slices", "set", "fresh", "task:open_browser", "--json"))
    command = said(shell("mix", run_id, "fresh=1", "--wait", "0", "--json"))
    assert command["args"] == {"name": f"inline-{run_id[:16]}", "version": 1}


def test_without_waiting_a_pending_command_is_a_success(shell: Shell, run_id: str) -> None:
    command = said(shell("pause", run_id, "--wait", "0", "--json"))
    assert command["state"] == "pending"


def test_a_command_that_nobody_takes_in_time_ends_with_1(shell: Shell, run_id: str) -> None:
    late = shell("pause", run_id, "--wait", "0.1")
    assert late.exit_code == 1
    assert "pause is pending after 0.1 s" in late.stderr


def test_a_refusal_names_the_field_and_ends_with_1(shell: Shell, run_id: str) -> None:
    refused = shell("rollback", run_id, "gone")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "args.checkpoint" in refused.stderr


def test_without_a_key_the_fix_is_said(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STOVETOP_KEY")
    for arguments in (["runs"], ["ship", "."], ["lr", "online", "1"]):
        refused = shell(*arguments)
        assert refused.exit_code == 1
        assert "stovetop keys create" in refused.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["explode"],
        ["lr", "online"],
        ["lr", "online", "fast"],
        ["lr", "online", "0.1", "--steps", "9"],
        ["lr", "online", "0.1", "--schedule", "linear"],
        ["mix", "online", "a=1", "b"],
        ["mixes", "set", "m", "x"],
    ],
)
def test_what_is_not_understood_ends_with_2(shell: Shell, arguments: list[str]) -> None:
    assert shell(*arguments).exit_code == 2


def test_a_setting_that_does_not_fit_is_named(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOVETOP_EVAL_PERCENT", "99")
    refused = shell("db", "upgrade")
    assert refused.exit_code == 1
    assert "STOVETOP_EVAL_PERCENT" in refused.stderr


def test_every_command_says_what_it_does_and_answers_in_json() -> None:
    waiting = list(get_command(stovetop).commands.values())
    while waiting:
        command = waiting.pop()
        assert command.help
        if hasattr(command, "commands"):
            waiting += command.commands.values()
            continue
        assert "--json" in {option for parameter in command.params for option in parameter.opts}


def test_help_loads_nothing_heavy() -> None:
    source = (
        "import sys; from control_api.cli import main\n"
        "sys.argv = ['stovetop', '--help']\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'sqlalchemy', 'fastapi', 'pydantic'} & set(sys.modules)))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=False
    )
    assert shown.stdout.splitlines()[-1] == "[]"
