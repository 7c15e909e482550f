"""The command that gives the buffer to others."""

from pathlib import Path
from typing import Annotated

import typer

from control_api.cli.options import AsJson, Data, settings_of
from control_api.cli.output import CommandFailed, answer


def export(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New, or empty.")],
    data: Data = None,
    *,
    slice_name: Annotated[
        str | None, typer.Option("--slice", help="Its samples; else all that are released.")
    ] = None,
    revision: Annotated[
        int | None, typer.Option(help="Of the buffer; the newest by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copy samples to a WebDataset folder, with a Parquet file that describes them.

    It may run while everything works. What is forgotten later stays in the copy: that is yours.
    """
    from dataclasses import asdict

    from sqlalchemy.exc import OperationalError

    from control_api.audit import local_caller, record
    from ingest.database import open_engine, read, write
    from ingest.export import ExportFailed
    from ingest.export import export as copy_samples
    from ingest.shard_store import open_store
    from ingest.slices import SliceError

    settings = settings_of(data)
    engine = open_engine(settings.resolved_database_url)
    try:
        with read(engine) as session:
            done = copy_samples(
                session, open_store(settings), folder, slice_name=slice_name, revision=revision
            )
        with write(engine) as session:
            detail = {"slice": slice_name, **asdict(done)}
            record(session, local_caller(), "buffer.export", str(folder), **detail)
    except (ExportFailed, SliceError, OSError) as error:
        raise CommandFailed(str(error)) from error
    except OperationalError as error:
        raise CommandFailed(f"the database can't be read: {error.orig}") from error
    finally:
        engine.dispose()
    text = f"{folder} holds {done.num_samples} samples of revision {done.revision}"
    answer({"folder": str(folder), **asdict(done)}, as_json=as_json, text=text)
