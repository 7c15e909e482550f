"""A database as one file: why it failed, and PostgreSQL's own programs for it.

In: a URL and a program's options. Out: the program has ended well, or `DumpFailed` with its last
words. Guaranteed: no password is among the arguments, which every user of the machine can read.
"""

import os
import subprocess

from sqlalchemy import URL


class DumpFailed(RuntimeError):
    """A database can't be written to a file, or filled from one."""


def run_program(program: str, url: URL, *options: str) -> None:
    """Run `pg_dump` or `pg_restore` on a database. Raises DumpFailed."""
    named = url.set(drivername="postgresql", password=None).render_as_string()
    environment = dict(os.environ)
    if url.password is not None:
        environment["PGPASSWORD"] = str(url.password)
    command = [program, f"--dbname={named}", *options]
    try:
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        raise DumpFailed(
            f"{program} is not installed here: apt-get install postgresql-client"
        ) from None
    if done.returncode != 0:
        last_words = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise DumpFailed(f"{program}: {last_words[0]}")
