"""The rounds of the matrix, in an order that the seed's dice decide.

Each pass goes through all commit points of the installation's size once, a few programs at a time,
and through everything else that may happen to it once in between.
"""

import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from tests.crashes.commit_points import POINTS, CommitPoint
from tests.crashes.installation import Installation
from tests.crashes.machine import LINE, UP
from tests.crashes.matrix import Matrix, Round
from tests.waiting import wait_until

TURNED_BACK_S = 3_600.0
SLOW_S = 0.02
UP_WITHIN_S = 120.0
AWAY_S = (0.2, 1.5)


def one_pass(installation: Installation, dice: random.Random) -> Iterator[Round]:
    """All rounds of one pass."""
    at_points = [
        Round("points", lambda matrix, points=points: matrix.spring(points))
        for points in _together(installation.log, dice)
    ]
    others = [*OTHERS, *(PRODUCTION_ONLY if installation.servers else ())]
    dice.shuffle(others)
    for first, second in zip_longest(at_points, others):
        yield from (each for each in (first, second) if each is not None)


def _together(log: str, dice: random.Random) -> Iterator[Sequence[CommitPoint]]:
    """The points, as many at a time as there are programs that still have one."""
    by_program: defaultdict[str, list[CommitPoint]] = defaultdict(list)
    for point in dice.sample(POINTS, len(POINTS)):
        if point.log in (None, log):
            by_program[point.program].append(point)
    for some in zip_longest(*by_program.values()):
        yield [point for point in some if point is not None]


def _moments(matrix: Matrix) -> None:
    matrix.kill_at_moments(matrix.dice.sample(LINE, len(LINE)))


def _all_at_once(matrix: Matrix) -> None:
    with matrix.troubled("power cut"):
        for program in LINE:
            matrix.kill(program, "with all others")
    matrix.machine.start(*LINE)


def _full_disk(matrix: Matrix) -> None:
    with matrix.troubled("full disk"), matrix.machine.full_disk():
        matrix.kill_at_moments([matrix.dice.choice(LINE)])


def _cut_lines(matrix: Matrix) -> None:
    with matrix.troubled("cut lines"):
        for _ in range(5):
            for line in matrix.installation.lines:
                line.cut()
            time.sleep(matrix.dice.uniform(0.0, 0.3))


def _slow_lines(matrix: Matrix) -> None:
    lines = matrix.installation.lines
    with matrix.troubled("slow lines"):
        for line in lines:
            line.delay_s = SLOW_S
        matrix.kill_at_moments([matrix.dice.choice(LINE)])
        for line in lines:
            line.delay_s = 0.0


def _clock_back(matrix: Matrix) -> None:
    """An hour back while they work; who dies then leaves a lease of the time before."""
    clock = matrix.installation.clock
    with matrix.troubled("clock turned back"):
        clock.turn(-TURNED_BACK_S)
        matrix.kill_at_moments(["replay", "encode"])
    with matrix.troubled("clock turned on"):
        clock.turn(0.0)


def _up(matrix: Matrix) -> None:
    """`stovetop up` in place of the line; it dies, and a child of it, and it again."""
    for program in LINE:
        matrix.machine.stop(program)
    for victim in (UP, "a child", UP):
        if not matrix.machine.is_started(UP):
            matrix.machine.start(UP)
            wait_until(lambda: len(matrix.machine.children(UP)) >= len(LINE), UP_WITHIN_S)
        time.sleep(matrix.dice.uniform(*AWAY_S))
        if victim == UP:
            matrix.kill(UP, "at a moment")
        else:
            os.kill(matrix.dice.choice(matrix.machine.children(UP)), signal.SIGKILL)
            matrix.tally.kills["up: a child of it"] += 1
    matrix.machine.start(*LINE)


def _database(matrix: Matrix) -> None:
    servers = matrix.installation.servers
    assert servers is not None
    with matrix.troubled("database away"):
        servers.cluster.kill()
        matrix.tally.kills["database: at a moment"] += 1
        time.sleep(matrix.dice.uniform(*AWAY_S))
        servers.cluster.start()


def _broker(matrix: Matrix) -> None:
    servers = matrix.installation.servers
    assert servers is not None
    with matrix.troubled("broker away"):
        servers.broker.kill()
        matrix.tally.kills["broker: at a moment"] += 1
        servers.broker.start()


def _frozen_broker(matrix: Matrix) -> None:
    servers = matrix.installation.servers
    assert servers is not None
    with matrix.troubled("broker frozen"):
        servers.broker.freeze()
        time.sleep(matrix.dice.uniform(*AWAY_S))
        servers.broker.thaw()


OTHERS = (
    Round("moments", _moments),
    Round("power cut", _all_at_once),
    Round("full disk", _full_disk),
    Round("cut lines", _cut_lines),
    Round("slow lines", _slow_lines),
    Round("clock", _clock_back),
    Round("up", _up),
)
DATABASE = Round("database", _database)
BROKER = Round("broker", _broker)
PRODUCTION_ONLY = (DATABASE, BROKER, Round("frozen broker", _frozen_broker))
