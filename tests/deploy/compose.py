"""compose.yaml as its tests see it: services, with what the shell's variables would be put in."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "compose.yaml"

_VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?::([-?])([^}]*))?\})")


class Unset(Exception):
    """A variable that must be set is not; the message is compose.yaml's own."""


@dataclass(frozen=True)
class Service:
    """One service of ours: what is run, and by what it is called healthy."""

    name: str
    image: str
    command: list[str]
    health: list[str]
    environment: dict[str, str]
    replicas: int
    stop_within_s: float


def read(variables: Mapping[str, str]) -> dict[str, Any]:
    """The file with the variables put in. Raises Unset."""
    document = _put_in(yaml.safe_load(FILE.read_text()), variables)
    assert isinstance(document, dict)
    return document


def services_of_ours(document: Mapping[str, Any]) -> list[Service]:
    """The services that run our own images, in the file's order."""
    return [
        Service(
            name,
            service["build"]["target"],
            service["command"],
            service.get("healthcheck", {}).get("test", []),
            service["environment"],
            service["deploy"].get("replicas", 1),
            float(service["stop_grace_period"].removesuffix("s")),
        )
        for name, service in document["services"].items()
        if "build" in service
    ]


def _put_in(value: object, variables: Mapping[str, str]) -> object:
    if isinstance(value, dict):
        return {key: _put_in(inner, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [_put_in(inner, variables) for inner in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _value_of(match, variables), value)
    return value


def _value_of(match: re.Match[str], variables: Mapping[str, str]) -> str:
    escaped, name, kind, text = match.groups()
    if escaped:
        return "$"
    if variables.get(name):
        return variables[name]
    if kind == "?":
        raise Unset(f"{name}: {text}")
    return text or ""
