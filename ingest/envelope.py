"""What one log record holds: all that one request brought for one partition.

In: checked events, and the original bytes of what could not become one. Out: the record's bytes,
and back. Decision: one record a request and partition (not one an event) makes an append of 500
events a handful of rows. What would be a record of more than 1 MiB becomes several, in order; only
a single event or line may exceed that, by its own limit.
"""

from typing import Self

from pydantic import BaseModel, ConfigDict

from ingest.events import WireEvent

RECORD_BYTES = 1 << 20


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

    def pack_split(self, max_bytes: int = RECORD_BYTES) -> list[bytes]:
        """The bytes of as many records as it takes for none to exceed the limit, in order.

        Nothing is left out: a single event or line that is longer is a record by itself.
        """
        packed = self.pack()
        num_items = len(self.events) + len(self.unreadable)
        if len(packed) <= max_bytes or num_items <= 1:
            return [packed]
        half = num_items // 2
        rest = max(0, half - len(self.events))
        first = {"events": self.events[:half], "unreadable": self.unreadable[:rest]}
        second = {"events": self.events[half:], "unreadable": self.unreadable[rest:]}
        return [
            record
            for part in (first, second)
            for record in self.model_copy(update=part).pack_split(max_bytes)
        ]

    @classmethod
    def unpack(cls, value: bytes) -> Self:
        """Read a record's bytes; raises pydantic.ValidationError when they are not an envelope."""
        return cls.model_validate_json(value)
