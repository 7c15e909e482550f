"""Commands for who sends: which sources there are, and which of them runs may learn from."""

from typing import Annotated
from urllib.parse import quote

import typer

from control_api.cli.options import DEFAULT_URL, AsJson, Key, Url, remote
from control_api.cli.output import answer, table

SourceName = Annotated[str, typer.Argument(metavar="NAME", help="As in `stovetop sources list`.")]


def list_sources(url: Url = DEFAULT_URL, key: Key = "", as_json: AsJson = False) -> None:
    """List the sources; a quarantined one is stored and replayed, and in no slice."""
    items = list(remote(url, key).pages("/v1/sources"))
    if as_json:
        answer({"items": items, "total": len(items)}, as_json=True, text="")
        return
    table(
        ("name", "state", "redaction"),
        (
            (item["name"], _state(item["released_at"] is not None), item["redaction"])
            for item in items
        ),
    )


def release(
    name: SourceName, url: Url = DEFAULT_URL, key: Key = "", as_json: AsJson = False
) -> None:
    """Let runs learn from a source; with an admin's key."""
    _change(name, url, key, is_released=True, as_json=as_json)


def withdraw(
    name: SourceName, url: Url = DEFAULT_URL, key: Key = "", as_json: AsJson = False
) -> None:
    """Take a source's samples out of all slices; with an admin's key."""
    _change(name, url, key, is_released=False, as_json=as_json)


def redact(
    name: SourceName,
    redaction: Annotated[
        str, typer.Argument(metavar="keep|mask|drop", help="Of the characters that people type.")
    ],
    url: Url = DEFAULT_URL,
    key: Key = "",
    as_json: AsJson = False,
) -> None:
    """Redact what a source sends from now on, before it is kept; with an admin's key."""
    changed = remote(url, key).patch(_path(name), {"redaction": redaction})
    answer(changed, as_json=as_json, text=f"{name} is redacted from now on: {redaction}")


def _change(name: str, url: str, key: str, *, is_released: bool, as_json: bool) -> None:
    changed = remote(url, key).patch(_path(name), {"is_released": is_released})
    text = f"{name} is {_state(is_released)}; runs follow with their next adoption"
    answer(changed, as_json=as_json, text=text)


def _path(name: str) -> str:
    return f"/v1/sources/{quote(name, safe='')}"


def _state(is_released: bool) -> str:
    return "released" if is_released else "quarantined"
