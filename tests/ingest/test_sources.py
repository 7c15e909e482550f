"""Whose samples anybody may learn from."""

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from ingest.buffer import DOCUMENT, latest_revision
from ingest.database import read, write
from ingest.documents import ENVIRONMENT
from ingest.keys import create_key
from ingest.slices import members, preview, save_slice
from ingest.sources import introduce, release, withdraw
from ingest.tables import Revision, Source
from tests.intake import Intake, wire_event


def state(engine: Engine, name: str) -> int | None:
    with read(engine) as session:
        return session.get_one(Source, name).released_revision


def test_the_first_source_is_released_and_the_next_is_not(engine: Engine) -> None:
    with write(engine) as session:
        create_key(session, "operator", "me")
        create_key(session, "ingest", "first")
        create_key(session, "ingest", "second")
    assert (state(engine, "first"), state(engine, "second")) == (0, None)


def test_another_key_of_a_source_changes_nothing(engine: Engine) -> None:
    with write(engine) as session:
        create_key(session, "ingest", "first")
        create_key(session, "ingest", "second")
        withdraw(session, "first")
        create_key(session, "ingest", "first")
        create_key(session, "ingest", "second")
    assert (state(engine, "first"), state(engine, "second")) == (None, None)


def test_a_trusted_source_is_released_known_or_not(engine: Engine) -> None:
    with write(engine) as session:
        for name in ("first", "second"):
            create_key(session, "ingest", name)
        introduce(session, "second", is_trusted=True)
        introduce(session, "third", is_trusted=True)
    assert None not in (state(engine, "second"), state(engine, "third"))


def test_a_source_that_nobody_knows_can_not_be_released(engine: Engine) -> None:
    with write(engine) as session, pytest.raises(LookupError, match="nobody"):
        release(session, "nobody")


def num_members(session: Session, revision: int) -> int:
    pinned = {"representation": DOCUMENT, "environment": ENVIRONMENT}
    return members(session, "all", revision=revision, **pinned).numbers.size


def test_a_quarantined_source_is_stored_and_in_no_slice_until_it_is_released(
    intake: Intake,
) -> None:
    with write(intake.engine) as session:
        save_slice(session, "all", "", actor="test", now=0.0)
        other = create_key(session, "ingest", "other")
    intake.settings.eval_percent = 0
    intake.client.headers["Authorization"] = f"Bearer {other}"
    intake.take(wire_event(0, kind="document", payload={"text": "who knows"}))
    with write(intake.engine) as session:
        before = latest_revision(session)
        assert num_members(session, before) == 0
        assert (
            preview(session, {"all": 1.0}, revision=before, representation=DOCUMENT)
            .slices[0]
            .num_samples
            == 0
        )
        release(session, "other")
        released = latest_revision(session)
        assert (num_members(session, before), num_members(session, released)) == (0, 1)
        withdraw(session, "other")
        withdrawn = latest_revision(session)
        assert [num_members(session, r) for r in (released, withdrawn)] == [0, 0]
    with read(intake.engine) as session:
        told = [session.get_one(Revision, number) for number in (released, withdrawn)]
        assert [(row.kind, row.num_added, row.num_retired) for row in told] == [
            ("released", 1, 0),
            ("withdrawn", 0, 1),
        ]


def test_releasing_twice_is_one_revision(engine: Engine) -> None:
    with write(engine) as session:
        for name in ("first", "second"):
            create_key(session, "ingest", name)
        numbers = [release(session, "second").released_revision for _ in range(2)]
        assert numbers == [1, 1]
        for _ in range(2):
            withdraw(session, "second")
        assert latest_revision(session) == 2


def test_a_source_without_a_key_to_send_is_known_once_it_sends(intake: Intake) -> None:
    with write(intake.engine) as session:
        admin = create_key(session, "admin", "boss")
    intake.client.headers["Authorization"] = f"Bearer {admin}"
    intake.take(wire_event(0))
    assert state(intake.engine, "boss") is None
