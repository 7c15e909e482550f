"""What `stovetop backup` and `stovetop restore` promise."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import pytest
from blake3 import blake3
from fastapi.testclient import TestClient
from sqlalchemy import select

from control_api.backup.copying import Damaged
from control_api.backup.manifest import MANIFEST, SHARDS, NotABackup, read_manifest
from control_api.backup.restore import NotEmpty, restore
from control_api.backup.take import BackupFailed, back_up
from control_api.folder_lock import RESTORING, FolderHeld, hold_folder
from ingest.database import open_engine, read, write
from ingest.forgetting.forget import Buried, Forgetting
from ingest.forgetting.tombstones import Identity
from ingest.instance import ensure_instance
from ingest.keys import authenticate, create_key
from ingest.log import open_log
from ingest.settings import Settings
from ingest.shard_store import open_store
from ingest.tables import EventRow, LogOffset, Tombstone
from tests.control_api.rows import make_checkpoint, make_run
from tests.control_api.shell import Shell, said
from tests.databases import Database, SqliteDatabase
from tests.intake import Intake, wire_event
from tests.serving import ingest_app
from tests.stock import END, Stocked
from tests.stock import stocked as make_stock
from tests.waiting import wait_until
from trainer.checkpoints.seals import read_sealed
from trainer.tables import Checkpoint

_fresh = count(1)


@pytest.fixture
def stocked(intake: Intake) -> Stocked:
    return make_stock(intake)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "backup"


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path, database: Database) -> Settings:
    """An installation to be: an empty folder, and an empty database of the same kind."""
    data = tmp_path / "elsewhere"
    if isinstance(database, SqliteDatabase):
        return Settings(data=data)
    cluster = request.getfixturevalue("cluster")
    name = f"elsewhere_{next(_fresh)}"
    cluster.create(name)
    return Settings(data=data, database_url=cluster.url(name))


@contextmanager
def opened(settings: Settings) -> Iterator[Stocked]:
    """A restored installation, at work."""
    engine = open_engine(settings.resolved_database_url)
    with ExitStack() as stack:
        stack.callback(engine.dispose)
        event_log = stack.enter_context(open_log(settings))
        with write(engine) as session:
            key = create_key(session, "ingest", "demo")
        app = ingest_app(settings, engine, event_log)
        client = TestClient(app, headers={"Authorization": f"Bearer {key}"})
        yield Stocked(Intake(settings, engine, event_log, stack.enter_context(client)))


def test_a_restored_installation_is_the_same_to_the_bit_and_goes_on(
    stocked: Stocked, folder: Path, elsewhere: Settings
) -> None:
    back_up(stocked.intake.settings, folder)
    restored = restore(elsewhere, folder)
    assert restored.num_shards == len(stocked.files())
    with opened(elsewhere) as again:
        assert again.files() == stocked.files()
        assert again.places() == stocked.places()
        assert again.findings() == []
        again.intake.take(wire_event(0, "new"), wire_event(1, "new", **END))
        again.work()
        assert len(again.places()) == len(stocked.places()) + 1
        assert again.findings() == []


def test_a_backup_under_load_holds_what_was_acknowledged_before_it_once(
    stocked: Stocked, folder: Path, elsewhere: Settings
) -> None:
    """Events are received, consumed and replayed all the time."""
    acknowledged: list[str] = []
    stop = threading.Event()

    def send() -> None:
        for number in count():
            if stop.is_set():
                return
            events = [wire_event(n, f"load-{number}") for n in range(3)]
            end = wire_event(3, f"load-{number}", **END)
            assert stocked.intake.post(*events, end).status_code == 202
            acknowledged.extend(str(event["event_id"]) for event in events)

    def work() -> None:
        while not stop.is_set():
            stocked.work()

    threads = [threading.Thread(target=target) for target in (send, work)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(stocked.intake.rows(LogOffset)) > 0 and len(acknowledged) > 30)
    before = set(acknowledged)
    back_up(stocked.intake.settings, folder)
    stop.set()
    for thread in threads:
        thread.join()
    restore(elsewhere, folder)
    with opened(elsewhere) as again:
        assert again.findings() == []
        again.work()
        ids = [event.event_id for event in again.intake.events()]
        assert before <= set(ids)
        assert len(ids) == len(set(ids))
        assert again.findings() == []
        again.intake.take(wire_event(0, "new"))
        assert "new-0" in {event.event_id for event in again.intake.events()}


def test_what_was_acknowledged_and_not_consumed_is_consumed_after_the_restore(
    stocked: Stocked, folder: Path, elsewhere: Settings
) -> None:
    stocked.intake.post(wire_event(0, "waits"))
    back_up(stocked.intake.settings, folder)
    restore(elsewhere, folder)
    with opened(elsewhere) as again:
        assert "waits-0" not in {event.event_id for event in again.intake.events()}
        again.intake.consume()
        assert "waits-0" in {event.event_id for event in again.intake.events()}


def test_the_next_backup_copies_what_is_new_and_drops_what_nobody_needs(
    stocked: Stocked, folder: Path
) -> None:
    first = back_up(stocked.intake.settings, folder)
    stray = folder / SHARDS / "frames" / "stray.tar"
    stray.write_bytes(b"")
    before = inodes(folder)
    stocked.intake.take(wire_event(0, "new"), wire_event(1, "new", **END))
    stocked.work()
    second = back_up(stocked.intake.settings, folder)
    after = inodes(folder)
    del before[stray.name]
    assert before.items() < after.items()
    assert len(after) == len(before) + 1
    assert not (folder / first.index.name).exists()
    assert read_manifest(folder) == second


def inodes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in (folder / SHARDS).rglob("*.tar")}


def test_a_damaged_shard_is_named_and_the_rest_is_backed_up(
    stocked: Stocked, folder: Path, elsewhere: Settings
) -> None:
    files, places = stocked.files(), stocked.places()
    damaged = stocked.documents
    damaged.write_bytes(b"something else")
    manifest = back_up(stocked.intake.settings, folder)
    assert [Path(path).name for path in manifest.damaged] == [damaged.name]
    assert restore(elsewhere, folder).damaged == manifest.damaged
    with opened(elsewhere) as again:
        again.mend()
        assert (again.files(), again.places()) == (files, places)


def test_a_shard_that_is_gone_is_named(stocked: Stocked, folder: Path) -> None:
    stocked.frames[0].unlink()
    assert len(back_up(stocked.intake.settings, folder).damaged) == 1


def test_an_earlier_backup_heals_what_was_damaged_since(stocked: Stocked, folder: Path) -> None:
    back_up(stocked.intake.settings, folder)
    stocked.frames[0].unlink()
    assert back_up(stocked.intake.settings, folder).damaged == []


def test_a_backup_that_fails_leaves_the_earlier_one(
    stocked: Stocked, folder: Path, elsewhere: Settings
) -> None:
    first = back_up(stocked.intake.settings, folder)
    log_path = stocked.intake.settings.event_log_path
    log_path.unlink()
    log_path.mkdir()
    with pytest.raises(BackupFailed, match="event log"):
        back_up(stocked.intake.settings, folder)
    assert read_manifest(folder) == first
    assert restore(elsewhere, folder).created_at == first.created_at


def index_of(folder: Path) -> Path:
    return folder / read_manifest(folder).index.name


def log_of(folder: Path) -> Path:
    copied = read_manifest(folder).log
    assert copied is not None
    return folder / copied.name


def a_shard_of(folder: Path) -> Path:
    return next((folder / SHARDS).rglob("*.tar"))


@pytest.mark.parametrize("damaged", [index_of, log_of, a_shard_of])
def test_a_damaged_backup_is_not_taken_for_an_installation(
    stocked: Stocked, folder: Path, elsewhere: Settings, damaged: Callable[[Path], Path]
) -> None:
    back_up(stocked.intake.settings, folder)
    path = damaged(folder)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises((NotABackup, Damaged), match=path.name):
        restore(elsewhere, folder)
    if elsewhere.data.exists():
        assert (elsewhere.data / RESTORING).exists()
        with pytest.raises(FolderHeld, match="restore again"), hold_folder(elsewhere.data):
            pass


def test_nothing_is_restored_over_something(
    stocked: Stocked, folder: Path, elsewhere: Settings, tmp_path: Path
) -> None:
    back_up(stocked.intake.settings, folder)
    before = stocked.files()
    with pytest.raises(NotEmpty, match="not empty"):
        restore(stocked.intake.settings, folder)
    assert stocked.files() == before
    restore(elsewhere, folder)
    beside = elsewhere.model_copy(
        update={"data": tmp_path / "third", "database_url": elsewhere.resolved_database_url}
    )
    with pytest.raises(NotEmpty, match="tables"):
        restore(beside, folder)


def test_a_folder_without_a_backup_is_refused(elsewhere: Settings, tmp_path: Path) -> None:
    with pytest.raises(NotABackup, match=MANIFEST):
        restore(elsewhere, tmp_path / "nothing")


def test_a_restored_installation_has_a_name_of_its_own_and_nobody_signed_in(
    stocked: Stocked, folder: Path, elsewhere: Settings
) -> None:
    """So a shipper sends again what it sent after the backup, whatever its cursor says."""
    with write(stocked.intake.engine) as session:
        name = ensure_instance(session)
        key = create_key(session, "viewer", "somebody")
        cookie = create_key(session, "viewer", "page", kind="browser")
    back_up(stocked.intake.settings, folder)
    restore(elsewhere, folder)
    with opened(elsewhere) as again, write(again.intake.engine) as session:
        assert ensure_instance(session) != name
        assert authenticate(session, key) is not None
        assert authenticate(session, cookie) is None


def test_a_checkpoint_comes_along_unless_it_was_removed_meanwhile(
    stocked: Stocked, folder: Path, elsewhere: Settings
) -> None:
    settings = stocked.intake.settings
    with write(stocked.intake.engine) as session:
        run = make_run(session)
        kept = make_checkpoint(session, run, "kept", 1)
        gone = make_checkpoint(session, run, "gone", 2)
        path, digest = sealed(settings.runs_path / kept.path)
        kept.digest = digest
        assert path.exists()
        gone_id = gone.checkpoint_id
    manifest = back_up(settings, folder)
    assert list(manifest.checkpoints) == [kept.path]
    assert manifest.damaged == [f"runs/{gone.path}"]
    restore(elsewhere, folder)
    assert (elsewhere.runs_path / kept.path / "model").read_bytes() == b"weights"
    with opened(elsewhere) as again, read(again.intake.engine) as session:
        listed = session.scalars(
            select(Checkpoint.checkpoint_id).where(Checkpoint.removed_at.is_(None))
        ).all()
        assert listed == [kept.checkpoint_id]
        assert gone_id not in listed
        assert again.findings() == []


def sealed(folder: Path) -> tuple[Path, str]:
    """A checkpoint's folder as far as a check of its files goes; returns its manifest's digest."""
    folder.mkdir(parents=True)
    (folder / "model").write_bytes(b"weights")
    seal = read_sealed(folder / "model", {}).model_dump_json()
    data = f'{{"files": {{"model": {seal}}}}}'.encode()
    (folder / MANIFEST).write_bytes(data)
    return folder, blake3(data).hexdigest()


def test_a_log_that_is_only_being_made_holds_nothing(settings: Settings, folder: Path) -> None:
    settings.event_log_path.touch()
    assert back_up(settings, folder).log is None
    assert not list(folder.glob("log-*"))


def test_the_commands_say_what_they_did(
    shell: Shell, folder: Path, tmp_path: Path, database: Database
) -> None:
    said(shell("verify", "--json"))
    made = said(shell("backup", str(folder), "--json"))
    assert made["damaged"] == []
    refused = shell("restore", str(folder))
    assert refused.exit_code == 1
    assert "not empty" in refused.stderr
    if isinstance(database, SqliteDatabase):
        target = str(tmp_path / "elsewhere")
        assert said(shell("restore", str(folder), "--data", target, "--json"))["num_shards"] == 0
        assert said(shell("verify", "--data", target, "--json"))["is_sound"]


def test_verify_ends_with_one_for_what_stays_wrong(
    stocked: Stocked, shell: Shell, tmp_path: Path
) -> None:
    stocked.frames[0].unlink()
    found = shell("verify")
    assert found.exit_code == 1
    assert "shard_damaged" in found.stdout
    assert "stovetop verify --repair" in found.stdout
    mended = said(shell("verify", "--repair", "--json"))
    assert [finding["is_mended"] for finding in mended["findings"]] == [True]
    nothing = shell("verify", "--data", str(tmp_path / "nowhere"))
    assert nothing.exit_code == 1
    assert not (tmp_path / "nowhere").exists()


def test_events_of_the_restored_log_come_after_all_that_was_consumed(
    stocked: Stocked, folder: Path, elsewhere: Settings
) -> None:
    """The log is copied before the index, so its copy may end before the index's offsets."""
    back_up(stocked.intake.settings, folder)
    restore(elsewhere, folder)
    with opened(elsewhere) as again:
        offsets = [row.next_offset for row in again.intake.rows(LogOffset)]
        again.intake.take(*[wire_event(n, f"s-{n}") for n in range(16)])
        ids = {event.event_id for event in again.intake.rows(EventRow)}
        assert {f"s-{n}-{n}" for n in range(16)} <= ids
        assert max(row.next_offset for row in again.intake.rows(LogOffset)) > max(offsets)


def test_nobody_who_was_forgotten_comes_back_with_a_backup(
    stocked: Stocked, folder: Path, elsewhere: Settings
) -> None:
    intake = stocked.intake
    intake.post(wire_event(0, "late", user_id="ann", payload={"note": "typed-by-ann"}))
    back_up(intake.settings, folder)
    intake.consume()
    forgetting = Forgetting(intake.engine, open_store(intake.settings), intake.event_log)
    for who in (Identity("user", "demo", "ann"), Identity("session", "demo", "a")):
        forgetting.forget(who)
    buried = [
        Buried(row.tombstone_id, row.of_user, row.forgotten_at) for row in intake.rows(Tombstone)
    ]
    restored = restore(elsewhere, folder, buried)
    assert restored.num_forgotten == 1  # the other was in the log alone
    with opened(elsewhere) as there:
        there.work()
        assert {row.session_id for row in there.intake.sessions()} == {"b", "texts"}
        assert there.findings() == []
        assert all(row.finished_at is not None for row in there.intake.rows(Tombstone))
    files = [path for path in elsewhere.data.rglob("*") if path.is_file()]
    assert not [path for path in files if b"typed-by-ann" in path.read_bytes()]
