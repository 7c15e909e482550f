"""The samples that were forgotten since a reader last asked, so that it lets go of them.

In: an installation's database. Out: numbers whose places a reader must not remember. Decision: it
asks whenever places are looked up, which every adoption and rollback does; one count, 0.1 ms.
"""

import threading

from sqlalchemy import Engine, func, select

from ingest.database import read
from ingest.tables import ForgottenSample


class ForgottenNumbers:
    """What one reader has heard of; for any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._num_known = 0
        self._asking = threading.Lock()

    def news(self) -> set[int]:
        """The numbers of all that are forgotten, where there are more than the last time."""
        with self._asking, read(self._engine) as session:
            count = session.scalar(select(func.count()).select_from(ForgottenSample)) or 0
            if count == self._num_known:
                return set()
            self._num_known = count
            return set(session.scalars(select(ForgottenSample.sample_number)))
