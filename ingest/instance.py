"""This installation's own name, made once; a shipper's cursor belongs to it."""

import time
import uuid

from sqlalchemy import select
from sqlalchemy.orm import Session

from ingest.database import take_turn
from ingest.tables import Instance


def ensure_instance(session: Session) -> str:
    """The instance id, 32 hex characters; made by the first call, in a writing transaction."""
    take_turn(session, "instance")
    known: Instance | None = session.scalar(select(Instance))
    if known is not None:
        return known.instance_id
    instance = Instance(instance_id=uuid.uuid4().hex, created_at=time.time())
    session.add(instance)
    session.flush()
    return instance.instance_id
