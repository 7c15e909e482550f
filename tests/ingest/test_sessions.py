"""The rules that cut a session into episodes."""

import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from ingest.sessions import CutEpisode, SessionEvent, cut, in_order

IDLE_S = 60.0


def log(*lines: tuple[str, float]) -> list[SessionEvent]:
    """Log lines in the order of arrival: (kind, timestamp)."""
    return [
        SessionEvent(number, f"e{number}", kind, None, timestamp)
        for number, (kind, timestamp) in enumerate(lines)
    ]


def episodes(events: Sequence[SessionEvent], max_actions: int = 3_000) -> list[CutEpisode]:
    return cut(events, idle_s=IDLE_S, max_actions=max_actions)


def shape(cut_episodes: Sequence[CutEpisode]) -> list[list[int]]:
    """The arrival numbers of each episode's actions."""
    return [[action.number for action in episode.actions] for episode in cut_episodes]


def test_a_session_without_a_boundary_is_one_open_episode() -> None:
    [episode] = episodes(log(("action", 0.0), ("action", 1.0)))
    assert len(episode.actions) == 2
    assert episode.is_open


def test_a_reset_starts_a_new_episode() -> None:
    cut_episodes = episodes(log(("action", 0.0), ("reset", 1.0), ("action", 2.0)))
    assert shape(cut_episodes) == [[0], [2]]
    assert [episode.is_open for episode in cut_episodes] == [False, True]


def test_an_end_closes_the_episode() -> None:
    [episode] = episodes(log(("action", 0.0), ("end", 1.0)))
    assert not episode.is_open


def test_a_line_after_the_end_joins_the_last_episode_and_leaves_it_open() -> None:
    [episode] = episodes(log(("action", 0.0), ("end", 1.0), ("action", 1.3)))
    assert len(episode.actions) == 2
    assert episode.is_open


def test_a_gap_longer_than_idle_starts_a_new_episode() -> None:
    assert shape(episodes(log(("action", 0.0), ("action", 60.0), ("action", 120.1)))) == [
        [0, 1],
        [2],
    ]


def test_a_line_up_to_100_ms_after_a_reset_was_in_flight() -> None:
    events = log(("action", 0.0), ("reset", 1.0), ("action", 1.1), ("action", 1.2))
    assert shape(episodes(events)) == [[0, 2], [3]]


def test_a_line_with_the_very_time_of_the_reset_was_in_flight() -> None:
    assert shape(episodes(log(("action", 0.0), ("reset", 1.0), ("action", 1.0)))) == [[0, 2]]


def test_a_line_more_than_100_ms_after_a_reset_is_of_the_new_episode() -> None:
    assert shape(episodes(log(("action", 0.0), ("reset", 1.0), ("action", 1.11)))) == [[0], [2]]


def test_a_line_in_flight_after_two_quick_resets_belongs_before_both() -> None:
    events = log(("action", 0.0), ("reset", 1.0), ("reset", 1.05), ("action", 1.09))
    assert shape(episodes(events)) == [[0, 3]]


def test_a_first_reset_has_no_episode_before_it() -> None:
    assert shape(episodes(log(("reset", 1.0), ("action", 1.05)))) == [[1]]


def test_a_line_in_flight_does_not_reach_over_a_long_gap() -> None:
    events = log(("action", 0.0), ("reset", 100.0), ("action", 100.05))
    assert shape(episodes(events)) == [[0], [2]]


def test_marks_alone_make_no_episode() -> None:
    assert episodes(log(("reset", 0.0), ("reset", 1.0), ("end", 2.0))) == []


def test_documents_are_no_actions() -> None:
    assert shape(episodes(log(("action", 0.0), ("document", 1.0), ("action", 2.0)))) == [[0, 2]]


def test_a_long_episode_is_cut_and_its_later_part_replays_the_earlier_one() -> None:
    parts = episodes(log(*[("action", float(i)) for i in range(7)]), max_actions=3)
    assert shape(parts) == [[0, 1, 2], [3, 4, 5], [6]]
    assert [part.num_unrecorded for part in parts] == [0, 3, 6]
    assert [part.is_open for part in parts] == [False, False, True]


def test_a_change_in_an_earlier_part_changes_the_digest_of_the_later_one() -> None:
    events = log(*[("action", float(i)) for i in range(4)])
    renamed = [SessionEvent(0, "other", "action", None, 0.0), *events[1:]]
    before, after = (episodes(each, max_actions=2)[1] for each in (events, renamed))
    assert before.actions == after.actions
    assert before.digest != after.digest


def test_log_lines_are_ordered_by_time_then_arrival() -> None:
    events = log(("action", 5.0), ("action", 3.0), ("reset", 5.0), ("action", 5.0))
    assert [event.number for event in in_order(events)] == [1, 0, 2, 3]


def test_sequenced_events_are_ordered_by_sequence_whatever_their_clock_says() -> None:
    events = [SessionEvent(n, f"e{n}", "action", 2 - n, 10.0 * n) for n in range(3)]
    assert [event.sequence for event in in_order(events)] == [0, 1, 2]


kinds = st.sampled_from(["action", "action", "action", "reset", "end", "document"])
steps = st.sampled_from([0.0, 0.05, 0.1, 0.3, 2.0, 59.9, 61.0, -5.0])


@st.composite
def sessions(draw: st.DrawFn, *, is_sequenced: bool) -> list[SessionEvent]:
    timestamp = 1_000.0
    events = []
    for number, kind in enumerate(draw(st.lists(kinds, max_size=40))):
        timestamp += draw(steps)
        sequence = number if is_sequenced else None
        events.append(SessionEvent(number, f"e{number}", kind, sequence, timestamp))
    return events


any_session = sessions(is_sequenced=True) | sessions(is_sequenced=False)


@given(any_session, st.integers(1, 5))
def test_every_action_is_in_exactly_one_episode(
    events: list[SessionEvent], max_actions: int
) -> None:
    placed = [e for episode in episodes(events, max_actions) for e in episode.actions]
    actions = [event for event in events if event.kind == "action"]
    assert sorted(placed, key=lambda e: e.number) == actions


@given(any_session, st.integers(1, 5))
def test_actions_keep_their_order_within_an_episode(
    events: list[SessionEvent], max_actions: int
) -> None:
    rank = {event.event_id: index for index, event in enumerate(in_order(events))}
    for episode in episodes(events, max_actions):
        ranks = [rank[action.event_id] for action in episode.actions]
        assert ranks == sorted(ranks)


@given(any_session, st.integers(1, 5))
def test_no_episode_is_empty_or_too_long_and_only_the_last_is_open(
    events: list[SessionEvent], max_actions: int
) -> None:
    cut_episodes = episodes(events, max_actions)
    assert all(1 <= len(episode.actions) <= max_actions for episode in cut_episodes)
    assert not any(episode.is_open for episode in cut_episodes[:-1])


@given(sessions(is_sequenced=True), st.randoms(use_true_random=False))
def test_arrival_does_not_matter_to_sequenced_events(
    events: list[SessionEvent], rng: random.Random
) -> None:
    arrived = rng.sample(events, len(events))
    renumbered = [
        SessionEvent(number, e.event_id, e.kind, e.sequence, e.timestamp)
        for number, e in enumerate(arrived)
    ]
    assert [e.digest for e in episodes(renumbered)] == [e.digest for e in episodes(events)]


@given(any_session, st.integers(1, 5))
def test_a_part_is_preceded_by_exactly_what_it_replays_unrecorded(
    events: list[SessionEvent], max_actions: int
) -> None:
    num_before = 0
    for episode in episodes(events, max_actions):
        assert episode.num_unrecorded in (0, num_before)
        num_before = episode.num_unrecorded + len(episode.actions)


@given(sessions(is_sequenced=False))
def test_a_line_that_is_appended_changes_nothing_but_the_last_episode(
    events: list[SessionEvent],
) -> None:
    latest = max((event.timestamp for event in events), default=0.0)
    later = SessionEvent(len(events), "later", "action", None, latest + 0.2)
    unchanged = [episode.digest for episode in episodes(events)][:-1]
    assert [episode.digest for episode in episodes([*events, later])][: len(unchanged)] == unchanged
