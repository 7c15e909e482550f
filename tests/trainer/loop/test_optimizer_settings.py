"""An optimizer's settings: only what it has, and only what it can take a step with."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adafactor, AdamW, Optimizer, RMSprop

from trainer.commands.kinds import SetOptimizer
from trainer.commands.references import CommandRefused
from trainer.loop.groups import group_names
from trainer.loop.optimizer_settings import change_settings, restore_settings, settings_of

Make = Callable[[list[nn.Parameter]], Optimizer]


def stepped(make: Make) -> Optimizer:
    """An optimizer that has taken a step."""
    parameter = nn.Parameter(torch.ones(2))
    optimizer = make([parameter])
    parameter.grad = torch.ones(2)
    optimizer.step()
    return optimizer


def names(optimizer: Optimizer) -> list[str]:
    return group_names(optimizer, is_hugging_faces=False)


REFUSED: dict[str, tuple[Make, dict[str, Any], str]] = {
    "SGD has no betas": (SGD, {"betas": [0.1, 0.2]}, "betas"),
    "AdamW has no momentum": (AdamW, {"momentum": 0.1, "eps": 1e-3}, "momentum"),
    "Adafactor's eps are two": (Adafactor, {"eps": 1e-3}, "eps"),
    "Nesterov needs momentum": (
        lambda p: SGD(p, lr=0.1, momentum=0.9, nesterov=True),
        {"momentum": 0.0},
        "momentum",
    ),
    "RMSprop can't begin": (RMSprop, {"momentum": 0.1}, "momentum"),
    "RMSprop can't end": (lambda p: RMSprop(p, momentum=0.1), {"momentum": 0.0}, "momentum"),
}


@pytest.mark.parametrize(("make", "asked", "field"), REFUSED.values(), ids=REFUSED)
def test_what_it_can_not_have_is_refused(make: Make, asked: dict[str, Any], field: str) -> None:
    optimizer = stepped(make)
    before = settings_of(optimizer, names(optimizer))
    command = SetOptimizer.model_validate(asked)
    with pytest.raises(CommandRefused) as refusal:
        change_settings(optimizer, names(optimizer), command)
    assert refusal.value.field == field
    assert settings_of(optimizer, names(optimizer)) == before


TAKEN: dict[str, tuple[Make, dict[str, Any]]] = {
    "AdamW": (AdamW, {"betas": [0.0, 0.5], "eps": 1e-3, "weight_decay": 0.0}),
    "SGD begins to have momentum": (SGD, {"momentum": 0.5, "weight_decay": 0.1}),
    "SGD ends to have it": (lambda p: SGD(p, momentum=0.5), {"momentum": 0.0}),
    "RMSprop has another": (lambda p: RMSprop(p, momentum=0.5), {"momentum": 0.1, "eps": 1e-3}),
    "Adafactor": (Adafactor, {"weight_decay": 0.1}),
}


@pytest.mark.parametrize(("make", "asked"), TAKEN.values(), ids=TAKEN)
def test_what_it_has_is_set_stepped_with_and_restored(make: Make, asked: dict[str, Any]) -> None:
    optimizer = stepped(make)
    before = settings_of(optimizer, names(optimizer))
    change_settings(optimizer, names(optimizer), SetOptimizer.model_validate(asked))
    [settings] = settings_of(optimizer, names(optimizer)).values()
    assert {name: settings[name] for name in asked} == asked
    optimizer.step()
    restore_settings(optimizer, names(optimizer), before)
    assert settings_of(optimizer, names(optimizer)) == before
    optimizer.step()


def test_groups_keep_their_author_s_names_and_none_has_another_s() -> None:
    groups = [
        {"params": [nn.Parameter(torch.ones(1))], "name": name} for name in ("a", "a", "group-3")
    ]
    optimizer = SGD([*groups, {"params": [nn.Parameter(torch.ones(1))]}])
    assert names(optimizer) == ["a", "a-1", "group-3", "group-3-3"]
