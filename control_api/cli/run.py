"""Commands for a run that is under way: each waits for its outcome and says from which step on.

Each function below says what is asked; `asking` makes a shell command of it, with the options that
all of them have.
"""

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from control_api.cli.options import DEFAULT_URL, AsJson, Key, Reason, RunName, Url, Wait, remote
from control_api.cli.output import CommandFailed, answer, table, talk
from control_api.remote import SETTLED, Answer, Remote

WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a run."""

    run: str
    kind: str
    args: dict[str, Any]


def lr(
    run: RunName, value: Annotated[float, typer.Argument(metavar="LR", help="The new one.")]
) -> Asked:
    """Change the learning rate."""
    return Asked(run, "set_lr", {"value": value})


def mix(
    run: RunName,
    name: Annotated[str, typer.Argument(metavar="MIX", help="The mix, in its newest version.")],
) -> Asked:
    """Draw from another mix, from the very next batch on."""
    return Asked(run, "set_mix", {"name": name})


def pause(run: RunName) -> Asked:
    """Hold the run at its next step; commands go on being applied."""
    return Asked(run, "pause", {})


def resume(run: RunName) -> Asked:
    """Go on after a pause."""
    return Asked(run, "resume", {})


def stop(run: RunName) -> Asked:
    """Save and end the run; `stovetop train` takes it up again."""
    return Asked(run, "stop", {})


def save(
    run: RunName,
    name: Annotated[str | None, typer.Option(help="Its name. [BRANCH-STEP]")] = None,
    note: Annotated[str, typer.Option(help="Kept with it.")] = "",
) -> Asked:
    """Write a checkpoint now."""
    return Asked(run, "save", _given(name=name, note=note or None))


def rollback(
    run: RunName,
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="A checkpoint's name or id.")
    ],
    *,
    branch: Annotated[str | None, typer.Option(help="Name of the new branch.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate from there on.")] = None,
    mix: Annotated[str | None, typer.Option(help="Mix from there on.")] = None,
    hold_data: Annotated[
        bool, typer.Option("--hold-data", help="Take the same samples as the first time.")
    ] = False,
) -> Asked:
    """Go back to a checkpoint, on a new branch; the tip is saved first."""
    args = _given(
        checkpoint=checkpoint,
        branch=branch,
        set_lr=None if lr is None else {"value": lr},
        set_mix=None if mix is None else {"name": mix},
        hold_data=hold_data or None,
    )
    return Asked(run, "rollback", args)


def evaluate(
    run: RunName,
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="Such as fresh or old.")],
) -> Asked:
    """Let held-out sessions judge the model as it is now."""
    return Asked(run, "evaluate", {"suite": suite})


def asking(make: Callable[..., Asked]) -> Callable[..., None]:
    """A shell command from a function that says what is asked, with the options of all."""
    own = list(inspect.signature(make).parameters.values())
    shared = list(inspect.signature(_ask).parameters.values())[1:]

    def command(**options: Any) -> None:
        given = {parameter.name: options.pop(parameter.name) for parameter in shared}
        _ask(make(**options), **given)

    command.__doc__ = make.__doc__
    command.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in (*own, *shared)}
    return command


def _ask(
    asked: Asked,
    *,
    reason: Reason = "",
    wait: Wait = WAIT_S,
    url: Url = DEFAULT_URL,
    key: Key = "",
    as_json: AsJson = False,
) -> None:
    server = remote(url, key)
    deadline = time.monotonic() + wait
    command = server.command(asked.run, asked.kind, asked.args, reason)
    if wait > 0:
        command = server.settled(command["command_id"], wait)
    evaluation = _evaluation(server, command, deadline - time.monotonic()) if wait > 0 else None
    if evaluation is not None:
        command["evaluation"] = evaluation
    problem = _problem(command, wait)
    if as_json or problem is None:
        answer(command, as_json=as_json, text=_outcome(command))
    if problem is not None:
        raise CommandFailed(problem)


def _evaluation(server: Remote, command: Answer, timeout_s: float) -> Answer | None:
    evaluation_id = (command["after"] or {}).get("evaluation_id")
    if evaluation_id is None:
        return None
    talk(f"judging the checkpoint of step {command['after']['step']}")
    return server.evaluated(evaluation_id, timeout_s)


def _problem(command: Answer, wait: float) -> str | None:
    """Why a command did not end well, or None."""
    kind, state = command["kind"], command["state"]
    if state in SETTLED and state != "applied":
        return f"{kind} was {state}: {command['error']}"
    if wait > 0 and state not in SETTLED:
        return (
            f"{kind} is {state} after {wait:g} s and stays so until the run takes it; --wait longer"
        )
    evaluation = command.get("evaluation")
    if evaluation is not None and evaluation["state"] != "done":
        return f"the evaluation is {evaluation['state']}: {evaluation['error'] or '--wait longer'}"
    return None


def _outcome(command: Answer) -> str:
    if command["state"] != "applied":
        return f"{command['kind']} is {command['state']}"
    after = command["after"] or {}
    changes = ", ".join(f"{name} {_shown(value)}" for name, value in after.items())
    lines = [f"{command['kind']} holds from step {command['effective_step']}: {changes}"]
    evaluation = command.get("evaluation")
    if evaluation is not None:
        lines += [f"  {name} {_shown(value)}" for name, value in evaluation["result"].items()]
    return "\n".join(lines)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={_shown(inner)}" for name, inner in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _given(**args: object) -> dict[str, Any]:
    return {name: value for name, value in args.items() if value is not None}


def runs(url: Url = DEFAULT_URL, key: Key = "", as_json: AsJson = False) -> None:
    """List the runs, newest first."""
    items = list(remote(url, key).pages("/v1/runs"))
    if as_json:
        answer({"items": items, "total": len(items)}, as_json=True, text="")
        return
    if not items:
        talk("no runs yet; start one: stovetop train --data DIR --name NAME --mix MIX")
    table(("name", "state", "branch", "step", "lr", "mix", "health"), (_row(run) for run in items))


def _row(run: Answer) -> tuple[str, ...]:
    return (
        run["name"],
        run["state"],
        run["branch"],
        f"{run['step']} of {run['max_steps']}",
        f"{run['lr']:g}",
        f"{run['mix_name']} v{run['mix_version']}",
        ", ".join(run["signals"]) or "no signal",
    )
