"""What `stovetop verify` finds in damaged files, and what `--repair` makes of it."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update

from ingest.buffer import quarantine
from ingest.database import read, write
from ingest.integrity.files import GRACE_S
from ingest.shard_store import FolderStore
from ingest.tables import Counter, Episode, EventRow, Placement, Sample, SessionRow, Shard
from tests.intake import Intake, wire_event
from tests.stock import Stocked
from tests.stock import stocked as make_stock

Damage = Callable[[Path], None]


@pytest.fixture
def stocked(intake: Intake) -> Stocked:
    return make_stock(intake)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def flip_in_a_name(path: Path) -> None:
    flip(path, 3)


def flip_in_the_data(path: Path) -> None:
    flip(path, 513)


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def delete_it(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    "damage", [truncate, empty, grow, flip_in_a_name, flip_in_the_data, delete_it]
)
def test_a_damaged_file_is_named_and_made_anew_bit_for_bit(
    stocked: Stocked, damage: Damage
) -> None:
    files, places = stocked.files(), stocked.places()
    for path in (stocked.frames[0], stocked.documents):
        damage(path)
    wanted = [("shard_damaged", p.stem) for p in (stocked.frames[0], stocked.documents)]
    assert stocked.findings() == sorted(wanted)
    stocked.mend()
    assert stocked.files() == files
    assert stocked.places() == places


def test_two_files_that_changed_places_are_both_named_and_both_made_anew(
    stocked: Stocked,
) -> None:
    files, places = stocked.files(), stocked.places()
    one, other = stocked.frames
    aside = one.with_suffix(".aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    assert stocked.findings() == [("shard_damaged", path.stem) for path in (one, other)]
    stocked.mend()
    assert stocked.files() == files
    assert stocked.places() == places


def test_until_it_is_made_anew_a_damaged_shards_samples_are_out_of_the_buffer(
    stocked: Stocked,
) -> None:
    path = stocked.frames[0]
    kept = {key: at for key, at in stocked.places().items() if at[1] != path.stem}
    truncate(path)
    stocked.verify(repair=True)
    assert stocked.places() == kept
    assert stocked.findings() == []  # it is queued, and nothing else is wrong


def test_what_a_worker_has_set_apart_is_found_and_made_anew(stocked: Stocked) -> None:
    files, places = stocked.files(), stocked.places()
    truncate(stocked.frames[0])
    with write(stocked.intake.engine) as session:
        quarantine(session, stocked.frames[0].stem, now=1.0)
    assert stocked.findings() == [("shard_quarantined", stocked.frames[0].stem)]
    stocked.mend()
    assert (stocked.files(), stocked.places()) == (files, places)


def test_a_repair_that_is_cut_short_is_gone_on_with(
    stocked: Stocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shard is set apart by then, and its file is still there."""

    def fail(*_: object) -> None:
        raise OSError("the disk is read-only")

    files, places = stocked.files(), stocked.places()
    truncate(stocked.documents)
    with monkeypatch.context() as patched:
        patched.setattr(FolderStore, "remove", fail)
        with pytest.raises(OSError, match="read-only"):
            stocked.verify(repair=True)
    assert stocked.findings() == [("shard_quarantined", stocked.documents.stem)]
    stocked.mend()
    assert (stocked.files(), stocked.places()) == (files, places)


def test_a_shard_that_nothing_can_make_anew_keeps_its_file_and_is_reported_again(
    stocked: Stocked,
) -> None:
    """Its episode has lost an event, which a backup may still have; so may the file."""
    path = stocked.frames[0]
    whole, places = path.read_bytes(), stocked.places()
    forget_an_event_of(stocked, path)
    truncate(path)
    open_kinds = {
        each.finding.kind for each in stocked.verify(repair=True).judged if not each.is_mended
    }
    assert open_kinds == {"shard_damaged"}
    assert path.exists()
    assert ("shard_quarantined", path.stem) in stocked.findings()
    path.write_bytes(whole)
    assert ("shard_sound_again", path.stem) in stocked.findings()
    stocked.verify(repair=True)
    lost = [key for key, (_, shard, *_) in places.items() if shard == path.stem]
    assert len(stocked.places()) == len(places) - 1
    assert sum(key in stocked.places() for key in lost) == len(lost) - 1


def forget_an_event_of(stocked: Stocked, path: Path) -> None:
    """The last sample of a shard and its event are gone from the index."""
    with write(stocked.intake.engine) as session:
        number = session.scalars(
            select(Placement.sample_number)
            .where(Placement.shard_id == path.stem)
            .order_by(Placement.offset.desc())
        ).first()
        assert number is not None
        event = session.get_one(Sample, number).event_number
        session.execute(delete(Placement).where(Placement.sample_number == number))
        session.execute(delete(Sample).where(Sample.number == number))
        session.execute(delete(EventRow).where(EventRow.number == event))


def test_a_row_that_names_another_samples_bytes_is_found_and_mended(stocked: Stocked) -> None:
    places = stocked.places()
    with write(stocked.intake.engine) as session:
        of_it = Placement.shard_id == stocked.documents.stem
        first, second, _ = session.scalars(
            select(Placement).where(of_it).order_by(Placement.offset)
        )
        first.offset, second.offset = second.offset, first.offset
    assert stocked.findings() == [("place_wrong", stocked.documents.stem)]
    stocked.mend()
    assert stocked.places() == places


@pytest.mark.parametrize("length", [512, 1024, 4096])
def test_a_row_with_a_wrong_length_is_found(stocked: Stocked, length: int) -> None:
    path = stocked.frames[0]
    with write(stocked.intake.engine) as session:
        is_first = Placement.shard_id == path.stem, Placement.offset == 0
        session.execute(update(Placement).where(*is_first).values(length=length))
    assert stocked.findings() == [("place_wrong", path.stem)]


def test_samples_that_lost_their_places_get_them_again(stocked: Stocked) -> None:
    files, places = stocked.files(), stocked.places()
    shard_ids = [stocked.frames[0].stem, stocked.documents.stem]
    with write(stocked.intake.engine) as session:
        session.execute(delete(Placement).where(Placement.shard_id.in_(shard_ids)))
        session.execute(delete(Shard).where(Shard.shard_id.in_(shard_ids)))
    assert {kind for kind, _ in stocked.findings()} == {"episode_unplaced"}
    stocked.mend()
    assert stocked.files() == files
    assert stocked.places() == places


def test_one_place_that_is_gone_comes_back_with_its_episode(stocked: Stocked) -> None:
    places = stocked.places()
    for path in (stocked.frames[0], stocked.documents):
        with write(stocked.intake.engine) as session:
            is_first = Placement.shard_id == path.stem, Placement.offset == 0
            session.execute(delete(Placement).where(*is_first))
    assert [kind for kind, _ in stocked.findings()] == ["episode_unplaced"] * 2
    stocked.mend()
    after = stocked.places()
    assert {key: at[0] for key, at in after.items()} == {key: at[0] for key, at in places.items()}
    moved = [key for key in places if after[key] != places[key]]
    assert len(moved) == 1, "a document that is placed once more is alone in its shard"


def test_samples_that_are_gone_come_again_and_the_others_keep_their_numbers(
    stocked: Stocked,
) -> None:
    places = stocked.places()
    with write(stocked.intake.engine) as session:
        of_it = Placement.shard_id == stocked.frames[0].stem
        number = session.scalars(select(Placement.sample_number).where(of_it)).first()
        session.execute(delete(Placement).where(Placement.sample_number == number))
        session.execute(delete(Sample).where(Sample.number == number))
    [(kind, _)] = stocked.findings()
    assert kind == "episode_incomplete"
    stocked.mend()
    after = stocked.places()
    assert after.keys() == places.keys()
    assert [key for key in places if after[key] != places[key]] == [
        key for key, at in places.items() if at[0] == number
    ]


def test_an_event_that_is_in_no_episode_has_its_session_cut_again(stocked: Stocked) -> None:
    with write(stocked.intake.engine) as session:
        event = session.scalars(select(EventRow).where(EventRow.kind == "action")).first()
        assert event is not None
        event.episode_id = event.position = None
        session_key = event.session_key
    found = stocked.findings()
    assert found == [("events_lost", session_key), ("events_unplaced", session_key)]
    stocked.mend()


def test_events_that_are_gone_for_good_are_named(stocked: Stocked) -> None:
    forget_an_event_of(stocked, stocked.frames[0])
    kinds = [kind for kind, _ in stocked.findings()]
    assert kinds == ["events_lost", "session_miscounted"]
    stocked.mend()
    with read(stocked.intake.engine) as session:
        counts = session.scalars(select(Episode.num_actions).where(Episode.state == "replayed"))
        assert sorted(counts) == [3, 4]


def test_a_counter_that_would_give_a_number_twice_is_moved_on(stocked: Stocked) -> None:
    with write(stocked.intake.engine) as session:
        session.execute(update(Counter).where(Counter.name == "sample").values(value=2))
        session.execute(delete(Counter).where(Counter.name == "revision"))
    assert stocked.findings() == [("counter_behind", "revision"), ("counter_behind", "sample")]
    stocked.mend()
    stocked.intake.take(wire_event(9, "later"), wire_event(10, "later", kind="end", payload=None))
    stocked.work()
    assert stocked.findings() == []


def test_a_session_is_counted_again(stocked: Stocked) -> None:
    with write(stocked.intake.engine) as session:
        session.execute(update(SessionRow).values(num_events=77))
    assert [kind for kind, _ in stocked.findings()] == ["session_miscounted"] * 3
    stocked.mend()


def test_a_stray_file_goes_after_its_grace_and_no_earlier(stocked: Stocked) -> None:
    stray = stocked.frames[0].with_name("stray.tar")
    stray.write_bytes(b"what a writer left that was killed")
    assert stocked.findings() == []
    old = stray.stat().st_mtime - GRACE_S - 1
    os.utime(stray, (old, old))
    [(kind, subject)] = stocked.findings()
    assert (kind, subject.rpartition("/")[2]) == ("file_unknown", "stray.tar")
    stocked.mend()
    assert not stray.exists()


def test_nothing_is_found_while_everything_works(stocked: Stocked) -> None:
    """Visits come, are cut, replayed and superseded all the time."""

    def work() -> None:
        for number in range(6):
            visit = f"busy-{number % 2}"
            stocked.intake.take(
                wire_event(number, visit),
                wire_event(number + 50, visit, kind="end", payload=None),
                wire_event(number, "texts-too", kind="document", payload={"text": f"{number}"}),
            )
            stocked.work()

    working = threading.Thread(target=work)
    working.start()
    num_looks = 0
    while working.is_alive():
        assert stocked.findings() == []
        num_looks += 1
    working.join()
    assert num_looks > 1
    assert stocked.findings() == []
