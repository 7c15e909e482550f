"""The processes of one installation: started, killed, awaited; each with a log in its folder."""

import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.crashes.installation import MIX, Installation
from tests.crashes.zygote import Trap, Zygote

SIGKILLED = -9
LINE = ("api", "consumer", "replay", "encode")
TRAIN = "train"
UP = "up"
FULL_AT_BYTES = 4_096
PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "api": ("control_api.serve",),
    "consumer": ("ingest.consume",),
    "replay": ("ingest.replay.worker",),
    "encode": ("trainer.encode",),
    TRAIN: (
        "trainer.run.__main__",
        *("--name", "run", "--recipe", "causal_lm", "--mix", MIX, "--max-steps", "1000000"),
    ),
    UP: ("control_api.cli", UP),
}


class Machine:
    """All programs of an installation, by name; a second `api` is `api-2`. Close it."""

    def __init__(self, zygote: Zygote, installation: Installation, logs: Path) -> None:
        self._zygote = zygote
        self._installation = installation
        self._logs = logs
        self._pids: dict[str, int] = {}
        logs.mkdir(exist_ok=True)

    def start(self, *programs: str, trap: Trap | None = None, **environment: str) -> None:
        """Start programs, which die in a trap where one is given."""
        for program in programs:
            module, *arguments = PROGRAMS[program.partition("-")[0]]
            self._pids[program] = self._zygote.fork(
                module,
                arguments,
                self._installation.environment | environment,
                self.log_of(program),
                trap,
            )

    def is_started(self, program: str) -> bool:
        """Whether it was, and nobody has killed it since."""
        return program in self._pids

    def kill(self, program: str) -> None:
        """`kill -9`; fails where it has ended by itself before."""
        code = self.stop(program)
        assert code == SIGKILLED, f"{program} ended with {code}: {self.log_of(program)}"

    def stop(self, program: str) -> int:
        """End it, however; how it ended."""
        return self._zygote.kill(self._pids.pop(program))

    def has_died(self, program: str) -> bool:
        """Whether it was killed; fails where it has ended in another way."""
        code = self._zygote.code(self._pids[program])
        assert code in (None, SIGKILLED), f"{program} ended with {code}: {self.log_of(program)}"
        return code is not None

    def assert_all_live(self) -> None:
        """Fails where a program has ended by itself."""
        dead = [program for program in self._pids if self.has_died(program)]
        assert not dead, f"{dead} were killed, and nobody knows by whom"

    def children(self, program: str) -> list[int]:
        """The processes that it has started."""
        pid = self._pids[program]
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """Nothing more can be written; without a disk of its own, by a limit on each process."""
        if self._installation.disk is not None:
            with self._installation.disk.full():
                yield
            return
        self._limit_files(FULL_AT_BYTES)
        yield
        self._limit_files(resource.RLIM_INFINITY)

    def _limit_files(self, num_bytes: int) -> None:
        for pid in self._pids.values():
            limits = (num_bytes, resource.RLIM_INFINITY)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)

    def log_of(self, program: str) -> Path:
        """Where a program's output goes."""
        return self._logs / f"{program}.log"

    def close(self) -> None:
        """Kill all."""
        for program in [*self._pids]:
            self.stop(program)
