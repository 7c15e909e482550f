from pathlib import Path

import pytest

from ingest.settings import Settings

URL = "postgresql://stovetop@db:5432/stovetop"


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DATABASE_URL", "DATABASE_PASSWORD"):
        monkeypatch.delenv(f"STOVETOP_{name}", raising=False)
    monkeypatch.setenv("STOVETOP_SECRETS", str(tmp_path))
    (tmp_path / "stovetop_database_password").write_text("p@ss/word\n")
    return tmp_path


@pytest.mark.usefixtures("secrets")
def test_a_password_comes_from_the_folder_of_secrets() -> None:
    settings = Settings(database_url=URL)
    assert settings.resolved_database_url == URL.replace("@", ":p%40ss%2Fword@")


@pytest.mark.usefixtures("secrets")
def test_the_urls_own_password_goes_before() -> None:
    url = URL.replace("@", ":mine@")
    assert Settings(database_url=url).resolved_database_url == url


@pytest.mark.usefixtures("secrets")
def test_the_environment_goes_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOVETOP_DATABASE_PASSWORD", "other")
    assert ":other@" in Settings(database_url=URL).resolved_database_url


@pytest.mark.usefixtures("secrets")
def test_no_representation_shows_it() -> None:
    assert "p@ss" not in repr(Settings(database_url=URL))


def test_a_folder_that_is_not_there_is_told(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOVETOP_SECRETS", str(secrets / "gone"))
    with pytest.warns(UserWarning, match="does not exist"):
        assert Settings().database_password is None
