"""What a mix would draw next, told as counts; pure.

In: for each slice its share and its samples, counted by visit, owner, tasks, lane and age. Out: of
the next 1,000 draws, how many are expected by slice, task, owner and age. As the sampler does it,
half of a slice's draws are samples near a change (an empty lane's half goes to the other), and an
empty slice's share goes to the others in proportion. The cap on one user's share is left out.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

NUM_DRAWS = 1_000
MAX_OWNERS = 10
AGE_LIMITS_S = {"1h": 3_600.0, "1d": 86_400.0, "7d": 604_800.0}
OLDER = "older"


@dataclass(frozen=True)
class SampleGroup:
    """Samples of one visit that are alike: `age` is a key of AGE_LIMITS_S or "older"."""

    session_key: str
    user: str | None
    tasks: tuple[str, ...]
    is_change: bool
    age: str
    newest_timestamp: float
    num_samples: int


@dataclass(frozen=True)
class SlicePreview:
    """One slice of a mix: what is in it, and what it gives to the next 1,000 draws.

    `tasks`, `users` (the ten most drawn) and `ages` are expected draws; a sample of two tasks
    counts in both.
    """

    slice: str
    share: float
    expected_draws: float
    num_samples: int
    num_sessions: int
    num_users: int
    tasks: dict[str, float]
    users: dict[str, float]
    ages: dict[str, float]
    newest_timestamp: float | None


@dataclass(frozen=True)
class Preview:
    """A mix's next draws at one revision of the buffer."""

    revision: int
    num_draws: int
    slices: tuple[SlicePreview, ...]


def preview_mix(
    revision: int, shares: Mapping[str, float], contents: Mapping[str, Sequence[SampleGroup]]
) -> Preview:
    """Count the expected draws of each slice; `shares` sum to 1."""
    full = sum(share for name, share in shares.items() if contents[name])
    return Preview(
        revision,
        NUM_DRAWS,
        tuple(
            _preview_slice(name, share, contents[name], NUM_DRAWS * share / full if full else 0.0)
            for name, share in shares.items()
        ),
    )


def _preview_slice(
    name: str, share: float, groups: Sequence[SampleGroup], draws: float
) -> SlicePreview:
    weights = _draws_of_each(groups, draws if groups else 0.0)
    users = Counter[str]()
    tasks = Counter[str]()
    ages = dict.fromkeys([*AGE_LIMITS_S, OLDER], 0.0)
    for group, weight in zip(groups, weights, strict=True):
        ages[group.age] += weight
        tasks.update(dict.fromkeys(group.tasks, weight))
        if group.user is not None:
            users.update({group.user: weight})
    return SlicePreview(
        slice=name,
        share=share,
        expected_draws=round(sum(weights), 2),
        num_samples=sum(group.num_samples for group in groups),
        num_sessions=len({group.session_key for group in groups}),
        num_users=len(users),
        tasks=_rounded(tasks.most_common()),
        users=_rounded(users.most_common(MAX_OWNERS)),
        ages=_rounded(ages.items()),
        newest_timestamp=max((group.newest_timestamp for group in groups), default=None),
    )


def _draws_of_each(groups: Sequence[SampleGroup], draws: float) -> list[float]:
    lanes = Counter[bool]()
    for group in groups:
        lanes[group.is_change] += group.num_samples
    return [draws / len(lanes) * group.num_samples / lanes[group.is_change] for group in groups]


def _rounded(counts: Iterable[tuple[str, float]]) -> dict[str, float]:
    return {name: round(count, 2) for name, count in counts}
