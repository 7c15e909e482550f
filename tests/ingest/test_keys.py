"""API keys and who they let in; this installation's name."""

import time

import pytest
from sqlalchemy import Engine

from ingest.database import read, write
from ingest.instance import ensure_instance
from ingest.keys import (
    LAST_USED_EVERY_S,
    ROLES,
    UNLIMITED,
    Caller,
    Kind,
    Limits,
    Role,
    allows,
    authenticate,
    create_key,
    find_key,
    record_use,
    revoke,
)
from ingest.tables import ApiKey


def make_key(
    engine: Engine, role: Role = "ingest", source: str = "demo", limits: Limits = UNLIMITED
) -> str:
    with write(engine) as session:
        return create_key(session, role, source, limits)


def caller_of(engine: Engine, key: str) -> Caller | None:
    with read(engine) as session:
        return authenticate(session, key)


def test_a_key_names_its_caller(engine: Engine) -> None:
    key = make_key(engine, "operator", "neuralos-eu")
    caller = caller_of(engine, key)
    assert caller is not None
    assert (caller.role, caller.source) == ("operator", "neuralos-eu")
    assert key.startswith(f"st_{caller.key_id}_")


def test_the_key_itself_is_not_kept(engine: Engine) -> None:
    key = make_key(engine)
    with read(engine) as session:
        row = session.get_one(ApiKey, key.split("_")[1])
        assert key.split("_", 2)[2] not in str(vars(row))


def test_a_key_with_another_secret_is_nobody(engine: Engine) -> None:
    key = make_key(engine)
    forged = key[:-1] + ("A" if key[-1] != "A" else "B")
    assert caller_of(engine, forged) is None


@pytest.mark.parametrize(
    "key", ["", "st_", "st_" + "0" * 16 + "_" + "A" * 43, "x" * 5_000, "st_\u00e9"]
)
def test_what_is_no_key_is_nobody(engine: Engine, key: str) -> None:
    assert caller_of(engine, key) is None


def test_a_revoked_key_is_nobody(engine: Engine) -> None:
    key = make_key(engine)
    with write(engine) as session:
        revoke(session, key.split("_")[1])
    assert caller_of(engine, key) is None


def test_revoking_a_key_again_keeps_the_first_time(engine: Engine) -> None:
    key_id = make_key(engine).split("_")[1]
    with write(engine) as session:
        first = revoke(session, key_id).revoked_at
        assert revoke(session, key_id).revoked_at == first


def test_revoking_what_is_no_key_says_so(engine: Engine) -> None:
    with write(engine) as session, pytest.raises(LookupError, match="'nobody'"):
        revoke(session, "nobody")


def test_an_expired_key_is_nobody(engine: Engine) -> None:
    with write(engine) as session:
        key = create_key(session, "viewer", "demo", expires_at=time.time() + 60)
        assert authenticate(session, key) is not None
        session.get_one(ApiKey, key.split("_")[1]).expires_at = time.time() - 1e-3
        assert authenticate(session, key) is None


@pytest.mark.parametrize("expires_at", [0.0, float("nan"), float("inf"), -1.0])
def test_a_key_that_is_over_before_it_begins_is_refused(engine: Engine, expires_at: float) -> None:
    with write(engine) as session, pytest.raises(ValueError, match="expires_at: "):
        create_key(session, "viewer", "demo", expires_at=expires_at)


@pytest.mark.parametrize("kind", ["link", "browser"])
def test_what_signs_a_browser_in_or_keeps_it_signed_in_is_no_key(
    engine: Engine, kind: Kind
) -> None:
    with write(engine) as session:
        key = create_key(session, "admin", "page", kind=kind)
        assert authenticate(session, key) is None
        assert find_key(session, key, kind=kind) is not None


def test_a_use_is_noted_once_a_minute(engine: Engine) -> None:
    key_id = make_key(engine).split("_")[1]
    with write(engine) as session:
        row = session.get_one(ApiKey, key_id)
        record_use(session, key_id)
        session.refresh(row)
        first = row.last_used_at
        assert first is not None
        record_use(session, key_id)
        session.refresh(row)
        assert row.last_used_at == first
        row.last_used_at = first - LAST_USED_EVERY_S - 1
        session.flush()
        record_use(session, key_id)
        session.refresh(row)
        assert row.last_used_at >= first


def test_a_role_that_does_not_exist_is_refused(engine: Engine) -> None:
    with pytest.raises(ValueError, match="role: 'root' is none of"):
        make_key(engine, "root")  # type: ignore[arg-type]  # what a command line may pass


def test_a_source_must_be_a_word(engine: Engine) -> None:
    with pytest.raises(ValueError, match="source: "):
        make_key(engine, source="a source")


def test_a_key_keeps_its_limits(engine: Engine) -> None:
    limits = Limits(max_lr_factor=10.0, max_commands=20, needs_approval=True)
    caller = caller_of(engine, make_key(engine, "operator", "agent", limits))
    assert caller is not None
    assert caller.limits == limits


@pytest.mark.parametrize(
    ("role", "limits", "field"),
    [
        ("operator", Limits(max_lr_factor=0.5), "max_lr_factor"),
        ("operator", Limits(max_lr_factor=float("nan")), "max_lr_factor"),
        ("operator", Limits(max_commands=0), "max_commands"),
        ("admin", Limits(needs_approval=True), "role"),
        ("viewer", Limits(max_commands=1), "role"),
    ],
)
def test_a_limit_that_can_be_none_is_refused(
    engine: Engine, role: Role, limits: Limits, field: str
) -> None:
    with pytest.raises(ValueError, match=f"{field}: "):
        make_key(engine, role, limits=limits)


def test_an_admin_may_do_everything() -> None:
    assert all(allows("admin", needed) for needed in ROLES)


def test_an_ingest_key_may_only_ingest() -> None:
    assert [needed for needed in ROLES if allows("ingest", needed)] == ["ingest"]


def test_an_operator_may_look_but_not_send_events() -> None:
    assert allows("operator", "viewer")
    assert not allows("operator", "ingest")


def test_an_installation_keeps_its_name(engine: Engine) -> None:
    with write(engine) as session:
        first = ensure_instance(session)
    with write(engine) as session:
        assert ensure_instance(session) == first
    assert len(first) == 32
