"""A run's health as a whole: what is remembered, what a new mix forgets, what is recomputed."""

import math
import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.readings import noisy, reading, started, told
from trainer.health.detectors import HISTORY
from trainer.health.reading import Reading
from trainer.health.signals import MIX_CHANGED, Health

FRESH = {"old": 0.5, "fresh": 0.5}


def eventful(seed: int, count: int) -> list[Reading]:
    """Steps with spikes, level shifts, slow and starved ones among them."""
    draw = random.Random(seed)
    level, steps = 2.0, []
    for each in noisy(seed, count):
        if draw.random() < 0.01:
            level = draw.choice([2.0, 2.0, 4.0, 40.0])
        wild = draw.random() < 0.02
        steps.append(
            replace(
                each,
                loss=level * draw.lognormvariate(0.0, 0.1) * (30.0 if wild else 1.0),
                step_s=each.step_s * (9.0 if draw.random() < 0.1 else 1.0),
                num_starved=int(draw.random() < 0.05),
                update_ratio=draw.choice([0.01, 0.5]) if each.step % 20 == 1 else None,
            )
        )
    return steps


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(0, 600))
def test_what_is_recomputed_from_recorded_steps_says_the_same(seed: int, cut: int) -> None:
    steps = eventful(seed, 700)
    throughout = Health()
    told(throughout, steps[:cut])
    again = Health(steps[max(0, cut - HISTORY) : cut], throughout.on)
    assert told(again, steps[cut:]) == told(throughout, steps[cut:])


def test_a_signal_is_told_twice_when_it_starts_and_when_it_ends() -> None:
    health = Health()
    told(health, noisy(0, 100))
    signals = told(health, [reading(101, 100.0), *noisy(1, 50, first=102)])
    assert [(s.name, s.state, s.step) for s in signals] == [
        ("loss_spike", "started", 101),
        ("loss_spike", "ended", 109),
    ]
    assert "100" in signals[0].message


def test_the_value_of_a_signal_is_there_as_long_as_it_is_on() -> None:
    health = Health()
    health.read(reading(1, math.nan))
    assert math.isnan(health.values["not_finite"])
    told(health, (reading(step) for step in range(2, 10)))
    assert health.values == {}


def test_another_mix_has_losses_of_its_own() -> None:
    health = Health()
    told(health, noisy(0, 200))
    harder = [replace(each, loss=9.0, mix=FRESH) for each in noisy(1, 30, first=201)]
    assert started(told(health, harder)) == set()


def test_another_mix_ends_what_was_said_of_the_losses_before() -> None:
    health = Health()
    told(health, noisy(0, 100))
    told(health, [reading(101, 50.0, num_starved=1)])
    signals = health.read(reading(102, 2.0, num_starved=1, mix=FRESH))
    assert [(s.name, s.state, s.message) for s in signals] == [("loss_spike", "ended", MIX_CHANGED)]
    assert set(health.on) == {"starvation"}


def test_a_run_that_waits_for_samples_is_starved_once() -> None:
    health = Health()
    health.read(reading(1))
    [signal] = health.starve(1, "no sample in the mix of coming")
    assert "no sample in the mix of coming" in signal.message
    assert health.starve(1, "again") == []
