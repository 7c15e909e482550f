"""What each signal means: named when it is so, and hardly ever by noise alone."""

import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer.readings import noisy, reading, started, told
from trainer.health.detectors import DETECTORS
from trainer.health.loss import PLATEAU_READINGS
from trainer.health.reading import LEAST_READINGS, RECENT_READINGS, Reading
from trainer.health.signals import Health

SEEDS = st.integers(0, 2**32 - 1)
SCALES = st.floats(1e-6, 1e6)
WARM = LEAST_READINGS + RECENT_READINGS


def scaled(readings: list[Reading], by: float) -> list[Reading]:
    return [
        reading(
            each.step,
            each.loss * by,
            grad_norm=(each.grad_norm or 0.0) * by,
            step_s=each.step_s * by,
        )
        for each in readings
    ]


def test_stationary_noise_is_at_most_a_plateau() -> None:
    """False alarms: at most one in 20,000 steps of all other signals together."""
    alarms: Counter[str] = Counter()
    for seed in range(20):
        alarms.update(started(told(Health(), noisy(seed, 1_000, sigma=0.3))))
    assert alarms.pop("plateau") == 20
    assert alarms.total() <= 1


def test_skewed_losses_raise_no_divergence_and_a_spike_in_a_thousand_steps_at_most() -> None:
    alarms: Counter[str] = Counter()
    for seed in range(20):
        draw = random.Random(seed)
        losses = (reading(step, draw.lognormvariate(0.0, 0.5)) for step in range(1, 1_001))
        alarms.update(started(told(Health(), losses)))
    assert alarms["divergence"] == 0
    assert alarms["loss_spike"] <= 20


@given(seed=SEEDS, count=st.integers(LEAST_READINGS, 300), scale=SCALES)
def test_a_loss_ten_times_as_large_is_named_at_its_step(
    seed: int, count: int, scale: float
) -> None:
    health = Health()
    told(health, scaled(noisy(seed, count), scale))
    assert "loss_spike" in started(health.read(reading(count + 1, 20.0 * scale)))


@given(seed=SEEDS, count=st.integers(LEAST_READINGS, 300), scale=SCALES)
def test_a_gradient_fifty_times_as_long_is_named_at_its_step(
    seed: int, count: int, scale: float
) -> None:
    health = Health()
    told(health, scaled(noisy(seed, count), scale))
    spike = reading(count + 1, 2.0 * scale, grad_norm=50.0 * scale)
    assert "grad_norm_spike" in started(health.read(spike))


@given(seed=SEEDS, count=st.integers(WARM, 300), scale=SCALES)
def test_a_loss_that_stays_up_is_a_divergence_within_8_steps(
    seed: int, count: int, scale: float
) -> None:
    health = Health()
    calm = noisy(seed, count)
    assert "divergence" not in started(told(health, calm))
    risen = [reading(each.step, each.loss + 2.0) for each in noisy(seed, 8, first=count + 1)]
    assert "divergence" in started(told(Health(), scaled(calm + risen, scale)))


@given(seed=SEEDS, count=st.integers(WARM, 200))
def test_one_spike_is_no_divergence(seed: int, count: int) -> None:
    health = Health()
    told(health, noisy(seed, count))
    health.read(reading(count + 1, 200.0))
    assert "divergence" not in started(told(health, noisy(seed + 1, 50, first=count + 2)))


def test_a_run_that_only_gets_worse_than_it_began_diverges_though_it_never_had_a_level() -> None:
    draw = random.Random(0)
    losses = [1.0] + [draw.lognormvariate(5.0, 0.7) for _ in range(60)]
    signals = told(Health(), (reading(step, loss) for step, loss in enumerate(losses, start=1)))
    assert "divergence" in started(signals)


def test_a_divergence_does_not_end_because_one_gets_used_to_it() -> None:
    health = Health()
    told(health, noisy(0, 100))
    told(health, (reading(each.step, each.loss + 2.0) for each in noisy(1, 400, first=101)))
    assert "divergence" in health.on
    told(health, noisy(2, 20, first=501))
    assert "divergence" not in health.on


@given(
    seed=SEEDS,
    count=st.integers(0, 100),
    wrong=st.sampled_from([math.nan, math.inf, -math.inf]),
    is_loss=st.booleans(),
)
def test_what_is_no_number_is_named_at_once(
    seed: int, count: int, wrong: float, is_loss: bool
) -> None:
    health = Health()
    told(health, noisy(seed, count))
    step = reading(count + 1, wrong) if is_loss else reading(count + 1, grad_norm=wrong)
    assert "not_finite" in started(health.read(step))


@given(st.lists(st.floats(), max_size=400), st.lists(st.floats(0.0), max_size=400))
def test_no_number_breaks_a_detector(losses: list[float], norms: list[float]) -> None:
    health = Health()
    for step, (loss, norm) in enumerate(zip(losses, norms, strict=False), start=1):
        for signal in health.read(reading(step, loss, grad_norm=norm)):
            assert signal.message


@given(seed=SEEDS)
def test_progress_is_no_plateau_and_its_end_is_one(seed: int) -> None:
    health = Health()
    learning = [reading(each.step, each.loss + 5.0 - 0.01 * each.step) for each in noisy(seed, 500)]
    assert "plateau" not in started(told(health, learning))
    still = noisy(seed + 1, 3 * PLATEAU_READINGS, first=501)
    assert "plateau" in started(told(health, still))


def test_a_loss_that_never_moves_is_a_plateau() -> None:
    signals = told(Health(), (reading(step) for step in range(1, 2 * PLATEAU_READINGS + 1)))
    assert [(signal.name, signal.step) for signal in signals] == [("plateau", 256)]


@pytest.mark.parametrize(("ratio", "is_on"), [(0.05, False), (0.2, True), (math.nan, True)])
def test_a_step_that_overwrites_the_weights_is_named(ratio: float, is_on: bool) -> None:
    health = Health()
    assert ("update_ratio" in started(health.read(reading(1, update_ratio=ratio)))) == is_on


def test_an_update_ratio_stays_on_until_it_is_measured_again() -> None:
    health = Health()
    health.read(reading(1, update_ratio=0.5))
    told(health, (reading(step) for step in range(2, 21)))
    assert "update_ratio" in health.on
    assert [s.state for s in health.read(reading(21, update_ratio=0.01))] == ["ended"]


@given(seed=SEEDS, slower=st.floats(2.5, 100.0))
def test_steps_that_take_twice_as_long_are_named_and_a_few_slow_ones_are_not(
    seed: int, slower: float
) -> None:
    health = Health()
    told(health, noisy(seed, 100))
    assert not started(told(health, (reading(101 + i, 2.0, step_s=60.0) for i in range(8))))
    slow = (reading(each.step, 2.0, step_s=each.step_s * slower) for each in noisy(seed, 16))
    assert started(told(health, slow)) == {"throughput_drop"}


def test_starvation_is_on_from_the_first_step_on_and_ends_after_eight_good_ones() -> None:
    health = Health()
    assert started(health.read(reading(1, num_starved=2))) == {"starvation"}
    signals = told(health, (reading(step) for step in range(2, 20)))
    assert [(signal.state, signal.step) for signal in signals] == [("ended", 9)]


def test_every_signal_says_its_definition() -> None:
    assert all(detector.__doc__ for detector in DETECTORS.values())
