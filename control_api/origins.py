"""Which requests are for this server at all: by the name they came to, and the page they come from.

In: `Host` and `Origin`. Out: the request, or 421 and 403. Guaranteed: a name that somebody else
points at our address (DNS rebinding) gets nothing, and no page of another site or port gets an
answer, whatever its method: CORS is closed. Decision: where the server listens on every address,
any address is taken, for a rebound name is a name; names are listed in `STOVETOP_ALLOWED_HOSTS`.
"""

import ipaddress
import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ingest.access import is_from_elsewhere
from ingest.problems import Problem
from ingest.settings import Settings

LOOPBACK = ("localhost", "127.0.0.1", "::1")
EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104  (compared, not bound)
REFUSED_CODE = 1008  # of a WebSocket: policy violation

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]{1,5})?", re.IGNORECASE)


class KnownOrigins:
    """Refuses requests for other hosts, and those of other origins' pages."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        listed = [name.strip() for name in settings.allowed_hosts.split(",")]
        self._hosts = {name.lower() for name in (*LOOPBACK, settings.host, *listed) if name}
        self._takes_addresses = settings.host in EVERY_ADDRESS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(Headers(scope=scope))
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": REFUSED_CODE})
        else:
            await refusal.response()(scope, receive, send)

    def _refusal(self, headers: Headers) -> Problem | None:
        hosts = headers.getlist("Host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return Problem(
                421,
                "Misdirected request",
                "Host: this server is not known by that name; if it is to be, "
                "name it in STOVETOP_ALLOWED_HOSTS",
            )
        if is_from_elsewhere(headers):
            return Problem(403, "Forbidden", "Origin: only this server's own page may ask")
        return None

    def _is_ours(self, host: str) -> bool:
        form = _HOST.fullmatch(host)
        if form is None:
            return False
        name = (form[1] or form[2]).lower()
        return name in self._hosts or (self._takes_addresses and _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
