"""Plans the next adoption beside the training, so that a boundary only has to take it.

In: the slices of the mix. Out: at most one plan, made every `every_s` seconds, its samples looked
up by the reader already. A plan that the run has overtaken meanwhile is told by its `after`.
"""

import threading
from collections.abc import Iterable

import structlog
from sqlalchemy.exc import OperationalError

from ingest.slices import SliceError
from trainer.mix.adopt import Adopter, AdoptionPlan
from trainer.mix.stream import Stream

log = structlog.get_logger()


class Planner:
    """A thread that keeps one plan ready; close it."""

    def __init__(self, adopter: Adopter, stream: Stream, every_s: float) -> None:
        self._adopter = adopter
        self._stream = stream
        self._every_s = every_s
        self._slice_names: tuple[str, ...] = ()
        self._plan: AdoptionPlan | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="planner", daemon=True)
        self._thread.start()

    def look_after(self, slice_names: Iterable[str]) -> None:
        """Plan for these slices from now on."""
        self._slice_names = tuple(slice_names)

    @property
    def is_ready(self) -> bool:
        """Whether `take` would give a plan."""
        return self._plan is not None

    def take(self) -> AdoptionPlan | None:
        """The plan that is ready, if one is; it is handed out once."""
        plan, self._plan = self._plan, None
        return plan

    def _work(self) -> None:
        while not self._closed.wait(self._every_s):
            try:
                plan = self._adopter.latest(self._slice_names)
                if plan is not None:
                    self._stream.prepare(plan)
                self._plan = plan
            except (OperationalError, SliceError) as error:
                log.warning("adoption_delayed", reason=str(error))

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._thread.join(timeout=1.0)
