"""Every change is written down with its transaction: who, what, from where, in which request."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx import Response
from sqlalchemy import Engine, event, func, select

from control_api.guard import DESCRIPTION_PATH
from ingest.access import SAFE_METHODS
from ingest.database import read, write
from ingest.keys import Limits, Role, create_key
from ingest.tables import ApiKey, AuditEntry, Slice, Source
from tests.control_api.conftest import BASE_URL, AsRole
from tests.control_api.rows import make_checkpoint, make_run
from tests.control_api.shell import Shell, said
from tests.control_api.test_access import routes
from trainer.commands import queue as command_queue
from trainer.commands.queue import Settlement

LR = {"kind": "set_lr", "args": {"value": 0.02}, "reason": "why not"}
# What sends data, and a look that takes a body.
NO_CHANGE = {"POST /v1/events", "POST /v1/logs/neuralos", "POST /v1/mixes/preview"}


@dataclass
class World:
    """An installation with a run, and somebody who may do all."""

    admin: TestClient
    engine: Engine
    checkpoint_id: str

    def ask(self, headers: dict[str, str] | None = None) -> str:
        """A command that waits, or a proposal."""
        answer = self.admin.post("/v1/runs/online/commands", json=LR, headers=headers)
        command_id: str = answer.json()["command_id"]
        return command_id

    def applied(self) -> str:
        """A command that may be undone."""
        command_id = self.ask()
        settled = Settlement(
            command_id, "applied", at=1.0, branch="main", effective_step=11, before={"lr": 0.01}
        )
        with write(self.engine) as session:
            command_queue.settle(session, settled)
        return command_id

    def proposed(self) -> str:
        """A command that waits for approval."""
        with write(self.engine) as session:
            key = create_key(session, "operator", "agent", Limits(needs_approval=True))
        return self.ask({"Authorization": f"Bearer {key}"})

    def key(self, role: Role = "viewer") -> str:
        """A key that somebody has."""
        with write(self.engine) as session:
            return create_key(session, role, "somebody")

    def source(self) -> str:
        """A source that nobody has released."""
        with write(self.engine) as session:
            session.add(Source(name="new", created_at=1.0))
        return "new"

    def signed_in(self) -> dict[str, str]:
        """The headers of a browser that is signed in."""
        browser = TestClient(self.admin.app, BASE_URL)
        browser.post("/v1/sign-in", json={"key": self.key()})
        cookie = browser.cookies["stovetop-page"]
        return {"Cookie": f"stovetop-page={cookie}", "Origin": BASE_URL, "Authorization": ""}


@pytest.fixture
def world(as_role: AsRole, engine: Engine) -> World:
    """An installation with a run that has a checkpoint."""
    with write(engine) as session:
        run = make_run(session, lr=0.01)
        checkpoint = make_checkpoint(session, run, "before", 5)
    return World(as_role("admin"), engine, checkpoint.checkpoint_id)


def saved(world: World) -> Response:
    return world.admin.post("/v1/slices", json={"name": "all", "filter": ""})


def mixed(world: World) -> Response:
    saved(world)
    return world.admin.post("/v1/mixes", json={"name": "only", "shares": {"all": 1.0}})


# For each route that changes something: a request that does, and the action that it is.
CHANGES: dict[str, tuple[str, Callable[[World], Response]]] = {
    "POST /v1/slices": ("slice.save", saved),
    "POST /v1/mixes": ("mix.save", mixed),
    "POST /v1/runs/{run}/commands": (
        "command.ask",
        lambda world: world.admin.post("/v1/runs/online/commands", json=LR),
    ),
    "POST /v1/commands/{command_id}/undo": (
        "command.ask",
        lambda world: world.admin.post(f"/v1/commands/{world.applied()}/undo"),
    ),
    "POST /v1/commands/{command_id}/cancel": (
        "command.cancel",
        lambda world: world.admin.post(f"/v1/commands/{world.ask()}/cancel"),
    ),
    "DELETE /v1/commands/{command_id}": (
        "command.cancel",
        lambda world: world.admin.delete(f"/v1/commands/{world.ask()}"),
    ),
    "POST /v1/commands/{command_id}/approve": (
        "command.approve",
        lambda world: world.admin.post(f"/v1/commands/{world.proposed()}/approve"),
    ),
    "POST /v1/commands/{command_id}/refuse": (
        "command.refuse",
        lambda world: world.admin.post(
            f"/v1/commands/{world.proposed()}/refuse", json={"reason": "no"}
        ),
    ),
    "POST /v1/checkpoints/{checkpoint_id}/evaluations": (
        "evaluation.ask",
        lambda world: world.admin.post(
            f"/v1/checkpoints/{world.checkpoint_id}/evaluations", json={"suite": "fresh"}
        ),
    ),
    "PATCH /v1/sources/{name}": (
        "source.release",
        lambda world: world.admin.patch(
            f"/v1/sources/{world.source()}", json={"is_released": True}
        ),
    ),
    "DELETE /v1/users/{user_id}": (
        "user.forget",
        lambda world: world.admin.delete("/v1/users/ann", params={"source": "demo"}),
    ),
    "DELETE /v1/sessions/{session_id}": (
        "session.forget",
        lambda world: world.admin.delete("/v1/sessions/s-1", params={"source": "demo"}),
    ),
    "DELETE /v1/keys/{key_id}": (
        "key.revoke",
        lambda world: world.admin.delete(f"/v1/keys/{world.key().split('_')[1]}"),
    ),
    "POST /v1/sign-in": (
        "sign_in",
        lambda world: world.admin.post("/v1/sign-in", json={"key": world.key()}),
    ),
    "DELETE /v1/sign-in": (
        "sign_out",
        lambda world: world.admin.delete("/v1/sign-in", headers=world.signed_in()),
    ),
}


def newest(engine: Engine) -> AuditEntry:
    with read(engine) as session:
        query = select(AuditEntry).order_by(AuditEntry.number.desc()).limit(1)
        return session.scalars(query).one()


def test_every_route_that_changes_something_is_known_here(app: FastAPI) -> None:
    unsafe = {f"{method} {path}" for method, path, _ in routes(app) if method not in SAFE_METHODS}
    assert unsafe == CHANGES.keys() | NO_CHANGE
    assert DESCRIPTION_PATH not in unsafe


@pytest.mark.parametrize("route", CHANGES)
def test_a_change_is_written_down(world: World, route: str) -> None:
    action, change = CHANGES[route]
    answer = change(world)
    assert answer.is_success, answer.text
    entry = newest(world.engine)
    assert (entry.action, entry.address) == (action, "testclient")
    assert entry.request_id == answer.headers["X-Request-ID"]


def test_an_entry_says_who_and_what(world: World) -> None:
    world.ask()
    me = world.admin.get("/v1/instance").json()["actor"]
    [entry] = world.admin.get("/v1/audit", params={"actor": me}).json()["items"]
    assert entry["actor"] == me
    assert entry["detail"]["reason"] == "why not"
    assert entry["detail"]["args"]["value"] == 0.02


def test_no_secret_is_written_down(world: World) -> None:
    key = world.key("operator")
    browser = TestClient(world.admin.app, BASE_URL)
    browser.post("/v1/sign-in", json={"key": key})
    secrets = {key.split("_", 2)[2], browser.cookies["stovetop-page"].split("_", 2)[2]}
    with read(world.engine) as session:
        told = " ".join(str(vars(row)) for row in session.scalars(select(AuditEntry)))
        told += " ".join(str(vars(row)) for row in session.scalars(select(ApiKey)))
    assert not [secret for secret in secrets if secret in told]


def test_a_change_that_can_not_be_written_down_does_not_happen(world: World) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("no room")

    event.listen(AuditEntry, "before_insert", full)
    try:
        answer = saved(world)
        assert answer.status_code == 500
        assert answer.headers["X-Request-ID"] in answer.json()["detail"]
    finally:
        event.remove(AuditEntry, "before_insert", full)
    with read(world.engine) as session:
        assert session.scalar(select(func.count()).select_from(Slice)) == 0


def test_what_is_refused_leaves_no_entry(world: World) -> None:
    body: dict[str, Any] = {"name": "no name", "filter": ""}
    assert world.admin.post("/v1/slices", json=body).status_code == 422
    with read(world.engine) as session:
        assert session.scalar(select(func.count()).select_from(AuditEntry)) == 0


def test_keys_are_listed_with_their_use_and_revoked_at_the_terminal(
    shell: Shell, world: World
) -> None:
    made = said(shell("keys", "create", "--role", "viewer", "--days", "1", "--json"))
    client = TestClient(world.admin.app, BASE_URL, headers={"X-API-Key": made["key"]})
    assert client.get("/v1/runs").status_code == 200
    rows = {row["key_id"]: row for row in said(shell("keys", "list", "--json"))["items"]}
    row = rows[made["key_id"]]
    assert row["last_used_at"] is not None
    assert row["expires_at"] == made["expires_at"]
    assert "digest" not in row
    assert said(shell("keys", "revoke", made["key_id"], "--json"))["revoked_at"] is not None
    assert client.get("/v1/runs").status_code == 401
    assert "revoked" in shell("keys", "list").stdout
    assert shell("keys", "revoke", "nobody").exit_code == 1


def test_what_was_done_at_the_terminal_is_in_the_log_too(shell: Shell) -> None:
    made = said(shell("keys", "create", "--role", "viewer", "--json"))
    entry = said(shell("audit", "--action", "key.create", "--json"))["items"][0]
    assert (entry["subject"], entry["address"]) == (made["key_id"], "local")
    assert entry["actor"].startswith("cli/")
    assert made["key_id"] in shell("audit").stdout


def test_an_address_to_sign_in_is_made_at_the_terminal(shell: Shell, world: World) -> None:
    made = said(shell("sign-in", "--role", "operator", "--url", BASE_URL, "--json"))
    token = made["page"].removeprefix(f"{BASE_URL}/#once=")
    answer = world.admin.post("/v1/sign-in", json={"key": token})
    assert answer.json()["role"] == "operator"


def test_an_admin_lists_and_revokes_keys_over_the_api(world: World) -> None:
    key = world.key()
    [row] = world.admin.get("/v1/keys", params={"source": "somebody"}).json()["items"]
    assert row["key_id"] == key.split("_")[1]
    assert "digest" not in row
    assert world.admin.delete(f"/v1/keys/{row['key_id']}").json()["revoked_at"] is not None
    assert world.admin.delete("/v1/keys/nobody").status_code == 404
