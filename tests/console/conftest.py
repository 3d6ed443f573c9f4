"""The console as a process of its own, over a platform on a local runtime."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.release.conftest import Installation
from tests.release.conftest import gate as gate  # fixtures
from tests.release.conftest import installation as installation


@contextlib.contextmanager
def serving(installation: Installation, *options: str) -> Iterator[str]:
    """The address that `stagegate console` prints, for as long as the block lasts."""
    config = installation.config
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "stagegate"), "console", "--port", "0", *options],
        cwd=config.root,
        env=os.environ | {"AWS_ENDPOINT_URL": config.endpoint_url, "STAGEGATE_DATA": str(config.data)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = re.search(r"http://\S+", process.stdout.readline())
        assert address is not None
        yield address[0].rstrip("/")
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture(scope="module")
def console(installation: Installation) -> Iterator[str]:
    with serving(installation) as address:
        yield address
