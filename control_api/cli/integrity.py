"""Commands for what must not be lost: verify and repair, backup and restore."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from control_api.cli.options import AsJson, Data, settings_of
from control_api.cli.output import CommandFailed, answer

if TYPE_CHECKING:
    from control_api.verify import Judged
    from ingest.forgetting.forget import Buried


def verify(
    data: Data = None,
    *,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what can be mended, from the events.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare every file with the index, and the index with itself; exit 1 for what stays wrong.

    It may run while everything works.
    """
    from sqlalchemy.exc import OperationalError

    from control_api import verify as checks

    settings = settings_of(data)
    try:
        verdict = checks.verify(settings, repair=repair, tell=_told(as_json=as_json))
    except OSError as error:
        raise CommandFailed(f"the shards can't be reached: {error}") from error
    except OperationalError as error:
        raise CommandFailed(
            f"no database with our tables in {settings.data}: {error.orig}; name the installation "
            "with --data, or run `stovetop db upgrade`"
        ) from error
    value = {
        "is_sound": not verdict.num_open,
        "checked": dict(verdict.seen),
        "findings": [_shown(judged) for judged in verdict.judged],
    }
    looked_at = ", ".join(f"{count} {noun}" for noun, count in verdict.seen.items())
    text = f"{looked_at}: {len(verdict.judged)} findings, {verdict.num_open} of them open"
    answer(value, as_json=as_json, text=text)
    if verdict.num_open:
        raise typer.Exit(1)


def _told(*, as_json: bool) -> "Callable[[Judged], None]":
    def tell(judged: "Judged") -> None:
        finding = judged.finding
        next_step = "mended, or queued to be made anew" if judged.is_mended else finding.fix
        typer.echo(f"{finding.kind} {finding.subject}: {finding.detail}; {next_step}")

    return (lambda _judged: None) if as_json else tell


def _shown(judged: "Judged") -> dict[str, Any]:
    finding = judged.finding
    return {
        "kind": finding.kind,
        "subject": finding.subject,
        "detail": finding.detail,
        "fix": finding.fix,
        "is_mended": judged.is_mended,
    }


def backup(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Empty, or of a backup.")],
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Copy the installation to a folder while it works; again into the same: only what is new."""
    from sqlalchemy.exc import OperationalError

    from control_api.backup.take import BackupFailed, back_up
    from ingest.database import DumpFailed

    settings = settings_of(data)
    try:
        manifest = back_up(settings, folder)
    except (BackupFailed, DumpFailed, OSError) as error:
        raise CommandFailed(str(error)) from error
    except OperationalError as error:
        raise CommandFailed(f"the database can't be read: {error.orig}") from error
    told = {"folder": str(folder), **manifest.model_dump()}
    text = f"{folder} holds {settings.data} as of {_time(manifest.created_at)}"
    answer(told, as_json=as_json, text=text)
    _refuse_damaged(manifest.damaged, "run `stovetop verify --repair` and back up again")


def restore(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Of `stovetop backup`.")],
    data: Data = None,
    *,
    tombstones: Annotated[
        Path | None,
        typer.Option(help="What `stovetop forget list --json` said after the backup."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make an installation from a backup, in an empty folder (and an empty database)."""
    from control_api.backup import copying, manifest
    from control_api.backup import restore as restoring
    from ingest.database import DumpFailed

    settings = settings_of(data)
    try:
        restored = restoring.restore(settings, folder, _buried(tombstones))
    except (
        manifest.NotABackup,
        restoring.NotEmpty,
        copying.Damaged,
        DumpFailed,
        OSError,
    ) as error:
        raise CommandFailed(str(error)) from error
    value = {"data": str(settings.data), **asdict(restored)}
    text = (
        f"{settings.data} is as of {_time(restored.created_at)}: {restored.num_shards} shards, "
        f"{restored.num_checkpoints} checkpoints; keys that were revoked since are good again"
    )
    answer(value, as_json=as_json, text=text)
    _refuse_damaged(restored.damaged, "run `stovetop verify --repair`")


def _buried(path: Path | None) -> "list[Buried]":
    from pydantic import TypeAdapter, ValidationError

    from ingest.forgetting.forget import Buried

    if path is None:
        return []
    try:
        items = json.loads(path.read_bytes())["items"]
        return TypeAdapter(list[Buried]).validate_python(items)
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise CommandFailed(f"{path} is not what `stovetop forget list --json` says") from error


def _refuse_damaged(damaged: list[str], fix: str) -> None:
    if damaged:
        raise CommandFailed(f"{len(damaged)} files were damaged, {damaged[0]} the first: {fix}")


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
