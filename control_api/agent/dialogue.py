"""The loop of a language model: it looks, calls a tool, reads the outcome, until it is done.

In: a run, a chat, a goal. Out: why it ended. Guaranteed: about `turns` replies and `tokens` tokens
at most, of all requests together; at most MOST_MISTAKES in a row that lead to nothing (no tool, a
malformed call, a command that the server refuses), each answered with what was wrong. The messages
that go along are the first look and the last KEPT_TURNS turns, so no request grows for ever.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from control_api.agent.actions import Action, Ask, Done, Wait
from control_api.agent.chat import Chat, Message, ToolCall
from control_api.agent.look import SteeredRun
from control_api.agent.prompt import look_text, marked, system_message
from control_api.agent.tools import ToolMisused, action_of, tools
from control_api.agent.transcript import Transcript
from control_api.remote import RemoteError

MOST_MISTAKES = 5
KEPT_TURNS = 20
SETTLE_S = 60.0
NO_TOOL = "Call a tool: a command, `wait` or `done`."


@dataclass(frozen=True)
class Bounds:
    """How long a dialogue may be."""

    turns: int = 200
    tokens: int = 1_000_000


@dataclass
class _Spent:
    turns: int = 0
    tokens: int = 0
    mistakes: int = 0  # in a row


@dataclass
class Dialogue:
    """One language model with one run."""

    run: SteeredRun
    chat: Chat
    transcript: Transcript
    tell: Callable[[str], None]
    stop: threading.Event
    bounds: Bounds = field(default_factory=Bounds)

    def hold(self, goal: str) -> str:
        """Talk until the model is done or a bound is reached; the summary.

        Raises ChatFailed or RemoteError.
        """
        seen, spent = self.run.look(), _Spent()
        system, turns = system_message(goal), [[_user(look_text(seen))]]
        offered = tools()
        while not self.stop.is_set():
            ended = self._bound_reached(spent)
            if ended is not None:
                return ended
            kept = [turns[0], *turns[1:][-KEPT_TURNS:]]
            messages = [system, *(message for turn in kept for message in turn)]
            reply, tokens = self.chat.reply(messages, offered)
            spent.turns += 1
            spent.tokens += tokens
            turn = [reply.message()]
            turns.append(turn)
            if not reply.tool_calls:
                spent.mistakes += 1
                turn.append(_user(NO_TOOL))
                continue
            for call in reply.tool_calls:
                done, result = self._call(call, spent)
                if done is not None:
                    return done.summary
                turn.append({"role": "tool", "tool_call_id": call.id, "content": result})
        return "told to stop"

    def _bound_reached(self, spent: _Spent) -> str | None:
        if spent.turns >= self.bounds.turns:
            return f"{spent.turns} turns are over"
        if spent.tokens >= self.bounds.tokens:
            return f"{spent.tokens} tokens are spent"
        if spent.mistakes >= MOST_MISTAKES:
            return f"{spent.mistakes} replies in a row led to nothing"
        return None

    def _call(self, call: ToolCall, spent: _Spent) -> tuple[Done | None, str]:
        """Do what a tool call says; the end if it is one, and what the model is told of it."""
        try:
            action = action_of(call.function.name, call.function.arguments)
            result = self._act(action)
        except ToolMisused as error:
            result, problem = f"refused: {error}", str(error)
        except RemoteError as error:
            if error.status is None or error.status >= 500:
                raise
            result, problem = f"refused: {marked(error.detail)}", error.detail
        else:
            spent.mistakes = 0
            done = action if isinstance(action, Done) else None
            self.transcript.write("tool", call=call.function.model_dump(), result=result)
            return done, result
        spent.mistakes += 1
        self.tell(result)
        self.transcript.write("refused", call=call.function.model_dump(), problem=problem)
        return None, result

    def _act(self, action: Action) -> str:
        match action:
            case Done(summary):
                return summary
            case Wait(steps):
                self.run.wait(steps, self.stop)
                return look_text(self.run.look())
            case Ask(kind, args, reason):
                self.tell(f"{kind} {dict(args)}: {reason}")
                command = self.run.settled(self.run.ask(kind, args, reason), SETTLE_S)
                outcome = _outcome(command)
                self.tell(f"{kind} is {outcome['state']}: {outcome['error'] or outcome['after']}")
                return marked(outcome)


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _outcome(command: dict[str, Any]) -> dict[str, Any]:
    shown = ("command_id", "kind", "state", "branch", "effective_step", "after", "error")
    return {name: command[name] for name in shown}
