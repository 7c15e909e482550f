"""The page at `/`: one self-contained file that shows an installation at a glance.

It holds no data: its script asks the API with the key that it is given in the address's fragment,
which no server ever sees. Guaranteed: nothing but this very script runs in it, by its hash.
"""

import base64
import hashlib
import re
from importlib.resources import files

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse

from ingest.access import open_to_all

PAGE = files("control_api").joinpath("page.html").read_text("utf-8")

router = APIRouter(dependencies=[Depends(open_to_all)])


@router.get("/", response_class=HTMLResponse, include_in_schema=False)
def get_page() -> HTMLResponse:
    """The page."""
    return HTMLResponse(PAGE, headers=_HEADERS)


def _policy(page: str) -> str:
    """The strictest policy under which the page still works."""
    allowed = {"default": "'none'", "connect": "'self'", "img": "blob:"}
    for tag, directive in (("script", "script"), ("style", "style")):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert content is not None
        digest = base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()
        allowed[directive] = f"'sha256-{digest}'"
    policy = [f"{directive}-src {source}" for directive, source in allowed.items()]
    return "; ".join([*policy, "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"])


_HEADERS = {"Content-Security-Policy": _policy(PAGE), "Cache-Control": "no-cache"}
