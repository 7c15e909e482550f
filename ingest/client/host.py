"""What becomes of clients when the process that they live in forks or ends.

Guaranteed: at exit all that is left is sent within 5 s together, or counted; a forked child's
clients are never caught in the middle of something, and start empty.
"""

import atexit
import os
import time
import weakref
from typing import Protocol

EXIT_DEADLINE_S = 5.0


class Guest(Protocol):
    """A client, as its host treats it."""

    def close(self, timeout_s: float) -> bool:
        """Send what is left for so long."""

    def hold_still(self) -> None:
        """Nothing is half done from here on."""

    def go_on(self) -> None:
        """As before."""

    def begin_anew(self) -> None:
        """In a child: nothing is the child's but the settings."""


_guests: weakref.WeakSet[Guest] = weakref.WeakSet()
_held: list[Guest] = []  # while a fork is under way


def look_after(guest: Guest) -> None:
    """From now on until it is collected."""
    _guests.add(guest)


def _close_all() -> None:
    deadline = time.monotonic() + EXIT_DEADLINE_S
    for guest in list(_guests):
        guest.close(max(deadline - time.monotonic(), 0.0))


def _hold_all() -> None:
    _held[:] = sorted(_guests, key=id)
    for guest in _held:
        guest.hold_still()


def _go_on() -> None:
    for guest in _held:
        guest.go_on()
    _held.clear()


def _begin_anew() -> None:
    _held.clear()
    for guest in list(_guests):
        guest.begin_anew()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold_all, after_in_parent=_go_on, after_in_child=_begin_anew)
