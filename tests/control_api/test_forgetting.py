"""Forgetting over HTTP and at the terminal: who may, what the answer says, what is written down."""

import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, select

from ingest.database import read, write
from ingest.tables import AuditEntry
from tests.control_api.conftest import AsRole
from tests.control_api.rows import make_checkpoint, make_run, make_step
from tests.control_api.shell import Shell, said
from tests.factories import make_samples, make_session
from trainer import tables

USER = {"source": "demo"}


@pytest.fixture
def drawn(engine: Engine) -> None:
    """Ann's and Bob's samples; a run drew Bob's at step 2 and Ann's at step 4, and branched at 3.

    The branch drew Bob's alone.
    """
    with write(engine) as session:
        anns = make_samples(session, owner=make_session(session, user_id="..", session_id="a-1"))
        bobs = make_samples(session, owner=make_session(session, user_id="bob"))
        run = make_run(session)
        make_step(session, run, 2, list(bobs))
        make_step(session, run, 4, list(anns))
        for step in (3, 5):
            make_checkpoint(session, run, f"main-{step}", step)
        for name, from_step in (("early", 3), ("late", 5)):
            session.add(
                tables.Branch(
                    run_id=run.run_id,
                    name=name,
                    parent="main",
                    from_step=from_step,
                    from_checkpoint=None,
                    from_adoption=0,
                    created_at=1.0,
                )
            )
            make_step(session, run, from_step + 1, list(bobs), branch=name)
            make_checkpoint(session, run, f"{name}-8", 8).branch = name
        own = make_run(session, "own", representation=tables.DATASET)
        make_step(session, own, 1, list(anns))
        make_checkpoint(session, own, "own-1", 1)


@pytest.mark.usefixtures("drawn")
def test_the_answer_names_every_checkpoint_that_was_trained_on_them(shell: Shell) -> None:
    """A user's id may be what a path has a meaning for."""
    done = shell("forget", "user", "..", "--source", "demo", "--json")
    answer = json.loads(done.stdout.splitlines()[-1])  # the server's log lines come before
    named = [(each["run"], each["branch"], each["name"]) for each in answer["checkpoints"]]
    assert sorted(named) == [("online", "late", "late-8"), ("online", "main", "main-5")]
    assert (answer["num_sessions"], answer["num_samples"]) == (1, 3)


@pytest.mark.usefixtures("drawn")
def test_asked_again_it_names_the_same_checkpoints(as_role: AsRole) -> None:
    admin = as_role("admin")
    first = admin.delete("/v1/sessions/a-1", params=USER).json()
    again = admin.delete("/v1/sessions/a-1", params=USER).json()
    assert again["checkpoints"] == first["checkpoints"] != []
    assert again["num_samples"] == 0


@pytest.mark.usefixtures("drawn")
def test_the_terminal_says_what_went_and_what_was_trained_on_it(shell: Shell) -> None:
    done = shell("forget", "session", "a-1", "--source", "demo")
    assert "forgotten: 1 sessions, 3 events, 3 samples" in done.stdout
    assert "trained on it: online main-5 (main, step 5)" in done.stderr
    assert "backup" in done.stderr


def test_an_operator_may_not_forget(operator: TestClient) -> None:
    assert operator.delete("/v1/users/ann", params=USER).status_code == 403


def test_a_source_must_be_named(as_role: AsRole) -> None:
    assert as_role("admin").delete("/v1/users/ann").status_code == 422


def test_the_audit_log_names_the_tombstone_and_not_the_person(
    as_role: AsRole, engine: Engine
) -> None:
    admin = as_role("admin")
    answer = admin.delete("/v1/users/ann-0c41", params=USER).json()
    with read(engine) as session:
        [entry] = session.scalars(select(AuditEntry)).all()
    assert (entry.action, entry.subject) == ("user.forget", answer["tombstone_id"])
    assert "ann" not in entry.detail_json
    [listed] = admin.get("/v1/tombstones").json()["items"]
    assert listed["tombstone_id"] == answer["tombstone_id"]
    assert listed["finished_at"] is not None


def test_the_terminal_lists_who_is_forgotten_for_a_restore(shell: Shell, tmp_path: Path) -> None:
    shell("forget", "user", "ann", "--source", "demo")
    listed = shell("forget", "list", "--json")
    assert len(said(listed)["items"]) == 1
    assert "ann" not in listed.stdout
    wrong = tmp_path / "wrong.json"
    wrong.write_text("[]")
    refused = shell("restore", str(tmp_path), "--tombstones", str(wrong))
    assert "is not what `stovetop forget list --json` says" in refused.stderr
