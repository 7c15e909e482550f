"""The `stovetop` command: everything that people and agents ask of an installation, from a shell.

app        the list of commands
machine    on the machine itself: up, train, keys, db, demo
shipping   data in: log files; simulating: people who are not there
run        a run that is under way: runs, lr, mix, pause, resume, stop, save, rollback, evaluate
agent      an agent that steers a run
commands   what was asked of a run, and decisions on what was proposed
health     what is wrong with a run, and what to do about it
curation   slices and mixes
options    the options that commands share; output: what goes to stdout and stderr

stdout is data (`--json`: one line), stderr is talk. Exit codes: 0 done, 1 refused or failed, 2 not
understood. What a command needs is imported when it runs, so that `--help` takes a moment.
"""

from control_api.cli.app import app


def main() -> None:
    """The entry point."""
    app()
