"""The ten damaged logs, through the real endpoint and consumer: each damage has a stated rule.

They are the deployed demo's log format with what production does to it (neuralos.md 1.5).
"""

from collections import Counter

import orjson
import pytest

from ingest.actions import SCREEN_HEIGHT, SCREEN_WIDTH, Action
from ingest.cut import settle_open_tails
from ingest.tables import Episode
from tests.intake import Intake, clean_logs, dirty_log


def ship(intake: Intake, log: bytes) -> dict[str, object]:
    """Send a log and bring it to rows; returns the endpoint's answer."""
    answer = intake.post_log(log)
    assert answer.status_code == 202, answer.text
    intake.consume()
    body: dict[str, object] = answer.json()
    return body


def verdicts(answer: dict[str, object]) -> list[tuple[int, str]]:
    rejected = answer["rejected"]
    assert isinstance(rejected, list)
    return [(verdict["index"], verdict["code"]) for verdict in rejected]


def shape(intake: Intake) -> list[int]:
    return [episode.num_actions for episode in intake.episodes()]


def actions(intake: Intake, episode: Episode) -> list[Action]:
    events = [e for e in intake.events() if e.episode_id == episode.episode_id]
    events.sort(key=lambda event: event.position or 0)
    return [Action.from_payload(orjson.loads(event.payload_json)) for event in events]


def lines_of(log: bytes) -> list[bytes]:
    return [line for line in log.split(b"\n") if line]


def test_1_a_torn_line_is_a_dead_letter_with_its_bytes_and_its_neighbours_are_unharmed(
    intake: Intake,
) -> None:
    log = dirty_log(1)
    answer = ship(intake, log)
    assert verdicts(answer) == [(17, "torn")]
    assert answer["accepted"] == len(lines_of(log)) - 1 == len(intake.events())
    [letter] = intake.dead_letters()
    assert (letter.code, letter.original) == ("torn", lines_of(log)[17])


def test_1_nothing_is_guessed_from_inside_a_torn_line(intake: Intake) -> None:
    ship(intake, dirty_log(1))
    swallowed = 1754700869.64213  # the line that was written into the torn one
    assert swallowed not in [event.timestamp for event in intake.events()]


def test_2_a_line_after_the_end_joins_the_last_episode(intake: Intake) -> None:
    ship(intake, dirty_log(2))
    assert shape(intake) == [len(lines_of(dirty_log(2))) - 1]  # all but the end itself


def test_3_a_session_without_an_end_loses_nothing_and_is_replayed_when_quiet(
    intake: Intake,
) -> None:
    log = dirty_log(3)
    assert not log.endswith(b"\n")
    ship(intake, log)
    assert shape(intake) == [len(lines_of(log))] == [41]
    assert intake.episodes()[0].state == "open"
    [session] = intake.sessions()
    quiet = session.received_at + intake.settings.open_tail_s
    settle_open_tails(intake.engine, intake.settings, now=quiet)
    assert intake.episodes()[0].state == "waiting"


def test_4_an_unknown_type_is_a_dead_letter(intake: Intake) -> None:
    log = dirty_log(4)
    assert verdicts(ship(intake, log)) == [(92, "unknown_type")]
    [letter] = intake.dead_letters()
    assert (letter.code, letter.original) == ("unknown_type", lines_of(log)[92])
    assert shape(intake) == [109, 74]


def test_5_wild_coordinates_are_kept_raw_and_clamped_at_replay(intake: Intake) -> None:
    ship(intake, dirty_log(5))
    payloads = [orjson.loads(event.payload_json) for event in intake.events()]
    assert {"x": -14.5, "y": 1e6}.items() <= payloads[22].items()
    for episode in intake.episodes():
        for action in actions(intake, episode):
            assert 0 <= action.x < SCREEN_WIDTH
            assert 0 <= action.y < SCREEN_HEIGHT


def test_6_a_stuck_key_is_held_to_the_end_of_its_episode_and_counted(intake: Intake) -> None:
    ship(intake, dirty_log(6))
    [episode] = intake.episodes()
    assert (episode.num_actions, episode.num_stuck_keys) == (262, 1)
    replayed = actions(intake, episode)
    assert sum("!" in action.keys_down for action in replayed) == 1
    assert not any("!" in action.keys_up for action in replayed)


def test_7_a_doubled_line_is_a_duplicate_and_one_row(intake: Intake) -> None:
    log = dirty_log(7)
    assert lines_of(log)[82] == lines_of(log)[83]
    answer = ship(intake, log)
    assert (answer["accepted"], answer["duplicate"], answer["rejected"]) == (165, 1, [])
    assert len(intake.events()) == 165
    assert shape(intake) == [70, 93]


def test_8_a_time_that_is_no_number_and_a_path_for_a_session_are_refused_and_both_named(
    intake: Intake,
) -> None:
    log = dirty_log(8)
    answer = ship(intake, log)
    assert verdicts(answer) == [(11, "invalid")]
    [letter] = intake.dead_letters()
    assert "timestamp: " in letter.detail
    assert "session_id: " in letter.detail
    assert letter.original == lines_of(log)[11]
    assert [session.session_id for session in intake.sessions()] == ["1754705364_8"]


def test_9_the_older_field_name_is_accepted(intake: Intake) -> None:
    assert b'"client_id"' in dirty_log(9)
    answer = ship(intake, dirty_log(9))
    assert (answer["accepted"], answer["rejected"]) == (68, [])
    assert [session.session_id for session in intake.sessions()] == ["1754705424_9"]


def test_10_a_line_in_flight_at_a_reset_belongs_to_the_episode_before(intake: Intake) -> None:
    log = dirty_log(10)
    ship(intake, log)
    assert shape(intake) == [24, 28, 51]
    in_flight = orjson.loads(lines_of(log)[53])["timestamp"]
    assert intake.episodes()[1].last_timestamp == in_flight


def test_every_line_of_the_dirty_logs_is_a_row_or_a_dead_letter_or_a_double(
    intake: Intake,
) -> None:
    tally: Counter[str] = Counter()
    for number in range(1, 11):
        log = dirty_log(number)
        answer = ship(intake, log)
        tally["lines"] += len(lines_of(log))
        tally["duplicate"] += answer["duplicate"]  # type: ignore[arg-type]
    assert len(intake.events()) + len(intake.dead_letters()) + tally["duplicate"] == tally["lines"]
    assert tally["duplicate"] == 1


def test_sent_again_without_a_cursor_every_line_is_a_duplicate(intake: Intake) -> None:
    logs = [dirty_log(number) for number in (1, 8)] + [clean_logs()[0].read_bytes()]
    for log in logs:
        ship(intake, log)
    before = len(intake.events()), len(intake.dead_letters()), shape(intake)
    for log in logs:
        answer = ship(intake, log)
        assert answer["accepted"] == 0
        assert answer["duplicate"] == len(lines_of(log)) - len(verdicts(answer))
    assert (len(intake.events()), len(intake.dead_letters()), shape(intake)) == before
    assert {episode.version for episode in intake.episodes()} == {1}


@pytest.mark.parametrize("log", [b"", b"\n\n  \n"])
def test_a_log_without_lines_is_taken(intake: Intake, log: bytes) -> None:
    assert ship(intake, log) == {"accepted": 0, "duplicate": 0, "rejected": []}


def test_a_log_of_torn_lines_only_is_422_and_yet_kept(intake: Intake) -> None:
    answer = intake.post_log(b'{"timestamp": 17545\n{"timest')
    assert answer.status_code == 422
    assert [verdict["code"] for verdict in answer.json()["rejected"]] == ["torn", "torn"]
    intake.consume()
    assert len(intake.dead_letters()) == 2
