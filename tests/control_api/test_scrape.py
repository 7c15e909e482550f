"""What Prometheus reads: the counts of the stages, and how requests went."""

from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine

from ingest.database import write
from tests.control_api.conftest import AsRole
from tests.control_api.rows import make_run
from tests.factories import make_samples, make_session

Series = dict[tuple[str, ...], float]


def scraped(client: TestClient) -> dict[str, Series]:
    """All values by name, each by its labels' values in the labels' order."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found: dict[str, Series] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            key = tuple(sample.labels[name] for name in sorted(sample.labels))
            found.setdefault(sample.name, {})[key] = sample.value
    return found


def requests_by(client: TestClient) -> Series:
    """Finished requests by method, route and status."""
    return scraped(client)["stovetop_request_seconds_count"]


def test_every_stage_is_there_as_the_api_counts_it(viewer: TestClient, engine: Engine) -> None:
    with write(engine) as session:
        make_samples(session, representations=("frame", "latent:a"))
        make_samples(session, owner=make_session(session, split="eval"))
        make_run(session)
    found, stages = scraped(viewer), viewer.get("/v1/stages").json()
    for name, count in stages.items():
        counts = count.items() if isinstance(count, dict) else [(None, count)]
        expected = {(key,) if key else (): each for key, each in counts}
        assert found.get(f"stovetop_{name}", {}) == expected
    assert found["stovetop_episodes"] == {("replayed",): 2}
    assert found["stovetop_latents"] == {("latent:a",): 3}


def test_what_waits_in_the_log_is_a_gap_while_the_log_is_away(
    viewer: TestClient, app: FastAPI
) -> None:
    assert scraped(viewer)["stovetop_log_waiting"] == {(): 0}
    app.state.event_log.close()
    assert "stovetop_log_waiting" not in scraped(viewer)


def test_requests_are_counted_by_route_and_by_how_they_ended(
    viewer: TestClient, as_role: AsRole
) -> None:
    as_role("ingest").post("/v1/events", json=[])
    for number in range(1, 4):
        viewer.get(f"/v1/samples/{number}")
        viewer.request("BREW", f"/nowhere/{number}")
    viewer.post("/v1/events", json=[])
    counts = requests_by(viewer)
    assert counts["GET", "/v1/samples/{number}", "404"] == 3
    assert counts["other", "none", "404"] == 3
    assert counts["POST", "/v1/events", "403"] == 1
    assert sum(counts[key] for key in counts if key[:2] == ("POST", "/v1/events")) == 2
    assert requests_by(viewer)["GET", "/metrics", "200"] == 1
    seconds = scraped(viewer)["stovetop_request_seconds_sum"]
    assert all(each > 0 for each in seconds.values())
