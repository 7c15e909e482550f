"""Ids made from content, so that a redo on another machine gives the same rows."""

from blake3 import blake3

ID_BYTES = 16


def content_id(*parts: str | bytes) -> str:
    """blake3 over the parts, each with its length before it, as 32 hex characters."""
    hasher = blake3()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        hasher.update(len(data).to_bytes(8, "big"))
        hasher.update(data)
    return hasher.hexdigest(length=ID_BYTES)
