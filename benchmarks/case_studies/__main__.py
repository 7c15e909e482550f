"""Case studies 1 and 2: `python -m benchmarks.case_studies --out FOLDER` (`make case-studies`).

In: nothing but this machine. Out: `case_studies.json` with every held-out loss, the commands of a
judged seed and the commit, and two plots, in a folder. The exit code is 0 if the person beat the
constant lr in every judged seed, and the agent the run without one.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.case_studies import lowering, rescue
from benchmarks.case_studies.lab import Arm, Lab, Outcome
from benchmarks.case_studies.plots import plot
from benchmarks.case_studies.summary import by_arm, figures, won
from benchmarks.commit import commit

BASE_STEPS, BASE_LR = 600, 0.001
MAX_STEPS = 200
SEEDS = lowering.JUDGED_SEEDS
SHOWN_SEED = SEEDS[0]


@dataclass(frozen=True)
class Study:
    """What is compared: `steered` shall beat `rival` in every seed; `above` is for the plot."""

    name: str
    arms: Sequence[Arm]
    steered: str
    rival: str
    above: str | None = None


STUDIES = (
    Study("lowering", lowering.ARMS, "person", "constant", above="tuned constant"),
    Study("rescue", rescue.ARMS, "agent", "no agent"),
)


def main() -> int:
    """Run both studies, write the results, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.case_studies")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    out: Path = parser.parse_args().out
    started_at = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="stovetop-case-studies-") as folder,
        Lab(Path(folder), base_steps=BASE_STEPS, base_lr=BASE_LR, max_steps=MAX_STEPS) as lab,
    ):
        base = lab.judge_base()
        print(f"base model: {base['loss']:.3f} nats a token on held-out documents", flush=True)
        result: dict[str, Any] = {
            "commit": commit(),
            "num_cpus": os.cpu_count(),
            "steps": MAX_STEPS,
            "script_seeds": list(lowering.SCRIPT_SEEDS),
            "base": {"steps": BASE_STEPS, "lr": BASE_LR, "held_out": base},
        } | {study.name: _outcome_of(lab, study, out) for study in STUDIES}
    result["load_average_15_min"] = round(os.getloadavg()[2], 1)
    result["wall_s"] = round(time.monotonic() - started_at, 1)
    (out / "case_studies.json").write_text(json.dumps(result, indent=1) + "\n")
    return 0 if all(result[study.name]["won"] == len(SEEDS) for study in STUDIES) else 1


def _outcome_of(lab: Lab, study: Study, out: Path) -> dict[str, Any]:
    outcomes = lab.run_all(study.arms, SEEDS)
    losses = by_arm(outcomes)
    num_won = won(losses[study.steered], losses[study.rival])
    table = {
        arm.name: {
            "lr": arm.lr,
            **figures(losses[arm.name]),
            "steps_undone": [o.num_undone for o in outcomes if o.arm == arm.name],
        }
        for arm in study.arms
    }
    _show(study.name, table, f"{study.steered} beats {study.rival} in {num_won} of {len(SEEDS)}")
    path = out / f"case_study_{study.name}.png"
    plot(outcomes, shown_seed=SHOWN_SEED, steered=study.steered, path=path, above=study.above)
    return {"arms": table, "won": num_won, "of": len(SEEDS), "commands": _commands(outcomes)}


def _commands(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What was asked of the steered runs of the shown seed."""
    return {
        outcome.arm: outcome.commands
        for outcome in outcomes
        if outcome.seed == SHOWN_SEED and outcome.commands
    }


def _show(name: str, table: dict[str, dict[str, Any]], verdict: str) -> None:
    print(f"\n{name}: held-out loss, nats a token, seeds {', '.join(map(str, SEEDS))}")
    for arm, row in table.items():
        mean = "no number" if row["mean"] is None else f"{row['mean']:.3f} +- {row['sd']:.3f}"
        each = " ".join("-" if loss is None else f"{loss:.3f}" for loss in row["held_out"].values())
        print(f"  {arm:<16}{mean:<18}{each}")
    print(f"  {verdict}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
