"""A port to serve on, for programs that are given theirs."""

import secrets
import socket
from contextlib import suppress
from pathlib import Path


def unused_port() -> int:
    """A port that nobody serves on now, nor is given one by chance while its program is away."""
    first_given_out = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = range(1_024, first_given_out)
    while True:
        with suppress(OSError), socket.create_server(("127.0.0.1", secrets.choice(ports))) as found:
            return int(found.getsockname()[1])
