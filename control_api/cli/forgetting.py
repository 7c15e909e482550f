"""The command that forgets a user or a session."""

import time
from typing import Annotated
from urllib.parse import quote, urlencode

import typer

from control_api.cli.options import DEFAULT_URL, AsJson, Key, Url, remote
from control_api.cli.output import answer, table, talk

WITHIN_S = 3_600.0

Source = Annotated[str, typer.Option("--source", help="What its events belong to.")]


def forget_user(
    user_id: Annotated[str, typer.Argument(metavar="ID", help="As its events have it.")],
    source: Source,
    url: Url = DEFAULT_URL,
    key: Key = "",
    as_json: AsJson = False,
) -> None:
    """Forget all that a user has sent until now; again, where it was cut off."""
    _forget(f"/v1/users/{_segment(user_id)}", source, url, key, as_json=as_json)


def forget_session(
    session_id: Annotated[str, typer.Argument(metavar="ID", help="As its events have it.")],
    source: Source,
    url: Url = DEFAULT_URL,
    key: Key = "",
    as_json: AsJson = False,
) -> None:
    """Forget a session for good; again, where it was cut off."""
    _forget(f"/v1/sessions/{_segment(session_id)}", source, url, key, as_json=as_json)


def list_tombstones(url: Url = DEFAULT_URL, key: Key = "", as_json: AsJson = False) -> None:
    """List who is forgotten, by hashes; keep what it says with backups, for `restore`."""
    items = list(remote(url, key).pages("/v1/tombstones"))
    if as_json:
        answer({"items": items, "total": len(items)}, as_json=True, text="")
        return
    table(
        ("tombstone", "forgotten", "finished"),
        (
            (
                item["tombstone_id"],
                _minute(item["forgotten_at"]),
                _minute(item["finished_at"]) if item["finished_at"] else "no: forget again",
            )
            for item in items
        ),
    )


def _minute(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _segment(name: str) -> str:
    """A path's segment; dots as well, for `..` would be another path on the way."""
    return quote(name, safe="").replace(".", "%2E")


def _forget(path: str, source: str, url: str, key: str, *, as_json: bool) -> None:
    server = remote(url, key, timeout_s=WITHIN_S)
    done = server.delete(f"{path}?{urlencode({'source': source})}")
    nouns = ("sessions", "events", "samples", "dead_letters", "shards")
    counts = ", ".join(f"{done[f'num_{noun}']} {noun.replace('_', ' ')}" for noun in nouns)
    answer(done, as_json=as_json, text=f"forgotten: {counts}")
    if as_json:
        return
    if done["log_until"] is not None:
        until = _minute(done["log_until"])
        talk(f"the brokers keep what they have until {until}; nothing of it comes in again")
    for line in done["remains"]:
        talk(line)
    for each in done["checkpoints"]:
        talk(f"trained on it: {each['run']} {each['name']} ({each['branch']}, step {each['step']})")
