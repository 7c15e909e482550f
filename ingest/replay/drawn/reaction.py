"""What an app answers to a key, a click or the wheel."""

from dataclasses import dataclass
from typing import Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Reaction(Generic[T_co]):
    """The app's new content, the labels of what changed, and a folder it asks the desktop for."""

    content: T_co
    changes: tuple[str, ...] = ()
    new_folder: str | None = None
