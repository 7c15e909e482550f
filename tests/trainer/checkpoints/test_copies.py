"""A copy is exact, shares what was shared, and lies where the last one lay."""

import torch

from trainer.checkpoints.copies import Memory, put_back


def state(value: float) -> dict[str, object]:
    weight = torch.full((3, 2), value)
    return {"a": weight, "tied": weight, "groups": [{"lr": value, "of": (1, 2)}], "step": 3}


def test_a_copy_is_equal_and_apart() -> None:
    original = state(1.0)
    copy = Memory().copy(original)
    original["a"].fill_(9.0)  # type: ignore[attr-defined]
    assert torch.equal(copy["a"], torch.full((3, 2), 1.0))
    assert copy["groups"] == [{"lr": 1.0, "of": (1, 2)}]
    assert copy["step"] == 3


def test_what_was_shared_is_shared() -> None:
    copy = Memory().copy(state(1.0))
    assert copy["a"] is copy["tied"]


def test_the_next_copy_lies_in_memory_that_was_given_back() -> None:
    memory = Memory()
    first = memory.copy(state(1.0))
    memory.give_back(first)
    second = memory.copy(state(2.0))
    assert second["a"].data_ptr() == first["a"].data_ptr()
    assert torch.equal(second["a"], torch.full((3, 2), 2.0))


def test_memory_that_was_not_given_back_is_not_used() -> None:
    memory = Memory()
    first = memory.copy(state(1.0))
    memory.copy(state(2.0))
    assert torch.equal(first["a"], torch.full((3, 2), 1.0))


def test_memory_that_is_given_back_twice_is_there_once() -> None:
    memory = Memory()
    tensor = torch.ones(2)
    memory.give_back([tensor, tensor.detach()])
    assert memory.take(torch.float32, (2,)).data_ptr() == tensor.data_ptr()
    assert memory.take(torch.float32, (2,)).data_ptr() != tensor.data_ptr()


def test_one_that_has_grown_gets_more_memory() -> None:
    memory = Memory()
    memory.give_back(memory.copy({"a": torch.ones(2)}))
    copy = memory.copy({"a": torch.ones(2), "b": torch.zeros(2), "c": torch.ones(3)})
    assert [copy[name].tolist() for name in "abc"] == [[1, 1], [0, 0], [1, 1, 1]]


def test_what_is_about_to_be_left_is_not_copied() -> None:
    original = state(1.0)
    weight = original["a"]
    assert isinstance(weight, torch.Tensor)
    copy = Memory().copy({**original, "stays": torch.ones(3)}, {weight.data_ptr()})
    assert copy["a"].data_ptr() == weight.data_ptr()
    assert copy["a"] is copy["tied"]


def test_what_fits_is_written_into_what_is_live() -> None:
    live = {"a": torch.zeros(2), "b": torch.zeros(3), "list": [torch.zeros(1)]}
    saved = {"a": torch.ones(2), "b": torch.ones(2), "list": [torch.ones(1)], "new": torch.ones(1)}
    back = put_back(saved, live)
    assert back["a"].data_ptr() == live["a"].data_ptr()
    assert live["a"].tolist() == [1, 1]
    assert live["list"][0].tolist() == [1]
    assert back["b"].tolist() == [1, 1]
    assert back["new"].data_ptr() != saved["new"].data_ptr()
