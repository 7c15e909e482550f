"""The key that opens the page: it can only read, and lives as long as one `stovetop up`."""

from sqlalchemy import update
from sqlalchemy.orm import Session

from ingest.keys import create_key
from ingest.tables import ApiKey

SOURCE = "page"


def new_page_key(session: Session, now: float) -> str:
    """A key for the address that is printed; those printed before are revoked."""
    earlier = update(ApiKey).where(ApiKey.source == SOURCE, ApiKey.role == "viewer")
    session.execute(earlier.where(ApiKey.revoked_at.is_(None)).values(revoked_at=now))
    return create_key(session, "viewer", SOURCE)
