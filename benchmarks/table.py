"""Every number beside its floor, its peer or its goal, in one table: `python -m benchmarks.table`.

In: the result files that `make bench` has just written. Out: the table, on the terminal and in
`benchmarks/results/bench.md`; a part that was not measured is not in it. A ratio is of two numbers
of one run, in the order in which they stand in the row.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).parent / "results"
TABLE = RESULTS / "bench.md"
HEAD = ("what", "measured", "beside it", "ratio", "goal")

Result = Mapping[str, Any]


class Row(NamedTuple):
    """One line; all as it is read."""

    what: str
    measured: str
    beside: str = ""
    ratio: str = ""
    goal: str = ""


def main() -> None:
    """Print the table and write it."""
    parts = [_part(name, rows) for name, rows in PARTS.items() if _file(name).exists()]
    TABLE.write_text("\n".join(parts))
    sys.stdout.write(TABLE.read_text())


def ingest_rows(result: Result) -> Iterator[Row]:
    """Events in over HTTP, to rows, and a command's answer meanwhile."""
    embedded, kafka = result["embedded"], result["kafka"]
    for name, words in (("batches_of_500", "batches of 500"), ("single_events", "single events")):
        found = embedded[name]
        for way, label in (("file", "a file"), ("file_with_fsync", "a file, fsync")):
            goal = "60,000/s" if (name, way) == ("batches_of_500", "file") else ""
            yield _rates(f"HTTP, {words}, embedded", found, label, found[way], goal)
    for name in ("batches_of_500_on_50_connections", "single_events_on_50_connections"):
        words = name.replace("_", " ")
        yield Row(f"HTTP, {words}, embedded", _rate(embedded[name]))
    batches = kafka["batches_of_500"]
    yield _rates(
        "HTTP, batches of 500, Kafka", batches, "embedded", embedded["batches_of_500"], "0.60"
    )
    for way, label in (
        ("bare_packed", "kafka-python, a request a record"),
        ("bare_producer_a_record_an_event", "kafka-python, an event a record"),
    ):
        yield _rates("HTTP, batches of 500, Kafka", batches, label, batches[way])
    for engine, found in result["consumer"].items():
        yield Row(f"consumer into {engine}", _rate(found), goal="25,000/s")
    commands = result["commands"]
    yield _times(
        "POST of a command under full ingest, p95",
        commands["under_full_ingest"]["post_ms_p95"],
        "alone",
        commands["alone"]["post_ms_p95"],
        "100 ms",
    )
    yield Row("memory of the API", f"{embedded['server_rss_mb']} MB")


def trainer_rows(result: Result) -> Iterator[Row]:
    """What steering costs a run."""
    overhead = result["overhead"]
    plain = overhead["step_ms"]["plain"]
    for watchers, paired in overhead["ratio_to_plain"].items():
        yield Row(
            f"a step, steered, {watchers} watching",
            f"{overhead['step_ms'][watchers]:.1f} ms",
            f"plain: {plain:.1f} ms",
            f"{paired['median']:.2f}, of pairs",
        )
    latency, states = result["latency"], result["states"]
    yield Row("set_lr in force after", f"{latency['set_lr_effect_ms']['median']:.0f} ms")
    yield Row(
        "a save of 105 M parameters holds the loop",
        f"{states['save_stall_s']['median']} s",
        f"a copy in memory: {states['copy_into_kept_memory_s']['median']} s",
        f"{states['save_ratio_to_kept']}",
        "1.3",
    )
    yield Row(
        "a rollback of it",
        f"{states['rollback_s']['median']} s",
        f"a warm read: {states['readinto_s']['median']} s",
        f"{states['rollback_ratio']}",
        "2.5",
    )


PARTS: Mapping[str, Callable[[Result], Iterator[Row]]] = {
    "ingest": ingest_rows,
    "trainer": trainer_rows,
}


def _file(name: str) -> Path:
    return RESULTS / f"{name}.json"


def _part(name: str, rows: Callable[[Result], Iterator[Row]]) -> str:
    result = json.loads(_file(name).read_text())
    lines = [HEAD, ("---",) * len(HEAD), *rows(result)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"`{name}`, at {result['commit']}:\n\n{table}\n"


def _rate(found: Result) -> str:
    return f"{found['events_per_s']:,}/s"


def _rates(what: str, found: Result, label: str, beside: Result, goal: str = "") -> Row:
    ratio = found["events_per_s"] / beside["events_per_s"]
    return Row(what, _rate(found), f"{label}: {_rate(beside)}", f"{ratio:.2g}", goal)


def _times(what: str, found: float, label: str, beside: float, goal: str = "") -> Row:
    ratio = found / beside
    return Row(what, f"{found:.1f} ms", f"{label}: {beside:.1f} ms", f"{ratio:.2f}", goal)


if __name__ == "__main__":
    main()
