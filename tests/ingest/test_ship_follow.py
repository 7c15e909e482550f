"""What following promises, and what a kill at any moment cannot break."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ingest.ship import Progress, ShipResult, ship
from tests.serving import Ingesting, ingesting
from tests.shipping import CLEAN, append, log_lines, num_dead_letters, num_lines, stored

DEADLINE_S = 30.0


@dataclass
class Following:
    """A shipper that follows in a thread; `end` stops it and gives its result."""

    stop: threading.Event
    result: Future[ShipResult]
    told: threading.Condition = field(default_factory=threading.Condition)
    last: Progress = field(default_factory=Progress)

    def tell(self, progress: Progress) -> None:
        with self.told:
            self.last = progress
            self.told.notify_all()

    def wait_for(self, is_reached: Callable[[Progress], object]) -> None:
        with self.told:
            assert self.told.wait_for(lambda: is_reached(self.last), DEADLINE_S)

    def end(self) -> ShipResult:
        self.stop.set()
        return self.result.result(DEADLINE_S)


@contextmanager
def following(server: Ingesting, cursor_path: Path, *paths: Path) -> Iterator[Following]:
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        follower = Following(stop, Future())
        follower.result = pool.submit(
            ship,
            paths,
            server.url,
            server.key,
            cursor_path=cursor_path,
            follow=True,
            stop=stop,
            progress=follower.tell,
        )
        try:
            yield follower
        finally:
            stop.set()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_lines_and_files_that_come_later_are_sent(
    server: Ingesting, cursor_path: Path, folder: Path, log_file: Path
) -> None:
    with following(server, cursor_path, folder) as follower:
        follower.wait_for(lambda progress: progress.sent == 5)
        append(log_file, log_lines("a", 5, 7))
        follower.wait_for(lambda progress: progress.sent == 7)
        append(folder / "session_b.jsonl", log_lines("b", 0, 3))
        follower.wait_for(lambda progress: progress.sent == 10)
        assert follower.end() == ShipResult(10, 0, 0, 0, (), ())
    assert len(stored(server)) == 10


def test_an_unfinished_line_waits_for_its_end(
    server: Ingesting, cursor_path: Path, log_file: Path
) -> None:
    unfinished, last = log_lines("a", 5, 7)
    append(log_file, [unfinished[:40]], end="")
    with following(server, cursor_path, log_file) as follower:
        follower.wait_for(lambda progress: progress.sent == 5)
        append(log_file, [unfinished[40:], last])
        follower.wait_for(lambda progress: progress.sent == 7)
        assert follower.end().torn == 0


def test_an_unfinished_line_is_sent_when_following_ends(
    server: Ingesting, cursor_path: Path, log_file: Path
) -> None:
    append(log_file, log_lines("a", 5, 6), end="")
    with following(server, cursor_path, log_file) as follower:
        follower.wait_for(lambda progress: progress.sent == 5)
        assert follower.end() == ShipResult(6, 0, 0, 0, (), ())


def test_a_server_that_was_away_misses_nothing(
    server: Ingesting, cursor_path: Path, log_file: Path, stack: ExitStack
) -> None:
    installation = server.settings, server.engine, server.event_log
    with ingesting(*installation) as before:
        port = int(before.url.rpartition(":")[2])
        follower = stack.enter_context(following(before, cursor_path, log_file))
        follower.wait_for(lambda progress: progress.sent == 5)
    append(log_file, log_lines("a", 5, 9))
    follower.wait_for(lambda progress: progress.setback)
    with ingesting(*installation, port=port):
        follower.wait_for(lambda progress: progress.sent == 9)
        assert follower.end().unsent == ()
    assert len(stored(server)) == 9


def test_stopped_while_the_server_is_away_it_names_what_is_left(
    server: Ingesting, cursor_path: Path, log_file: Path
) -> None:
    with ingesting(server.settings, server.engine, server.event_log) as gone:
        pass
    with following(gone, cursor_path, log_file) as follower:
        follower.wait_for(lambda progress: progress.setback)
        assert follower.end().unsent == (log_file,)


SHIP_SCRIPT = """
import sys
from pathlib import Path
import ingest.ship_cursor
from ingest.ship import ship

folder, url, key, cursor, save_every_s = sys.argv[1:]
ingest.ship_cursor.SAVE_EVERY_S = float(save_every_s)
def tell(progress):
    print(progress.sent, flush=True)
ship([Path(folder)], url, key, cursor_path=Path(cursor), progress=tell)
"""


@pytest.mark.parametrize("save_every_s", ["0", "1000"])
def test_a_shipper_killed_again_and_again_stores_every_line_once(
    server: Ingesting, cursor_path: Path, save_every_s: str
) -> None:
    arguments = [str(CLEAN), server.url, server.key, str(cursor_path), save_every_s]
    for num_told in (5, 20, 60):
        shipper = subprocess.Popen(
            [sys.executable, "-c", SHIP_SCRIPT, *arguments], stdout=subprocess.PIPE, text=True
        )
        with shipper:
            assert shipper.stdout is not None
            for _ in range(num_told):
                shipper.stdout.readline()
            shipper.send_signal(signal.SIGKILL)
        assert shipper.returncode == -signal.SIGKILL
    result = ship([CLEAN], server.url, server.key, cursor_path=cursor_path)
    assert result.sent > 0
    assert result.unsent == ()
    assert len(set(stored(server))) == len(stored(server)) == num_lines(CLEAN)
    assert num_dead_letters(server) == 0
