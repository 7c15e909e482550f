"""Runs, their branches, checkpoints and evaluations over HTTP."""

import json
import time

from fastapi.testclient import TestClient
from sqlalchemy import Engine

from ingest.database import write
from tests.control_api.rows import make_checkpoint, make_run
from tests.waiting import wait_until
from trainer.tables import Branch, Evaluation


def test_a_run_is_found_by_id_and_by_name(viewer: TestClient, engine: Engine) -> None:
    with write(engine) as session:
        run_id = make_run(session, "first").run_id
    by_name = viewer.get("/v1/runs/first").json()
    assert by_name == viewer.get(f"/v1/runs/{run_id}").json()
    assert (by_name["name"], by_name["config"]) == ("first", {"seed": 1})


def test_a_run_named_like_another_ones_id_does_not_hide_it(
    viewer: TestClient, engine: Engine
) -> None:
    with write(engine) as session:
        run_id = make_run(session, "first").run_id
        make_run(session, run_id)
    assert viewer.get(f"/v1/runs/{run_id}").json()["name"] == "first"


def test_runs_are_listed_newest_first(viewer: TestClient, engine: Engine) -> None:
    with write(engine) as session:
        make_run(session, "old", created_at=1.0)
        make_run(session, "new", created_at=2.0)
    items = viewer.get("/v1/runs").json()["items"]
    assert [item["name"] for item in items] == ["new", "old"]


def test_what_belongs_to_an_unknown_run_is_not_found(viewer: TestClient) -> None:
    for part in ("", "/commands", "/metrics", "/steps", "/checkpoints", "/evaluations"):
        assert viewer.get(f"/v1/runs/nobody{part}").status_code == 404


def test_branches_tell_where_they_left_their_parent(viewer: TestClient, engine: Engine) -> None:
    with write(engine) as session:
        run = make_run(session)
        session.add(
            Branch(
                run_id=run.run_id,
                name="again",
                parent="main",
                from_step=5,
                from_checkpoint="before",
                from_adoption=0,
                created_at=time.time() + 1,
            )
        )
    items = viewer.get("/v1/runs/online/branches").json()["items"]
    assert [(item["name"], item["parent"], item["from_step"]) for item in items] == [
        ("main", None, 0),
        ("again", "main", 5),
    ]


def test_an_evaluation_carries_its_result(viewer: TestClient, engine: Engine) -> None:
    result = {"balanced_accuracy": 0.9}
    with write(engine) as session:
        run = make_run(session)
        checkpoint = make_checkpoint(session, run, "before", 5)
        session.add(
            Evaluation(
                evaluation_id="e1",
                run_id=run.run_id,
                checkpoint_id=checkpoint.checkpoint_id,
                suite="fresh",
                state="done",
                attempts=1,
                result_json=json.dumps(result),
                created_at=1.0,
            )
        )
    checkpoints = viewer.get("/v1/runs/online/checkpoints").json()["items"]
    evaluations = viewer.get("/v1/runs/online/evaluations").json()["items"]
    assert [item["name"] for item in checkpoints] == ["before"]
    assert [item["result"] for item in evaluations] == [result]
    assert viewer.get("/v1/evaluations/e1").json() == evaluations[0]


def test_a_checkpoint_is_judged_once_a_suite_and_again_if_that_failed(
    operator: TestClient, engine: Engine
) -> None:
    with write(engine) as session:
        checkpoint_id = make_checkpoint(
            session, make_run(session, state="finished"), "last", 9
        ).checkpoint_id
    path = f"/v1/checkpoints/{checkpoint_id}/evaluations"
    first = operator.post(path, json={"suite": "fresh"})
    assert (first.status_code, first.json()["state"]) == (201, "waiting")
    evaluation_id = first.json()["evaluation_id"]
    for state, then in (("done", "done"), ("failed", "waiting")):
        with write(engine) as session:
            session.get_one(Evaluation, evaluation_id).state = state
        again = operator.post(path, json={"suite": "fresh"}).json()
        assert (again["evaluation_id"], again["state"]) == (evaluation_id, then)


def test_an_evaluation_of_nothing_is_refused(operator: TestClient) -> None:
    path = "/v1/checkpoints/nobody/evaluations"
    assert operator.post(path, json={"suite": "fresh"}).status_code == 404
    assert operator.post(path, json={"suite": "a b"}).status_code == 422
    assert operator.get("/v1/evaluations/nobody").status_code == 404


def test_a_run_whose_process_is_gone_becomes_lost(viewer: TestClient, engine: Engine) -> None:
    with write(engine) as session:
        make_run(session, holder="elsewhere/1/1", lease_expires_at=time.time() - 1)
    wait_until(lambda: viewer.get("/v1/runs/online").json()["state"] == "lost")
