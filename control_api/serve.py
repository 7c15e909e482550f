"""The API process: `python -m control_api.serve [--fd N]`.

With `--fd` it serves on a socket that its supervisor listens on already, so that requests wait
instead of being refused while it is started again; else it listens on the settings' own address.
"""

import argparse
import signal
import socket
import sys

import uvicorn

from control_api.app import create_app
from control_api.listener import listen
from ingest.logs import log_to
from ingest.process import look_rarely_for_garbage
from ingest.settings import Settings

SHUTDOWN_S = 5
# How long a thread that checks a batch keeps the interpreter from one that wants to answer. By
# default 5 ms, which a command's answer would wait at each of its dozen reads under a flood.
SWITCH_S = 0.001


def main() -> None:
    """Serve until SIGTERM or SIGINT, and exit with 0; requests in flight get SHUTDOWN_S to end."""
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again when it is done
        signal.signal(number, lambda *_: sys.exit(0))
    parser = argparse.ArgumentParser(prog="python -m control_api.serve")
    parser.add_argument("--fd", type=int, help="number of an inherited, listening socket")
    inherited: int | None = parser.parse_args().fd
    log_to(sys.stdout)
    look_rarely_for_garbage()
    sys.setswitchinterval(SWITCH_S)
    settings = Settings()
    listener = (
        listen(settings.host, settings.port)
        if inherited is None
        else socket.socket(fileno=inherited)
    )
    with listener:
        serve(settings, listener, SHUTDOWN_S)


def serve(settings: Settings, listener: socket.socket, shutdown_s: int) -> None:
    """Answer on a listener until SIGTERM or SIGINT; requests in flight get so long to end."""
    config = uvicorn.Config(
        create_app(settings),
        ws="none",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=shutdown_s,
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
