import os
import threading
import time
from pathlib import Path

import pytest

from ingest.pulse import PulsingEvent, main, what_is_wrong
from tests.waiting import wait_until


def make_old(path: Path) -> None:
    long_ago = time.time() - 100.0
    os.utime(path, (long_ago, long_ago))


def test_a_worker_that_has_begun_is_well(tmp_path: Path) -> None:
    PulsingEvent(tmp_path / "pulse")
    assert what_is_wrong(tmp_path / "pulse", 60.0) is None


def test_one_that_has_not_is_not(tmp_path: Path) -> None:
    assert what_is_wrong(tmp_path / "pulse", 60.0) == f"{tmp_path}/pulse: the worker has not begun"


def test_a_loop_that_hangs_has_no_pulse(tmp_path: Path) -> None:
    PulsingEvent(tmp_path / "pulse")
    make_old(tmp_path / "pulse")
    wrong = what_is_wrong(tmp_path / "pulse", 60.0)
    assert wrong == f"{tmp_path}/pulse: the last pulse was 100 s ago, more than 60"


def test_asking_renews_it(tmp_path: Path) -> None:
    stop = PulsingEvent(tmp_path / "pulse")
    make_old(tmp_path / "pulse")
    assert not stop.is_set()
    assert what_is_wrong(tmp_path / "pulse", 60.0) is None


def test_waiting_renews_it(tmp_path: Path) -> None:
    stop = PulsingEvent(tmp_path / "pulse")
    make_old(tmp_path / "pulse")
    assert not stop.wait(0.0)
    assert what_is_wrong(tmp_path / "pulse", 60.0) is None


def test_a_pulse_that_can_not_be_written_holds_nobody_up(tmp_path: Path) -> None:
    stop = PulsingEvent(tmp_path / "pulse")
    (tmp_path / "pulse").unlink()
    assert not stop.is_set()
    assert what_is_wrong(tmp_path / "pulse", 60.0) is not None


def test_who_waits_is_told_to_stop_as_ever(tmp_path: Path) -> None:
    stop = PulsingEvent(tmp_path / "pulse")
    told = threading.Event()
    waiting = threading.Thread(target=lambda: stop.wait() and told.set())
    waiting.start()
    stop.set()
    wait_until(told.is_set)
    waiting.join()
    assert stop.is_set()


def test_where_none_is_set_up_the_check_says_so() -> None:
    assert what_is_wrong(None, 60.0) == "STOVETOP_PULSE: not set, so no worker has a pulse here"


def test_the_check_exits_with_0_for_a_worker_that_is_well_and_else_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["pulse", "60"])
    monkeypatch.setenv("STOVETOP_PULSE", str(tmp_path / "pulse"))
    PulsingEvent(tmp_path / "pulse")
    main()
    make_old(tmp_path / "pulse")
    with pytest.raises(SystemExit, match="more than 60"):
        main()
