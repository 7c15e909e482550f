"""The standard library as documents."""

import re

from benchmarks.case_studies.text import MAX_BYTES, MIN_BYTES, documents, sessions, source_files

SHORT = '"""Says hello."""\n\n'
LONG = "def count():\n" + "".join(f"    print({n})\n" for n in range(400))
MIDDLE = "@cache\ndef greet(name):\n" + "    print('hello', name)\n" * 12


def test_a_document_is_a_definition_with_its_decorators() -> None:
    assert documents(MIDDLE + MIDDLE) == [MIDDLE, MIDDLE]


def test_what_is_short_joins_what_follows() -> None:
    assert documents(SHORT + MIDDLE) == [SHORT + MIDDLE]


def test_what_is_long_is_cut_at_a_lines_end() -> None:
    parts = documents(LONG)
    assert "".join(parts) == LONG
    assert all(part.endswith("\n") for part in parts)
    assert len(parts) == 2


def test_the_library_gives_a_session_a_file_within_the_bounds_and_the_same_again() -> None:
    paths = source_files()[:40]
    made = sessions(paths)
    events = [event for visit in made for event in visit]
    sizes = [len(event["payload"]["text"].encode()) for event in events]
    assert MIN_BYTES <= min(sizes) <= max(sizes) <= MAX_BYTES
    assert len({visit[0]["session_id"] for visit in made if visit}) == sum(map(bool, made))
    assert all(re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", event["session_id"]) for event in events)
    assert sessions(paths) == made
    assert sum(map(len, sessions(paths, max_documents=7))) == 7
