"""Schemas for the parts of the API's description that FastAPI can't see.

The endpoints that take events read their bodies themselves (size before sense), and every refusal
is a problem+json; both are described here, without references, which only FastAPI could resolve.
"""

from http import HTTPStatus
from typing import Any

from pydantic import TypeAdapter

from ingest.events import WireEvent
from ingest.problems import ProblemBody

LINE = {"type": "string", "description": "one JSON object a line"}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these problems."""
    content = {"application/problem+json": {"schema": _schema(TypeAdapter(ProblemBody))}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in statuses
    }


def event_bodies() -> dict[str, Any]:
    """The `openapi_extra` of a route that takes events."""
    event = _schema(TypeAdapter(WireEvent))
    content = {
        "application/json": {"schema": {"type": "array", "items": event}},
        "application/x-ndjson": {"schema": LINE},
    }
    return {"requestBody": {"required": True, "content": content}}


def line_bodies() -> dict[str, Any]:
    """The `openapi_extra` of a route that takes lines of a log."""
    return {
        "requestBody": {"required": True, "content": {"application/x-ndjson": {"schema": LINE}}}
    }


def _schema(adapter: TypeAdapter[Any]) -> Any:  # noqa: ANN401  (JSON)
    schema = adapter.json_schema()
    return _inlined(schema, schema.pop("$defs", {}))


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:  # noqa: ANN401  (JSON)
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    # A discriminator maps tags to references; without references, each branch's `kind` tells.
    return {
        key: _inlined(value, definitions) for key, value in schema.items() if key != "discriminator"
    }
