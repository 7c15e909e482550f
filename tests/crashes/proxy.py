"""A line between two programs that can be cut, and slowed down: TCP or a UNIX socket."""

import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_PIECE_BYTES = 65_536


class Proxy:
    """Hands on what comes to `listener` to where `connect` leads; close it.

    `delay_s` holds up every piece, in both directions.
    """

    def __init__(self, listener: socket.socket, connect: Callable[[], socket.socket]) -> None:
        self.delay_s = 0.0
        self._listener = listener
        self._connect = connect
        self._lines: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens, by TCP."""
        return int(self._listener.getsockname()[1])

    def cut(self) -> int:
        """Cut every line in its midst, without a word to either end; returns how many."""
        with self._lock:
            lines, self._lines = self._lines, set()
        for line in lines:
            _cut(line)
        return len(lines)

    def close(self) -> None:
        """Cut all lines, and take no more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:  # closed
                return
            try:
                far = self._connect()
            except OSError:  # who is meant is not there
                near.close()
                continue
            line = (near, far)
            with self._lock:
                self._lines.add(line)
            for source, target in (line, line[::-1]):
                threading.Thread(target=self._hand_on, args=[source, target, line]).start()

    def _hand_on(
        self,
        source: socket.socket,
        target: socket.socket,
        line: tuple[socket.socket, socket.socket],
    ) -> None:
        with suppress(OSError):
            while piece := source.recv(_PIECE_BYTES):
                time.sleep(self.delay_s)
                target.sendall(piece)
        with self._lock:
            is_ours = line in self._lines
            self._lines.discard(line)
        if is_ours:
            _cut(line)


def _cut(line: tuple[socket.socket, socket.socket]) -> None:
    for end in line:
        with suppress(OSError):
            if end.family != socket.AF_UNIX:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            end.shutdown(socket.SHUT_RDWR)
    for end in line:
        end.close()
