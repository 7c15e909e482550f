"""The terminal: a prompt, a line to edit, and seven commands. Pure values; no clock, no files."""

from dataclasses import dataclass, replace
from typing import Final

from ingest.replay.drawn.changes import COMMAND_RUN, SCROLLED, TEXT_TYPED
from ingest.replay.drawn.reaction import Reaction

MAX_INPUT: Final = 60
MAX_LINES: Final = 64
MIN_VISIBLE_LINES: Final = 5

_HOME: Final = "/home/user"
_PRINTED: Final = {"ls": "Desktop Documents Music", "date": "Thu Aug 7 21:12:05 UTC"}


@dataclass(frozen=True, slots=True)
class Terminal:
    """Lines that were printed, the line being typed, and how far back the view is scrolled."""

    lines: tuple[str, ...] = ()
    text: str = ""
    folder: str = "~"
    scroll: int = 0

    @property
    def prompt(self) -> str:
        """What stands before the typed text."""
        return f"{self.folder}$ "

    def key(self, key: str, character: str | None) -> Reaction["Terminal"]:
        """Type a character, erase one, or run the line."""
        if key in {"enter", "return"}:
            return self._run()
        if key == "backspace":
            return self._edited(self.text[:-1])
        if character is not None and len(self.text) < MAX_INPUT:
            return self._edited(self.text + character)
        return Reaction(self)

    def wheel(self, notches: int) -> Reaction["Terminal"]:
        """Scroll back (negative) or forth."""
        furthest = max(len(self.lines) + 1 - MIN_VISIBLE_LINES, 0)
        scroll = min(max(self.scroll - notches, 0), furthest)
        if scroll == self.scroll:
            return Reaction(self)
        return Reaction(replace(self, scroll=scroll), (SCROLLED,))

    def _edited(self, text: str) -> Reaction["Terminal"]:
        if text == self.text:
            return Reaction(self)
        return Reaction(replace(self, text=text, scroll=0), (TEXT_TYPED,))

    def _run(self) -> Reaction["Terminal"]:
        echoed = (*self.lines, self.prompt + self.text)
        command, _, argument = self.text.strip().partition(" ")
        argument = argument.strip()
        if command == "clear":
            after = replace(self, lines=(), text="", scroll=0)
            return Reaction(after, (COMMAND_RUN,) if after != self else ())
        folder = (argument or "~") if command == "cd" else self.folder
        lines = (*echoed, *_output(command, argument, self.folder))[-MAX_LINES:]
        after = Terminal(lines, "", folder)
        changes = (COMMAND_RUN,) if command else (TEXT_TYPED,)
        new_folder = argument if command == "mkdir" and argument else None
        return Reaction(after, changes, new_folder)


def _output(command: str, argument: str, folder: str) -> tuple[str, ...]:
    if command in _PRINTED:
        return (_PRINTED[command],)
    match command:
        case "" | "cd":
            return ()
        case "pwd":
            return (_HOME if folder == "~" else f"{_HOME}/{folder}",)
        case "echo":
            return (argument,)
        case "mkdir":
            return () if argument else ("mkdir: missing name",)
        case _:
            return (f"{command}: not found",)
