"""What `ingest.filters` promises: its SQL and a plain reading of the language agree."""

import random
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from ingest.database import open_engine, read, write
from ingest.filters import Age, Filter, FilterError, OneOf, parse
from ingest.tables import Sample, SessionRow
from tests.factories import START, make_samples, make_session

NOW = START + 1_000.0
TASKS = ["open_browser", "open", "Open", "type_text"]
CHANGES = ["window_opened:browser", "window_opened", "folder_created"]
USERS = [None, "ann", "ann b", "Bob"]
SOURCES = ["play", "demo"]
ENVIRONMENTS = ["drawn/1", "xfce/4"]


@pytest.fixture(scope="module")
def filled(
    migrated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Engine, list[tuple[Sample, str]]]]:
    """A buffer of random samples, each with its visit's name."""
    database = tmp_path_factory.mktemp("filters") / "stovetop.db"
    shutil.copy(migrated, database)
    engine = open_engine(f"sqlite:///{database}")
    rng = random.Random(7)
    with write(engine) as session:
        for index in range(30):
            owner = make_session(
                session,
                session_id=f"visit {index}",
                source=rng.choice(SOURCES),
                user_id=rng.choice(USERS),
                split=rng.choice(["train", "eval"]),
                start=START + rng.randrange(1_000),
            )
            make_samples(
                session,
                owner=owner,
                changes=[rng.sample(CHANGES, rng.randrange(3)) for _ in range(rng.randint(1, 3))],
                tasks=rng.sample(TASKS, rng.randrange(3)),
                environment=rng.choice(ENVIRONMENTS),
            )
        for sample in session.scalars(select(Sample)):
            sample.is_auto = rng.random() < 0.5
    with read(engine) as session:
        names = dict(session.execute(select(SessionRow.session_key, SessionRow.session_id)).all())
        found = session.scalars(select(Sample).order_by(Sample.number)).all()
    samples = [(sample, names[sample.session_key]) for sample in found]
    yield engine, samples
    engine.dispose()


def quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def one_of(field: str, values: list[str]) -> st.SearchStrategy[OneOf]:
    chosen = st.lists(st.sampled_from([*values, "nobody"]), min_size=1, max_size=3).map(tuple)
    return st.builds(OneOf, st.just(field), chosen, st.booleans())


def exactly(field: str, values: list[str]) -> st.SearchStrategy[OneOf]:
    chosen = st.lists(st.sampled_from(values), min_size=1, max_size=2).map(tuple)
    return st.builds(OneOf, st.just(field), chosen, st.booleans())


TERMS = st.one_of(
    one_of("task", TASKS),
    one_of("change", CHANGES),
    one_of("source", SOURCES),
    one_of("user", ["ann", "ann b", "Bob", "bob"]),
    one_of("session", [f"visit {index}" for index in range(0, 30, 5)]),
    one_of("environment", ENVIRONMENTS),
    exactly("split", ["train", "eval"]),
    exactly("auto", ["yes", "no"]),
    st.builds(Age, st.booleans(), st.integers(0, 2_000).map(float), st.booleans()),
)
FILTERS = st.lists(TERMS, max_size=4).map(lambda terms: Filter(tuple(terms)))


def written(term: OneOf | Age) -> str:
    sign = "-" if term.negated else ""
    if isinstance(term, Age):
        return f"{sign}age{'<' if term.is_below else '>'}{term.seconds:.0f}s"
    return f"{sign}{term.field}:{','.join(quoted(value) for value in term.values)}"


def holds(term: OneOf | Age, sample: Sample, session_id: str) -> bool:
    if isinstance(term, Age):
        age_s = NOW - sample.timestamp
        return (age_s < term.seconds if term.is_below else age_s > term.seconds) != term.negated
    found = {
        "task": sample.tasks.split(),
        "change": sample.changes.split(),
        "source": [sample.source],
        "split": [sample.split],
        "user": [sample.user_id],
        "session": [sample.session_key, session_id],
        "episode": [sample.episode_id],
        "environment": [sample.environment],
        "auto": ["yes" if sample.is_auto else "no"],
    }[term.field]
    return any(value in found for value in term.values) != term.negated


@given(FILTERS)
def test_sql_selects_what_a_plain_reading_of_the_filter_selects(
    filled: tuple[Engine, list[tuple[Sample, str]]], wanted: Filter
) -> None:
    engine, samples = filled
    with read(engine) as session:
        found = session.scalars(select(Sample.number).where(wanted.where(NOW))).all()
    assert sorted(found) == [
        sample.number
        for sample, session_id in samples
        if all(holds(term, sample, session_id) for term in wanted.terms)
    ]


@given(FILTERS)
def test_a_written_filter_parses_back(wanted: Filter) -> None:
    assert parse("  ".join(written(term) for term in wanted.terms)) == wanted


@given(st.one_of(st.text(), st.text(alphabet='-:,"\\ <>adtgesk17.:user')))
def test_parsing_raises_nothing_but_a_filter_error(text: str) -> None:
    with suppress(FilterError):
        parse(text).where(NOW)


@given(st.text(min_size=1).filter(str.isprintable))
def test_any_printable_value_can_be_quoted(value: str) -> None:
    assert parse(f"user:{quoted(value)}") == Filter((OneOf("user", (value,)),))


def test_episode_and_session_keys_select_their_samples(engine: Engine) -> None:
    with write(engine) as session:
        numbers = make_samples(session)
        make_samples(session)
        sample = session.get_one(Sample, numbers[0])
        for text in (f"episode:{sample.episode_id}", f"session:{sample.session_key}"):
            found = session.scalars(select(Sample.number).where(parse(text).where(NOW))).all()
            assert found == list(numbers)


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("tsk:open", "the fields are task, change, source"),
        ("open_browser", "write field:value"),
        ("task:", "a value is missing"),
        ("task:a,,b", "a value is missing"),
        ('task:a"b"', "put a comma between values"),
        ('task:"a b"', "no spaces"),
        ('user:""', "a value is empty"),
        ("user:a\x00", "does not print"),
        ('user:"ann', "close the quotes"),
        ("split:trian", "split is train or eval, not 'trian'"),
        ("auto:true", "auto is yes or no"),
        ("age:7d", "write age<7d"),
        ("age<=7d", "write age<7d"),
        ("age<7", "write age<7d"),
        ("age<nand", "write age<7d"),
        ("-", "write field:value"),
        ("user:" + ",".join("u" * 101), "at most 100 values"),
    ],
)
def test_an_error_names_the_fix(text: str, fix: str) -> None:
    with pytest.raises(FilterError, match=fix.replace(".", r"\.")):
        parse(text)


def test_units_of_age_are_seconds_minutes_hours_and_days() -> None:
    seconds = [term.seconds for term in parse("age<90s age<30m age<12h age<7d age<1.5h").terms]
    assert seconds == [90, 1_800, 43_200, 604_800, 5_400]


def test_the_empty_filter_matches_everything(engine: Engine) -> None:
    with write(engine) as session:
        numbers = make_samples(session)
        found = session.scalars(select(Sample.number).where(parse(" ").where(NOW))).all()
        assert found == list(numbers)


def test_a_filter_at_its_limit_still_runs(engine: Engine) -> None:
    text = " ".join(f"-task:{name}" for name in range(100))
    with read(engine) as session:
        assert session.scalars(select(Sample.number).where(parse(text).where(NOW))).all() == []
