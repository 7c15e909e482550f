"""Modules by name: parameters in the fewest names, and back to exactly the same parameters."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import AdamW

from trainer.commands.references import CommandRefused
from trainer.loop.modules import find_modules, names_of, parameters_named
from trainer.loop.resetting import reset_modules


class Tied(nn.Module):
    """An embedding that the head shares, a parameter of its own, and one that is not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(4, 4)
        self.body = nn.ModuleDict({"first": nn.Linear(4, 4), "second": nn.Linear(4, 4)})
        self.head = nn.Linear(4, 4, bias=False)
        self.head.weight = self.embed.weight
        self.scale = nn.Parameter(torch.ones(1))
        self.still = nn.Linear(4, 4).requires_grad_(False)


@given(st.data())
def test_the_names_of_any_parameters_name_exactly_them(data: st.DataObject) -> None:
    model = Tied()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    chosen = data.draw(st.lists(st.sampled_from(range(len(trained))), unique=True))
    wanted = {id(trained[index]) for index in chosen}
    names = names_of(model, [trained[index] for index in chosen])
    assert {id(parameter) for parameter in parameters_named(model, names)} == wanted


def test_a_shared_parameter_belongs_to_both_modules() -> None:
    model = Tied()
    assert names_of(model, [model.embed.weight]) == ["embed", "head"]


def test_a_whole_module_has_one_name_and_a_part_its_own() -> None:
    model = Tied()
    assert names_of(model, model.body.parameters()) == ["body"]
    assert names_of(model, [model.body["first"].weight, model.scale]) == [
        "body.first.weight",
        "scale",
    ]


def test_the_model_as_a_whole_has_no_name() -> None:
    with pytest.raises(CommandRefused, match="''"):
        find_modules(Tied(), [""], None)


class Fails(nn.Linear):
    """A layer that gives up half way."""

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if getattr(self, "is_made", False):
            raise RuntimeError("half way")


def test_a_seed_decides_the_new_values_and_the_generator_stays() -> None:
    model, optimizer = nn.Sequential(nn.Linear(3, 3)), AdamW([nn.Parameter(torch.zeros(1))])
    generator = torch.get_rng_state()
    reset_modules({"0": model[0]}, optimizer, 7)
    assert torch.equal(generator, torch.get_rng_state())
    first = model[0].weight.detach().clone()
    torch.rand(100)
    reset_modules({"0": model[0]}, optimizer, 7)
    assert torch.equal(first, model[0].weight)


def test_a_reset_that_fails_leaves_everything_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(3, 3), Fails(3, 3))
    model[1].is_made = True
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(RuntimeError, match="half way"):
        reset_modules(dict(model.named_children()), AdamW(model.parameters()), 7)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
