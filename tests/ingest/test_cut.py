"""Sessions with news become episodes; what did not change stays as it was."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from ingest.buffer import NewSample, add_samples, latest_revision, new_revision
from ingest.cut import EpisodeActions, cut_dirty, episode_actions, settle_open_tails
from ingest.database import read, write
from ingest.ids import content_id
from ingest.tables import Episode, Revision, Sample
from tests.intake import START, Intake, wire_event

END = {"kind": "end", "payload": None}
RESET = {"kind": "reset", "payload": None}
A_MOMENT_S = 0.2


def actions_of(intake: Intake, episode: Episode) -> EpisodeActions:
    with read(intake.engine) as session:
        return episode_actions(session, episode.episode_id)


def replayed(intake: Intake, episode: Episode) -> None:
    """Put the samples of an episode into the buffer, as its replay does."""
    with write(intake.engine) as session:
        revision = new_revision(session, "replayed", added=episode.num_actions, retired=0, now=1.0)
        bring_in(session, episode.episode_id, revision)


def bring_in(session: Session, episode_id: str, revision: int) -> None:
    episode = session.get_one(Episode, episode_id, with_for_update=True)
    episode.environment, episode.state = "drawn/1", "replayed"
    events = episode_actions(session, episode_id).recorded
    add_samples(
        session,
        episode,
        [NewSample(n, e.number, e.timestamp, (), None, False) for n, e in enumerate(events)],
        revision,
    )


def test_a_closed_episode_waits_for_its_replay_at_once(intake: Intake) -> None:
    intake.take(wire_event(0), wire_event(1), wire_event(2, **END))
    [episode] = intake.episodes()
    assert (episode.state, episode.version, episode.num_actions) == ("waiting", 1, 2)
    assert (episode.first_timestamp, episode.last_timestamp) == (START, START + 0.25)


def test_an_episode_is_named_by_its_first_event(intake: Intake) -> None:
    intake.take(wire_event(0), wire_event(1))
    [episode] = intake.episodes()
    assert episode.episode_id == content_id("demo", "s-1", "s-1-0")


def test_events_know_their_place_in_their_episode(intake: Intake) -> None:
    intake.take(wire_event(0), wire_event(1, **RESET), wire_event(2), wire_event(3))
    first, second = intake.episodes()
    assert [(event.episode_id, event.position) for event in intake.events()] == [
        (first.episode_id, 0),
        (None, None),
        (second.episode_id, 0),
        (second.episode_id, 1),
    ]


def test_an_open_tail_waits_once_its_session_has_been_quiet(intake: Intake) -> None:
    intake.take(wire_event(0))
    [episode] = intake.episodes()
    assert episode.state == "open"
    now = time.time()
    assert settle_open_tails(intake.engine, intake.settings, now=now) == 0
    later = now + intake.settings.open_tail_s + 1
    assert settle_open_tails(intake.engine, intake.settings, now=later) == 1
    [episode] = intake.episodes()
    assert (episode.state, episode.version) == ("waiting", 1)


def test_a_clock_that_is_turned_back_holds_up_no_open_tail(intake: Intake) -> None:
    intake.take(wire_event(0))
    an_hour_before = time.time() - 3_600
    assert settle_open_tails(intake.engine, intake.settings, now=an_hour_before) == 1


def test_the_end_of_an_open_tail_makes_no_new_version(intake: Intake) -> None:
    intake.take(wire_event(0))
    intake.take(wire_event(1, **END))
    [episode] = intake.episodes()
    assert (episode.state, episode.version) == ("waiting", 1)


def test_events_that_come_later_make_the_next_version(intake: Intake) -> None:
    intake.take(wire_event(0), wire_event(1))
    intake.take(wire_event(2), wire_event(3, **END))
    [episode] = intake.episodes()
    assert (episode.state, episode.version, episode.num_actions) == ("waiting", 2, 3)


def test_a_new_version_frees_the_episode_from_its_worker_and_its_failures(intake: Intake) -> None:
    intake.take(wire_event(0), wire_event(1, **END))
    with write(intake.engine) as session:
        session.execute(
            update(Episode).values(
                state="leased", attempts=2, lease_holder="w", lease_expires_at=1e12, error="odd"
            )
        )
    intake.take(wire_event(2), wire_event(3, **END))
    [episode] = intake.episodes()
    assert (episode.state, episode.attempts) == ("waiting", 0)
    assert (episode.lease_holder, episode.lease_expires_at, episode.error) == (None, None, None)


def test_an_episode_that_did_not_change_keeps_version_and_state(intake: Intake) -> None:
    intake.take(wire_event(0), wire_event(1, **RESET), wire_event(2))
    with write(intake.engine) as session:
        session.execute(update(Episode).where(Episode.ordinal == 0).values(state="replayed"))
    intake.take(wire_event(3))
    assert [(e.state, e.version) for e in intake.episodes()] == [("replayed", 1), ("open", 2)]


def test_an_event_that_comes_late_into_the_middle_is_put_there(intake: Intake) -> None:
    intake.take(wire_event(0), wire_event(2), wire_event(3, **END))
    intake.take(wire_event(1))
    [episode] = intake.episodes()
    assert episode.version == 2
    recorded = actions_of(intake, episode).recorded
    assert [event.sequence for event in recorded] == [0, 1, 2]


def test_an_episode_whose_first_event_moved_is_superseded_with_its_samples(
    intake: Intake,
) -> None:
    intake.take(wire_event(1), wire_event(2, **END))
    replayed(intake, intake.episodes()[0])
    intake.take(wire_event(0))
    [gone] = [e for e in intake.rows(Episode) if e.state == "superseded"]
    [episode] = intake.episodes()
    assert (gone.episode_id, episode.num_actions) == (content_id("demo", "s-1", "s-1-1"), 2)
    [sample] = intake.rows(Sample)
    assert sample.retired_revision == 2
    revision = intake.rows(Revision, "number")[-1]
    assert (revision.kind, revision.num_retired) == ("superseded", 1)


def test_a_superseded_episode_keeps_no_sample_that_its_replay_brings_in_just_then(
    intake: Intake,
) -> None:
    intake.take(wire_event(1), wire_event(2, **END))
    intake.post(wire_event(0))
    with ThreadPoolExecutor(1) as pool:
        with write(intake.engine) as replay:
            new_revision(replay, "replayed", added=1, retired=0, now=1.0)
            bring_in(replay, intake.episodes()[0].episode_id, revision=1)
            replay.flush()
            cut = pool.submit(intake.consume)
            with pytest.raises(TimeoutError):
                cut.result(A_MOMENT_S)
        cut.result(10)
    [sample] = intake.rows(Sample)
    assert sample.retired_revision == 2
    assert [revision.num_retired for revision in intake.rows(Revision, "number")] == [0, 1]


def test_samples_of_an_older_version_stay_until_the_newer_is_replayed(intake: Intake) -> None:
    intake.take(wire_event(0), wire_event(1, **END))
    replayed(intake, intake.episodes()[0])
    intake.take(wire_event(2))
    assert [sample.retired_revision for sample in intake.rows(Sample)] == [None]
    with read(intake.engine) as session:
        assert latest_revision(session) == 1


def test_a_superseded_episode_that_is_cut_again_gets_a_version_of_its_own(
    intake: Intake,
) -> None:
    intake.take(wire_event(5))
    intake.take(wire_event(0))  # takes over as the first event
    gone = content_id("demo", "s-1", "s-1-5")
    intake.take(wire_event(3, **RESET))
    [again] = [episode for episode in intake.episodes() if episode.episode_id == gone]
    assert (again.state, again.version, again.ordinal) == ("open", 2, 1)


def test_timer_made_actions_are_counted(intake: Intake) -> None:
    auto = {"x": 1, "is_auto_input": True}
    intake.take(wire_event(0), wire_event(1, payload=auto), wire_event(2, payload=auto))
    assert intake.episodes()[0].num_auto == 2


def test_a_key_that_never_comes_up_is_held_to_the_end_of_its_episode(intake: Intake) -> None:
    intake.take(
        wire_event(0, payload={"keys_down": ["!", "Shift"]}),
        wire_event(1, payload={"keys_up": ["Shift", "1"]}),
        wire_event(2, **RESET),
        wire_event(3),
    )
    assert [episode.num_stuck_keys for episode in intake.episodes()] == [1, 0]


def test_keys_that_no_keyboard_has_do_not_stick(intake: Intake) -> None:
    intake.take(wire_event(0, payload={"keys_down": ["Dead", "AltGraph"]}))
    assert intake.episodes()[0].num_stuck_keys == 0


def test_the_later_part_of_a_long_episode_replays_the_earlier_ones_unrecorded(
    intake: Intake,
) -> None:
    intake.settings.max_episode_actions = 3
    held = {"keys_down": ["a"]}
    intake.take(wire_event(0, payload=held), *[wire_event(n) for n in range(1, 8)])
    parts = intake.episodes()
    assert [(part.num_unrecorded, part.num_actions) for part in parts] == [(0, 3), (3, 3), (6, 2)]
    assert [part.state for part in parts] == ["waiting", "waiting", "open"]
    assert [part.num_stuck_keys for part in parts] == [1, 1, 1]
    actions = actions_of(intake, parts[2])
    assert [event.sequence for event in actions.unrecorded] == [0, 1, 2, 3, 4, 5]
    assert [event.sequence for event in actions.recorded] == [6, 7]


def test_a_long_episode_does_not_replay_what_lies_before_its_reset(intake: Intake) -> None:
    intake.settings.max_episode_actions = 2
    intake.take(wire_event(0), wire_event(1, **RESET), *[wire_event(n) for n in range(2, 5)])
    actions = actions_of(intake, intake.episodes()[-1])
    assert [event.sequence for event in actions.unrecorded] == [2, 3]


def test_nothing_to_cut_writes_nothing(intake: Intake) -> None:
    assert cut_dirty(intake.engine, intake.settings) == 0


@pytest.mark.parametrize("chunk", [1, 7])
def test_the_episodes_do_not_depend_on_how_the_events_came(intake: Intake, chunk: int) -> None:
    events = [wire_event(n, **(RESET if n % 9 == 5 else {})) for n in range(30)]
    for start in range(0, len(events), chunk):
        intake.take(*events[start : start + chunk])
    assert [(e.ordinal, e.num_actions) for e in intake.episodes()] == [
        (0, 5),
        (1, 8),
        (2, 8),
        (3, 6),
    ]
