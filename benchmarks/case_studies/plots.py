"""A case study as a picture: the loss curves of one seed with its commands, all seeds' ends beside.

In: outcomes. Out: a PNG. A curve is a running median of 9 losses over the raw ones, kept faint; a
command is a dotted line at the step from which on it held.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.case_studies.lab import Outcome

SMOOTHED_OVER = 9
COLOURS = ("#c2410c", "#6b7280", "#15803d", "#1d4ed8")
INCHES, DOTS_AN_INCH = (9.0, 3.6), 110


def plot(outcomes: Sequence[Outcome], *, shown_seed: int, path: Path) -> None:
    """Draw one study."""
    arms = list(dict.fromkeys(outcome.arm for outcome in outcomes))
    colours = dict(zip(arms, COLOURS, strict=False))
    figure = Figure(figsize=INCHES, layout="constrained")
    curves, ends = figure.subplots(1, 2, width_ratios=(2.4, 1))
    for outcome in outcomes:
        if outcome.seed == shown_seed:
            _draw_curve(curves, outcome, colours[outcome.arm])
    curves.set(xlabel="step", ylabel="training loss, nats a token", title=f"seed {shown_seed}")
    curves.legend(frameon=False, fontsize=8)
    for place, arm in enumerate(arms):
        ended = [o.held_out for o in outcomes if o.arm == arm and o.held_out is not None]
        ends.plot([place] * len(ended), ended, "o", color=colours[arm], alpha=0.7)
    ends.set_xticks(range(len(arms)), arms, rotation=20, ha="right", fontsize=8)
    ends.set(title="held-out loss at the end, every seed", xlim=(-0.5, len(arms) - 0.5))
    ends.title.set_fontsize(10)
    for axes in (curves, ends):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
    figure.savefig(path, dpi=DOTS_AN_INCH)


def _draw_curve(axes: Axes, outcome: Outcome, colour: str) -> None:
    points = [(n, loss) for n, loss in enumerate(outcome.losses, 1) if loss is not None]
    steps, losses = [n for n, _ in points], [loss for _, loss in points]
    axes.plot(steps, losses, color=colour, alpha=0.18, linewidth=0.8)
    axes.plot(steps, smoothed(losses), color=colour, linewidth=1.6, label=outcome.arm)
    for command in outcome.commands:
        if command["state"] == "applied" and "schedule" not in command["args"]:
            axes.axvline(command["effective_step"], color=colour, linestyle=":", linewidth=1)


def smoothed(losses: Sequence[float]) -> list[float]:
    """The running median, over fewer losses at both ends."""
    half = SMOOTHED_OVER // 2
    return [
        statistics.median(losses[max(0, at - half) : at + half + 1]) for at in range(len(losses))
    ]
