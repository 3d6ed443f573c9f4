"""The console as a process of its own, over a local runtime: with the platform on it, or with runs alone."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
import uvicorn
from botocore.config import Config as ClientConfig
from playwright.sync_api import Page

from stagegate.aws import Services
from stagegate.config import Config
from stagegate.console.app import application
from stagegate.console.patience import CALLS
from tests.conftest import ROOT, Local
from tests.console import releases
from tests.node import node_modules
from tests.release.conftest import Installation, installed
from tests.release.conftest import gate as gate  # fixtures
from tests.release.conftest import installation as installation

SCREENSHOTS = os.environ.get("STAGEGATE_SCREENSHOTS")
PATIENCE = 60.0
ROLE = "arn:aws:iam::111111111111:role/states"


class Configured(Protocol):
    @property
    def config(self) -> Config: ...


@contextlib.contextmanager
def served(environment: Mapping[str, str], *options: str, root: Path = ROOT) -> Iterator[str]:
    """The address that `stagegate console` prints, for as long as the block lasts."""
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "stagegate"), "console", "--port", "0", *options],
        cwd=root,
        env=environment,
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


@contextlib.contextmanager
def serving(installation: Configured, *options: str) -> Iterator[str]:
    """The same over an installation."""
    config = installation.config
    environment = os.environ | {"AWS_ENDPOINT_URL": config.endpoint_url, "STAGEGATE_DATA": str(config.data)}
    with served(environment, *options, root=config.root) as address:
        yield address


@pytest.fixture(scope="module")
def console(installation: Installation) -> Iterator[str]:
    with serving(installation) as address:
        yield address


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Runs of small state machines, which need no platform."""

    config: Config
    client: Any

    def machine(self, name: str, states: dict[str, Any], *, start: str | None = None) -> str:
        """A state machine of the project with these states; gives its ARN."""
        definition = {"StartAt": start or next(iter(states)), "States": states}
        arn: str = self.client.create_state_machine(
            name=f"stagegate-{name}", definition=json.dumps(definition), roleArn=ROLE
        )["stateMachineArn"]
        return arn

    def start(self, machine: str, name: str, given: Any = None) -> str:
        arn: str = self.client.start_execution(
            stateMachineArn=machine, name=name, input=json.dumps({} if given is None else given)
        )["executionArn"]
        return arn

    def run(self, machine: str, name: str, given: Any = None) -> str:
        """One that has ended."""
        arn = self.start(machine, name, given)
        self.ended(arn)
        return arn

    def ended(self, execution: str) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while (found := self.client.describe_execution(executionArn=execution))["status"] == "RUNNING":
            assert time.monotonic() < deadline, "it does not end"
            time.sleep(0.02)
        return found


@pytest.fixture(scope="module")
def runs(shared_local: Local) -> Runs:
    config = Config(root=ROOT, endpoint_url=shared_local.endpoint_url, data=shared_local.data)
    return Runs(config=config, client=shared_local.client("stepfunctions"))


@pytest.fixture(scope="module")
def runs_console(runs: Runs) -> Iterator[str]:
    with serving(runs) as address:
        yield address


@pytest.fixture(scope="session")
def axe() -> str:
    """The script of axe-core, which finds what people with disabilities would stumble over."""
    return (node_modules() / "axe-core" / "axe.min.js").read_text()


def stumbling_blocks(page: Page, axe: str) -> list[tuple[str, str]]:
    """What breaks the rules of WCAG 2.2 AA on the page as it looks now, in light and in dark."""
    found = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.evaluate(axe)
        rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
        result = page.evaluate("rules => axe.run(document, {runOnly: {type: 'tag', values: rules}})", rules)
        found += [
            (f"{scheme}: {violation['id']}", node["html"][:200])
            for violation in result["violations"]
            for node in violation["nodes"]
        ]
    page.emulate_media(color_scheme="light", reduced_motion="no-preference")
    return found


def photograph(page: Page, name: str) -> None:
    """In light and in dark, where pictures for docs/ are asked for."""
    if not SCREENSHOTS:
        return
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}-{scheme}.png")
    page.emulate_media(color_scheme="light")


@contextlib.contextmanager
def answering(config: Config, *, attempts: int = 1) -> Iterator[tuple[str, Services]]:
    """A console in this process, which asks AWS only so often for the same: its address, and its clients."""
    services = Services(config, calls=CALLS.merge(ClientConfig(retries={"total_max_attempts": attempts})))
    settings = uvicorn.Config(
        application(services, allows_changes=True), port=0, log_level="critical", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(settings)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", services
        finally:
            server.should_exit = True
            thread.join()


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A console over releases that were put into AWS directly."""

    installation: Installation
    address: str
    champion: str
    """The model package that both stages serve."""
    challenger: str
    """The one that would replace it."""
    bare: str
    """One without an evaluation."""
    hostile: str
    """One whose classes would be scripts."""


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """One for all the pages that only show; a test that changes something takes it back."""
    with installed(ROOT, tmp_path_factory.mktemp("shown")) as installation:
        packages = fill(installation)
        with serving(installation) as address:
            yield Shown(installation=installation, address=address, **packages)


def fill(installation: Installation) -> dict[str, str]:
    """Put releases in; gives their model packages."""
    services, platform = installation.services, installation.platform
    for rule in services("events").list_rules()["Rules"]:
        services("events").disable_rule(Name=rule["Name"])  # what is registered here is not released
    releases.put_evaluation(services, platform, "runs/r-1", releases.evaluation(right=80))
    releases.put_evaluation(services, platform, "runs/r-2", releases.evaluation(right=94))
    releases.put_model(services, platform, "runs/r-1")
    champion = releases.register(
        *(services, platform, "runs/r-1"), status="Approved", Accuracy="0.77", RunId="r-1"
    )
    challenger = releases.register(
        *(services, platform, "runs/r-2"),
        RunId="r-20261123-090307-23d4",
        Accuracy="0.91",
        AccuracyThreshold="0.9",
        Commit="3f1c2d9b7a" * 4,
        DatasetUri="s3://data/datasets/scenes.zip",
        DatasetSha256="ab" * 32,
        TrainingJobName="train-1",
        StartedBy="anna@example.com",
    )
    bare = releases.register(services, platform, "runs/r-3")
    classes = tuple(f"{releases.HOSTILE} {name}" for name in releases.CLASSES)
    releases.put_evaluation(services, platform, "runs/r-4", releases.evaluation(classes=classes))
    hostile = releases.register(services, platform, "runs/r-4", RunId="../../r-4")
    for stage in ("staging", "production"):
        releases.serve(services, platform, stage, champion)
    for stage in ("staging", "production"):
        services("sagemaker").get_waiter("endpoint_in_service").wait(
            EndpointName=f"stagegate-{stage}", WaiterConfig={"Delay": 1}
        )
    return {"champion": champion, "challenger": challenger, "bare": bare, "hostile": hostile}
