"""What being steered costs a Trainer: `python -m benchmarks.trainer [--json FILE]`.

A plain transformers.Trainer and the same one made interactive, side by side in one run: steps a
second with 0, 1 and 10 people watching; milliseconds and steps from a POST to its effect, as the
optimizer saw it; the stall of a save beside a copy of the same state in memory, fresh or touched
before; a rollback beside a warm `readinto` of the same files. A stall is what lies between the end
of a step and the next forward pass. Blocks alternate, and a ratio is one of medians.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers

from benchmarks.commit import commit
from benchmarks.trainer_parts import Installation, Layers, train

STEP_WIDTH, STEP_LAYERS = 640, 8  # about 20 ms a step on one core here
LARGE_WIDTH, LARGE_LAYERS = 2048, 25  # 105 M parameters
BLOCK_STEPS, NUM_BLOCKS = 100, 8
SETTLE_STEPS = 30  # of a block, left out
NUM_COMMANDS = 20


def overhead(installation: Installation) -> dict[str, object]:
    """Seconds a step, plain and interactive by turns, and with people who watch."""
    medians: dict[str, list[float]] = {"plain": [], "0": [], "1": [], "10": []}
    between: dict[str, list[float]] = {"plain": [], "0": []}
    beside: dict[str, list[float]] = {"plain": [], "0": []}
    for block in range(NUM_BLOCKS):
        for kind in medians if block % 2 else reversed(medians):
            model = Layers(STEP_WIDTH, STEP_LAYERS)
            run = f"overhead-{kind}-{block}"
            if kind == "plain":
                steps = train(model, BLOCK_STEPS, None, run)
            else:
                with installation.watched(run, int(kind)):
                    steps = train(model, BLOCK_STEPS, installation.settings.data, run)
            medians[kind].append(statistics.median(steps.gaps[SETTLE_STEPS:]))
            if kind in between:
                between[kind].append(statistics.mean(steps.between[SETTLE_STEPS:-1]))
                beside[kind].append(steps.beside_s / len(steps.gaps))
    typical = {kind: statistics.median(values) for kind, values in medians.items()}
    ratios = {
        kind: [ours / plain for ours, plain in zip(medians[kind], medians["plain"], strict=True)]
        for kind in ("0", "1", "10")
    }
    return {
        "step_ms": {kind: round(value * 1e3, 3) for kind, value in typical.items()},
        "ratio_to_plain": {kind: spread(values) for kind, values in ratios.items()},
        "on_the_loops_thread_us": added(between),
        "beside_it_us": added(beside),
    }


def added(seconds: dict[str, list[float]]) -> dict[str, float]:
    """What ours takes more than the plain one, in microseconds a step, pair by pair."""
    pairs = zip(seconds["0"], seconds["plain"], strict=True)
    return spread([(ours - plain) * 1e6 for ours, plain in pairs])


def latency(installation: Installation) -> dict[str, object]:
    """From a POST to the first step under it: milliseconds, and steps begun meanwhile."""
    asked = [
        {"kind": "set_lr", "args": {"value": 1e-4 * (2 + number)}, "after_s": 0.137}
        for number in range(NUM_COMMANDS)
    ]
    asked += [{"kind": kind, "args": {}, "after_s": 0.31} for kind in ("pause", "resume")] * 5
    asked += [{"kind": "stop", "args": {}, "after_s": 0.1}]
    model = Layers(STEP_WIDTH, STEP_LAYERS)
    with installation.asked("latency", asked) as answers:
        steps = train(model, 100_000, installation.settings.data, "latency")
    changes = [answer for answer in answers() if answer["kind"] == "set_lr"]
    stale, waited = [], []
    for change in changes:
        rate = change["args"]["value"]
        effect = next(i for i, seen in enumerate(steps.rates) if abs(seen - rate) < 1e-12)
        under_way = steps.first_after(change["answered_at"])  # the step that had begun by then
        stale.append(max(0, effect - under_way - 1))
        waited.append((steps.at[effect] - change["sent_at"]) * 1e3)
    pauses = [answer for answer in answers() if answer["kind"] == "pause"]
    until_still = [
        max(0.0, max(at for at in steps.at if at < pause["settled_at"] + 0.2) - pause["sent_at"])
        for pause in pauses
    ]
    answered = [(change["answered_at"] - change["sent_at"]) * 1e3 for change in changes]
    return {
        "set_lr_post_ms": spread(answered),
        "set_lr_effect_ms": spread(waited),
        "set_lr_steps_begun_after_the_answer_under_the_old_rate": max(stale),
        "pause_until_still_ms": spread([value * 1e3 for value in until_still]),
        "step_ms": round(statistics.median(steps.gaps) * 1e3, 1),
    }


def states(installation: Installation) -> dict[str, object]:
    """A save and a rollback of a large model, beside their floors."""
    asked = [{"kind": "save", "args": {"name": f"save-{n}"}, "after_s": 6.0} for n in range(5)]
    back = {"checkpoint": "save-3", "hold_data": True}
    asked += [{"kind": "rollback", "args": back, "after_s": 6.0} for _ in range(5)]
    asked += [{"kind": "stop", "args": {}, "after_s": 3.0}]
    model = Layers(LARGE_WIDTH, LARGE_LAYERS)
    with installation.asked("states", asked) as answers:
        steps = train(model, 100_000, installation.settings.data, "states")
    usual = statistics.median(steps.stalls)
    stalls: dict[str, list[float]] = {"save": [], "rollback": []}
    for answer in answers():
        if answer["kind"] in stalls:
            first = steps.first_after(answer["sent_at"])
            longest = max(steps.stalls[max(0, first - 1) : first + 2])
            stalls[answer["kind"]].append(longest - usual)
    fresh, kept = copy_floors(model)
    reading, num_bytes = read_floor(installation.checkpoint("states", "save-3"))
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "state_bytes": num_bytes,
        "save_stall_s": spread(stalls["save"]),
        "copy_into_fresh_memory_s": spread(fresh),
        "copy_into_kept_memory_s": spread(kept),
        "save_ratio_to_fresh": ratio(stalls["save"], fresh),
        "save_ratio_to_kept": ratio(stalls["save"], kept),
        "rollback_s": spread(stalls["rollback"]),
        "readinto_s": spread(reading),
        "rollback_ratio": ratio(stalls["rollback"], reading),
    }


def copy_floors(model: torch.nn.Module) -> tuple[list[float], list[float]]:
    """Seconds for a copy of as much as weights and AdamW's two moments.

    Into fresh memory each time, and into memory that is there already.
    """
    state = [
        tensor for p in model.parameters() for tensor in [p.detach().clone() for _ in range(3)]
    ]
    fresh, kept, copies = [], [], []
    for _ in range(5):
        start = time.perf_counter()
        copies = [tensor.clone() for tensor in state]
        fresh.append(time.perf_counter() - start)
    for _ in range(5):
        start = time.perf_counter()
        for place, tensor in zip(copies, state, strict=True):
            place.copy_(tensor)
        kept.append(time.perf_counter() - start)
    return fresh, kept


def read_floor(folder: Path) -> tuple[list[float], int]:
    """Seconds for a warm `readinto` of all files, into memory that is there already."""
    files = [path for path in folder.iterdir() if path.is_file()]
    buffers = [bytearray(path.stat().st_size) for path in files]
    taken = []
    for _ in range(4):
        start = time.perf_counter()
        for path, buffer in zip(files, buffers, strict=True):
            with path.open("rb", buffering=0) as file:
                view = memoryview(buffer)
                while count := file.readinto(view):
                    view = view[count:]
        taken.append(time.perf_counter() - start)
    return taken[1:], sum(map(len, buffers))


def ratio(ours: Sequence[float], floor: Sequence[float]) -> float:
    """Of medians."""
    return round(statistics.median(ours) / statistics.median(floor), 2)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    return {
        "median": round(statistics.median(values), 4),
        "least": round(min(values), 4),
        "most": round(max(values), 4),
    }


def main() -> None:
    """Print and, when asked, write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trainer")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=("overhead", "latency", "states"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    parts = {"overhead": overhead, "latency": latency, "states": states}
    result: dict[str, object] = {"commit": commit(), "num_cpus": os.cpu_count()}
    with tempfile.TemporaryDirectory() as folder, Installation(Path(folder)) as installation:
        for name, measure in parts.items():
            if given.only in (None, name):
                result[name] = measure(installation)
                print(name, json.dumps(result[name], indent=2), flush=True)
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
