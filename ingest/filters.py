"""The filter language of API, command line and slices: `task:open_browser age<7d -source:play`.

In: a text. Out: a `Filter` whose `where` is a SQL condition over samples. A space means and, a
leading `-` means not, a comma between values of one field means or; a value with spaces or commas
is quoted. The empty text matches every sample. Parsing raises nothing but `FilterError`, which
names the word and the fix; at most 100 values, so that no engine's expression limit is reached.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, func, not_, or_, select, true
from sqlalchemy.orm import InstrumentedAttribute

from ingest.tables import Sample, SessionRow

MAX_VALUES = 100
SECONDS_PER_UNIT = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

_WORD = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^\s"])+', re.DOTALL)
_VALUE = re.compile(r'"((?:[^"\\]|\\.)*)"|([^",]+)', re.DOTALL)
_AGE = re.compile(r"age([<>])([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhd])")

_Condition = Callable[[tuple[str, ...]], ColumnElement[bool]]


class FilterError(ValueError):
    """A text is no filter; `word` is the part at fault, the message says how to write it."""

    def __init__(self, word: str, fix: str) -> None:
        super().__init__(f"{word[:80]!r}: {fix}")
        self.word = word


@dataclass(frozen=True)
class OneOf:
    """`field:a,b`: the field is (or, for lists, has) one of the values."""

    field: str
    values: tuple[str, ...]
    negated: bool = False


@dataclass(frozen=True)
class Age:
    """`age<7d` or `age>1h`: seconds since the action, strictly fewer or more."""

    is_below: bool
    seconds: float
    negated: bool = False


@dataclass(frozen=True)
class Filter:
    """A parsed filter: all terms must hold."""

    terms: tuple[OneOf | Age, ...]

    def where(self, now: float) -> ColumnElement[bool]:
        """The SQL condition over `Sample`; ages count back from `now`, seconds UTC."""
        return and_(true(), *(_condition(term, now) for term in self.terms))


def parse(text: str) -> Filter:
    """Parse a filter. Raises FilterError naming the word and the fix."""
    terms: list[OneOf | Age] = []
    num_values = 0
    for word in _words(text):
        term = _parse_word(word)
        terms.append(term)
        num_values += len(term.values) if isinstance(term, OneOf) else 1
        if num_values > MAX_VALUES:
            raise FilterError(word, f"a filter has at most {MAX_VALUES} values")
    return Filter(tuple(terms))


def _words(text: str) -> Iterator[str]:
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        match = _WORD.match(text, position)
        # A word ends at a space, at the end, or where a quote opens that nothing closes.
        end = match.end() if match else position
        if end < len(text) and text[end] == '"':
            raise FilterError(text[position:], 'close the quotes, as in user:"ann b"')
        yield text[position:end]
        position = end


def _parse_word(word: str) -> OneOf | Age:
    negated = word.startswith("-")
    body = word.removeprefix("-")
    if body.startswith(("age<", "age>", "age:", "age=")):
        return _parse_age(word, body, negated)
    field, colon, rest = body.partition(":")
    if not colon:
        raise FilterError(word, f"write field:value; the fields are {_known_fields()}")
    if field not in _FIELDS:
        raise FilterError(word, f"no field {field!r}; the fields are {_known_fields()}")
    values = _parse_values(word, rest)
    if field in _WORD_LISTS and (wrong := next((value for value in values if " " in value), None)):
        raise FilterError(word, f"a {field} has no spaces, {wrong!r} has")
    allowed = _ALLOWED.get(field)
    if allowed and (wrong := next((value for value in values if value not in allowed), None)):
        raise FilterError(word, f"{field} is {' or '.join(allowed)}, not {wrong!r}")
    return OneOf(field, values, negated)


def _parse_age(word: str, body: str, negated: bool) -> Age:
    match = _AGE.fullmatch(body)
    if match is None:
        raise FilterError(word, "write age<7d or age>90s, with the unit s, m, h or d")
    comparison, number, unit = match.groups()
    return Age(comparison == "<", float(number) * SECONDS_PER_UNIT[unit], negated)


def _parse_values(word: str, rest: str) -> tuple[str, ...]:
    values = []
    position = 0
    while True:
        match = _VALUE.match(rest, position)
        if match is None:
            raise FilterError(word, "a value is missing: write field:value or field:one,other")
        quoted, plain = match.groups()
        value = re.sub(r"\\(.)", r"\1", quoted) if plain is None else plain
        if not value or not value.isprintable():
            raise FilterError(word, "a value is empty or has a character that does not print")
        values.append(value)
        position = match.end()
        if position == len(rest):
            return tuple(values)
        if rest[position] != ",":
            raise FilterError(word, "put a comma between values, and quotes around a whole value")
        position += 1


def _condition(term: OneOf | Age, now: float) -> ColumnElement[bool]:
    if isinstance(term, Age):
        cut = now - term.seconds
        condition = Sample.timestamp > cut if term.is_below else Sample.timestamp < cut
    else:
        condition = _FIELDS[term.field](term.values)
    return not_(condition) if term.negated else condition


def _has_word(column: InstrumentedAttribute[str]) -> _Condition:
    # LIKE folds case on SQLite and not on PostgreSQL; replacing a word tells the same on both.
    return lambda values: or_(*(func.replace(column, f" {word} ", "") != column for word in values))


def _has_user(values: tuple[str, ...]) -> ColumnElement[bool]:
    # Without the first half, NOT would drop the samples of visits that have no user.
    return and_(Sample.user_id.is_not(None), Sample.user_id.in_(values))


def _is_of_session(values: tuple[str, ...]) -> ColumnElement[bool]:
    by_name = select(SessionRow.session_key).where(SessionRow.session_id.in_(values))
    return or_(Sample.session_key.in_(values), Sample.session_key.in_(by_name))


def _is_auto(values: tuple[str, ...]) -> ColumnElement[bool]:
    return Sample.is_auto.in_([value == "yes" for value in values])


def _known_fields() -> str:
    return ", ".join([*_FIELDS, "age"])


_FIELDS: dict[str, _Condition] = {
    "task": _has_word(Sample.tasks),
    "change": _has_word(Sample.changes),
    "source": Sample.source.in_,
    "split": Sample.split.in_,
    "user": _has_user,
    "session": _is_of_session,
    "episode": Sample.episode_id.in_,
    "environment": Sample.environment.in_,
    "auto": _is_auto,
}
_WORD_LISTS = ("task", "change")
_ALLOWED = {"split": ("train", "eval"), "auto": ("yes", "no")}
