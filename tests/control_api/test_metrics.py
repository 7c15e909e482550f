"""Curves that hide nothing: buckets keep the least, the greatest and the last value."""

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from control_api.metrics import bucket_width
from ingest.database import write
from tests.control_api.rows import make_metrics, make_run, make_step


@given(first=st.integers(0, 10**6), span=st.integers(0, 10**6), max_points=st.integers(1, 5000))
def test_buckets_are_the_narrowest_that_fit(first: int, span: int, max_points: int) -> None:
    last = first + span
    width = bucket_width(first, last, max_points)
    assert last // width - first // width < max_points
    assert width == 1 or last // (width // 2) - first // (width // 2) >= max_points


@pytest.fixture
def spiky(engine: Engine) -> dict[int, float]:
    """A run with a loss of 1,000 steps that spikes once, and its values."""
    values = {step: 1.0 / step for step in range(1, 1001)} | {777: 50.0}
    with write(engine) as session:
        make_metrics(session, make_run(session), values)
    return values


def test_each_bucket_keeps_its_least_greatest_and_last(
    viewer: TestClient, spiky: dict[int, float]
) -> None:
    answer = viewer.get("/v1/runs/online/metrics", params={"name": "loss", "max_points": 64})
    (series,) = answer.json()["series"]
    width = answer.json()["bucket_steps"]
    assert (width, len(series["points"])) == (16, 63)
    for point in series["points"]:
        bucket = [value for step, value in spiky.items() if step // width == point["step"] // width]
        assert (point["min"], point["max"]) == (min(bucket), max(bucket))
        assert (point["last"], point["count"]) == (spiky[point["step"]], len(bucket))


def test_a_short_series_is_exact(viewer: TestClient, spiky: dict[int, float]) -> None:
    series = viewer.get("/v1/runs/online/metrics").json()["series"][0]
    assert {point["step"]: point["last"] for point in series["points"]} == spiky


def test_only_later_steps_come_after_a_step(viewer: TestClient, spiky: dict[int, float]) -> None:
    answer = viewer.get("/v1/runs/online/metrics", params={"after_step": 998})
    points = answer.json()["series"][0]["points"]
    assert {point["step"]: point["last"] for point in points} == {
        999: spiky[999],
        1000: spiky[1000],
    }


def test_names_and_branches_are_series_of_their_own(viewer: TestClient, engine: Engine) -> None:
    with write(engine) as session:
        run = make_run(session)
        for name in ("loss", "lr", "step_s"):
            for branch in ("main", "again"):
                make_metrics(session, run, {1: 0.5}, name=name, branch=branch)
    answer = viewer.get("/v1/runs/online/metrics", params={"name": "lr,loss"}).json()
    assert [(series["branch"], series["name"]) for series in answer["series"]] == [
        ("again", "loss"),
        ("again", "lr"),
        ("main", "loss"),
        ("main", "lr"),
    ]
    answer = viewer.get("/v1/runs/online/metrics", params={"branch": "again"}).json()
    assert {series["branch"] for series in answer["series"]} == {"again"}


def test_a_value_that_is_not_a_number_stays_visible(viewer: TestClient, engine: Engine) -> None:
    with write(engine) as session:
        make_metrics(session, make_run(session), {1: 0.5, 2: None, 3: None})
    points = viewer.get("/v1/runs/online/metrics").json()["series"][0]["points"]
    assert [point["last"] for point in points] == [0.5, None, None]
    answer = viewer.get("/v1/runs/online/metrics", params={"max_points": 1}).json()
    assert answer["series"][0]["points"] == [
        {"step": 3, "min": 0.5, "max": 0.5, "last": None, "count": 3}
    ]


def test_an_infinite_loss_is_no_failure_of_the_server(viewer: TestClient, engine: Engine) -> None:
    with write(engine) as session:
        make_metrics(session, make_run(session), {1: 0.5, 2: float("inf")})
    (series,) = viewer.get("/v1/runs/online/metrics").json()["series"]
    assert [point["last"] for point in series["points"]] == [0.5, None]


def test_a_run_without_metrics_has_no_series(viewer: TestClient, engine: Engine) -> None:
    with write(engine) as session:
        make_run(session)
    assert viewer.get("/v1/runs/online/metrics").json()["series"] == []


def test_steps_tell_what_was_really_drawn(viewer: TestClient, engine: Engine) -> None:
    with write(engine) as session:
        run = make_run(session)
        make_step(session, run, 1, [7, 3, 3])
        make_step(session, run, 2, [5])
        make_step(session, run, 2, [9], branch="again")
    answer = viewer.get("/v1/runs/online/steps", params={"after_step": 1}).json()
    assert [(item["branch"], item["samples"]) for item in answer["items"]] == [
        ("again", [9]),
        ("main", [5]),
    ]
    first = viewer.get("/v1/runs/online/steps", params={"branch": "main"}).json()["items"][0]
    assert first == {
        "branch": "main",
        "step": 1,
        "started_at": 1001.0,
        "lr": 5e-4,
        "samples": [7, 3, 3],
    }
