"""The live learning rate: a scheduler that goes its own way until somebody says otherwise.

In: an optimizer and, if it has one, the schedule that its author chose; then changes. Out: the
rates of its parameter groups from the next step on. A group that was changed leaves the author's
schedule, and an undo brings it back to where that would be by then. The rate lives in the scheduler
and not only in `param_groups`, because HF's loop calls the scheduler after each step and would
overwrite a poked value; so it is saved and restored with it, too, and a schedule that was under way
goes on at the step at which it was saved.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from trainer.commands.course import Course
from trainer.commands.kinds import LrChange
from trainer.loop.groups import chosen_groups, group_names


class LiveSchedule(LRScheduler):
    """One rate, and at most one course, a parameter group; constant without an `authors` schedule.

    `is_hugging_faces` says who made the optimizer, on which the groups' names depend.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        authors: LRScheduler | None = None,
        *,
        is_hugging_faces: bool = False,
    ) -> None:
        self._authors = authors
        self.names = group_names(optimizer, is_hugging_faces=is_hugging_faces)
        self.rates = [float(group["lr"]) for group in optimizer.param_groups]
        self.courses: list[Course | None] = [None] * len(self.rates)
        self.follows = [authors is not None] * len(self.rates)
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """The rates in force, by parameter group (torch calls this in `step`)."""
        return list(self.rates)

    def step(self, epoch: int | None = None) -> None:
        """Go on to the rates of the next step."""
        self.courses = [course and course.after_step() for course in self.courses]
        for index, course in enumerate(self.courses):
            if course is not None:
                self.rates[index] = course.rate
        if self._authors is not None and self.last_epoch >= 0:  # torch calls this once itself
            self._authors.step()
        self._follow()
        super().step(epoch)

    def _follow(self) -> None:
        for index, follows in enumerate(self.follows):
            if follows and self._authors is not None:
                self.rates[index] = float(self._authors.get_last_lr()[index])

    def change(self, change: LrChange) -> None:
        """Change the rate of a group or of all.

        Raises ValueError when a rate is unusable, CommandRefused when the group is unknown; nothing
        is changed then.
        """
        rates, courses, follows = list(self.rates), list(self.courses), list(self.follows)
        for index in chosen_groups(self.names, change.group):
            schedule = change.schedule
            courses[index] = None if schedule is None else schedule.course(rates[index])
            rates[index] = change.applied_to(rates[index])
            follows[index] = False
        self._take(rates, courses, follows)

    def snapshot(self) -> dict[str, Any]:
        """What is in force, as JSON: the first group's rate, and each group's where they differ."""
        shown: dict[str, Any] = {"lr": self.rates[0]}
        if len(set(self.rates)) > 1 or any(self.courses) or any(self.follows):
            shown["groups"] = {name: self._shown(index) for index, name in enumerate(self.names)}
        return shown

    def _shown(self, index: int) -> dict[str, Any]:
        course = self.courses[index]
        shown: dict[str, Any] = {"lr": self.rates[index]}
        if course is not None:
            shown["schedule"] = asdict(course)
        if self.follows[index]:
            shown["follows"] = True
        return shown

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to what `snapshot` gave, a schedule in the midst of it included."""
        alike = {name: {"lr": snapshot["lr"]} for name in self.names}
        groups = list((alike | snapshot.get("groups", {})).values())
        self._take(
            [group["lr"] for group in groups],
            [Course(**group["schedule"]) if "schedule" in group else None for group in groups],
            [group.get("follows", False) for group in groups],
        )

    def _take(self, rates: list[float], courses: list[Course | None], follows: list[bool]) -> None:
        self.rates, self.courses, self.follows = rates, courses, follows
        self._follow()
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate
        self._last_lr = list(self.rates)

    def state_dict(self) -> dict[str, Any]:
        """The state in plain types, which torch loads as `weights_only`."""
        courses = [None if course is None else asdict(course) for course in self.courses]
        state = {**super().state_dict(), "courses": courses}
        authors = state.pop("_authors")
        return {**state, "authors": None if authors is None else authors.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        authors = state_dict["authors"]
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "authors"})
        if self._authors is not None and authors is not None:
            self._authors.load_state_dict(authors)
        courses = state_dict["courses"]
        self.courses = [None if course is None else Course(**course) for course in courses]
