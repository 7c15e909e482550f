"""What several tests of whole installations share: it takes seconds to start."""

from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from tests import postgres
from tests.crashes.installation import Servers, production_servers
from tests.crashes.zygote import Zygote
from tests.kafka import broker as kafka
from tests.parts import need


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """Forks processes."""
    with closing(Zygote()) as zygote:
        yield zygote


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """A PostgreSQL and a Kafka that may be killed, and run again afterwards."""
    need(kafka.why_missing())
    need(postgres.why_missing())
    with ExitStack() as stack:
        yield production_servers(stack)
