"""Policy files: what is read, and how what is wrong is named."""

from pathlib import Path

import pytest

from tests.trainer.health.test_rescue import RESCUE
from trainer.commands.kinds import LrChange, Rollback, SetLr
from trainer.health.detectors import DETECTORS
from trainer.health.policy import PolicyRefused, SignalName, read_policy


def refusal(folder: Path, text: str) -> str:
    path = folder / "policy.toml"
    path.write_text(text)
    with pytest.raises(PolicyRefused) as refused:
        read_policy(path)
    assert str(path) in str(refused.value)
    return str(refused.value)


def test_a_policy_names_every_signal_that_there_is() -> None:
    assert set(SignalName.__args__) == set(DETECTORS)  # type: ignore[attr-defined]  # a Literal's


def test_a_rollback_goes_to_the_checkpoint_that_is_chosen_with_a_factor_of_the_rate_in_force(
    tmp_path: Path,
) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(RESCUE)
    [rule] = read_policy(path).rule
    assert rule.actor == "policy:rescue"
    assert rule.answer("abc", lr=0.5) == Rollback(checkpoint="abc", set_lr=LrChange(value=0.05))


def test_any_other_command_is_asked_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    command = 'command = { kind = "set_lr", factor = 0.5 }'
    path.write_text(RESCUE.replace(RESCUE.splitlines()[-1], command))
    [rule] = read_policy(path).rule
    assert rule.answer("abc", lr=0.5) == SetLr(factor=0.5)


@pytest.mark.parametrize(
    ("wrong", "right", "field"),
    [
        ('"divergence"', '"divergance"', "rule.0.on.0: Input should be 'not_finite', 'div"),
        ("at_most = 3", "at_most = 0", "rule.0.at_most: Input should be greater than or equal to"),
        ("at_most = 3", 'at_most = "3"', "rule.0.at_most: Input should be a valid integer"),
        ("at_most = 3", "", "rule.0.at_most: Field required"),
        ("cooldown_steps", "cooldown", "rule.0.cooldown: Extra inputs are not permitted"),
        ('"rescue"', '"a b"', "rule.0.name: String should match"),
        ('"rollback"', '"roll"', "rule.0.command: Input tag 'roll'"),
        ("factor = 0.1", "factor = -1", "rule.0.command: set_lr.factor: Input should be greater"),
        ("set_lr =", "lr =", "rule.0.command: lr: Extra inputs are not permitted"),
        ("set_lr =", 'checkpoint = "x", set_lr =', "rule.0.command: checkpoint: leave it out"),
        ("[[rule]]", "[[rules]]", "rule: Field required"),
        ("at_most = 3", "at_most =", "is no TOML"),
    ],
)
def test_what_is_wrong_is_named_with_its_field(
    tmp_path: Path, wrong: str, right: str, field: str
) -> None:
    assert field in refusal(tmp_path, RESCUE.replace(wrong, right, 1))


def test_two_rules_of_one_name_could_not_be_counted(tmp_path: Path) -> None:
    assert "'rescue' is taken twice" in refusal(tmp_path, RESCUE + RESCUE)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyRefused, match="can't be read"):
        read_policy(tmp_path / "nowhere.toml")
