"""Signing in: a one-time address or a key becomes a browser's session, in a cookie it can't read.

In: the token of an address that was printed on the machine, or a key. Out: a cookie, HttpOnly and
SameSite=Strict, good for `browser_session_s` or as long as the key. Guaranteed: an address signs
one browser in, once, and only the one printed last does; the token stays in the address's fragment,
which no server, proxy or log sees. Decision: a session is a row beside the keys, of which only the
hash is kept; it can be listed and revoked like any, and it ends with the key that it came from.
"""

import time
from typing import cast

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import CursorResult, delete, update
from sqlalchemy.orm import Session

from control_api.audit import record
from control_api.request import Database
from ingest.access import (
    address_of,
    cookie_name,
    open_to_all,
    rates_of,
    refused,
    request_id_of,
    require,
)
from ingest.database import read, write
from ingest.keys import Caller, Role, caller_of, create_key, find_key, revoke
from ingest.openapi import problems
from ingest.settings import Settings
from ingest.tables import ApiKey

SOURCE = "page"
ADDRESS_S = 3600.0
KEPT_AFTER_END_S = 7 * 86_400.0

router = APIRouter(prefix="/v1", tags=["sign-in"])


class SignIn(BaseModel):
    """Who signs in."""

    model_config = ConfigDict(extra="forbid")

    key: str = Field(max_length=200, description="a key, or the token of a one-time address")


class SignedIn(BaseModel):
    """The browser's session has begun."""

    role: Role
    source: str
    expires_at: float


def new_address(session: Session, url: str, caller: Caller, role: Role = "viewer") -> str:
    """An address that signs one browser in, within an hour; earlier ones that wait are over."""
    waiting = (ApiKey.kind == "link", ApiKey.revoked_at.is_(None))
    session.execute(update(ApiKey).where(*waiting).values(revoked_at=time.time()))
    token = create_key(session, role, SOURCE, kind="link", expires_at=time.time() + ADDRESS_S)
    record(session, caller, "sign_in.offer", token.split("_")[1], role=role)
    return f"{url}/#once={token}"


@router.post(
    "/sign-in",
    dependencies=[Depends(open_to_all)],
    responses=problems(400, 401, 403, 408, 413, 422, 429, 503),
)
def sign_in(request: Request, response: Response, engine: Database, asked: SignIn) -> SignedIn:
    """Begin a browser's session; the answer sets its cookie."""
    with read(engine) as session:  # a wrong key costs no writer's turn
        row = _key_of(session, asked.key)
    if row is None:
        raise _refusal(request)
    rates_of(request).take_change(row.key_id)
    settings: Settings = request.app.state.settings
    with write(engine) as session:
        row = _key_of(session, asked.key)
        if row is None or not _spent(session, row):
            raise _refusal(request)
        _end_session_of(session, request)
        cookie, signed_in = _begin(session, row, settings.browser_session_s)
        caller = caller_of(row, address=address_of(request), request_id=request_id_of(request))
        record(session, caller, "sign_in", cookie.split("_")[1], role=row.role, by=row.kind)
    response.set_cookie(
        cookie_name(request),
        cookie,
        max_age=int(signed_in.expires_at - time.time()),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return signed_in


@router.delete(
    "/sign-in",
    status_code=204,
    dependencies=[Depends(require())],
    responses=problems(400, 401, 403, 429, 503),
)
def sign_out(request: Request, response: Response, engine: Database) -> None:
    """End this browser's session."""
    with write(engine) as session:
        _end_session_of(session, request)
    response.delete_cookie(cookie_name(request), httponly=True, samesite="strict")


def _key_of(session: Session, key: str) -> ApiKey | None:
    return find_key(session, key, kind="link") or find_key(session, key, kind="key")


def _spent(session: Session, row: ApiKey) -> bool:
    """Whether this is the one request that the token of an address is good for."""
    if row.kind != "link":
        return True
    first = update(ApiKey).where(ApiKey.key_id == row.key_id, ApiKey.revoked_at.is_(None))
    spent = session.execute(first.values(revoked_at=time.time()))
    return cast("CursorResult[object]", spent).rowcount == 1


def _begin(session: Session, row: ApiKey, lasts_s: float) -> tuple[str, SignedIn]:
    now = time.time()
    over = (ApiKey.kind != "key", ApiKey.expires_at < now - KEPT_AFTER_END_S)
    session.execute(delete(ApiKey).where(*over))
    is_key = row.kind == "key"
    expires_at = now + lasts_s
    if is_key and row.expires_at is not None:
        expires_at = min(expires_at, row.expires_at)
    caller = caller_of(row)
    cookie = create_key(
        session,
        caller.role,
        caller.source,
        caller.limits,
        kind="browser",
        expires_at=expires_at,
        parent_id=row.key_id if is_key else None,
    )
    return cookie, SignedIn(role=caller.role, source=caller.source, expires_at=expires_at)


def _end_session_of(session: Session, request: Request) -> None:
    row = find_key(session, request.cookies.get(cookie_name(request), ""), kind="browser")
    if row is None:
        return
    revoke(session, row.key_id)
    caller = caller_of(row, address=address_of(request), request_id=request_id_of(request))
    record(session, caller, "sign_out", row.key_id)


def _refusal(request: Request) -> Exception:
    return refused(
        request,
        "key: unknown, expired, revoked, or an address that was used already; "
        "make another: `stovetop sign-in`",
    )
