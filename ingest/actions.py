"""One action of a person, as the replay and the model take it.

In: the payload of an `action` event, whose values may still be nulls, wild coordinates or names
that no keyboard has. Out: an `Action` inside the 512x384 screen with keys of the vocabulary only.
Never raises: what cannot be read counts as "did nothing", because one odd field must not cost an
episode its replay.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from ingest.keyboard import normalise

SCREEN_WIDTH: Final = 512
SCREEN_HEIGHT: Final = 384
WILD: Final = 1_000_000
"""Numbers beyond this are cut to it: JSON integers have no bound, floats do."""


@dataclass(frozen=True, slots=True)
class Action:
    """What happened within one tick (1/15 s); x, y are logical pixels, a click is press + release.

    `wheel_x`, `wheel_y` are DOM deltas: positive scrolls right and down, one notch is about 100.
    """

    x: float
    y: float
    left: bool = False
    right: bool = False
    keys_down: tuple[str, ...] = ()
    keys_up: tuple[str, ...] = ()
    wheel_x: float = 0.0
    wheel_y: float = 0.0

    @classmethod
    def from_payload(cls, payload: Mapping[str, object]) -> Self:
        """Read an event's payload (neuralos.md 1.5); null and unreadable values count as zero."""
        return cls(
            x=_clamped(payload.get("x"), SCREEN_WIDTH - 1),
            y=_clamped(payload.get("y"), SCREEN_HEIGHT - 1),
            left=payload.get("is_left_click") is True,
            right=payload.get("is_right_click") is True,
            keys_down=_keys(payload.get("keys_down")),
            keys_up=_keys(payload.get("keys_up")),
            wheel_x=_number(payload.get("wheel_delta_x")),
            wheel_y=_number(payload.get("wheel_delta_y")),
        )


def _number(value: object) -> float:
    if not isinstance(value, int | float):
        return 0.0
    number = float(min(max(value, -WILD), WILD))
    return 0.0 if math.isnan(number) else number


def _clamped(value: object, highest: int) -> float:
    return min(max(_number(value), 0.0), float(highest))


def _keys(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        return ()
    names = (normalise(key) for key in value if isinstance(key, str))
    return tuple(name for name in names if name is not None)
