"""The SDK: sends events from a thread of its own. One folder, standard library only.

    client = Client("https://stovetop.example", key)
    client.capture(session_id="s1", kind="action", payload={"x": 66, "y": 60})
    client.close()

In: events of one host program. Out: `POST /v1/events`, one JSON line an event.
Guaranteed: only the constructor raises; only `flush` and `close` wait, and those are bounded. Every
event ends as one of sent, duplicate, rejected, dropped, withheld (by `before_send`) or kept (in the
spool for the next start), see `stats`; a retry carries the same ids. Each way to lose events is
told once, however many are lost. Threads may share a client; in a forked child it starts empty, the
parent sends what it captured.
Decision: 408, 429, 5xx and network errors are retried for as long as the client lives, because the
queue is bounded (10 000 events, 64 MiB) and what no longer fits is counted, not waited for. Who
would rather have them later gives a `spool`, a folder on a local disk: an event is in a file there
when `capture` returns, and after kill -9 the next start sends it, under the same id.

client      captures in the host's threads, sends from one of its own
spool       lines on disk until the server has decided on them
transport   one connection, and how long a failure is waited out
host        what becomes of clients at a fork and at exit
"""

from .client import Client, Event, Stats

__all__ = ["Client", "Event", "Stats"]
