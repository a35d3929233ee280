"""Storage elsewhere: moto's S3, in this process, which forgets everything."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from pyarrow import fs


@pytest.fixture(scope="session")
def options() -> Iterator[str]:
    """What the URIs of a bucket on the local server end with."""
    from moto.server import ThreadedMotoServer

    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED")
    before = {key: os.environ.get(key) for key in keys}
    os.environ.update(dict.fromkeys(keys, "true"))
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    ends = f"?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
    made, _ = fs.FileSystem.from_uri(f"s3://bucket{ends}&allow_bucket_creation=true")
    made.create_dir("bucket")
    yield ends
    server.stop()
    for key, value in before.items():
        os.environ.pop(key) if value is None else os.environ.update({key: value})
