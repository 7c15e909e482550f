"""The API beside one run: `python -m control_api.embedded`, started by the run's own process.

In: the settings of the run's installation. Out: one line of JSON with `url`, `page` and an
operator's `key`, then answers until it is ended. It takes the settings' port, or a free one where
that is taken; the keys of earlier ones are revoked.
"""

import json
import socket
import sys
import time

from sqlalchemy import update

from control_api.listener import listen, shown_url
from control_api.page_key import new_page_key
from control_api.serve import serve
from ingest.database import open_engine, write
from ingest.keys import create_key
from ingest.logs import log_to
from ingest.settings import Settings
from ingest.tables import ApiKey

SOURCE = "embedded"
SHUTDOWN_S = 1


def main() -> None:
    """Serve until SIGTERM or the end of the parent."""
    log_to(sys.stderr)
    settings = Settings()
    with _listener(settings) as listener:
        url = shown_url(settings.host, listener)
        page_key, key = _keys(settings)
        said = {"url": url, "page": f"{url}/#key={page_key}", "key": key}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
        serve(settings, listener, SHUTDOWN_S)


def _listener(settings: Settings) -> socket.socket:
    try:
        return listen(settings.host, settings.port)
    except OSError:
        return listen(settings.host, 0)


def _keys(settings: Settings) -> tuple[str, str]:
    """One that opens the page and one that steers."""
    engine = open_engine(settings.resolved_database_url)
    try:
        with write(engine) as session:
            now = time.time()
            earlier = update(ApiKey).where(ApiKey.source == SOURCE, ApiKey.revoked_at.is_(None))
            session.execute(earlier.values(revoked_at=now))
            return new_page_key(session, now), create_key(session, "operator", SOURCE)
    finally:
        engine.dispose()


if __name__ == "__main__":
    main()
