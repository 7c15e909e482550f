"""Is there anything new? A question that a process asks over and over, and what wakes it.

In: a statement, and who announces (`transactions.announce`) that it may give a row by now. Out: a
`Lookout`. Guaranteed on both engines: `sees` knows all that was committed before the call, whether
or not the announcement has come yet. What it costs: 2 us on SQLite (50 us amid a training step,
whose arithmetic has emptied the caches), where `PRAGMA data_version` tells that nobody has
committed; on PostgreSQL, which sends its announcements when it gets to it, one round trip for the
statement itself: 30 to 50 us on one machine, else what the network takes.
"""

from typing import Protocol


class Unreachable(Exception):
    """The database can't be asked now."""


class Lookout(Protocol):
    """Tells whether a statement gives a row by now, on connections of its own."""

    def sees(self, *parameters: str | int) -> bool:
        """Whether it does, everything included that was committed before the call.

        `parameters` are the statement's $1, $2 ... It never waits for long. Raises Unreachable.
        """

    def wait(self) -> None:
        """Return when it may do so by now, or a while later; for one thread, the listener's."""

    def close(self) -> None:
        """Close the connections, after the listener has ended."""
