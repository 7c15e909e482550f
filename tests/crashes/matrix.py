"""The crash matrix: rounds of kills and troubles, each under traffic and judged when it is over.

In: a seed. Out: what was killed how often, and what was violated. A round arms one commit point in
each of a few programs, or troubles the installation otherwise, lets production send until all have
died, starts them again without a trap, waits until nothing is left to do, and judges everything
that was ever sent. The installation stays the same over rounds: that it goes on working is
what the next round shows.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from control_api.verify import verify
from ingest.replay.worker import ABANDONED_S
from ingest.shard_store import open_store
from tests.crashes.commit_points import POINTS, CommitPoint
from tests.crashes.installation import Installation
from tests.crashes.judgement import judge
from tests.crashes.ledger import Ledger, events_request
from tests.crashes.machine import LINE, TRAIN, Machine
from tests.crashes.rest import wait_for_rest
from tests.crashes.run_record import Taken, ask_for_checkpoint, num_steps, recorded_steps
from tests.crashes.traffic import Traffic
from tests.crashes.zygote import Trap
from tests.intake import START
from tests.waiting import wait_until

DIES_WITHIN_S = 240.0
MOMENT_S = (0.1, 1.5)
NUM_TEXTS = 40
STEPS_A_ROUND = 3


@dataclass
class Tally:
    """What came of all rounds so far; kills by their kind."""

    kills: Counter[str] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)
    num_lost: int = 0
    num_doubled: int = 0
    violations: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Round:
    """What happens while production sends."""

    name: str
    happen: Callable[["Matrix"], None]


class Matrix:
    """One installation and its tormentor."""

    def __init__(self, machine: Machine, installation: Installation, seed: str) -> None:
        self.machine = machine
        self.installation = installation
        self.seed = seed
        self.dice = random.Random(seed)
        self.ledger = Ledger()
        self.tally = Tally()
        self._traffic = Traffic(installation.url, installation.key, self.ledger, seed)
        self._steps: Taken = {}

    def begin(self) -> None:
        """Start the line, with texts for a run to learn from."""
        self.machine.start(*LINE)
        texts = (
            {
                "event_id": f"text-{number}",
                "session_id": f"texts-{number}",
                "timestamp": START,
                "kind": "document",
                "payload": {"text": f"the text number {number}"},
            }
            for number in range(NUM_TEXTS)
        )
        self._traffic.send_once(events_request(texts))
        wait_for_rest(self.installation)

    def play(self, round_: Round) -> None:
        """One round, from its first request to its judgement."""
        with self._traffic.flowing():
            round_.happen(self)
        wrong = []
        if self.machine.is_started(TRAIN):  # it takes a core, so it runs no longer than it must
            wrong += self._changed_steps()
            self.kill(TRAIN, "at a moment")
        self.machine.assert_all_live()
        wait_for_rest(self.installation)
        judgement = judge(self.installation, self.ledger)
        wrong += judgement.violations
        self.tally.num_lost += judgement.num_lost
        self.tally.num_doubled += judgement.num_doubled
        self.tally.violations += [f"{round_.name}: {each}" for each in wrong]

    def end(self) -> None:
        """What the dead have left behind goes once its grace is over, and is no more than they.

        Half-written files go when a replay worker starts, files without a row by `stovetop verify`,
        which must find nothing else.
        """
        for program in LINE:
            self.machine.stop(program)
        store = open_store(self.installation.settings)
        halves = [*store.temporaries.glob("*.tar")]
        long_ago = time.time() - 2 * ABANDONED_S
        for path in self.installation.settings.shards_path.rglob("*.tar"):
            os.utime(path, (long_ago, long_ago))
        self.machine.start("replay")
        wait_until(lambda: not any(path.exists() for path in halves), DIES_WITHIN_S)
        judged = verify(self.installation.settings, repair=True).judged
        orphans = [each for each in judged if each.finding.kind == "file_unknown"]
        wrong = [each for each in judged if each not in orphans or not each.is_mended]
        if wrong or len(orphans) > self.tally.kills.total():
            self.tally.violations.append(f"`stovetop verify` at the end: {judged}")

    def kill(self, program: str, kind: str) -> None:
        """`kill -9` of a program of ours, counted."""
        self.machine.kill(program)
        self.tally.kills[f"{program}: {kind}"] += 1

    def spring(self, points: Sequence[CommitPoint]) -> None:
        """Let programs die at commit points of theirs, one each, and start them again."""
        for point in points:
            if self.machine.is_started(point.program):
                self.machine.stop(point.program)
            if point.program == TRAIN:
                ask_for_checkpoint(self.installation.engine)
            trap = Trap(POINTS.index(point), self.dice.randint(1, point.calls))
            self.machine.start(point.program, trap=trap)
        alive = list(points)

        def all_have_died() -> bool:
            """What has died is started at once: others may wait for what it makes."""
            for point in [each for each in alive if self.machine.has_died(each.program)]:
                alive.remove(point)
                if point.program == TRAIN:
                    self._steps |= recorded_steps(self.installation.engine)
                self.tally.kills[f"{point.program}: {point.name}"] += 1
                self.machine.start(point.program)
            return not alive

        try:
            wait_until(all_have_died, DIES_WITHIN_S)
        except AssertionError as error:
            names = [f"{point.program}: {point.name}" for point in alive]
            raise AssertionError(f"reached no commit point: {names}") from error

    def kill_at_moments(self, programs: Sequence[str]) -> None:
        """Kill programs, one after the other, at random moments, and start them again."""
        for program in programs:
            time.sleep(self.dice.uniform(*MOMENT_S))
            self.kill(program, "at a moment")
            self.machine.start(program)

    @contextmanager
    def troubled(self, name: str) -> Iterator[None]:
        """Something is wrong within the block, for a moment, while production goes on."""
        self.tally.troubles[name] += 1
        time.sleep(self.dice.uniform(*MOMENT_S))
        yield
        time.sleep(self.dice.uniform(*MOMENT_S))

    def _changed_steps(self) -> Iterator[str]:
        """What the run had recorded before is recorded still, to the bit, and it goes on."""
        engine = self.installation.engine
        before, self._steps = self._steps, recorded_steps(engine)
        for step, taken in before.items():
            if self._steps.get(step) != taken:
                yield f"step {step} was {taken}, and is {self._steps.get(step)}"
        if list(self._steps) != list(range(1, len(self._steps) + 1)):
            yield "the run's steps have gaps"
        reached = len(self._steps) + STEPS_A_ROUND
        wait_until(lambda: num_steps(engine) >= reached, DIES_WITHIN_S)
