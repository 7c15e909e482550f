"""Thirty kills, whoever dies and whenever: what was acknowledged is kept once.

The matrix in full is `make soak`; here its rounds are drawn by a seed, which pytest-randomly says.
"""

import random
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import chain
from pathlib import Path

import pytest

from tests.crashes.installation import Servers, install
from tests.crashes.machine import Machine
from tests.crashes.matrix import Matrix, Round
from tests.crashes.rounds import BROKER, DATABASE, one_pass
from tests.crashes.zygote import Zygote

pytestmark = pytest.mark.timeout(900)  # of a busy machine; each takes about a minute

NUM_KILLS = 24
NUM_PRODUCTION_KILLS = 6


def torment(matrix: Matrix, rounds: Iterable[Round], num_kills: int) -> None:
    """Play rounds until so many have died."""
    matrix.begin()
    for round_ in rounds:
        matrix.play(round_)
        assert matrix.tally.violations == [], f"seed {matrix.seed}"
        if matrix.tally.kills.total() >= num_kills:
            break
    matrix.end()
    assert matrix.tally.violations == [], f"seed {matrix.seed}"
    assert matrix.ledger.counts["acknowledged"] > num_kills


@contextmanager
def a_matrix(zygote: Zygote, logs: Path, servers: Servers | None = None) -> Iterator[Matrix]:
    """A fresh installation, with a seed that follows from pytest-randomly's."""
    with ExitStack() as stack:
        installation = install(stack, servers)
        machine = stack.enter_context(closing(Machine(zygote, installation, logs)))
        yield Matrix(machine, installation, str(random.getrandbits(32)))


def test_on_one_machine_whatever_is_killed_what_was_acknowledged_is_kept_once(
    zygote: Zygote, tmp_path: Path
) -> None:
    with a_matrix(zygote, tmp_path / "logs") as matrix:
        torment(matrix, one_pass(matrix.installation, matrix.dice), NUM_KILLS)


def test_on_brokers_and_postgresql_whatever_is_killed_what_was_acknowledged_is_kept_once(
    zygote: Zygote, servers: Servers, tmp_path: Path
) -> None:
    with a_matrix(zygote, tmp_path / "logs", servers) as matrix:
        rounds = chain([DATABASE, BROKER], one_pass(matrix.installation, matrix.dice))
        torment(matrix, rounds, NUM_PRODUCTION_KILLS)
