"""A file's outline says where each tensor's bytes are, and is whole again with them."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from trainer.checkpoints.places import Place, filled, outline, places_in

TENSORS = {
    "odd": torch.arange(7, dtype=torch.float32),
    "half": torch.randn(3, 5).to(torch.bfloat16),
    "scalar": torch.tensor(2.5),
    "flags": torch.tensor([True, False, True]),
    "none": torch.empty(0, 4),
}


def read(path: Path) -> Any:  # noqa: ANN401  (a tree of anything)
    data = path.read_bytes()

    def tensor_at(place: Place) -> Tensor:
        empty = torch.empty(place.shape, dtype=place.dtype)
        raw = torch.tensor(
            list(data[place.offset : place.offset + empty.nbytes]), dtype=torch.uint8
        )
        return raw.view(place.dtype).reshape(place.shape) if empty.nbytes else empty

    return filled(outline(path), {place: tensor_at(place) for place in places_in(path)})


def test_what_safetensors_holds_is_found(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found = read(tmp_path / "model.safetensors")
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


def test_what_an_optimizers_file_holds_is_found(tmp_path: Path) -> None:
    state = {"state": {0: TENSORS, 1: {"step": 3}}, "param_groups": [{"lr": 0.1, "betas": (1, 2)}]}
    torch.save(state, tmp_path / "optimizer.pt")
    found = read(tmp_path / "optimizer.pt")
    assert found["param_groups"] == state["param_groups"]
    assert found["state"][1] == {"step": 3}
    assert all(torch.equal(found["state"][0][name], TENSORS[name]) for name in TENSORS)


def test_what_shares_memory_has_one_place(tmp_path: Path) -> None:
    tensor = torch.ones(5)
    torch.save([tensor, tensor], tmp_path / "optimizer.pt")
    assert len(places_in(tmp_path / "optimizer.pt")) == 1


def test_a_part_of_what_was_saved_has_no_place(tmp_path: Path) -> None:
    torch.save([torch.ones(5)[:2], torch.ones(2, 3).T], tmp_path / "optimizer.pt")
    assert places_in(tmp_path / "optimizer.pt") == ()
