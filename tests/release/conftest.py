"""A platform that is up on a local runtime of its own, driven by the commands as a user would."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from stagegate import local_server, pipeline
from stagegate.aws import Services
from stagegate.config import Config, load_config
from stagegate.deployment import Platform, read_platform
from stagegate.inbox import Mail, read_inbox

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 120.0


@dataclass(frozen=True, kw_only=True)
class Installation:
    """The project's own pipeline, on a local runtime with a data directory and a port of its own."""

    config: Config
    processes: list[subprocess.Popen] = field(default_factory=list)

    @property
    def services(self) -> Services:
        return Services(self.config)

    @property
    def platform(self) -> Platform:
        return read_platform(self.services)

    def stagegate(
        self, *arguments: str, check: bool = True, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess:
        """A command of ours, as typed at a prompt."""
        command = [str(Path(sys.executable).parent / "stagegate"), *arguments]
        return self._run(command, check=check, environment=environment)

    def aws(self, *arguments: str) -> dict:
        """A command of AWS's own client; its JSON."""
        done = self._run(
            [str(Path(sys.executable).parent / "aws"), *arguments, "--output", "json"], check=True
        )
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def kill(self) -> None:
        """The runtime is gone at once, as if the power had failed."""
        self.processes[-1].kill()
        self.processes[-1].wait()

    def start(self) -> None:
        self.processes.append(local_server.start(self.config, with_parent=True))

    def start_run(self, dataset: Path, *options: str) -> str:
        """Start a release by the command; gives the execution's ARN."""
        name = self.stagegate("run", str(dataset), *options).stdout.split()[-1]
        return pipeline.find_run(self.services, self.platform, name).arn

    def follow(self, execution_arn: str) -> list[pipeline.Progress]:
        """What happens in an execution, until it has ended."""
        progress = pipeline.follow(self.services, execution_arn)
        return [step for step in progress if step is not None]

    def follow_until_asked(self, execution_arn: str) -> list[pipeline.Progress]:
        """What happens in an execution until a person is asked."""
        passed = []
        for step in pipeline.follow(self.services, execution_arn):
            if step is not None:
                passed.append(step)
            if isinstance(step, pipeline.TaskStarted) and step.resource.endswith(".waitForTaskToken"):
                return passed
        pytest.fail(f"nobody was asked: {passed[-1]}")

    def wait_for(self, look: Callable[[], object]) -> object:
        """What `look` gives once it gives something."""
        deadline = time.monotonic() + PATIENCE
        while not (found := look()):
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.1)
        return found

    def approval_mails(self, count: int) -> list[Mail]:
        """The mails that ask for approval, once there are `count`."""

        def look() -> list[Mail]:
            mails = [mail for mail in read_inbox(self.config) if "decision=approve" in mail.text]
            return mails if len(mails) >= count else []

        return self.wait_for(look)

    def _run(
        self, command: list[str], *, check: bool, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess:
        settings = os.environ | {
            "AWS_ENDPOINT_URL": self.config.endpoint_url,
            "STAGEGATE_DATA": str(self.config.data_directory),
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_DEFAULT_REGION": "us-east-1",
            "COLUMNS": "200",
        }
        settings |= environment or {}
        done = subprocess.run(
            command,
            cwd=self.config.root,
            env=settings,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if check and done.returncode:
            pytest.fail(f"{' '.join(command)} exited {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done


@pytest.fixture(scope="module")
def installation(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    config = replace(
        load_config(ROOT, environment={}),
        endpoint_url=f"http://127.0.0.1:{local_server.free_port()}",
        data=data,
    )
    installed = Installation(config=config)
    try:
        installed.start()
        installed.stagegate("up")
        yield installed
    finally:
        local_server.stop(data)
        for process in installed.processes:
            process.wait()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """A few drawn scenes: enough to train on, too few to learn much."""
    path = tmp_path_factory.mktemp("dataset") / "scenes.zip"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "training.sample_data",
            "--output",
            path,
            "--seed",
            "1",
            "--images-per-class",
            "12",
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return path
