"""Who may call: a FastAPI dependency that turns a request's API key into a `Caller`.

    @router.post("/v1/events")
    def receive(caller: Annotated[Caller, Depends(require("ingest"))]) -> ...

In: `Authorization: Bearer KEY` or `X-API-Key: KEY`. Out: the caller; else 401 (no key, or none of
ours) or 403 (ours, with another role). The app carries its database as `app.state.engine`.
"""

from collections.abc import Callable
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from ingest.database import read
from ingest.keys import Caller, Role, allows, authenticate
from ingest.problems import Problem

_BEARER = HTTPBearer(auto_error=False, description="an API key of `stovetop keys create`")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False)

Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]
Header = Annotated[str | None, Security(_HEADER)]


def require(*roles: Role) -> Callable[..., Caller]:
    """A dependency that lets callers of any of these roles in; without roles, any valid key."""

    def caller(request: Request, bearer: Bearer, header: Header) -> Caller:
        key = bearer.credentials if bearer else header
        if not key:
            raise _unauthorized("no API key: send `Authorization: Bearer KEY`")
        with read(request.app.state.engine) as session:
            known = authenticate(session, key)
        if known is None:
            raise _unauthorized(
                "the API key is unknown or revoked; make one: `stovetop keys create`"
            )
        if roles and not any(allows(known.role, role) for role in roles):
            raise Problem(
                403,
                "Forbidden",
                f"the key's role is {known.role}; this needs {' or '.join(roles)}",
            )
        return known

    return caller


def _unauthorized(detail: str) -> Problem:
    return Problem(401, "Unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
