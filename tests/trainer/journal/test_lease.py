"""One holder a run: refused while a lease lives, fenced once it was taken over."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine

from ingest.database import read, write
from tests.trainer.runs import make_run
from tests.waiting import wait_until
from trainer.journal.holder import has_died, this_process
from trainer.journal.lease import Lease, LeaseLost, RunHeld, mark_lost
from trainer.tables import Run

LEASE_S = 30.0


@pytest.fixture(autouse=True)
def run(engine: Engine) -> None:
    with write(engine) as session:
        make_run(session)


def set_holder(engine: Engine, mark: str, expires_at: float) -> None:
    with write(engine) as session:
        row = session.get_one(Run, "run")
        row.holder, row.lease_expires_at = mark, expires_at


def mark_of_a_dead_process() -> str:
    code = "from trainer.journal.holder import this_process; print(this_process())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_second_holder_is_refused_while_the_lease_lives(engine: Engine) -> None:
    with Lease(engine, "run", lease_s=LEASE_S), pytest.raises(RunHeld, match="is held by"):
        Lease(engine, "run", lease_s=LEASE_S)


def test_a_lease_given_free_can_be_taken(engine: Engine) -> None:
    with Lease(engine, "run", lease_s=LEASE_S) as first:
        pass
    with Lease(engine, "run", lease_s=LEASE_S) as second:
        assert second.fence > first.fence


def test_an_expired_lease_can_be_taken_and_fences_the_older_holder(engine: Engine) -> None:
    with Lease(engine, "run", lease_s=LEASE_S) as older:
        set_holder(engine, "elsewhere/1/1", time.time() - 1)
        with Lease(engine, "run", lease_s=LEASE_S):
            with pytest.raises(LeaseLost), write(engine) as session:
                older.assert_held(session)
            assert older.is_lost.is_set()


def test_a_take_over_waits_for_what_the_older_holder_is_writing(engine: Engine) -> None:
    """Once it was asked whether the lease is held, that stays so until the commit."""
    with Lease(engine, "run", lease_s=LEASE_S) as older, ThreadPoolExecutor(1) as pool:
        with write(engine) as session:
            run = session.get_one(Run, "run")
            run.lease_expires_at = time.time() - 1
            run.holder = "elsewhere/1/1"
        with write(engine) as session:
            older.assert_held(session)
            take_over = pool.submit(Lease, engine, "run", lease_s=LEASE_S)
            with pytest.raises(TimeoutError):
                take_over.result(0.2)
        with take_over.result(10) as newer:
            assert newer.fence > older.fence


def test_a_dead_process_on_this_machine_holds_nothing(engine: Engine) -> None:
    set_holder(engine, mark_of_a_dead_process(), time.time() + 1000)
    with Lease(engine, "run", lease_s=LEASE_S) as lease:
        assert lease.fence == 1


def test_a_living_process_has_not_died() -> None:
    assert not has_died(this_process())


def test_of_another_machine_nothing_is_known() -> None:
    assert not has_died("elsewhere/1/1")


def test_a_lease_is_renewed_before_it_ends(engine: Engine) -> None:
    with Lease(engine, "run", lease_s=0.15):
        first = _expires_at(engine)
        wait_until(lambda: _expires_at(engine) != first, within_s=5)


def test_a_run_whose_holder_died_is_lost(engine: Engine) -> None:
    set_holder(engine, mark_of_a_dead_process(), time.time() + 1000)
    with write(engine) as session:
        assert mark_lost(session, time.time()) == ["run"]
    with read(engine) as session:
        assert session.get_one(Run, "run").state == "lost"


def test_a_run_that_is_held_is_not_lost(engine: Engine) -> None:
    with Lease(engine, "run", lease_s=LEASE_S), write(engine) as session:
        assert mark_lost(session, time.time()) == []


def _expires_at(engine: Engine) -> float | None:
    with read(engine) as session:
        return session.get_one(Run, "run").lease_expires_at
