"""The Dockerfile: linted, nobody's root, and its smaller image lacks nothing that it runs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy import compose

DOCKERFILE = compose.ROOT / "Dockerfile"
# Continued lines are one.
INSTRUCTIONS = [
    line.split(maxsplit=1)
    for line in re.sub(r"\\\n", " ", DOCKERFILE.read_text()).splitlines()
    if line and not line.startswith("#")
]


def stages() -> dict[str, list[tuple[str, str]]]:
    """Each stage's instructions, its own and those of the stage that it goes on from."""
    found: dict[str, list[tuple[str, str]]] = {}
    for word, rest in INSTRUCTIONS:
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            current = found[name] = list(found.get(base, [(word, base)]))
        else:
            current.append((word, rest))
    return found


def test_the_linter_finds_nothing() -> None:
    linter = [Path(sys.executable).with_name("hadolint"), "--failure-threshold", "style"]
    found = subprocess.run([*linter, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_what_it_copies_is_there_and_let_in() -> None:
    let_in = (compose.ROOT / ".dockerignore").read_text().splitlines()
    copied = [
        source
        for word, rest in INSTRUCTIONS
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    assert len(copied) > 5
    for source in copied:
        assert (compose.ROOT / source).exists()
        assert f"!{source}" in let_in
    assert let_in[1] == "*"


@pytest.mark.parametrize("target", ["server", "trainer"])
def test_an_image_is_small_and_run_by_nobody(target: str) -> None:
    instructions = stages()[target]
    words = [word for word, _ in instructions]
    assert dict(instructions)["USER"] == "10001:10001"
    assert words.index("USER") < words.index("CMD")
    assert "HEALTHCHECK" in words
    base = dict(instructions)["FROM"]
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base)
    installs = [rest for word, rest in instructions if word == "RUN"]
    assert not any(re.search(r"apt-get|pip|uv", run) for run in installs)


def test_every_target_of_compose_is_a_stage() -> None:
    document = compose.read({"STOVETOP_SECRETS": "./secrets"})
    assert {service.image for service in compose.services_of_ours(document)} <= set(stages())


def test_what_is_installed_is_held_to_its_hash() -> None:
    """But for torch from an index of the builder's own choice."""
    installs = [
        command
        for word, rest in INSTRUCTIONS
        if word == "RUN"
        for command in re.split(r"&&|;", rest)
        if re.search(r"pip install", command) and "dist/*.whl" not in command
    ]
    assert len(installs) == 5
    loose = [command for command in installs if "--require-hashes" not in command]
    assert [' --index "$TORCH_INDEX" ' in command for command in loose] == [True]


def test_the_servers_image_lacks_nothing_that_it_runs() -> None:
    """What is left out of its lock is hidden here while each of its modules is imported."""
    lock = (compose.ROOT / "requirements.txt").read_text()
    locked = set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))
    kept = set(re.findall(r"^([a-z0-9-]+)==", server_lock(), re.MULTILINE))
    assert {"torch", "transformers", "nvidia-cublas"} <= locked - kept
    hidden = sorted({name.partition("-")[0] for name in locked - kept})
    services = compose.services_of_ours(compose.read({"STOVETOP_SECRETS": "./secrets"}))
    modules = [module_of(each.command) for each in services if each.image == "server"]
    assert "control_api.serve" in modules
    source = (
        f"import sys, importlib\nfor name in {json.dumps(hidden)}: sys.modules[name] = None\n"
        f"for name in {json.dumps(modules)}: importlib.import_module(name)"
    )
    subprocess.run([sys.executable, "-c", source], check=True, cwd=compose.ROOT)


def server_lock() -> str:
    """The lock of the server's image, by the Dockerfile's own command."""
    runs = "\n".join(rest for word, rest in INSTRUCTIONS if word == "RUN")
    [filtering] = re.findall(r"(awk '[^']*')\s+requirements.txt > server.txt", runs)
    return subprocess.run(
        ["sh", "-c", f"{filtering} requirements.txt"],
        cwd=compose.ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def module_of(command: list[str]) -> str:
    return command[2] if command[0] == "python" else "control_api.cli"
