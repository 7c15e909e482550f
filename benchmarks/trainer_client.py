"""Who talks to a run in `benchmarks/trainer.py`, from a process of its own.

`watch URL KEY RUN NUM` is NUM people with the page open. `ask URL KEY RUN FILE` posts the commands
of a JSON file, each after its pause, and prints when each was sent and answered, by the wall clock.
"""

import json
import sys
import threading
import time
from pathlib import Path

import httpx

LOOK_EVERY_S = 1.0  # as the page does
WAIT_S = 60.0


def main() -> None:
    """One of the two."""
    what, url, key, run, given = sys.argv[1:]
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=url, headers=headers, timeout=WAIT_S) as client:
        wait_until_running(client, run)
        if what == "ask":
            sys.stdout.write(json.dumps(ask(client, run, json.loads(Path(given).read_text()))))
            return
        watchers = [
            threading.Thread(target=watch, args=(client, run, number), daemon=True)
            for number in range(int(given))
        ]
        for watcher in watchers:
            watcher.start()
        for watcher in watchers:
            watcher.join()


def wait_until_running(client: httpx.Client, run: str) -> None:
    """Until the run is there and has taken steps."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        answer = client.get(f"/v1/runs/{run}")
        if answer.is_success and answer.json()["step"] > 0:
            return
        time.sleep(0.1)
    raise TimeoutError(f"run {run} takes no steps")


def ask(client: httpx.Client, run: str, asked: list[dict[str, object]]) -> list[dict[str, object]]:
    """Post each command after its pause, and say what came of it."""
    answers = []
    for command in asked:
        time.sleep(float(str(command.pop("after_s"))))
        sent_at = time.time()
        answer = client.post(f"/v1/runs/{run}/commands", json=command)
        answered_at = time.time()
        answer.raise_for_status()
        settled = wait_until_settled(client, answer.json()["command_id"])
        answers.append({**settled, "sent_at": sent_at, "answered_at": answered_at})
    return answers


def wait_until_settled(client: httpx.Client, command_id: str) -> dict[str, object]:
    """The command once nothing more becomes of it."""
    while True:
        command: dict[str, object] = client.get(f"/v1/commands/{command_id}").json()
        if command["state"] not in ("pending", "received", "applying"):
            return command
        time.sleep(0.02)


def watch(client: httpx.Client, run: str, number: int) -> None:
    """Look as the page does, as long as the run is there."""
    time.sleep(LOOK_EVERY_S * number / 10)
    while True:
        try:
            client.get(f"/v1/runs/{run}")
            client.get(f"/v1/runs/{run}/metrics", params={"name": "loss", "limit": 500})
            client.get(f"/v1/runs/{run}/commands", params={"limit": 20})
        except httpx.TransportError:
            return
        time.sleep(LOOK_EVERY_S)


if __name__ == "__main__":
    main()
