"""The state machines on the real engine, with services that answer as a script says."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stagegate.local.faults import Faults
from stagegate.local.service import Announcement, AWSError, Runtime
from stagegate.local.states.service import StepFunctions
from stagegate.local.store import Store
from stagegate.local.validation import validate
from tests.workflows.conftest import ROOT

RUN = {
    "RunId": "r-20261123-071500-1a2b",
    "DatasetUri": "s3://data/datasets/x.zip",
    "CodeUri": "s3://assets/code/0123456789abcdef",
    "Commit": "3f1c2d",
    "StartedBy": "ben@example.com",
    "HyperParameters": {"epochs": "1"},
    "Preprocess": {"image-size": "32"},
}
PACKAGE = "arn:aws:sagemaker:us-east-1:111111111111:model-package/stagegate-models/7"
ALARMS = ("stagegate-production-latency", "stagegate-production-server-errors")
MODEL = "s3://data/runs/r-20261123-071500-1a2b/training/job/output/model.tar.gz"
EVALUATION = {
    "multiclass_classification_metrics": {
        "accuracy": {"value": 0.87},
        "confusion_matrix": {"sea": {"sea": 9, "street": 1}, "street": {"sea": 0, "street": 10}},
    },
    "dataset": {"sha256": "ab" * 32},
}
CHANGES = [
    {
        "Type": "Resource",
        "ResourceChange": {
            "Action": action,
            "LogicalResourceId": logical_id,
            "ResourceType": f"AWS::SageMaker::{logical_id}",
            "Scope": ["Properties"],
            "Details": [{"Target": {"Attribute": "Properties", "Name": name}} for name in properties],
            **({"Replacement": replacement} if replacement else {}),
        },
    }
    for action, logical_id, replacement, properties in [
        ("Modify", "Model", "True", ["PrimaryContainer"]),
        ("Modify", "EndpointConfig", "Conditional", ["ProductionVariants", "ProductionVariants"]),
        ("Modify", "Endpoint", "False", ["EndpointConfigName"]),
        ("Add", "Policy", "", []),
    ]
]
"""What a change set would do."""
SUMMARY = {"passed": 3, "failed": 0, "text": "3 of 3 passed.", "measured": {"accuracy": 0.9}}
APPROVED = {
    "approval_id": "5f0c",
    "decision": "approve",
    "decided_by": "anna@example.com",
    "decided_at": "2026-11-23T08:00:00Z",
    "comment": "good",
    "votes": [],
    "record": {"number": 1, "hash": "ab"},
    "bound": {},
    "description": "Approved by anna@example.com: good",
    "properties": {"ModelApprovalId": "5f0c"},
}
REJECTED = APPROVED | {"decision": "reject", "comment": "too many streets in the sea"}
EXPIRED = APPROVED | {"decision": "expire", "decided_by": "", "comment": "", "description": "Nobody decided."}
SUBSTITUTIONS = {
    "Project": "stagegate",
    "DataBucket": "data",
    "AssetsBucket": "assets",
    "PollSeconds": "0",
    "ProcessingInstanceType": "ml.m5.xlarge",
    "TrainingInstanceType": "ml.g5.xlarge",
    "Approvers": "anna@example.com,carl@example.com",
    "RequiredApprovals": "1",
    "FourEyes": "true",
}

Answer = dict[str, Any] | AWSError
Script = Callable[[dict[str, Any]], Answer]


def absent(name: str) -> AWSError:
    return AWSError("ValidationError", f"Stack with id {name} does not exist")


@dataclass
class Cloud:
    """What each operation answers, and what it was asked. A list is answered from, one after the other."""

    answers: dict[str, Any] = field(default_factory=dict)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    decisions: list[dict[str, Any] | None] = field(default_factory=list)
    """What the asked person answers, one after the other; None is silence."""
    runtime: Runtime | None = None
    service: StepFunctions | None = None
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The items of the step cache."""
    faults: Faults | None = None
    """What is to go wrong on purpose."""
    etags: dict[str, str] = field(default_factory=dict)
    """The ETags of objects by how their keys end, where they differ from the usual one."""

    async def __call__(
        self, service: str, operation: str, parameters: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        request = dict(parameters or {})
        validate(service, operation, request)
        if operation not in ("DescribeTrainingJob", "DescribeProcessingJob", "BatchGetBuilds"):
            self.calls.append((operation, request))
        scripted = self.answers.get(operation)
        if isinstance(scripted, list):
            scripted = scripted.pop(0) if scripted else None
        if callable(scripted):
            scripted = scripted(request)
        if isinstance(scripted, AWSError):
            raise scripted
        default: Callable[[dict[str, Any]], Any] = getattr(self, f"_{operation}", lambda request: {})
        answer: dict[str, Any] = default(request) | (scripted or {})
        return answer

    def of(self, operation: str) -> list[dict[str, Any]]:
        return [request for name, request in self.calls if name == operation]

    # Jobs end at once, as `answers["CreateTrainingJob"]` describes them.

    def _job(self, kind: str, request: dict[str, Any]) -> dict[str, Any]:
        name = request[f"{kind}JobName"]
        arn = f"arn:aws:sagemaker:us-east-1:111111111111:{kind.lower()}-job/{name}"
        script = self.answers.get(f"{kind}Job")
        scripted = script.pop(0) if isinstance(script, list) and script else {}
        assert self.runtime is not None
        if failure := self.runtime.fate("sagemaker", f"Create{kind}Job", request).get("_Failure"):
            scripted = {f"{kind}JobStatus": "Failed", "FailureReason": failure}
        self.jobs[name] = {
            f"{kind}JobName": name,
            f"{kind}JobArn": arn,
            f"{kind}JobStatus": "Completed",
            "CreationTime": datetime.now(UTC),
            **({"ModelArtifacts": {"S3ModelArtifacts": MODEL}} if kind == "Training" else {}),
            **scripted,
        }
        return {f"{kind}JobArn": arn}

    def _CreateTrainingJob(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._job("Training", request)

    def _CreateProcessingJob(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._job("Processing", request)

    def _DescribeTrainingJob(self, request: dict[str, Any]) -> dict[str, Any]:
        return self.jobs[request["TrainingJobName"]]

    def _DescribeProcessingJob(self, request: dict[str, Any]) -> dict[str, Any]:
        return self.jobs[request["ProcessingJobName"]]

    def _StartBuild(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"build": {"id": "tests:1", "buildStatus": "IN_PROGRESS"}}

    def _BatchGetBuilds(self, request: dict[str, Any]) -> dict[str, Any]:
        status = self.answers.get("Build")
        ended = status.pop(0) if isinstance(status, list) and status else "SUCCEEDED"
        return {"builds": [{"id": "tests:1", "buildStatus": ended}]}

    def _GetObject(self, request: dict[str, Any]) -> dict[str, Any]:
        key = request["Key"]
        if key.endswith("evaluation.json"):
            return {"Body": json.dumps(EVALUATION).encode()}
        if key.endswith("summary.json"):
            return {"Body": json.dumps(SUMMARY).encode()}
        file = ROOT / "deploy" / key.rpartition("/")[2]
        return {"Body": file.read_bytes()} if file.exists() else {}

    def _HeadObject(self, request: dict[str, Any]) -> dict[str, Any]:
        ends = (etag for end, etag in self.etags.items() if request["Key"].endswith(end))
        return {"ETag": next(ends, '"0123"')}

    def _GetItem(self, request: dict[str, Any]) -> dict[str, Any]:
        item = self.kept.get(next(iter(request["Key"].values()))["S"])
        return {} if item is None else {"Item": item}

    def _PutItem(self, request: dict[str, Any]) -> dict[str, Any]:
        if "LockId" in request["Item"]:
            return {}
        self.kept[request["Item"]["Key"]["S"]] = request["Item"]
        return {}

    def _CreateModelPackage(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"ModelPackageArn": PACKAGE}

    def _DescribeModelPackage(self, request: dict[str, Any]) -> dict[str, Any]:
        return {
            "ModelPackageArn": PACKAGE,
            "ModelApprovalStatus": "Approved",
            "CustomerMetadataProperties": {
                "RunId": RUN["RunId"],
                "CodeUri": RUN["CodeUri"],
                "Commit": "3f1c2d",
                "DatasetUri": RUN["DatasetUri"],
                "DatasetSha256": "ab" * 32,
                "TrainingJobName": "job",
                "Accuracy": "0.87",
                "AccuracyThreshold": "0.6",
                "PreprocessedUri": f"s3://data/runs/{RUN['RunId']}/preprocessed",
                "EvaluationPrefix": f"runs/{RUN['RunId']}/evaluation",
                "ModelApprovalId": "5f0c",
            },
        }

    def _Invoke(self, request: dict[str, Any]) -> dict[str, Any]:
        """The approval function: somebody answers at once, or nobody does."""
        payload = json.loads(request["Payload"])
        if payload["Action"] != "ask":
            same = {"matches": True, "differences": ""}
            answer = EXPIRED if payload["Action"] == "expire" else self.answers.get("Check", same)
            return {"StatusCode": 200, "Payload": json.dumps(answer).encode()}
        decision = self.decisions.pop(0) if self.decisions else APPROVED
        if decision is not None:
            assert self.service is not None
            token, output, service = payload["TaskToken"], json.dumps(decision), self.service
            asyncio.get_running_loop().call_soon(
                lambda: service.send_task_success(taskToken=token, output=output)
            )
        return {"StatusCode": 200, "Payload": b"{}"}

    def _DescribeStackResources(self, request: dict[str, Any]) -> dict[str, Any]:
        config = "arn:aws:sagemaker:us-east-1:111111111111:endpoint-config/asked"
        found = [
            ("AWS::SageMaker::EndpointConfig", config),
            *(("AWS::CloudWatch::Alarm", it) for it in ALARMS),
        ]
        return {
            "StackResources": [
                {
                    "LogicalResourceId": physical.rpartition("/")[2],
                    "PhysicalResourceId": physical,
                    "ResourceType": kind,
                    "ResourceStatus": "CREATE_COMPLETE",
                    "Timestamp": datetime.now(UTC),
                }
                for kind, physical in found
            ]
        }

    def _DescribeAlarms(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"MetricAlarms": [{"AlarmName": it, "StateValue": "OK"} for it in request["AlarmNames"]]}

    def _DescribeEndpoint(self, request: dict[str, Any]) -> dict[str, Any]:
        return {
            "EndpointName": request["EndpointName"],
            "EndpointStatus": "InService",
            "EndpointConfigName": "asked",
        }

    def _CreateChangeSet(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"Id": f"arn:change-set/{request['StackName']}", "StackId": f"arn:aws:{request['StackName']}"}

    def _DescribeChangeSet(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"ChangeSetId": request["ChangeSetName"], "Status": "CREATE_COMPLETE", "Changes": CHANGES}

    def _DescribeStacks(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"Stacks": [stack("CREATE_COMPLETE")]}


def stack(status: str, *, package: str = "before") -> dict[str, Any]:
    return {
        "StackName": "x",
        "StackStatus": status,
        "CreationTime": datetime.now(UTC),
        "Parameters": [
            {"ParameterKey": "Stage", "ParameterValue": "x"},
            {"ParameterKey": "ModelPackageName", "ParameterValue": package},
            {"ParameterKey": "Code", "ParameterValue": "fedcba9876543210"},
        ],
    }


def stacks(*statuses: str | AWSError) -> list[Any]:
    """What DescribeStacks answers, one after the other."""
    return [status if isinstance(status, AWSError) else {"Stacks": [stack(status)]} for status in statuses]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How an execution ended, and which states it went through."""

    status: str
    error: str
    cause: str
    states: list[str]


@asynccontextmanager
async def engine(folder: Path, cloud: Cloud) -> AsyncIterator[StepFunctions]:
    store = Store(folder / "store.db")
    runtime = Runtime(
        store=store, aws=cloud, data=folder, endpoint_url="http://127.0.0.1:1", faults=cloud.faults
    )
    service = StepFunctions(runtime)
    cloud.runtime, cloud.service = runtime, service
    try:
        yield service
    finally:
        await service.stop()
        store.close()


def name_of(substitution: str) -> str:
    """What a definition is given for a substitution that no test says."""
    if substitution.endswith("RoleArn"):
        return f"arn:aws:iam::111111111111:role/the-{substitution}"
    return f"the-{substitution}"


async def execute(
    folder: Path, machine: str, cloud: Cloud, given: dict[str, Any], **substitutions: str
) -> Ended:
    """Run one execution to its end."""
    filled = SUBSTITUTIONS | substitutions
    text = (ROOT / "statemachines" / f"{machine}.asl.json").read_text()
    definition = re.sub(r"\$\{(\w+)\}", lambda found: filled.get(found[1], name_of(found[1])), text)
    async with engine(folder, cloud) as service:
        ended = asyncio.Event()

        def listen(announcement: Announcement) -> None:
            if announcement.detail.get("status") not in (None, "RUNNING"):
                ended.set()

        assert cloud.runtime is not None
        cloud.runtime.listeners.append(listen)
        arn = service.create_state_machine(
            name=machine, definition=definition, roleArn="arn:aws:iam::111111111111:role/states"
        )["stateMachineArn"]
        started = await _maybe(service.start_execution(stateMachineArn=arn, input=json.dumps(given)))
        await asyncio.wait_for(ended.wait(), 30)
        execution = await _maybe(service.describe_execution(executionArn=started["executionArn"]))
        history = await _maybe(
            service.get_execution_history(executionArn=started["executionArn"], maxResults=1000)
        )
    return Ended(
        status=execution["status"],
        error=execution.get("error", ""),
        cause=execution.get("cause", ""),
        states=[
            event["stateEnteredEventDetails"]["name"]
            for event in history["events"]
            if "stateEnteredEventDetails" in event
        ],
    )


async def _maybe(result: Any) -> Any:
    """An operation may be plain or asynchronous."""
    return await result if asyncio.iscoroutine(result) else result
