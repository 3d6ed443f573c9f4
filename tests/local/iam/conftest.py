"""A runtime that enforces IAM."""

from collections.abc import Iterator

import pytest

from tests.conftest import Local


@pytest.fixture(scope="module")
def enforcing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """A runtime that refuses, with a bucket that has something in it."""
    runtime = Local(tmp_path_factory.mktemp("enforcing") / "data", options=("--enforce-iam",))
    try:
        runtime.start()
        runtime.client("s3").create_bucket(Bucket="data")
        runtime.client("s3").put_object(Bucket="data", Key="public/a", Body=b"a")
        runtime.client("s3").put_object(Bucket="data", Key="secret/b", Body=b"b")
        yield runtime
    finally:
        runtime.stop()
