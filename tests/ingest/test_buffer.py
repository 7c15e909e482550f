"""What `ingest.buffer` promises."""

import pytest
from sqlalchemy import Engine, event, select
from sqlalchemy.exc import IntegrityError

from ingest.buffer import (
    NewSample,
    add_samples,
    latest_revision,
    new_revision,
    num_live,
    quarantine,
    retire,
    revision_time,
    spaced,
)
from ingest.database import read, write
from ingest.tables import Placement, Revision, Sample, Shard
from tests.factories import make_episode, make_samples, make_session, place_samples


def test_an_empty_buffer_is_at_revision_zero(engine: Engine) -> None:
    with read(engine) as session:
        assert latest_revision(session) == 0
        assert revision_time(session, 0) == 0.0


def test_revisions_count_up_and_keep_their_time(engine: Engine) -> None:
    with write(engine) as session:
        numbers = [
            new_revision(session, "replayed", added=0, retired=0, now=float(now)) for now in (5, 6)
        ]
        assert numbers == [1, 2]
        assert latest_revision(session) == 2
        assert [revision_time(session, number) for number in numbers] == [5.0, 6.0]


def test_a_rolled_back_change_leaves_no_revision_and_no_hole(engine: Engine) -> None:
    with write(engine) as session:
        new_revision(session, "replayed", added=0, retired=0, now=1.0)
        session.rollback()
    with write(engine) as session:
        assert new_revision(session, "replayed", added=0, retired=0, now=1.0) == 1


def test_samples_get_numbers_in_their_order(engine: Engine) -> None:
    with write(engine) as session:
        first, second = make_samples(session), make_samples(session)
        assert [*first, *second] == [1, 2, 3, 4, 5, 6]
        positions = session.scalars(select(Sample.position).order_by(Sample.number)).all()
        assert positions == [0, 1, 2, 0, 1, 2]


def test_a_sample_carries_its_visits_owner_and_split(engine: Engine) -> None:
    with write(engine) as session:
        owner = make_session(session, user_id="ann", split="eval", source="play")
        numbers = make_samples(session, owner=owner, changes=[["window_opened:browser"]])
        sample = session.get_one(Sample, numbers[0])
        assert (sample.user_id, sample.split, sample.source) == ("ann", "eval", "play")
        assert sample.changes == " window_opened:browser "


def test_retiring_an_episode_takes_its_live_samples_out_once(engine: Engine) -> None:
    with write(engine) as session:
        numbers = make_samples(session)
        kept = make_samples(session)
        episode_id = session.get_one(Sample, numbers[0]).episode_id
        assert num_live(session, [episode_id]) == 3
        retire(session, [episode_id], 7)
        retire(session, [episode_id], 8)
        assert num_live(session, [episode_id]) == 0
        retired = session.scalars(select(Sample.retired_revision).order_by(Sample.number)).all()
        assert retired == [7] * 3 + [None] * len(kept)


def test_a_sample_has_one_place_in_a_representation(engine: Engine) -> None:
    with write(engine) as session:
        numbers = make_samples(session)
    with pytest.raises(IntegrityError), write(engine) as session:
        place_samples(session, numbers[:1], "frame", 2, now=1.0)
    with read(engine) as session:
        assert len(session.scalars(select(Placement)).all()) == 3


def test_quarantine_retires_the_shards_samples_and_no_others(engine: Engine) -> None:
    with write(engine) as session:
        lost, kept = make_samples(session), make_samples(session)
        shard_id = session.scalars(
            select(Placement.shard_id).where(Placement.sample_number == lost[0])
        ).one()
        assert quarantine(session, shard_id, now=9.0) == 3
        assert session.get_one(Shard, shard_id).state == "quarantined"
        retired = session.scalars(select(Sample.retired_revision).order_by(Sample.number)).all()
        assert retired == [3] * 3 + [None] * len(kept)
        assert session.get_one(Revision, 3).num_retired == 3


def test_a_second_quarantine_changes_nothing(engine: Engine) -> None:
    with write(engine) as session:
        make_samples(session)
        shard_id = session.scalars(select(Shard.shard_id)).one()
        quarantine(session, shard_id, now=9.0)
        assert quarantine(session, shard_id, now=10.0) == 0
        assert latest_revision(session) == 2


def test_an_episode_takes_as_many_statements_however_long_it_is(engine: Engine) -> None:
    assert statements_for(engine, 2) == statements_for(engine, 200)


def statements_for(engine: Engine, num_samples: int) -> list[str]:
    """What SQL was told while so many samples went in, each table's insertion as one."""
    with write(engine) as session:
        episode = make_episode(session, payloads=num_samples)
        episode.environment = "drawn/1"
    samples = [NewSample(i, 1 + i, 1.0 * i, (), None, is_auto=False) for i in range(num_samples)]
    statements: list[str] = []

    def told(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement.partition("VALUES")[0])

    event.listen(engine, "before_cursor_execute", told)
    with write(engine) as session:
        session.add(episode)
        revision = new_revision(session, "replayed", added=num_samples, retired=0, now=1.0)
        add_samples(session, episode, samples, revision)
    event.remove(engine, "before_cursor_execute", told)
    return statements


def test_words_are_kept_with_spaces_around_each() -> None:
    assert spaced(["a", "b"]) == " a b "
    assert spaced([]) == ""
