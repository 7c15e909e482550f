"""Default deny: an app with a route that does not say who may call it does not start.

In: an app. Out: nothing, or `Undeclared` naming the routes. Every route of ours declares
`Depends(require(...))` or `Depends(open_to_all)`, on itself or on its router; what was not made by
FastAPI (a mount, a bare Starlette route) can declare nothing, so only the API's own description is
let through.
"""

from collections.abc import Iterator

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext, iter_route_contexts

from ingest.access import Require, open_to_all
from ingest.keys import ROLES, Role

DESCRIPTION_PATH = "/openapi.json"


class Undeclared(RuntimeError):
    """A route would be served to anybody because nobody thought about it."""


def check_guarded(app: FastAPI) -> None:
    """Raises Undeclared for routes that do not declare who may call them."""
    undeclared = [
        str(route.path)
        for route in iter_route_contexts(app.routes)
        if route.path != DESCRIPTION_PATH and not any(_declared(route))
    ]
    if undeclared:
        raise Undeclared(
            f"{', '.join(undeclared)}: no role is declared; give the route or its router "
            "dependencies=[Depends(require(ROLE))], or Depends(open_to_all)"
        )


def roles_of(route: RouteContext) -> frozenset[Role] | None:
    """The roles that a route lets in; None: everybody, without a key."""
    needed = [call for call in _declared(route) if isinstance(call, Require)]
    if not needed:
        return None
    return frozenset(role for role in ROLES if all(each.lets_in(role) for each in needed))


def _declared(route: RouteContext) -> Iterator[object]:
    dependant: Dependant | None = getattr(route, "dependant", None)
    if dependant is not None:
        yield from _declarations(dependant)


def _declarations(dependant: Dependant) -> Iterator[object]:
    for needed in dependant.dependencies:
        if isinstance(needed.call, Require) or needed.call is open_to_all:
            yield needed.call
        yield from _declarations(needed)
