"""Commands for who gets in: keys are made, listed and revoked on the machine; the audit log."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from control_api.cli.options import DEFAULT_URL, AsJson, Data, Key, Url, remote, settings_of
from control_api.cli.output import CommandFailed, answer, table, talk

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

DAY_S = 86_400.0


def create_key(  # noqa: PLR0913  (each is an option of the command)
    role: Annotated[str, typer.Option(help="ingest, player, viewer, operator or admin.")],
    *,
    data: Data = None,
    source: Annotated[
        str | None,
        typer.Option(help="What its events and commands belong to. [the role]", show_default=False),
    ] = None,
    days: Annotated[
        float | None, typer.Option(help="How many days it is good. [until it is revoked]")
    ] = None,
    max_lr_factor: Annotated[
        float | None, typer.Option(help="How far one command may move an lr, up or down.")
    ] = None,
    max_commands: Annotated[int | None, typer.Option(help="How many it may ask a run.")] = None,
    trusted: Annotated[
        bool, typer.Option("--trusted", help="Release its source; the first one is anyway.")
    ] = False,
    needs_approval: Annotated[
        bool, typer.Option("--needs-approval", help="Its commands wait for `stovetop approve`.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make an API key; it is shown this once. An agent gets one of its own, with limits."""
    from control_api.audit import local_caller, record
    from ingest import keys

    if trusted and role != "ingest":
        raise CommandFailed(f"--trusted: is for what a key of role ingest sends, not {role}")
    limits = keys.Limits(max_lr_factor, max_commands, needs_approval)
    expires_at = None if days is None else time.time() + days * DAY_S
    with _writing(data) as session:
        try:
            key = keys.create_key(
                session,
                role,  # type: ignore[arg-type]  # checked there, by its name
                source or role,
                limits,
                expires_at=expires_at,
            )
        except ValueError as error:
            raise CommandFailed(str(error)) from error
        caller = keys.authenticate(session, key)
        assert caller is not None
        is_released = _is_released(session, caller.source, trusted) if role == "ingest" else None
        value = {
            "key_id": caller.key_id,
            "role": caller.role,
            "source": caller.source,
            "is_released": is_released,
            "expires_at": expires_at,
            "limits": asdict(limits),
        }
        told = {name: told for name, told in value.items() if name != "key_id"}
        record(session, local_caller(), "key.create", caller.key_id, **told)
    answer({"key": key, **value}, as_json=as_json, text=key)
    if not as_json:
        _tell(caller.role, caller.source, is_released)


def _tell(role: str, source: str, is_released: bool | None) -> None:
    talk(f"role {role}, source {source}; keep it, it can't be shown again")
    if is_released is False:
        talk(
            "what it sends is stored, and in no slice until somebody says "
            f"`stovetop sources release {source}`"
        )


def list_keys(data: Data = None, as_json: AsJson = False) -> None:
    """List the keys and the browsers that are signed in, newest first; never a key itself."""
    from sqlalchemy import select

    from control_api.keys import Key
    from ingest.tables import ApiKey

    with _writing(data) as session:
        rows = session.scalars(select(ApiKey).order_by(ApiKey.created_at.desc(), ApiKey.key_id))
        items: list[dict[str, Any]] = [Key.model_validate(row).model_dump() for row in rows]
    if as_json:
        answer({"items": items, "total": len(items)}, as_json=True, text="")
        return
    now = time.time()
    table(
        ("id", "kind", "role", "source", "made", "last used", "state"),
        (
            (
                item["key_id"],
                item["kind"],
                item["role"],
                item["source"],
                _day(item["created_at"]),
                _day(item["last_used_at"]),
                _state(item, now),
            )
            for item in items
        ),
    )


def revoke_key(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As in `stovetop keys list`.")],
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a key: the next request with it is refused, and browsers signed in with it are out."""
    from control_api.audit import local_caller
    from control_api.keys import revoke_key as revoke_in

    with _writing(data) as session:
        try:
            revoked = revoke_in(session, local_caller(), key_id)
        except LookupError as error:
            raise CommandFailed(f"{error}; see `stovetop keys list`") from error
    text = f"{key_id} ({revoked.role}, {revoked.source}) is revoked"
    answer(revoked.model_dump(), as_json=as_json, text=text)


def sign_in(
    data: Data = None,
    role: Annotated[str, typer.Option(help="What the browser may: viewer, operator, admin.")] = (
        "viewer"
    ),
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Print an address that signs one browser in, once, within an hour."""
    from control_api.audit import local_caller
    from control_api.sign_in import new_address

    with _writing(data) as session:
        try:
            page = new_address(session, url.rstrip("/"), local_caller(), role)  # type: ignore[arg-type]
        except ValueError as error:
            raise CommandFailed(str(error)) from error
    answer({"page": page, "role": role}, as_json=as_json, text=page)


def audit(
    *,
    url: Url = DEFAULT_URL,
    key: Key = "",
    actor: Annotated[str | None, typer.Option(help="Only what this one changed.")] = None,
    action: Annotated[str | None, typer.Option(help="Only such, as slice.save.")] = None,
    limit: Annotated[int, typer.Option(help="How many, newest first.", min=1, max=1000)] = 50,
    as_json: AsJson = False,
) -> None:
    """Who changed what, when and from where; with an admin's key."""
    page = remote(url, key).get("/v1/audit", limit=limit, actor=actor, action=action)
    if as_json:
        answer(page, as_json=True, text="")
        return
    names = ("actor", "address", "action", "subject", "request_id")
    table(
        ("when", *names),
        ((_minute(item["at"]), *(item[name] or "" for name in names)) for item in page["items"]),
    )


@contextmanager
def _writing(data: Path | None) -> "Iterator[Session]":
    """One transaction on the installation in a folder, its schema brought up to date."""
    from ingest.database import open_engine, upgrade, write

    settings = settings_of(data)
    upgrade(settings)
    engine = open_engine(settings.resolved_database_url)
    try:
        with write(engine) as session:
            yield session
    finally:
        engine.dispose()


def _is_released(session: "Session", source: str, is_trusted: bool) -> bool:
    from ingest.sources import introduce

    return introduce(session, source, is_trusted=is_trusted).released_at is not None


def _state(item: dict[str, Any], now: float) -> str:
    if item["revoked_at"] is not None:
        return "used" if item["kind"] == "link" else "revoked"
    if item["expires_at"] is None:
        return "good"
    verb = "expired" if item["expires_at"] <= now else "good until"
    return f"{verb} {_minute(item['expires_at'])}"


def _day(seconds: float | None) -> str:
    return "never" if seconds is None else time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _minute(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))
