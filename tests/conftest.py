"""The local runtime as a process, for the tests that want it from outside."""

import gc
import os
import shutil
import signal
import urllib.request
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
import uvloop
from botocore.config import Config
from botocore.loaders import JSONFileLoader
from playwright.sync_api import Browser, Page, sync_playwright

from tests import forks
from tests.ports import free_port

ROOT = Path(__file__).parent.parent
os.environ.pop("AWS_ENDPOINT_URL", None)  # a test says itself where it goes
SETTINGS = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
# Each session would read the models of its services anew, which was half of what the tests themselves took.
# S3's is not shared: a client changes the paths in its own.
_read = JSONFileLoader().load_file
_read_once = cache(_read)
JSONFileLoader.load_file = lambda _, path: (_read if "/s3/" in path else _read_once)(path)  # type: ignore[method-assign]


def pytest_collection_finish() -> None:
    """What is imported stays: the collector need not look through it again and again."""
    gc.freeze()


def pytest_sessionfinish() -> None:
    """So that libraries that look for leaks at the end find none."""
    gc.unfreeze()


def pytest_asyncio_loop_factories() -> dict[str, Any]:
    """The runtime's own loop."""
    return {"uvloop": uvloop.new_event_loop}


class Local:
    """The runtime in a process of its own, on a port and a data directory that outlive it."""

    def __init__(
        self,
        data: Path,
        *,
        preload: str | None = "",
        faults: Path | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.data = data
        self.faults = faults
        self.options = options
        self.preload = preload
        """What jobs find imported already: nothing, since that takes a core for seconds; None for torch."""
        self.port = free_port()
        self.endpoint_url = f"http://127.0.0.1:{self.port}"
        self.log = data.with_name(f"{data.name}.log")
        self.process: forks.Fork | None = None

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **SETTINGS, "AWS_ENDPOINT_URL": self.endpoint_url}

    def start(self) -> str:
        """Start it and wait for the line that says it is ready; gives that line."""
        preload = [] if self.preload is None else ["--preload", self.preload]
        faults = [] if self.faults is None else ["--faults", str(self.faults)]
        where = ["--port", str(self.port), "--data", str(self.data)]
        with self.log.open("ab") as log:
            self.process = forks.start(
                [*preload, *faults, *where, *self.options],
                {**os.environ, **SETTINGS},
                errors=log.fileno(),
            )
        for line in self.process.stdout:
            if line.startswith(b"Stagegate local is ready"):
                return line.decode()
        raise AssertionError(f"the runtime did not start:\n{self.log.read_text()}")

    def kill(self) -> None:
        """As the power does: no chance to write or to say goodbye."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """As a user does; gives the exit status."""
        return self._end(signal.SIGTERM)

    def restart(self) -> None:
        """On the same port and data; killed before, where it still runs."""
        self.kill()
        self.start()

    def client(self, service: str, **settings: Any) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(retries={"total_max_attempts": 1}, **settings),
        )

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"{self.endpoint_url}{path}", timeout=10) as response:
            return response.read()

    def _end(self, number: signal.Signals) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(timeout=60)
        finally:
            process.kill()
            process.stdout.close()


@pytest.fixture
def stopped_local(tmp_path: Path) -> Iterator[Local]:
    """The local runtime, not started yet, on a free port with a data directory of its own."""
    runtime = Local(tmp_path / "data")
    try:
        yield runtime
    finally:
        runtime.kill()


@pytest.fixture
def local(stopped_local: Local) -> Local:
    """The local runtime, ready; killed at the end of the test."""
    stopped_local.start()
    return stopped_local


@pytest.fixture(scope="module")
def shared_local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """One for all tests of a module that take names of their own in it; ready."""
    runtime = Local(tmp_path_factory.mktemp("local") / "data")
    try:
        runtime.start()
        yield runtime
    finally:
        runtime.stop()


@pytest.fixture(scope="module")  # longer, and its event loop would be the one of other modules' tests
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    chromium = shutil.which("chromium")
    if chromium is None and not os.environ.get("CI"):
        pytest.skip("there is no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page in a profile of its own: no cookies, no cache."""
    context = browser.new_context(viewport={"width": 1100, "height": 900})
    context.set_default_timeout(30_000)
    yield context.new_page()
    context.close()
