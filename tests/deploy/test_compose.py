"""compose.yaml: by the specification's own schema, and by what we promise of every service."""

import importlib.util
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from control_api import supervise
from ingest.settings import Settings
from tests.deploy import compose

HERE = Path(__file__).parent
DOCUMENT = compose.read({"STOVETOP_SECRETS": "./secrets"})
SERVICES: dict[str, dict[str, Any]] = DOCUMENT["services"]
OURS = {service.name: service for service in compose.services_of_ours(DOCUMENT)}
ONCE = {"bucket", "migrate"}  # they end by themselves
each_service = pytest.mark.parametrize("name", SERVICES)
each_of_ours = pytest.mark.parametrize("name", OURS)


def test_it_is_valid() -> None:
    schema = json.loads((HERE / "compose-spec.json").read_text())
    errors = [error.message for error in Draft7Validator(schema).iter_errors(DOCUMENT)]
    assert errors == []


def test_it_refuses_to_start_without_secrets_and_says_what_to_do() -> None:
    with pytest.raises(compose.Unset, match="make secrets"):
        compose.read({})


def test_it_holds_no_secret() -> None:
    for name, service in SERVICES.items():
        held = [key for key in service.get("environment", {}) if is_secret(key)]
        assert held == [], name
    assert {secret["file"].partition("/")[0] for secret in DOCUMENT["secrets"].values()} == {"."}


def is_secret(variable: str) -> bool:
    words = ("PASSWORD", "SECRET_ACCESS", "TOKEN", "ACCESS_KEY")
    return any(word in variable for word in words) and not variable.endswith("_FILE")


@each_service
def test_what_a_service_reads_as_a_secret_is_given_to_it(name: str) -> None:
    service = SERVICES[name]
    told = " ".join([*service.get("command", []), *map(str, service["environment"].values())])
    read = {secret for secret in DOCUMENT["secrets"] if f"/run/secrets/{secret}" in told}
    assert read <= set(service.get("secrets", []))


@each_service
def test_a_service_is_restricted(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] or name == "kafka"
    assert "privileged" not in service
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
    assert service["restart"] == ("on-failure" if name in {*ONCE, "trainer"} else "unless-stopped")


@each_service
def test_a_service_has_a_health_check_unless_it_ends_by_itself(name: str) -> None:
    assert ("healthcheck" in SERVICES[name]) == (name not in ONCE)


@each_service
def test_an_image_has_one_version(name: str) -> None:
    _, _, tag = SERVICES[name]["image"].partition(":")
    assert any(character.isdigit() for character in tag)
    assert "latest" not in tag


def test_our_images_have_the_version_of_the_wheel() -> None:
    project = tomllib.loads((compose.ROOT / "pyproject.toml").read_text())["project"]
    tags = {SERVICES[name]["image"].partition(":")[2] for name in OURS}
    assert tags == {project["version"]}


def test_kafka_is_the_one_that_is_tested() -> None:
    pom = (compose.ROOT / "tests" / "kafka" / "pom.xml").read_text()
    [tested] = re.findall(r"<artifactId>kafka_2\.13</artifactId>\s*<version>([\d.]+)<", pom)
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{tested}"


def test_nothing_but_the_api_is_reached_and_that_from_this_machine_alone() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"api": ["127.0.0.1:7420:7420"]}
    outside = [name for name, service in SERVICES.items() if "outer" in service["networks"]]
    assert outside == ["api"]
    assert DOCUMENT["networks"]["inner"] == {"internal": True}


@each_service
def test_what_a_service_names_is_there(name: str) -> None:
    service = SERVICES[name]
    assert set(service.get("depends_on", {})) <= set(SERVICES)
    assert set(service["networks"]) <= set(DOCUMENT["networks"])
    volumes = {volume.partition(":")[0] for volume in service.get("volumes", [])}
    assert volumes <= set(DOCUMENT["volumes"])


def test_whatever_needs_the_schema_waits_for_it() -> None:
    for name in set(OURS) - ONCE:
        waits = SERVICES[name]["depends_on"]["migrate"]
        assert waits == {"condition": "service_completed_successfully"}


@each_of_ours
def test_a_setting_that_is_given_exists(name: str) -> None:
    known = {f"STOVETOP_{field.upper()}" for field in Settings.model_fields} | {"STOVETOP_SECRETS"}
    given = {key for key in OURS[name].environment if key.startswith("STOVETOP_")}
    assert given <= known


def test_our_containers_are_nobody_on_the_machine() -> None:
    assert {SERVICES[name]["user"] for name in OURS} == {"10001:10001"}


def test_it_runs_what_one_machine_runs() -> None:
    """`migrate` is what `up` does itself."""
    modules = {program.module[0] for program in supervise._programs(3, "online")}
    commands = [service.command for service in OURS.values()]
    assert {command[2] for command in commands if command[:2] == ["python", "-m"]} == modules
    assert [command for command in commands if command[0] != "python"] == [
        ["stovetop", "db", "upgrade"]
    ]


@each_of_ours
def test_what_needs_torch_has_its_image(name: str) -> None:
    command = OURS[name].command
    is_training = command[:2] == ["python", "-m"] and command[2].startswith("trainer")
    assert OURS[name].image == ("trainer" if is_training else "server")


@each_of_ours
def test_a_command_is_there(name: str) -> None:
    program, *words = OURS[name].command
    module = words[1] if program == "python" else "control_api.cli"
    assert importlib.util.find_spec(module) is not None
