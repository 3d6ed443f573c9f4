"""A platform that is up on a local runtime of its own, driven by the commands as a user would."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from stagegate import local_server, pipeline
from stagegate.approvals import Approval, find_approval, list_approvals
from stagegate.aws import Services
from stagegate.config import Config, load_config
from stagegate.deployment import Platform, read_platform, upload_code
from stagegate.inbox import Mail, read_inbox
from tests.conftest import Local
from tests.deploy.conftest import RULES
from tests.ports import free_port

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 120.0


@dataclass(kw_only=True)
class Command:
    """`stagegate local` as users have it, with torch imported before its jobs begin."""

    config: Config
    process: subprocess.Popen | None = None

    def start(self) -> None:
        self.process = local_server.start(self.config, with_parent=True, enforce_iam=True)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        local_server.stop(self.config.data_directory)
        if self.process is not None:
            self.process.wait()


@dataclass(frozen=True, kw_only=True)
class Installation:
    """The project's own pipeline, on a local runtime with a data directory and a port of its own.

    `runtime` is None where a test starts one by itself.
    """

    config: Config
    runtime: Command | Local | None = None

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

    def permissions(self) -> list[dict[str, Any]]:
        """What each role has asked for, and what of its policies nothing has used."""
        roles: list[dict[str, Any]] = json.loads(self.stagegate("iam", "--json", check=False).stdout)["Roles"]
        return roles

    def refused(self) -> list[tuple[str, str, str]]:
        """Roles, actions and resources of the calls that policies do not allow."""
        return [
            (entry["Role"].rsplit("/", 1)[-1], call["Action"], call["Resource"])
            for entry in self.permissions()
            for call in entry["Calls"]
            if not call["IsAllowed"]
        ]

    def unused_permissions(self) -> Iterator[tuple[str, list[str]]]:
        """Each role that was used, with the actions and resources of its policies that nothing has needed."""
        for entry in (entry for entry in self.permissions() if entry["Calls"]):
            for unused in entry["Unused"]:
                yield entry["Role"].rsplit("/", 1)[-1], [*unused["Actions"], *unused["Resources"]]

    def kill(self) -> None:
        """The runtime is gone at once, as if the power had failed."""
        assert self.runtime is not None
        self.runtime.kill()

    def start(self) -> None:
        """Roles may do only what their policies allow."""
        assert self.runtime is not None
        self.runtime.start()

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


@contextmanager
def installed(project: Path, data: Path, *, trains: bool = False) -> Iterator[Installation]:
    """The pipeline of a project, up on a runtime of its own: the command, where models are trained on it, or
    a fork, which is there sooner, and whose jobs import torch themselves."""
    config = replace(load_config(project, environment={}), data=data)
    runtime: Command | Local
    if trains:
        config = replace(config, endpoint_url=f"http://127.0.0.1:{free_port()}")
        runtime = Command(config=config)
    else:
        runtime = Local(data, options=["--enforce-iam", "--region", config.region])
        config = replace(config, endpoint_url=runtime.endpoint_url)
    installation = Installation(config=config, runtime=runtime)
    try:
        installation.start()
        installation.stagegate("up")
        yield installation
    finally:
        runtime.stop()


@pytest.fixture(scope="module")
def installation(request, tmp_path_factory):
    """A module that trains models on it says so: `TRAINS = True`."""
    trains = getattr(request.module, "TRAINS", False)
    with installed(ROOT, tmp_path_factory.mktemp("data"), trains=trains) as installation:
        yield installation


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


EVALUATION = {
    "multiclass_classification_metrics": {
        "confusion_matrix": {
            "forest": {"forest": 96, "sea": 1, "street": 3},
            "sea": {"forest": 2, "sea": 95, "street": 3},
            "street": {"forest": 1, "sea": 8, "street": 91},
        }
    },
    "per_class": {
        "forest": {"recall": 0.96, "support": 100},
        "sea": {"recall": 0.95, "support": 100},
        "street": {"recall": 0.91, "support": 100},
    },
    "dataset": {"sha256": "ab" * 32},
}


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The part of model-build from where a person is asked, as a state machine of its own."""

    installation: Installation
    arn: str
    package: str
    code: str

    def ask(self, run: str, **rules: Any) -> tuple[str, Approval, list[Mail]]:
        """Start an execution that asks; gives its ARN, the approval, and the mails that ask."""
        execution = self.installation.services("stepfunctions").start_execution(
            stateMachineArn=self.arn,
            name=run,
            input=json.dumps(
                {
                    "Run": {"StartedBy": "ben@example.com", "CodeUri": self.code, "Approval": rules},
                    "RuleDefaults": RULES,
                    "Registration": {"ModelPackageArn": self.package},
                }
            ),
        )["executionArn"]
        asked = self.installation.wait_for(lambda: self._asked(execution, rules))
        return execution, *asked

    def _asked(self, execution: str, rules: dict[str, Any]) -> tuple[Approval, list[Mail]] | None:
        found = [approval for approval in self.approvals() if approval.execution_arn == execution]
        mails = [
            mail
            for mail in read_inbox(self.installation.config)
            if found and found[0].approval_id in mail.text
        ]
        count = len(rules.get("Approvers", "1"))  # a reminder may have come since
        return (found[0], mails[:count]) if len(mails) >= count else None

    def approvals(self) -> list[Approval]:
        return list_approvals(self.installation.services, self.installation.platform, pending=False)

    def now(self, approval: Approval) -> Approval:
        return find_approval(self.installation.services, self.installation.platform, approval.approval_id)

    def ended(self, execution: str) -> dict[str, Any]:
        """The execution, once it has ended."""
        describe = self.installation.services("stepfunctions").describe_execution

        def look() -> dict[str, Any] | None:
            found: dict[str, Any] = describe(executionArn=execution)
            return found if found["status"] != "RUNNING" else None

        return self.installation.wait_for(look)


@pytest.fixture(scope="module")
def gate(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Gate:
    services, platform = installation.services, installation.platform
    definition = json.loads(
        services("stepfunctions").describe_state_machine(stateMachineArn=platform.model_build_arn)[
            "definition"
        ]
    )
    definition |= {"StartAt": "RequestApprovalRules"}
    definition["States"] = {name: definition["States"][name] for name in reached(definition)}
    let_use(services, "gated", "gate")
    machine = services("stepfunctions").create_state_machine(
        name="gate",
        definition=json.dumps(definition),
        roleArn="arn:aws:iam::111111111111:role/stagegate-states",
    )
    picture = tmp_path_factory.mktemp("gate") / "confusion_matrix.png"
    files = {
        "model.tar.gz": b"a model",
        "evaluation/evaluation.json": json.dumps(EVALUATION).encode(),
        "evaluation/confusion_matrix.png": drawn(picture),
    }
    for name, content in files.items():
        services("s3").put_object(Bucket=platform.data_bucket, Key=f"runs/r-1/{name}", Body=content)
    # A group of its own, whose packages no rule deploys.
    services("sagemaker").create_model_package_group(ModelPackageGroupName="gated")
    package = services("sagemaker").create_model_package(
        ModelPackageGroupName="gated",
        ModelApprovalStatus="PendingManualApproval",
        InferenceSpecification={
            "Containers": [
                {"Image": "x", "ModelDataUrl": f"s3://{platform.data_bucket}/runs/r-1/model.tar.gz"}
            ],
            "SupportedContentTypes": ["image/jpeg"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
        CustomerMetadataProperties={
            "RunId": "r-20261123-090307-23d4",
            "EvaluationPrefix": "runs/r-1/evaluation",
            "Commit": "3f1c2d9b7a",
            "DatasetUri": "s3://data/datasets/scenes.zip",
            "DatasetSha256": "ab" * 32,
            "AccuracyThreshold": "0.9",
        },
    )["ModelPackageArn"]
    return Gate(
        installation=installation, arn=machine["stateMachineArn"], package=package, code=upload_code(services)
    )


def let_use(services: Services, group: str, machine: str | None = None) -> None:
    """The platform's roles know its own packages and state machines; a test's need as much."""
    account = "us-east-1:111111111111"
    resources = [f"arn:aws:sagemaker:{account}:model-package/{group}/*"]
    if machine is not None:
        resources.append(f"arn:aws:states:{account}:stateMachine:{machine}")
        resources.append(f"arn:aws:states:{account}:execution:{machine}:*")
    actions = [
        *("sagemaker:DescribeModelPackage", "sagemaker:UpdateModelPackage"),
        *("states:SendTaskSuccess", "states:DescribeExecution"),
    ]
    statement = {"Effect": "Allow", "Action": actions, "Resource": resources}
    document = json.dumps({"Version": "2012-10-17", "Statement": statement})
    for role in ("states", "stacks", "approval-request", "approval-decision"):
        services("iam").put_role_policy(
            RoleName=f"stagegate-{role}", PolicyName=group, PolicyDocument=document
        )


def reached(definition: dict[str, Any]) -> set[str]:
    """The states that are reached from the first one."""
    found: set[str] = set()
    waiting = [definition["StartAt"]]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            text = json.dumps(definition["States"][name])
            waiting += re.findall(r'"(?:Next|Default)": "(\w+)"', text)
    return found


def drawn(path: Path) -> bytes:
    """The confusion matrix as the evaluation draws it."""
    import numpy as np

    from evaluation.report import draw_confusion_matrix

    rows = EVALUATION["multiclass_classification_metrics"]["confusion_matrix"]
    counts = np.array([list(row.values()) for row in rows.values()])
    draw_confusion_matrix(counts, list(rows), path)
    return path.read_bytes()
