"""`python -m control_api.cli`: the `stovetop` command, where only the interpreter is known."""

from control_api.cli import main

main()
