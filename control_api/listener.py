"""The socket that a server listens on, opened by its supervisor or by itself, and its address."""

import socket

BACKLOG = 512


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one. Raises OSError where the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    # Connections inherit it. asyncio would set it only on sockets that it made itself, and an
    # answer in two pieces (head, body) would wait 40 ms for the other side's delayed ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def shown_url(host: str, listener: socket.socket) -> str:
    """The listener's address as a browser on this machine can open it."""
    port: int = listener.getsockname()[1]
    if host in ("0.0.0.0", "::"):  # noqa: S104  (compared, not bound)
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
