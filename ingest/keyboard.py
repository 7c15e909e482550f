"""The keyboard as the model knows it: raw DOM key names in, indices of 179 keys out.

In: `event.key` names as browsers send them. Out: names of the fixed vocabulary, or None for what it
cannot say, and the set of keys that are held. The vocabulary is PyAutoGUI's 194 names without the
15 that no keyboard sends; its index order is a contract with every trained model
(`keys_vocabulary.json`, the same list as in the deployed NeuralOS).
"""

import json
from collections.abc import Iterable
from pathlib import Path

VOCABULARY: tuple[str, ...] = tuple(
    json.loads(Path(__file__).with_name("keys_vocabulary.json").read_text(encoding="ascii"))
)

INDEX_OF: dict[str, int] = {key: index for index, key in enumerate(VOCABULARY)}

_ALIASES = {
    "arrowup": "up",
    "arrowdown": "down",
    "arrowleft": "left",
    "arrowright": "right",
    "meta": "command",
    "contextmenu": "apps",
    "control": "ctrl",
}


def normalise(key: str) -> str | None:
    """Return the vocabulary's name of a raw DOM key, or None where it has none."""
    lower = key.lower()
    name = _ALIASES.get(lower, lower)
    return name if name in INDEX_OF else None


class HeldKeys:
    """The keys that are down, after any number of presses and releases.

    A press of a held key and a release of a free one change nothing, as with auto-repeat and with a
    release whose press was lost.
    """

    def __init__(self, held: Iterable[str] = ()) -> None:
        self._held = {key for key in held if key in INDEX_OF}

    def press(self, key: str) -> None:
        """Hold a key of the vocabulary; another name is ignored."""
        if key in INDEX_OF:
            self._held.add(key)

    def release(self, key: str) -> None:
        """Let go of a key."""
        self._held.discard(key)

    @property
    def held(self) -> frozenset[str]:
        """The names of the keys that are down."""
        return frozenset(self._held)

    def indices(self) -> tuple[int, ...]:
        """Where the multi-hot vector over the vocabulary is 1, ascending."""
        return tuple(sorted(INDEX_OF[key] for key in self._held))
