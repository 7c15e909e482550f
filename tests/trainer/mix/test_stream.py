"""The stream: read ahead of the step, never ahead of a command."""

import json
import threading
from collections.abc import Iterator, Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.adoptions import slice_change
from trainer.mix.adopt import AdoptionPlan
from trainer.mix.cohorts import SliceChange, fold
from trainer.mix.permutation import IntArray
from trainer.mix.sampler import MixSampler, NothingToDraw
from trainer.mix.slice_sampler import SlicePolicy
from trainer.mix.stream import Arrays, ShardDamaged, Stream

BATCH_SIZE = 5
UNCAPPED = SlicePolicy(max_share_per_user=1.0)
POLICIES = {"a": UNCAPPED, "b": UNCAPPED}


class Echo:
    """A reader whose arrays are the numbers; `gate` holds reads back, `damaged` can't be read."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.reads: list[list[int]] = []
        self.damaged: set[int] = set()
        self.is_closed = False

    def prepare(self, numbers: IntArray) -> None:
        """Nothing to look up."""

    def read(self, numbers: IntArray) -> Arrays:
        self.gate.wait()
        self.reads.append(numbers.tolist())
        for number in numbers.tolist():
            if number in self.damaged:
                raise ShardDamaged("latents/x.tar", number, "blake3 differs")
        return {"doubled": numbers * 2}

    def close(self) -> None:
        self.is_closed = True


def plan(number: int, **changes: SliceChange) -> AdoptionPlan:
    return AdoptionPlan(number, number - 1, number, changes)


def sampler() -> MixSampler:
    sampler = MixSampler({"a": 0.5, "b": 0.5}, 7, POLICIES)
    sampler.adopt(1, {"a": slice_change(range(40)), "b": slice_change(range(30, 100))})
    return sampler


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def stream(echo: Echo) -> Iterator[Stream]:
    with Stream(sampler(), echo, BATCH_SIZE) as stream:
        yield stream


def taken(stream: Stream, count: int) -> list[int]:
    return [n for _ in range(count) for n in stream.next_batch().numbers.tolist()]


def test_batches_carry_the_arrays_of_their_numbers_in_draw_order(stream: Stream) -> None:
    reference = sampler()
    for _ in range(20):
        batch = stream.next_batch()
        assert batch.numbers.tolist() == reference.draw(BATCH_SIZE).numbers.tolist()
        assert batch.arrays["doubled"].tolist() == (batch.numbers * 2).tolist()


def test_two_batches_are_read_ahead_and_no_more(stream: Stream, echo: Echo) -> None:
    stream.next_batch()
    stream.state_dict()  # waits until the thread is idle
    assert 1 <= len(echo.reads) <= 3


def test_new_shares_hold_in_the_very_next_batch(stream: Stream) -> None:
    taken(stream, 3)
    stream.set_shares({"b": 1.0}, POLICIES)
    assert min(stream.next_batch().numbers) >= 30
    assert stream.mix.wanted == {"b": 1.0}


def test_removed_samples_are_gone_from_the_very_next_batch(stream: Stream) -> None:
    taken(stream, 3)
    removed = slice_change(removed=range(30, 40))
    stream.adopt(plan(2, a=removed, b=removed))
    assert not set(taken(stream, 60)) & set(range(30, 40))


def test_fresh_samples_can_be_in_the_very_next_batch(stream: Stream) -> None:
    taken(stream, 3)
    everything = [*range(40)], [*range(30, 100)]
    stream.adopt(plan(2, a=slice_change(range(200, 210), number=2, removed=everything[0])))
    stream.set_shares({"a": 1.0}, POLICIES)
    assert min(stream.next_batch().numbers) >= 200


def test_a_command_while_a_read_hangs_waits_for_it_and_loses_nothing(
    stream: Stream, echo: Echo
) -> None:
    reference = sampler()
    assert taken(stream, 1) == reference.draw(BATCH_SIZE).numbers.tolist()
    echo.gate.clear()
    threading.Timer(0.05, echo.gate.set).start()
    stream.set_shares({"a": 0.9, "b": 0.1}, POLICIES)
    reference.set_shares({"a": 0.9, "b": 0.1}, POLICIES)
    assert taken(stream, 1) == reference.draw(BATCH_SIZE).numbers.tolist()


def test_the_status_is_that_of_the_last_batch_handed_out(stream: Stream) -> None:
    reference = sampler()
    for _ in range(3):
        stream.next_batch()
        assert stream.mix == reference.draw(BATCH_SIZE).status


def test_a_damaged_shard_is_named_and_consumes_nothing(stream: Stream, echo: Echo) -> None:
    reference = sampler()
    draws = [reference.draw(BATCH_SIZE).numbers.tolist() for _ in range(3)]
    echo.damaged = {draws[1][2]}
    assert taken(stream, 1) == draws[0]
    for _ in range(2):
        with pytest.raises(ShardDamaged) as caught:
            stream.next_batch()
        assert (caught.value.shard_path, caught.value.sample_number) == (
            "latents/x.tar",
            draws[1][2],
        )
    echo.damaged = set()
    assert taken(stream, 2) == draws[1] + draws[2]


def test_training_goes_on_without_the_samples_of_a_quarantined_shard(
    stream: Stream, echo: Echo
) -> None:
    echo.damaged = set(range(50))
    with pytest.raises(ShardDamaged):
        stream.next_batch()
    lost = slice_change(removed=range(50))
    stream.adopt(plan(2, a=lost, b=lost))
    assert min(taken(stream, 10)) >= 50


def test_a_mix_without_samples_raises_and_goes_on_when_some_come(echo: Echo) -> None:
    with Stream(MixSampler({"a": 1.0}, 7, POLICIES), echo, BATCH_SIZE) as stream:
        with pytest.raises(NothingToDraw):
            stream.next_batch()
        stream.adopt(plan(1, a=slice_change(range(5))))
        assert sorted(taken(stream, 1)) == list(range(5))


def test_close_joins_the_thread_and_closes_the_reader(echo: Echo) -> None:
    stream = Stream(sampler(), echo, BATCH_SIZE)
    stream.next_batch()
    stream.close()
    assert echo.is_closed
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stream")]


# Any order of batches, mixes, adoptions and resumes, against a sampler that reads nothing ahead

SLICES = st.fixed_dictionaries(
    {}, optional={name: st.sets(st.integers(0, 59), min_size=6) for name in ("a", "b")}
)
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(1, 4)),
        st.tuples(st.just("shares"), st.floats(0, 1)),
        st.tuples(st.just("adopt"), SLICES),
        st.tuples(st.just("resume"), st.none()),
    ),
    max_size=15,
)


class Lines:
    """The stream and the sampler beside it."""

    def __init__(self) -> None:
        self.reference = MixSampler({"a": 0.5, "b": 0.5}, 7, POLICIES)
        self.stream = Stream(MixSampler({"a": 0.5, "b": 0.5}, 7, POLICIES), Echo(), BATCH_SIZE)
        self.members: dict[str, set[int]] = {"a": set(), "b": set()}
        self.changes: dict[str, list[SliceChange]] = {"a": [], "b": []}
        self.number = 0
        self.adopt({"a": set(range(20)), "b": set(range(10, 50))})

    def take(self, count: int) -> None:
        for _ in range(count):
            assert taken(self.stream, 1) == self.reference.draw(BATCH_SIZE).numbers.tolist()

    def shares(self, share: float) -> None:
        shares = {"a": share, "b": 1.5 - share}
        self.stream.set_shares(shares, POLICIES)
        self.reference.set_shares(shares, POLICIES)

    def adopt(self, members: Mapping[str, set[int]]) -> None:
        self.number += 1
        changes = {
            name: slice_change(
                sorted(wanted - self.members[name]),
                number=self.number,
                changing=range(0, 60, 4),
                removed=sorted(self.members[name] - wanted),
            )
            for name, wanted in members.items()
        }
        self.stream.adopt(plan(self.number, **changes))
        self.reference.adopt(self.number, changes)
        for name, change in changes.items():
            self.changes[name].append(change)
            self.members[name] = set(members[name])

    def resume(self, _: None) -> None:
        state = json.loads(json.dumps(self.stream.state_dict()))
        taken(self.stream, 2)  # steps that a crash or a rollback takes back
        self.stream.load_state_dict(state, {n: fold(c) for n, c in self.changes.items()})


@settings(max_examples=50, deadline=None)
@given(ACTS)
def test_reading_ahead_never_shows_in_what_is_drawn(acts: list[tuple[str, object]]) -> None:
    lines = Lines()
    with lines.stream:
        for act, argument in acts:
            getattr(lines, act)(argument)
        lines.take(3)


def test_the_order_of_a_batch_is_the_draws_order(stream: Stream) -> None:
    numbers = stream.next_batch().numbers
    assert numbers.dtype == np.int64
    assert numbers.tolist() != sorted(numbers.tolist())
