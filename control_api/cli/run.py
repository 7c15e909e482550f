"""Commands for a run that is under way: each function says what is asked.

`asking` makes a shell command of it, with the options that all of them have.
"""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from control_api.cli.asking import Asked, AskedUndo
from control_api.cli.curation import share_of
from control_api.cli.options import DEFAULT_URL, AsJson, Key, RunName, Url, remote
from control_api.cli.output import answer, table, talk
from control_api.remote import Answer

CommandId = Annotated[str, typer.Argument(metavar="COMMAND", help="A command's id.")]
Group = Annotated[str | None, typer.Option(help="Only this parameter group. [all]")]
Modules = Annotated[
    list[str], typer.Argument(metavar="MODULE...", help="As the model's author named them.")
]


def lr(
    run: RunName,
    value: Annotated[float, typer.Argument(metavar="LR", help="The new one.")],
    *,
    schedule: Annotated[
        str | None, typer.Option(help="How to get there: constant, linear or cosine. [at once]")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the schedule.")] = None,
    warm_up_steps: Annotated[int | None, typer.Option(help="Of them, to warm up. [0]")] = None,
    group: Group = None,
) -> Asked:
    """Change the learning rate, at once or over some steps."""
    if schedule is None:
        if steps is not None or warm_up_steps is not None:
            raise typer.BadParameter("--steps and --warm-up-steps go with --schedule")
        return Asked(run, "set_lr", _given(value=value, group=group))
    if steps is None:
        raise typer.BadParameter("--schedule needs --steps")
    course = _given(shape=schedule, to=value, steps=steps, warm_up_steps=warm_up_steps)
    return Asked(run, "set_lr", _given(schedule=course, group=group))


def optimizer(
    run: RunName,
    *,
    betas: Annotated[
        tuple[float, float] | None, typer.Option(metavar="BETA1 BETA2", help="Adam's averages.")
    ] = None,
    eps: Annotated[float | None, typer.Option(help="Added to the denominator.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Of weights, not of biases.")] = None,
    momentum: Annotated[float | None, typer.Option(help="SGD's and RMSprop's.")] = None,
    max_grad_norm: Annotated[
        float | None, typer.Option(help="Gradients are clipped to it; 0: not at all.")
    ] = None,
    group: Group = None,
) -> Asked:
    """Change the optimizer's other settings."""
    args = _given(
        betas=None if betas is None else list(betas),
        eps=eps,
        weight_decay=weight_decay,
        momentum=momentum,
        max_grad_norm=max_grad_norm,
        group=group,
    )
    return Asked(run, "set_optimizer", args)


def freeze(run: RunName, modules: Modules) -> Asked:
    """Let the parameters of some modules stand still."""
    return Asked(run, "freeze", {"modules": modules})


def unfreeze(run: RunName, modules: Modules) -> Asked:
    """Let the parameters of some modules move again."""
    return Asked(run, "unfreeze", {"modules": modules})


def mix(
    run: RunName,
    mix: Annotated[
        list[str],
        typer.Argument(
            metavar="MIX | SLICE=SHARE...", help="A mix, in its newest version, or shares."
        ),
    ],
) -> Asked:
    """Draw from another mix, from the very next batch on."""
    if len(mix) == 1 and "=" not in mix[0]:
        return Asked(run, "set_mix", {"name": mix[0]})
    return Asked(run, "set_mix", {"weights": dict(share_of(text) for text in mix)})


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
    keep: Annotated[bool, typer.Option(help="Whether it stays when newer ones have come.")] = True,
) -> Asked:
    """Write a checkpoint now."""
    return Asked(run, "save", _given(name=name, note=note or None, keep=None if keep else False))


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


def undo(command: CommandId) -> AskedUndo:
    """Restore what a command found, while it is the latest of its kind."""
    return AskedUndo(command)


def cancel(
    command: CommandId, url: Url = DEFAULT_URL, key: Key = "", as_json: AsJson = False
) -> None:
    """Take back a command that the run does not have yet."""
    cancelled = remote(url, key).delete(f"/v1/commands/{quote(command, safe='')}")
    answer(cancelled, as_json=as_json, text=f"{cancelled['kind']} is cancelled")


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
