"""How many frames a second the drawn desktop gives on one core: `python benchmarks/desktop.py`.

The work is simulated people's use, half old and half fresh, so typing, menus and pages are in it.
"""

import time

from ingest.actions import Action
from ingest.replay.drawn import DrawnDesktop
from ingest.simulate import FRESH, OLD_SKILLS, mixed, simulate_session

NUM_SESSIONS = 40
SIZES = ((128, 96), (512, 384))


def frames_per_second(width: int, height: int, sessions: list[list[Action]]) -> float:
    """Replay all sessions at one size."""
    desktop = DrawnDesktop(width, height)
    start = time.perf_counter()
    for actions in sessions:
        desktop.reset()
        for action in actions:
            desktop.step(action)
    return sum(map(len, sessions)) / (time.perf_counter() - start)


def main() -> None:
    """Print one line a size."""
    day = mixed(OLD_SKILLS, FRESH, 0.5)
    sessions = [
        [Action.from_payload(a.payload) for a in simulate_session(seed, day, num_tasks=10)]
        for seed in range(NUM_SESSIONS)
    ]
    for width, height in SIZES:
        speed = frames_per_second(width, height, sessions)
        print(f"drawn desktop {width}x{height}: {speed:,.0f} frames/s")


if __name__ == "__main__":
    main()
