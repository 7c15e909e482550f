"""What shipping files promises: every line accounted for, stored once, from where it stopped."""

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine

import ingest.ship
from ingest.database import open_engine, upgrade
from ingest.log import EventLog, open_log
from ingest.settings import Settings
from ingest.ship import LineReport, Progress, ShipError, ShipResult, ship
from ingest.ship_lines import MAX_LINE_BYTES
from tests.scripted_server import answer, scripted
from tests.serving import Ingesting, ingesting
from tests.shipping import CLEAN, DIRTY, append, log_lines, num_dead_letters, num_lines, stored

NOTHING = ShipResult(0, 0, 0, 0, (), ())


def ship_to(server: Ingesting, cursor_path: Path, *paths: Path) -> ShipResult:
    return ship(paths, server.url, server.key, cursor_path=cursor_path)


def test_every_line_of_a_folder_is_stored_once(server: Ingesting, cursor_path: Path) -> None:
    result = ship_to(server, cursor_path, CLEAN)
    assert result == ShipResult(num_lines(CLEAN), 0, 0, 0, (), ())
    assert len(set(stored(server))) == len(stored(server)) == num_lines(CLEAN)


def test_the_counts_of_dirty_logs_add_up_to_their_lines(
    server: Ingesting, cursor_path: Path
) -> None:
    result = ship_to(server, cursor_path, DIRTY)
    decided = (result.sent, result.duplicate, result.rejected, result.torn)
    assert sum(decided) == num_lines(DIRTY) == 961
    assert result.duplicate >= 1
    assert len(result.reports) == result.rejected + result.torn
    assert result.unsent == ()
    assert len(stored(server)) == result.sent
    assert num_dead_letters(server) == len(result.reports)


def test_a_torn_line_is_reported_with_file_and_line(
    server: Ingesting, cursor_path: Path, log_file: Path
) -> None:
    whole, other = log_lines("a", 5, 7)
    append(log_file, [whole[:60] + other, ""])
    result = ship_to(server, cursor_path, log_file)
    assert (result.sent, result.torn, result.rejected) == (5, 1, 0)
    (report,) = result.reports
    assert (report.file, report.line, report.code) == (log_file, 6, "torn")


def test_what_was_shipped_is_not_sent_again(server: Ingesting, cursor_path: Path) -> None:
    ship_to(server, cursor_path, DIRTY)
    assert ship_to(server, cursor_path, DIRTY) == NOTHING


def test_only_what_a_file_grew_by_is_sent(
    server: Ingesting, cursor_path: Path, log_file: Path
) -> None:
    ship_to(server, cursor_path, log_file)
    append(log_file, ["{", *log_lines("a", 5, 8)])
    result = ship_to(server, cursor_path, log_file)
    assert (result.sent, result.torn) == (3, 1)
    assert result.reports[0].line == 6
    assert len(stored(server)) == 8


def test_lines_sent_again_are_counted_as_duplicates(
    server: Ingesting, cursor_path: Path, log_file: Path
) -> None:
    ship_to(server, cursor_path, log_file)
    stored(server)
    cursor_path.unlink()
    result = ship_to(server, cursor_path, log_file)
    assert (result.sent, result.duplicate) == (0, 5)


@pytest.fixture
def other_installation(tmp_path: Path) -> Iterator[tuple[Settings, Engine, EventLog]]:
    data = tmp_path / "other"
    settings = Settings(data=data, database_url=f"sqlite:///{data / 'stovetop.db'}")
    upgrade(settings)
    with ExitStack() as stack:
        engine, event_log = open_engine(settings.resolved_database_url), open_log(settings)
        stack.callback(engine.dispose)
        stack.callback(event_log.close)
        yield settings, engine, event_log


def test_a_new_server_at_the_same_address_gets_all_again(
    server: Ingesting,
    other_installation: tuple[Settings, Engine, EventLog],
    cursor_path: Path,
    log_file: Path,
) -> None:
    with ingesting(server.settings, server.engine, server.event_log) as first:
        port = int(first.url.rpartition(":")[2])
        assert ship_to(first, cursor_path, log_file).sent == 5
    with ingesting(*other_installation, port=port) as second:
        assert second.url == first.url
        assert ship_to(second, cursor_path, log_file).sent == 5
        assert len(stored(second)) == 5


def test_another_source_gets_all_again(
    server: Ingesting, cursor_path: Path, log_file: Path
) -> None:
    ship_to(server, cursor_path, log_file)
    key = server.make_key(source="other")
    assert ship([log_file], server.url, key, cursor_path=cursor_path).sent == 5
    assert len(stored(server)) == 10


def test_a_file_that_shrank_starts_again(
    server: Ingesting, cursor_path: Path, log_file: Path
) -> None:
    ship_to(server, cursor_path, log_file)
    log_file.write_text("")
    append(log_file, log_lines("b", 0, 2))
    assert ship_to(server, cursor_path, log_file).sent == 2


def test_a_file_with_another_beginning_starts_again(
    server: Ingesting, cursor_path: Path, log_file: Path
) -> None:
    ship_to(server, cursor_path, log_file)
    log_file.write_text("")
    append(log_file, log_lines("b", 0, 9))
    assert ship_to(server, cursor_path, log_file).sent == 9


def test_a_file_put_in_the_place_of_another_starts_again(
    server: Ingesting, cursor_path: Path, log_file: Path
) -> None:
    ship_to(server, cursor_path, log_file)
    stored(server)
    copy = log_file.with_name("copy")
    copy.write_bytes(log_file.read_bytes())
    copy.rename(log_file)
    assert ship_to(server, cursor_path, log_file).duplicate == 5


def test_a_last_line_without_its_end_is_sent_once(
    server: Ingesting, cursor_path: Path, log_file: Path
) -> None:
    append(log_file, log_lines("a", 5, 6), end="")
    assert ship_to(server, cursor_path, log_file).sent == 6
    assert ship_to(server, cursor_path, log_file) == NOTHING


def test_a_last_line_whose_rest_comes_later_is_sent_whole(
    server: Ingesting, cursor_path: Path, log_file: Path
) -> None:
    (line,) = log_lines("a", 5, 6)
    append(log_file, [line[:50]], end="")
    assert ship_to(server, cursor_path, log_file).torn == 1
    append(log_file, [line[50:]])
    result = ship_to(server, cursor_path, log_file)
    assert (result.sent, result.torn) == (1, 0)
    assert len(stored(server)) == 6


def test_blank_lines_are_numbered_but_not_counted(
    server: Ingesting, cursor_path: Path, folder: Path
) -> None:
    log_file = append(folder / "session_a.jsonl", ["", " \t\r", *log_lines("a", 0, 1), "", "{"])
    result = ship_to(server, cursor_path, log_file)
    assert (result.sent, result.torn) == (1, 1)
    assert result.reports[0].line == 5


def test_a_line_beyond_the_limit_is_reported_and_its_neighbours_sent(
    server: Ingesting, cursor_path: Path, folder: Path
) -> None:
    first, last = log_lines("a", 0, 2)
    long = "x" * (3 * MAX_LINE_BYTES)
    log_file = append(folder / "session_a.jsonl", [first, long, last, long], end="")
    result = ship_to(server, cursor_path, log_file)
    assert (result.sent, result.rejected) == (2, 2)
    assert [(report.line, report.code) for report in result.reports] == [
        (2, "too_large"),
        (4, "too_large"),
    ]
    assert result.unsent == ()


def test_lines_too_many_or_too_large_for_the_server_are_halved(
    settings: Settings, engine: Engine, event_log: EventLog, cursor_path: Path, log_file: Path
) -> None:
    tight = {"max_batch_events": 2, "max_body_bytes": 2_000, "max_event_bytes": 2_000}
    append(log_file, ["x" * 3_000, *log_lines("a", 5, 9)])
    with ingesting(settings.model_copy(update=tight), engine, event_log) as server:
        result = ship_to(server, cursor_path, log_file)
        assert (result.sent, result.rejected) == (9, 1)
        assert [(report.line, report.code) for report in result.reports] == [(6, "too_large")]
        assert len(stored(server)) == 9


def test_a_chunk_of_nothing_but_bad_lines_is_accounted_for(
    server: Ingesting, cursor_path: Path, folder: Path
) -> None:
    log_file = append(folder / "session_a.jsonl", ["{", "[]", "nonsense"])
    result = ship_to(server, cursor_path, log_file)
    assert (result.sent, result.torn, result.rejected) == (0, 2, 1)


@pytest.mark.usefixtures("log_file")
def test_symlinks_and_pipes_in_a_folder_are_left_alone(
    server: Ingesting, cursor_path: Path, folder: Path
) -> None:
    (folder / "session_link.jsonl").symlink_to("/etc/passwd")
    os.mkfifo(folder / "session_pipe.jsonl")
    (folder / "notes.txt").write_text("not a log\n")
    assert ship_to(server, cursor_path, folder) == ShipResult(5, 0, 0, 0, (), ())


def test_a_file_named_twice_is_sent_once(
    server: Ingesting, cursor_path: Path, folder: Path, log_file: Path
) -> None:
    assert ship_to(server, cursor_path, folder, log_file, folder).sent == 5


@pytest.mark.parametrize("name", ["missing", "pipe"])
def test_a_path_that_is_no_file_is_refused_by_name(
    server: Ingesting, cursor_path: Path, folder: Path, name: str
) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(ShipError, match=f"{name}: no such folder or regular file"):
        ship_to(server, cursor_path, folder / name)


def test_a_wrong_key_ends_with_what_the_server_says(
    server: Ingesting, cursor_path: Path, log_file: Path
) -> None:
    with pytest.raises(ShipError, match=r"HTTP 401\): the API key is unknown, expired or revoked"):
        ship([log_file], server.url, "st_00000000_key", cursor_path=cursor_path)


def test_without_a_verdict_for_too_long_it_gives_up_and_later_goes_on(
    server: Ingesting, cursor_path: Path, log_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.ship, "PATIENCE_S", 0.3)
    setbacks: list[str | None] = []
    with scripted(answer(503, Retry_After="0")) as away, pytest.raises(ShipError, match="HTTP 503"):
        ship(
            [log_file],
            away.url,
            server.key,
            cursor_path=cursor_path,
            progress=lambda progress: setbacks.append(progress.setback),
        )
    assert any("HTTP 503" in (setback or "") for setback in setbacks)
    assert ship_to(server, cursor_path, log_file).sent == 5


@pytest.mark.usefixtures("log_file")
def test_told_to_stop_it_names_the_files_that_are_left(
    server: Ingesting, cursor_path: Path, folder: Path
) -> None:
    other = append(folder / "session_b.jsonl", log_lines("b", 0, 5))
    stop = threading.Event()

    def stop_after_the_first(progress: Progress) -> None:
        if progress.sent:
            stop.set()

    ship_all = partial(ship, [folder], server.url, server.key, cursor_path=cursor_path)
    result = ship_all(stop=stop, progress=stop_after_the_first)
    assert (result.sent, result.unsent) == (5, (other,))
    assert ship_all().sent == 5


def test_progress_ends_with_all_bytes_and_every_report_once(
    server: Ingesting, cursor_path: Path
) -> None:
    seen: list[Progress] = []
    result = ship([DIRTY], server.url, server.key, cursor_path=cursor_path, progress=seen.append)
    num_bytes = sum(file.stat().st_size for file in DIRTY.glob("session_*.jsonl"))
    assert (seen[-1].done_bytes, seen[-1].total_bytes) == (num_bytes, num_bytes)
    assert seen[-1].sent == result.sent
    reports: list[LineReport] = [report for progress in seen for report in progress.reports]
    assert tuple(reports) == result.reports


@pytest.mark.parametrize("content", ["", "{", '{"servers": {"here": {"file": {"offset": -1}}}}'])
def test_a_cursor_that_cannot_be_read_only_means_sending_again(
    server: Ingesting, cursor_path: Path, log_file: Path, content: str
) -> None:
    ship_to(server, cursor_path, log_file)
    stored(server)
    cursor_path.write_text(content)
    assert ship_to(server, cursor_path, log_file).duplicate == 5
    assert ship_to(server, cursor_path, log_file) == NOTHING
