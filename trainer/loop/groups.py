"""An optimizer's parameter groups, by name.

In: an optimizer as its author or Hugging Face made it. Out: a name for each of its groups, unique
within it. An author's own, under the key `name`, are kept; the two groups that Hugging Face makes
are `decay` and `no_decay`; any other is `group-<index>`.
"""

from collections.abc import Sequence

from torch.optim import Optimizer

from trainer.commands.references import CommandRefused

NO_DECAY = "no_decay"


def group_names(optimizer: Optimizer, *, is_hugging_faces: bool) -> list[str]:
    """The names, in the groups' order; ask before a weight decay is changed, and keep them."""
    groups = optimizer.param_groups
    is_split = is_hugging_faces and len(groups) == 2 and groups[1].get("weight_decay") == 0
    made_up = ["decay", NO_DECAY] if is_split else [f"group-{i}" for i in range(len(groups))]
    names: list[str] = []
    for index, group in enumerate(groups):
        name = str(group.get("name", made_up[index]))
        while name in names:
            name = f"{name}-{index}"
        names.append(name)
    return names


def chosen_groups(names: Sequence[str], name: str | None) -> list[int]:
    """The index of the group of this name, or all. Raises CommandRefused naming those there are."""
    if name is None:
        return list(range(len(names)))
    if name not in names:
        raise CommandRefused(
            "group", f"the optimizer has no group {name!r}; it has {', '.join(names)}"
        )
    return [names.index(name)]
