"""The wheel: all that the repository's packages hold, and enough to run on, away from it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from control_api.remote import Remote
from tests.deploy.compose import ROOT
from tests.deploy.machine import until
from tests.intake import wire_event

PACKAGES = ("ingest", "trainer", "control_api", "migrations")
UV = Path(sys.executable).with_name("uv")
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made of a copy, as the Dockerfile makes it: nothing old of a build is around."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = [UV, "build", "-q", "--wheel", "--no-build-isolation", "--python", sys.executable]
    subprocess.run([*build, "--out-dir", folder / "dist", folder], check=True)
    [made] = (folder / "dist").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> "Elsewhere":
    """The wheel in an empty environment; other people's packages are the ones that are here."""
    folder = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([UV, "venv", "-q", "--python", sys.executable, folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    install = [UV, "pip", "install", "-q", "--offline", "--no-deps", "--python", python]
    subprocess.run([*install, wheel], check=True)
    # Of a folder that a .pth file names, the .pth files are not read: ours of here stays out.
    [site] = (folder / "venv" / "lib").glob("python*/site-packages")
    (site / "other-peoples.pth").write_text(sysconfig.get_path("purelib"))
    return Elsewhere(folder)


class Elsewhere:
    """A folder with nothing of the repository, and the environment's commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._bin = folder / "venv" / "bin"
        ours = [name for name in os.environ if name.startswith(("STOVETOP_", "PYTHON"))]
        self._environment = {k: v for k, v in os.environ.items() if k not in ours}

    def start(self, program: str, *arguments: str) -> "subprocess.Popen[str]":
        """Start a program of the environment."""
        return subprocess.Popen(
            [self._bin / program, *arguments],
            cwd=self.folder,
            env=self._environment | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, program: str, *arguments: str) -> str:
        """What a program says that ends by itself, and well."""
        with self.start(program, *arguments) as process:
            said, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        return said


@pytest.fixture
def up(elsewhere: Elsewhere) -> Iterator["subprocess.Popen[str]"]:
    """`stovetop up` on an empty folder."""
    with elsewhere.start("stovetop", "up", "--data", "data", "--port", "0", "--json") as process:
        yield process
        process.kill()


def test_it_holds_every_file_of_the_packages(wheel: Path) -> None:
    listed = ["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard"]
    tracked = subprocess.run([*listed, *PACKAGES], check=True, stdout=subprocess.PIPE, text=True)
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert {name for name in tracked.stdout.splitlines() if (ROOT / name).exists()} == held


def test_its_packages_are_its_own_and_a_trainer_becomes_interactive(elsewhere: Elsewhere) -> None:
    source = (
        "import control_api, ingest, migrations, trainer\n"
        "for package in (ingest, trainer, control_api, migrations): print(package.__file__)\n"
        "import transformers\n"
        "from trainer.interactive import make_interactive\n"
        "print(issubclass(make_interactive(transformers.Trainer), transformers.Trainer))"
    )
    *files, is_trainer = elsewhere.run("python", "-c", source).splitlines()
    venv = elsewhere.folder / "venv"
    assert [Path(file).parent.name for file in files] == list(PACKAGES)
    assert all(Path(file).is_relative_to(venv) for file in files)
    assert is_trainer == "True"


def test_its_command_says_its_version(elsewhere: Elsewhere) -> None:
    assert elsewhere.run("stovetop", "--version") == f"stovetop {VERSION}\n"


def test_an_event_becomes_a_sample_on_an_empty_folder(
    elsewhere: Elsewhere, up: "subprocess.Popen[str]"
) -> None:
    assert up.stdout is not None
    url = json.loads(up.stdout.readline())["url"]
    make_key = ("keys", "create", "--data", "data", "--role", "admin", "--json")
    api = Remote(url, json.loads(elsewhere.run("stovetop", *make_key))["key"])
    assert api.get("/readyz")["status"] == "ready"
    assert api.get("/v1/instance")["version"] == VERSION
    events = [wire_event(0), wire_event(1, kind="end", payload={})]
    assert api.post("/v1/events", events)["accepted"] == 2
    until(lambda: api.get("/v1/stages")["samples"] == 1)
    up.send_signal(signal.SIGTERM)
    assert up.wait(60) == 0
