"""`make soak`: a thousand kills, `python -m tests.crashes.soak [--kills N] [--seed S]`.

In: how many kills, a seed. Out: `benchmarks/results/soak.json`: per kind how many kills, what was
acknowledged, lost and doubled, and the commit. The exit code is 0 if nothing was violated. Half of
the kills are on either size, each pass on a fresh installation; the same seed gives the same rounds
and requests, but not the same timing.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from benchmarks.commit import commit
from tests.crashes.installation import EMBEDDED, PRODUCTION, Servers, install, production_servers
from tests.crashes.machine import Machine
from tests.crashes.matrix import Matrix
from tests.crashes.rounds import one_pass
from tests.crashes.zygote import Zygote

RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "soak.json"


class Soak:
    """All installations of one soak, one after the other."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._commit = commit()
        self._kills: dict[str, Counter[str]] = {EMBEDDED: Counter(), PRODUCTION: Counter()}
        self._troubles: Counter[str] = Counter()
        self._sent: Counter[str] = Counter()
        self._num_lost = self._num_doubled = 0
        self._violations: list[str] = []
        self._wall_s: Counter[str] = Counter()

    @property
    def num_kills(self) -> int:
        """On both sizes."""
        return sum(sum(kills.values()) for kills in self._kills.values())

    def run_pass(
        self, number: int, zygote: Zygote, servers: Servers | None, max_kills: int
    ) -> None:
        """A pass over all rounds on a fresh installation, or until there were enough kills."""
        began_at = time.monotonic()
        seed = f"{self._seed}/{number}"
        with ExitStack() as stack:
            installation = install(stack, servers)
            logs = Path(tempfile.mkdtemp(prefix="stovetop-soak-"))
            machine = stack.enter_context(closing(Machine(zygote, installation, logs)))
            matrix = Matrix(machine, installation, seed)
            try:
                matrix.begin()
                for round_ in one_pass(installation, matrix.dice):
                    if matrix.tally.violations or matrix.tally.kills.total() >= max_kills:
                        break
                    matrix.play(round_)
                    num_kills = self.num_kills + matrix.tally.kills.total()
                    _say(f"{num_kills:5} kills, {installation.size}: {round_.name}")
                matrix.end()
            except AssertionError as error:
                matrix.tally.violations.append(f"pass {seed}: {error}; logs: {logs}")
            if not matrix.tally.violations:
                shutil.rmtree(logs)
            self._add(installation.size, matrix)
        self._wall_s[installation.size] += time.monotonic() - began_at

    def result(self) -> dict[str, Any]:
        """What came of it."""
        return {
            "commit": self._commit,
            "seed": self._seed,
            "num_cpus": os.cpu_count(),
            "load_average_15_min": round(os.getloadavg()[2], 1),
            "wall_s": {size: round(wall_s, 1) for size, wall_s in self._wall_s.items()},
            "num_kills": self.num_kills,
            "kills": {size: dict(sorted(kills.items())) for size, kills in self._kills.items()},
            "troubles": dict(sorted(self._troubles.items())),
            "sent": dict(sorted(self._sent.items())),
            "num_lost": self._num_lost,
            "num_doubled": self._num_doubled,
            "violations": self._violations,
        }

    def _add(self, size: str, matrix: Matrix) -> None:
        self._kills[size] += matrix.tally.kills
        self._troubles += matrix.tally.troubles
        self._sent += matrix.ledger.counts
        self._num_lost += matrix.tally.num_lost
        self._num_doubled += matrix.tally.num_doubled
        self._violations += matrix.tally.violations


def main() -> int:
    """Soak until there were enough kills, and write what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.crashes.soak")
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--seed", default=str(random.getrandbits(32)))
    parser.add_argument("--out", type=Path, default=RESULT)
    asked = parser.parse_args()
    _say(f"seed {asked.seed}")
    soak = Soak(asked.seed)
    with ExitStack() as stack:
        zygote = stack.enter_context(closing(Zygote()))
        servers = production_servers(stack)
        number = 0
        while soak.num_kills < asked.kills and not soak.result()["violations"]:
            size = servers if number % 2 else None
            soak.run_pass(number, zygote, size, asked.kills - soak.num_kills)
            number += 1
    result = soak.result()
    asked.out.write_text(json.dumps(result, indent=1) + "\n")
    for key in ("num_kills", "wall_s", "num_lost", "num_doubled", "violations"):
        _say(f"{key}: {result[key]}")
    return 1 if result["violations"] else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
