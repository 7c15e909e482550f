"""What one log record holds: all that one request brought for one partition.

In: checked events, and the original bytes of what could not become one. Out: the record's bytes,
and back. Decision: one record a request and partition (not one an event) makes an append of 500
events a handful of rows.
"""

from typing import Self

from pydantic import BaseModel, ConfigDict

from ingest.events import WireEvent


class Unreadable(BaseModel):
    """Something that could not become an event, for the dead letters."""

    model_config = ConfigDict(frozen=True, ser_json_bytes="base64", val_json_bytes="base64")
    code: str
    detail: str
    original: bytes


class Envelope(BaseModel):
    """A log record's content; `received_at` is the endpoint's wall clock, seconds."""

    model_config = ConfigDict(frozen=True, ser_json_bytes="base64", val_json_bytes="base64")
    source: str
    received_at: float
    events: list[WireEvent]
    unreadable: list[Unreadable]

    def pack(self) -> bytes:
        """The record's bytes."""
        return self.model_dump_json(exclude_unset=True).encode()

    @classmethod
    def unpack(cls, value: bytes) -> Self:
        """Read a record's bytes; raises pydantic.ValidationError when they are not an envelope."""
        return cls.model_validate_json(value)
