"""A run's health over HTTP and at the terminal's end of it."""

from fastapi.testclient import TestClient
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from ingest.database import write
from tests.control_api.rows import make_run, make_signal
from trainer import tables


def make_story(session: Session) -> tables.Run:
    run = make_run(session, signals="divergence loss_spike")
    make_signal(session, run, 5, "loss_spike")
    make_signal(session, run, 9, "divergence", command_id="c1")
    make_signal(session, run, 13, "loss_spike", state="ended", branch="again")
    return run


def test_the_newest_signal_comes_first_with_what_to_do(viewer: TestClient, engine: Engine) -> None:
    with write(engine) as session:
        make_story(session)
    answer = viewer.get("/v1/runs/online/health").json()
    assert [(item["step"], item["state"]) for item in answer["items"]] == [
        (13, "ended"),
        (9, "started"),
        (5, "started"),
    ]
    assert answer["items"][1] == {
        "branch": "main",
        "step": 9,
        "name": "divergence",
        "state": "started",
        "value": 3.0,
        "threshold": 2.0,
        "message": "look at the step's samples",
        "command_id": "c1",
        "at": 1009.0,
    }


def test_signals_are_chosen_by_name_branch_and_step(viewer: TestClient, engine: Engine) -> None:
    with write(engine) as session:
        make_story(session)
    for query, steps in (
        ({"name": "loss_spike"}, [13, 5]),
        ({"branch": "main"}, [9, 5]),
        ({"after_step": "5"}, [13, 9]),
    ):
        items = viewer.get("/v1/runs/online/health", params=query).json()["items"]
        assert [item["step"] for item in items] == steps


def test_signals_come_in_pages(viewer: TestClient, engine: Engine) -> None:
    with write(engine) as session:
        make_story(session)
    page = viewer.get("/v1/runs/online/health", params={"limit": 2}).json()
    rest = viewer.get("/v1/runs/online/health", params={"limit": 2, "cursor": page["next"]}).json()
    assert [item["step"] for item in page["items"] + rest["items"]] == [13, 9, 5]
    assert (page["total"], rest["next"]) == (3, None)


def test_a_run_says_which_signals_are_on(viewer: TestClient, engine: Engine) -> None:
    with write(engine) as session:
        make_story(session)
        make_run(session, "well")
    assert viewer.get("/v1/runs/online").json()["signals"] == ["divergence", "loss_spike"]
    assert viewer.get("/v1/runs/well").json()["signals"] == []


def test_a_signal_that_does_not_exist_is_refused_by_name(
    viewer: TestClient, engine: Engine
) -> None:
    with write(engine) as session:
        make_run(session)
    answer = viewer.get("/v1/runs/online/health", params={"name": "fever"})
    assert answer.status_code == 422
    assert "not_finite" in answer.json()["errors"][0]["message"]
    assert viewer.get("/v1/runs/nobody/health").status_code == 404


def test_what_is_no_number_is_null(viewer: TestClient, engine: Engine) -> None:
    with write(engine) as session:
        make_signal(session, make_run(session), 5, "not_finite", value=float("inf"))
    assert viewer.get("/v1/runs/online/health").json()["items"][0]["value"] is None
