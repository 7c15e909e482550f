"""The page in a real browser: a one-time address signs it in, and from then on its cookie does."""

import shutil
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import Engine

from control_api.audit import local_caller
from control_api.sign_in import new_address
from ingest.database import write
from tests.parts import need

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(autouse=True)
def _browser() -> None:
    need(None if CHROMIUM else "no Chromium here: run `make build/chromium/ready` as root")


def look(address: str, profile: Path) -> str:
    """What the page has become after a few seconds of its own clock."""
    assert CHROMIUM is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    budget = "--virtual-time-budget=4000"
    ran = subprocess.run(
        [CHROMIUM, *options, budget, "--dump-dom", address],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return ran.stdout


def is_signed_in(page: str) -> bool:
    return '<form id="ask" class="card" hidden' in page and 'role="status">live<' in page


def test_an_address_signs_one_browser_in_once_and_its_cookie_keeps_it_in(
    url: str, engine: Engine, tmp_path: Path
) -> None:
    with write(engine) as session:
        address = new_address(session, url, local_caller())
    token = address.partition("#once=")[2]
    first = look(address, tmp_path / "one")
    assert is_signed_in(first)
    assert token not in first
    assert is_signed_in(look(url, tmp_path / "one"))
    assert is_signed_in(look(address, tmp_path / "one"))  # used, but no harm is done
    other = look(address, tmp_path / "other")
    assert not is_signed_in(other)
    assert "used already" in other
