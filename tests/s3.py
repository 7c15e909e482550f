"""S3-style storage on this machine: moto's server, with one bucket."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "stovetop"
_prefixes = count(1)


@dataclass
class S3:
    """`environment` is what a process needs to reach it; each `url` is empty at first."""

    server: ThreadedMotoServer
    environment: Mapping[str, str]
    url: str = field(default_factory=lambda: f"s3://{BUCKET}/shards-{next(_prefixes)}")


@contextmanager
def serving() -> Iterator[S3]:
    """A server of its own."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        environment = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        made = boto3.client(
            "s3",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106  (moto takes any)
            region_name="us-east-1",
        )
        made.create_bucket(Bucket=BUCKET)
        made.close()
        yield S3(server, environment)
    finally:
        server.stop()
