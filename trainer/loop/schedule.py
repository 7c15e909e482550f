"""The live learning rate: a scheduler whose rates change only when somebody says so.

In: an optimizer, then changes. Out: the rates of its parameter groups from the next step on. The
rate lives in the scheduler and not only in `param_groups`, because HF's loop calls the scheduler
after each step and would overwrite a poked value; so it is saved and restored with it, too, and a
schedule that was under way goes on at the step at which it was saved.
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
    """Constant until changed; one rate, and at most one course, a parameter group.

    `is_hugging_faces` says who made the optimizer, on which the groups' names depend.
    """

    def __init__(self, optimizer: Optimizer, *, is_hugging_faces: bool = False) -> None:
        self.names = group_names(optimizer, is_hugging_faces=is_hugging_faces)
        self.rates = [float(group["lr"]) for group in optimizer.param_groups]
        self.courses: list[Course | None] = [None] * len(self.rates)
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
        super().step(epoch)

    def change(self, change: LrChange) -> None:
        """Change the rate of a group or of all.

        Raises ValueError when a rate is unusable, CommandRefused when the group is unknown; nothing
        is changed then.
        """
        rates, courses = list(self.rates), list(self.courses)
        for index in chosen_groups(self.names, change.group):
            schedule = change.schedule
            courses[index] = None if schedule is None else schedule.course(rates[index])
            rates[index] = change.applied_to(rates[index])
        self._take(rates, courses)

    def snapshot(self) -> dict[str, Any]:
        """What is in force, as JSON: the first group's rate, and each group's where they differ."""
        shown: dict[str, Any] = {"lr": self.rates[0]}
        if len(set(self.rates)) > 1 or any(self.courses):
            shown["groups"] = {
                name: {"lr": rate} | ({} if course is None else {"schedule": asdict(course)})
                for name, rate, course in zip(self.names, self.rates, self.courses, strict=True)
            }
        return shown

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go back to what `snapshot` gave, a schedule in the midst of it included."""
        alike = {name: {"lr": snapshot["lr"]} for name in self.names}
        groups = list((alike | snapshot.get("groups", {})).values())
        self._take(
            [group["lr"] for group in groups],
            [Course(**group["schedule"]) if "schedule" in group else None for group in groups],
        )

    def _take(self, rates: list[float], courses: list[Course | None]) -> None:
        self.rates, self.courses = rates, courses
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._last_lr = list(rates)

    def state_dict(self) -> dict[str, Any]:
        """The state in plain types, which torch loads as `weights_only`."""
        courses = [None if course is None else asdict(course) for course in self.courses]
        return {**super().state_dict(), "courses": courses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        super().load_state_dict(state_dict)
        courses = state_dict["courses"]
        self.courses = [None if course is None else Course(**course) for course in courses]
