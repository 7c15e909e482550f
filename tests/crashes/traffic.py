"""Production, as a seed makes it up: what it sends, and how it goes on when nobody answers.

In: a seed. Out: requests one after the other, each sent until it is answered or, now and then,
given up; the ledger knows of both. Sessions go on over rounds, are reset, end, and go on after
their end; beside their actions come documents, lines of the demo's log (some torn), events that are
none, repetitions of what was answered before, and differing events under ids that are taken.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import orjson

from tests.crashes.ledger import (
    Ledger,
    Request,
    conflict_request,
    events_request,
    lines_request,
)
from tests.intake import START
from tests.waiting import wait_until

NUM_SENDERS = 3
PAUSE_S = (0.05, 0.2)
NUM_FAST = 6  # requests of a sender; after them it only keeps things going
SLOW_PAUSE_S = (0.5, 1.0)
RETRY_S = 0.05
ANSWER_WITHIN_S = 10.0
TAKEN_WITHIN_S = 240.0
GIVE_UP_SHARE = 0.1
WORDS = ("an", "icon", "of", "the", "open", "folder", "is", "drawn", "over", "what", "was", "there")


class Producer:
    """One source of requests: its sessions are its own, so that their order is known."""

    def __init__(self, name: str, dice: random.Random) -> None:
        self._name = name
        self._dice = dice
        self._num_sessions = 0
        self._num_events = 0
        self._session_id = ""
        self._sequence = 0
        self._clock = START
        self._kept: list[dict[str, object]] = []
        self._answered: list[Request] = []
        self._begin_session()

    def next(self) -> Request:
        """The next request."""
        kinds: list[tuple[Callable[[], Request], float]] = [
            (self._actions, 10),
            (self._documents, 2),
            (self._lines, 3),
            (self._conflict, 1),
            (self._repetition, 1),
        ]
        make = self._dice.choices([kind for kind, _ in kinds], [share for _, share in kinds])[0]
        return make()

    def answered(self, request: Request) -> None:
        """What was answered may be repeated, or contradicted."""
        self._answered.append(request)
        if request.content_type == "application/json":
            self._kept += [
                e for e in orjson.loads(request.body) if e.get("event_id") in request.events
            ]

    def _begin_session(self) -> None:
        self._num_sessions += 1
        self._session_id = f"{self._name}-{self._num_sessions}"
        self._sequence = 0

    def _event(self, kind: str, payload: object, **changed: object) -> dict[str, object]:
        self._num_events += 1
        self._sequence += 1
        self._clock += self._dice.choice([0.07, 0.25, 1.0])
        return {
            "event_id": f"{self._name}-e{self._num_events}",
            "session_id": self._session_id,
            "user_id": f"user-{self._dice.randrange(20)}" if self._sequence == 1 else None,
            "sequence": self._sequence,
            "timestamp": self._clock,
            "kind": kind,
            "payload": payload,
        } | changed

    def _action(self) -> dict[str, object]:
        payload = {"x": self._dice.randrange(512), "y": self._dice.randrange(384)}
        if self._dice.random() < 0.2:
            payload["is_left_click"] = True
        return self._event("action", payload)

    def _actions(self) -> Request:
        events = [self._action() for _ in range(self._dice.randint(1, 6))]
        if self._dice.random() < 0.15:
            events.append(self._event("reset", None))
        if self._dice.random() < 0.1:
            events.append({"event_id": f"bad-{self._num_events}", "kind": "action"})
        if self._dice.random() < 0.25:
            events.append(self._event("end", None))
            if self._dice.random() < 0.8:
                self._begin_session()
        return events_request(events, as_lines=self._dice.random() < 0.3)

    def _documents(self) -> Request:
        return events_request(
            self._event(
                "document",
                {"text": " ".join(self._dice.choices(WORDS, k=self._dice.randint(3, 40)))},
                session_id=f"{self._name}-texts-{self._num_events}",
                user_id=None,
            )
            for _ in range(self._dice.randint(1, 4))
        )

    def _lines(self) -> Request:
        lines = []
        for _ in range(self._dice.randint(1, 5)):
            self._num_events += 1
            self._clock += 0.25
            line = orjson.dumps(
                {
                    "session_id": f"{self._name}-log",
                    "timestamp": self._clock,
                    "inputs": {"x": self._dice.randrange(512), "y": 60},
                }
            )
            if self._dice.random() < 0.2:
                line = line[: -self._dice.randint(1, 8)] + b"%d" % self._num_events
            lines.append(line)
        return lines_request(lines)

    def _conflict(self) -> Request:
        if not self._kept:
            return self._actions()
        return conflict_request(self._dice.choice(self._kept) | {"timestamp": self._clock + 0.5})

    def _repetition(self) -> Request:
        return self._dice.choice(self._answered) if self._answered else self._actions()


class Traffic:
    """Producers at work, each in a thread of its own, whenever they are `flowing`."""

    def __init__(self, url: str, key: str, ledger: Ledger, seed: str) -> None:
        self._headers = {"Authorization": f"Bearer {key}"}
        self._url = url
        self._ledger = ledger
        self._dice = [random.Random(f"{seed}/{number}") for number in range(NUM_SENDERS)]
        self._producers = [Producer(f"p{n}", dice) for n, dice in enumerate(self._dice)]

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Send until the end of the block, and then until everything is answered or given up."""
        stop = threading.Event()
        errors: list[BaseException] = []

        def work(number: int) -> None:
            try:
                self._send_until(stop, self._producers[number], self._dice[number])
            except BaseException as error:  # noqa: BLE001  (raised in the caller's thread)
                errors.append(error)

        threads = [threading.Thread(target=work, args=[n]) for n in range(NUM_SENDERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        if errors:
            raise errors[0]

    def send_once(self, request: Request) -> None:
        """Send a request until it is answered."""
        with httpx.Client(base_url=self._url, headers=self._headers) as client:
            wait_until(lambda: self._is_answered(client, request), TAKEN_WITHIN_S)
        self._ledger.acknowledge(request)

    def _send_until(self, stop: threading.Event, producer: Producer, dice: random.Random) -> None:
        with httpx.Client(
            base_url=self._url, headers=self._headers, timeout=ANSWER_WITHIN_S
        ) as client:
            num_sent = 0
            while not stop.wait(dice.uniform(*(PAUSE_S if num_sent < NUM_FAST else SLOW_PAUSE_S))):
                num_sent += 1
                request = producer.next()
                while not self._is_answered(client, request):
                    if dice.random() < GIVE_UP_SHARE:
                        self._ledger.give_up(request)
                        break
                    time.sleep(RETRY_S)
                else:
                    self._ledger.acknowledge(request)
                    producer.answered(request)

    def _is_answered(self, client: httpx.Client, request: Request) -> bool:
        headers = {"Content-Type": request.content_type}
        try:
            answer = client.post(request.path, content=request.body, headers=headers)
        except httpx.TransportError:
            self._ledger.counts["unanswered"] += 1
            return False
        if answer.status_code == 503:
            self._ledger.counts["refused for now"] += 1
            return False
        assert answer.status_code in (202, 422), f"{answer.status_code}: {answer.text}"
        told = answer.json()
        num_told = told["accepted"] + told["duplicate"] + len(told["rejected"])
        assert num_told == request.num_items, answer.text
        return True
