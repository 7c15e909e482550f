"""Every service of compose.yaml, by its exact command, on a real Kafka and PostgreSQL."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from control_api.remote import Remote
from tests.deploy import compose
from tests.deploy.machine import Machine, Places, answers, until
from tests.intake import wire_event
from tests.kafka.broker import Broker
from tests.ports import unused_port
from tests.postgres import Cluster
from tests.s3 import S3


@pytest.fixture
def places(tmp_path: Path, broker: Broker, cluster: Cluster, s3_server: S3) -> Places:
    return Places.of(
        tmp_path,
        broker=broker,
        cluster=cluster,
        database="production",
        storage=s3_server,
        port=unused_port(),
    )


@pytest.fixture
def machine(places: Places) -> Iterator[Machine]:
    machine = Machine(places)
    yield machine
    machine.kill()


def state_of_the_run(api: Remote) -> str:
    found = api.get("/v1/runs")["items"]
    return f"{found[0]['state']} {found[0]['step'] > 0}" if found else "none"


@pytest.mark.timeout(300)
def test_its_commands_bring_an_event_to_a_training_step_and_end_in_order(
    machine: Machine, places: Places
) -> None:
    document = compose.read({"STOVETOP_SECRETS": str(places.secrets), "MIX": "all"})
    services = {service.name: service for service in compose.services_of_ours(document)}

    [migration] = machine.start(services.pop("migrate"))
    assert migration.end() == 0, migration.log_path.read_text()
    trainer = services.pop("trainer")
    running = [each for service in services.values() for each in machine.start(service)]
    api_url = f"http://127.0.0.1:{places.port}"
    until(lambda: answers(api_url))

    def client(role: str) -> Remote:
        create = ["stovetop", "keys", "create", "--role", role, "--json"]
        return Remote(api_url, json.loads(machine.run(services["api"], create))["key"])

    production, api = client("ingest"), client("operator")
    for session in range(4):
        events = [wire_event(number, f"s-{session}") for number in range(10)]
        events.append(wire_event(10, f"s-{session}", kind="end", payload={}))
        assert production.post("/v1/events", events)["accepted"] == 11
    until(lambda: api.get("/v1/stages")["samples"] == 40)
    stages = api.get("/v1/stages")
    until(lambda: sum(api.get("/v1/stages")["latents"].values()) == stages["trainable"] > 0)

    api.post("/v1/slices", {"name": "all", "filter": ""})
    api.post("/v1/mixes", {"name": "all", "shares": {"all": 1.0}})
    training = machine.start(trainer)
    until(lambda: state_of_the_run(api) == "running True")
    for each in running + training:
        until(each.is_healthy)

    assert machine.failed() == []
    ends = [each for each in running if each.service.name != "api"] + training
    for each in ends:
        each.process.terminate()
    assert {each.name: each.end() for each in ends} == {each.name: 0 for each in ends}
    assert state_of_the_run(api) == "stopped True"
    [server] = [each for each in running if each.service.name == "api"]
    server.process.terminate()
    assert server.end() == 0
