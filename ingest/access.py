"""Who may call: FastAPI dependencies that turn a request's API key or cookie into a `Caller`.

    @router.post("/v1/events")
    def receive(caller: Annotated[Caller, Depends(require("ingest"))]) -> ...

In: `Authorization: Bearer KEY`, `X-API-Key: KEY`, or the cookie of a signed-in browser. Out: the
caller; else 401 (none of ours), 403 (ours, with another role; or a change by cookie that another
site asks for) or 429. The app carries `state.engine` and `state.rates`.
Guaranteed: a cookie changes nothing unless the browser says, by `Origin`, that a page of this very
server asks. Decision: what a route needs is an object and not a closure, so that an app can refuse
to start with a route that declares nothing (`control_api.guard`).
"""

from typing import Annotated

import structlog
from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from starlette.datastructures import Headers

from ingest.database import read, write
from ingest.keys import ROLES, Caller, Kind, Role, allows, caller_of, find_key, record_use
from ingest.problems import Problem
from ingest.rates import Rates

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

_BEARER = HTTPBearer(auto_error=False, description="an API key of `stovetop keys create`")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False)

Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]
Header = Annotated[str | None, Security(_HEADER)]

log = structlog.get_logger()


def cookie_name(request: Request) -> str:
    """The cookie of this server: a browser gives all ports of a host the same cookies."""
    return f"stovetop-{request.url.port or 'page'}"


def is_from_elsewhere(headers: Headers) -> bool:
    """Whether a page of another site, or of another port, has made the browser ask."""
    origin = headers.get("Origin")
    return origin is not None and origin.partition("://")[2] != headers.get("Host")


def address_of(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client else "unknown"


def request_id_of(request: Request) -> str | None:
    """The request's id, where the app gives any."""
    request_id: str | None = getattr(request.state, "request_id", None)
    return request_id


def authenticated(request: Request, bearer: Bearer, header: Header) -> Caller:
    """Whose request this is, whatever the role. Raises Problem 401, 403 or 429."""
    key = bearer.credentials if bearer else header
    if key:
        return _known(request, key, "key")
    cookie = request.cookies.get(cookie_name(request))
    if cookie:
        _check_own_page(request)
        return _known(request, cookie, "browser")
    raise refused(request, "no API key: send `Authorization: Bearer KEY`")


class Require:
    """A dependency that lets callers of any of these roles in."""

    def __init__(self, roles: tuple[Role, ...]) -> None:
        self._roles = roles

    async def __call__(self, caller: Annotated[Caller, Depends(authenticated)]) -> Caller:
        """The caller, if the role fits."""
        if not self.lets_in(caller.role):
            raise Problem(
                403,
                "Forbidden",
                f"the key's role is {caller.role}; this needs {' or '.join(self._roles)}",
            )
        return caller

    def lets_in(self, role: Role) -> bool:
        """Whether a caller of this role may go on."""
        return any(allows(role, needed) for needed in self._roles)


def require(*roles: Role) -> Require:
    """A dependency that lets callers of any of these roles in; without roles, any valid key."""
    return Require(roles or ROLES)


async def open_to_all() -> None:
    """Declares that a route needs no key; what declares nothing is not served at all."""


def refused(request: Request, detail: str) -> Problem:
    """The 401 for a request without a good key; counted, so that it may become a 429."""
    rates_of(request).take_failure(address_of(request))
    return Problem(401, "Unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def rates_of(request: Request) -> Rates:
    """The allowances that this process counts."""
    rates: Rates = request.app.state.rates
    return rates


def _known(request: Request, key: str, kind: Kind) -> Caller:
    engine: Engine = request.app.state.engine
    with read(engine) as session:
        row = find_key(session, key, kind=kind)
    if row is None:
        raise refused(request, _UNKNOWN[kind])
    rates = rates_of(request)
    rates.take_request(row.parent_id or row.key_id)
    if rates.is_use_to_record(row.key_id):
        _record_use(engine, row.key_id)
    return caller_of(row, address=address_of(request), request_id=request_id_of(request))


def _check_own_page(request: Request) -> None:
    if request.method in SAFE_METHODS:
        return
    if "Origin" not in request.headers or is_from_elsewhere(request.headers):
        raise Problem(
            403,
            "Forbidden",
            "Origin: a signed-in browser changes things from this server's own page only; "
            "programs send `Authorization: Bearer KEY`",
        )


def _record_use(engine: Engine, key_id: str) -> None:
    try:
        with write(engine) as session:
            record_use(session, key_id)
    except OperationalError as error:  # it can wait: the next one is a minute away
        log.warning("key_use_not_recorded", key_id=key_id, error=str(error))


_UNKNOWN: dict[Kind, str] = {
    "key": "the API key is unknown, expired or revoked; make one: `stovetop keys create`",
    "browser": "this browser is signed in no longer; sign in again",
}
