"""What a key types: letters with their case, shifted symbols as on a US keyboard."""

from typing import Final

_SHIFTED: Final = dict(zip("1234567890-=[]\\;',./`", '!@#$%^&*()_+{}|:"<>?~', strict=True))
_SHIFTS: Final = frozenset({"shift", "shiftleft", "shiftright"})
_MUTE: Final = frozenset(
    {"ctrl", "ctrlleft", "ctrlright", "alt", "altleft", "altright", "command", "win", "winleft"}
)


def typed(key: str, held: frozenset[str]) -> str | None:
    """The character that a key types while these are held, None where it types none."""
    if held & _MUTE:
        return None
    if key == "space":
        return " "
    if len(key) != 1 or not key.isprintable():
        return None
    if not held & _SHIFTS:
        return key
    return _SHIFTED.get(key, key.upper())
