"""The live learning rate: it lives in the scheduler, holds from the next step, and is saved."""

import json

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer

from trainer.commands.kinds import LrChange
from trainer.loop.schedule import LiveSchedule


@pytest.fixture
def optimizer() -> Optimizer:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    groups = [{"params": first.parameters()}, {"params": second.parameters(), "lr": 0.01}]
    return SGD(groups, lr=0.1)


def rates(optimizer: Optimizer) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


def test_without_changes_the_rate_stays(optimizer: Optimizer) -> None:
    schedule = LiveSchedule(optimizer)
    for _ in range(3):
        optimizer.step()
        schedule.step()
    assert rates(optimizer) == [0.1, 0.01]


def test_a_value_holds_at_once_and_after_the_next_steps(optimizer: Optimizer) -> None:
    schedule = LiveSchedule(optimizer)
    optimizer.step()
    schedule.change(LrChange(value=0.3))
    assert rates(optimizer) == [0.3, 0.3]
    optimizer.step()
    schedule.step()
    assert rates(optimizer) == schedule.get_last_lr() == [0.3, 0.3]


def test_a_factor_scales_each_group(optimizer: Optimizer) -> None:
    LiveSchedule(optimizer).change(LrChange(factor=2.0))
    assert rates(optimizer) == [0.2, 0.02]


def test_an_unusable_rate_changes_no_group(optimizer: Optimizer) -> None:
    schedule = LiveSchedule(optimizer)
    with pytest.raises(ValueError, match="must be > 0"):
        schedule.change(LrChange(factor=500.0))
    assert rates(optimizer) == [0.1, 0.01]


def test_the_rate_is_saved_and_restored(optimizer: Optimizer) -> None:
    schedule = LiveSchedule(optimizer)
    schedule.change(LrChange(value=0.3))
    saved, saved_optimizer = schedule.state_dict(), optimizer.state_dict()
    schedule.change(LrChange(value=0.7))
    optimizer.load_state_dict(saved_optimizer)
    schedule.load_state_dict(saved)
    optimizer.step()
    schedule.step()
    assert rates(optimizer) == [0.3, 0.3]


def test_a_schedule_goes_on_where_it_was_saved(optimizer: Optimizer) -> None:
    line = {"shape": "linear", "to": 0.5, "steps": 4}
    schedule = LiveSchedule(optimizer)
    schedule.change(LrChange.model_validate({"schedule": line, "group": "group-0"}))
    optimizer.step()
    schedule.step()
    saved, saved_optimizer = schedule.state_dict(), optimizer.state_dict()
    schedule.change(LrChange(value=0.7))
    optimizer.load_state_dict(saved_optimizer)
    schedule.load_state_dict(saved)
    seen = rates(optimizer)
    for _ in range(3):
        optimizer.step()
        schedule.step()
        seen += rates(optimizer)
    assert seen == pytest.approx([0.3, 0.01, 0.4, 0.01, 0.5, 0.01, 0.5, 0.01])


@pytest.mark.parametrize("is_under_way", [False, True])
def test_a_snapshot_brings_everything_back(optimizer: Optimizer, is_under_way: bool) -> None:
    schedule = LiveSchedule(optimizer)
    if is_under_way:
        cosine = {"shape": "cosine", "to": 0.5, "steps": 4}
        schedule.change(LrChange.model_validate({"schedule": cosine}))
    before, snapshot = schedule.state_dict(), json.loads(json.dumps(schedule.snapshot()))
    schedule.change(LrChange(value=0.7))
    schedule.restore(snapshot)
    assert schedule.state_dict() == before
    assert rates(optimizer) == before["rates"]


def test_its_state_is_loadable_as_weights_only(
    optimizer: Optimizer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("state") / "scheduler.pt"
    schedule = LiveSchedule(optimizer)
    line = {"shape": "linear", "to": 0.1, "steps": 4}
    schedule.change(LrChange.model_validate({"schedule": line, "group": "group-1"}))
    torch.save(schedule.state_dict(), path)
    assert torch.load(path, weights_only=True)["rates"] == [0.1, pytest.approx(0.0325)]
