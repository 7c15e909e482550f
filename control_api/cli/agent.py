"""The command that lets an agent steer a run: a rule-based one, or a language model."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from control_api.cli.options import DEFAULT_URL, AsJson, Key, RunName, Url, remote
from control_api.cli.output import CommandFailed, answer, talk
from control_api.cli.signals import stop_at_a_signal

if TYPE_CHECKING:
    from control_api.agent.chat import Endpoint
    from control_api.agent.look import SteeredRun
    from control_api.agent.transcript import Transcript

RULES = "rules"


def agent(  # noqa: PLR0913  (each is an option of the command)
    run: RunName,
    *,
    model: Annotated[
        str,
        typer.Option(
            envvar="STOVETOP_AGENT_MODEL", help="A model's name at the endpoint; rules: no model."
        ),
    ] = RULES,
    endpoint: Annotated[
        str | None,
        typer.Option(
            envvar="STOVETOP_AGENT_URL",
            metavar="URL",
            help="OpenAI-compatible, up to /chat/completions.",
        ),
    ] = None,
    endpoint_key: Annotated[
        str,
        typer.Option(
            envvar="STOVETOP_AGENT_KEY", metavar="KEY", help="Its API key.", show_default=False
        ),
    ] = "",
    goal: Annotated[str | None, typer.Option(help="What a model shall bring about.")] = None,
    turns: Annotated[int, typer.Option(help="Most replies of a model.", min=1)] = 200,
    transcript: Annotated[
        Path | None, typer.Option(help="File that every exchange is appended to, as JSON lines.")
    ] = None,
    url: Url = DEFAULT_URL,
    key: Key = "",
    as_json: AsJson = False,
) -> None:
    """Let an agent steer a run, with a key of its own and the limits of that key."""
    server = remote(url, key)
    if model != RULES and endpoint is None:
        raise CommandFailed("a model needs its endpoint: pass --endpoint or set STOVETOP_AGENT_URL")
    from control_api.agent.chat import ChatFailed, Endpoint
    from control_api.agent.look import SteeredRun
    from control_api.agent.transcript import Transcript

    try:
        with Transcript(transcript) as kept, stop_at_a_signal() as stop:
            steered = SteeredRun(server, run)
            if endpoint is None or model == RULES:
                summary = _by_rules(steered, kept, stop)
            else:
                where = Endpoint(endpoint, model, endpoint_key)
                summary = _by_model(steered, where, kept, stop, goal=goal, turns=turns)
    except (ChatFailed, OSError) as error:
        raise CommandFailed(str(error)) from error
    answer({"run": run, "model": model, "summary": summary}, as_json=as_json, text=summary)


def _by_rules(run: "SteeredRun", transcript: "Transcript", stop: threading.Event) -> str:
    from control_api.agent.rules import decide
    from control_api.agent.steer import steer

    return steer(run, decide, transcript, tell=talk, stop=stop)


def _by_model(
    run: "SteeredRun",
    endpoint: "Endpoint",
    transcript: "Transcript",
    stop: threading.Event,
    *,
    goal: str | None,
    turns: int,
) -> str:
    from control_api.agent.chat import Chat
    from control_api.agent.dialogue import Bounds, Dialogue
    from control_api.agent.prompt import GOAL

    with Chat(endpoint, transcript, stop) as chat:
        dialogue = Dialogue(run, chat, transcript, talk, stop, Bounds(turns=turns))
        return dialogue.hold(goal or GOAL)
