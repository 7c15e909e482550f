"""A case study as a picture: the loss curves of one seed with its commands, all seeds' ends beside.

In: outcomes. Out: a PNG. A curve is a running median of 15 losses; a command is a dotted line at
the step from which on it held. Arms that drew the same samples in the same order share most of
their noise, so a panel of its own may show how far each is above one of them.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.case_studies.lab import Outcome

SMOOTHED_OVER = 15
COLOURS = ("#c2410c", "#6b7280", "#15803d", "#1d4ed8")
PANEL_INCHES, HEIGHT_INCHES, DOTS_AN_INCH = 4.4, 3.6, 110
APART = 0.08  # between the dots of an arm
Points = list[tuple[int, float]]


def plot(
    outcomes: Sequence[Outcome],
    *,
    shown_seed: int,
    steered: str,
    path: Path,
    above: str | None = None,
) -> None:
    """Draw one study: the commands of the arm `steered`, all arms `above` another in a panel."""
    arms = list(dict.fromkeys(outcome.arm for outcome in outcomes))
    colours = dict(zip(arms, COLOURS, strict=False))
    shown = {o.arm: o for o in outcomes if o.seed == shown_seed}
    num_curves = 1 if above is None else 2
    figure = Figure(
        figsize=(PANEL_INCHES * (num_curves + 0.6), HEIGHT_INCHES), layout="constrained"
    )
    axes = figure.subplots(1, num_curves + 1, width_ratios=[1.0] * num_curves + [0.6])
    curves = {arm: points_of(outcome.losses) for arm, outcome in shown.items()}
    _draw_curves(axes[0], curves, colours)
    axes[0].set(ylabel="training loss, nats a token", title=f"seed {shown_seed}")
    axes[0].legend(frameon=False, fontsize=8)
    if above is not None:
        _draw_curves(axes[1], differences(curves, above), colours)
        axes[1].set(title=f"the same, above the {above}")
    for each in axes[:num_curves]:
        _mark_commands(each, shown[steered].commands, colours[steered])
    _label_commands(axes[num_curves - 1], shown[steered].commands, colours[steered])
    _draw_ends(axes[-1], outcomes, colours)
    for each in axes:
        each.title.set_fontsize(10)
        each.spines[["top", "right"]].set_visible(False)
        each.grid(axis="y", alpha=0.25)
    figure.savefig(path, dpi=DOTS_AN_INCH)


def points_of(losses: Sequence[float | None]) -> Points:
    """Steps from 1 on with their losses; those that are no number are left out."""
    return [(step, loss) for step, loss in enumerate(losses, 1) if loss is not None]


def differences(curves: dict[str, Points], arm: str) -> dict[str, Points]:
    """How far each curve is above one of them, at the steps that both have."""
    base = dict(curves[arm])
    return {
        name: [(step, loss - base[step]) for step, loss in points if step in base]
        for name, points in curves.items()
    }


def smoothed(losses: Sequence[float]) -> list[float]:
    """The running median, over fewer losses at both ends."""
    half = SMOOTHED_OVER // 2
    return [
        statistics.median(losses[max(0, at - half) : at + half + 1]) for at in range(len(losses))
    ]


def _draw_curves(axes: Axes, curves: dict[str, Points], colours: dict[str, str]) -> None:
    for arm, points in curves.items():
        losses = smoothed([loss for _, loss in points])
        axes.plot([step for step, _ in points], losses, color=colours[arm], lw=1.5, label=arm)
    axes.set(xlabel="step")


def _mark_commands(axes: Axes, commands: Sequence[dict[str, Any]], colour: str) -> None:
    for command in _applied(commands):
        axes.axvline(command["effective_step"], color=colour, linestyle=":", linewidth=1)


def _label_commands(axes: Axes, commands: Sequence[dict[str, Any]], colour: str) -> None:
    for command in _applied(commands):
        axes.annotate(
            _label(command),
            (command["effective_step"], 1.0),
            xycoords=axes.get_xaxis_transform(),
            xytext=(2, -2),
            textcoords="offset points",
            rotation=90,
            va="top",
            fontsize=7,
            color=colour,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
        )


def _applied(commands: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [command for command in commands if command["state"] == "applied"]


def _label(command: dict[str, Any]) -> str:
    """What a command did to the lr, in a word or two."""
    change = command["args"].get("set_lr") or command["args"]
    schedule = change.get("schedule")
    told = f"lr {change['value']:.2g}" if schedule is None else f"lr {schedule['shape']}"
    return f"rollback, {told}" if command["kind"] == "rollback" else told


def _draw_ends(axes: Axes, outcomes: Sequence[Outcome], colours: dict[str, str]) -> None:
    for place, (arm, colour) in enumerate(colours.items()):
        ended = [o.held_out for o in outcomes if o.arm == arm and o.held_out is not None]
        across = [place + APART * (at - (len(ended) - 1) / 2) for at in range(len(ended))]
        axes.plot(across, ended, "o", color=colour, markersize=4)
    axes.set_xticks(range(len(colours)), list(colours), rotation=25, ha="right", fontsize=8)
    axes.set(title="held-out loss, every seed", xlim=(-0.5, len(colours) - 0.5))
