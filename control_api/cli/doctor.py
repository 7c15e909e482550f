"""The command that says what is wrong, and what to do about it."""

import typer

from control_api.cli.options import AsJson, Data, settings_of
from control_api.cli.output import answer


def doctor(data: Data = None, as_json: AsJson = False) -> None:
    """Look at everything, change nothing, say what to do; exit 1 where something is wrong."""
    from dataclasses import asdict

    from control_api.doctor import examine

    findings = examine(settings_of(data))
    value = {"is_sound": not findings, "findings": [asdict(each) for each in findings]}
    lines = [f"{each.subject}: {each.detail}\n  {each.fix}" for each in findings]
    answer(value, as_json=as_json, text="\n".join(lines) or "nothing is wrong")
    if findings:
        raise typer.Exit(1)
