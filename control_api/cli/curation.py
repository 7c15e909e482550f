"""Commands for what a run may draw: slices and mixes."""

from typing import Annotated

import typer

from control_api.cli.options import DEFAULT_URL, AsJson, Key, Url, remote
from control_api.cli.output import answer, table

SliceName = Annotated[str, typer.Argument(metavar="NAME", help="The slice's name.")]


def set_slice(
    name: SliceName,
    filter_text: Annotated[
        str, typer.Argument(metavar="FILTER", help='Such as "task:open_browser age<7d".')
    ],
    url: Url = DEFAULT_URL,
    key: Key = "",
    as_json: AsJson = False,
) -> None:
    """Save a filter under a name."""
    saved = remote(url, key).post("/v1/slices", {"name": name, "filter": filter_text})
    answer(saved, as_json=as_json, text=f"slice {name}: {filter_text or 'every sample'}")


def list_slices(url: Url = DEFAULT_URL, key: Key = "", as_json: AsJson = False) -> None:
    """List the slices."""
    items = list(remote(url, key).pages("/v1/slices"))
    if as_json:
        answer({"items": items, "total": len(items)}, as_json=True, text="")
        return
    table(("name", "filter"), ((item["name"], item["filter"]) for item in items))


def set_mix(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The mix's name.")],
    shares: Annotated[list[str], typer.Argument(metavar="SLICE=SHARE...")],
    url: Url = DEFAULT_URL,
    key: Key = "",
    as_json: AsJson = False,
) -> None:
    """Save the next version of a mix; runs take it with `stovetop mix RUN NAME`."""
    wanted = dict(share_of(text) for text in shares)
    saved = remote(url, key).post("/v1/mixes", {"name": name, "shares": wanted})
    text = f"mix {name} version {saved['version']}: {_shown(saved['shares'])}"
    answer(saved, as_json=as_json, text=text)


def list_mixes(url: Url = DEFAULT_URL, key: Key = "", as_json: AsJson = False) -> None:
    """List the mixes, all versions."""
    items = list(remote(url, key).pages("/v1/mixes"))
    if as_json:
        answer({"items": items, "total": len(items)}, as_json=True, text="")
        return
    table(
        ("name", "version", "shares"),
        ((item["name"], item["version"], _shown(item["shares"])) for item in items),
    )


def share_of(text: str) -> tuple[str, float]:
    """A slice and its share, from `SLICE=SHARE`. Raises typer.BadParameter."""
    name, _, share = text.partition("=")
    try:
        return name, float(share)
    except ValueError:
        raise typer.BadParameter(f"{text!r}: write SLICE=SHARE, such as fresh=0.5") from None


def _shown(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
