"""What a state asked of a service, what that has started, and where the console shows both."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from stagegate.console.run_list import read_json
from stagegate.models import STAGES

_APPROVAL_FUNCTION = "-approval-request"
"""How the name ends of the function that asks for approvals (workflows/approval.py)."""


def _in(folder: str) -> Callable[[str], str]:
    """The pages below a folder; a name with a slash has none there."""
    return lambda name: f"{folder}/{quote(name)}" if name and "/" not in name else ""


def run_page(execution_arn: str) -> str:
    """Of an Express execution there is none, save where a Map Run started it: its machine has a label."""
    kind, machine = [*execution_arn.split(":"), *[""] * 6][5:7]
    is_shown = kind == "execution" or (kind == "express" and "/" in machine)
    return f"/runs/{quote(execution_arn)}" if is_shown else ""


def map_run_page(map_run_arn: str) -> str:
    return f"/map-runs/{quote(map_run_arn)}"


def model_page(model_package_arn: str) -> str:
    return f"/models/{quote(model_package_arn)}" if ":model-package/" in model_package_arn else ""


def _endpoint_page(name: str) -> str:
    """Those of the stages stand on one page."""
    return next((f"/endpoints#{stage}" for stage in STAGES if name.endswith(f"-{stage}")), "")


_NAMES: Mapping[str, Callable[[str], str] | None] = {
    "TrainingJobName": _in("/jobs/training"),
    "ProcessingJobName": _in("/jobs/processing"),
    "TransformJobName": _in("/jobs/transform"),
    "HyperParameterTuningJobName": _in("/jobs/tuning"),
    "ProjectName": None,
    "StackName": _in("/stacks"),
    "FunctionName": _in("/functions"),
    "EndpointName": _endpoint_page,
    "EndpointConfigName": None,
    "ModelName": None,
    "ModelPackageName": model_page,
    "ModelPackageArn": model_page,
    "ModelPackageGroupName": None,
    "ExecutionArn": run_page,
    "StateMachineArn": None,
    "TableName": None,
    "Bucket": None,
    "QueueUrl": None,
    "TopicArn": None,
}
"""The parameters of requests that name what they are about, and where the console shows that."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """What the answer to a call says that it has started or made."""

    kind: str
    """build, execution, approval or model package."""
    id: str

    @property
    def name(self) -> str:
        """For people: ARNs are long."""
        if self.kind == "model package":
            return self.id.partition(":model-package/")[2]
        return self.id.split(":", 7)[-1] if self.kind == "execution" else self.id

    @property
    def page(self) -> str:
        return _STARTED_PAGES[self.kind](self.id)


_STARTED_PAGES: Mapping[str, Callable[[str], str]] = {
    "build": _in("/builds"),
    "execution": run_page,
    "approval": _in("/approvals"),
    "model package": model_page,
}


@dataclass(kw_only=True)
class Call:
    """What a state asked of a service."""

    service: str
    operation: str
    name: str
    """Of the job, stack, function, …; "" where there is none."""
    parameters: str
    page: str = ""
    """Where the console shows what it is about, if it does."""
    started: Started | None = None
    """Known once the answer is there."""

    def hear(self, details: Mapping[str, Any]) -> None:
        """Take from an event of the task what was started: its output has it, and the cause of a failure."""
        if self.started is None:
            answer = read_json(details.get("output") or details.get("cause") or "")
            self.started = _started(self, answer) if isinstance(answer, dict) else None


def read_call(details: Mapping[str, Any]) -> Call:
    """From the event that scheduled it."""
    if "resourceType" not in details:  # a function or an activity by its ARN
        resource = details["resource"]
        is_function = ":function:" in resource
        name = _function(resource) if is_function else resource.split(":", 6)[-1]
        return Call(
            service="lambda" if is_function else "states",
            operation="invoke" if is_function else "activity",
            name=name,
            parameters=details.get("input", ""),
            page=_in("/functions")(name) if is_function else "",
        )
    parameters = read_json(details.get("parameters", ""))
    given = parameters if isinstance(parameters, dict) else {}
    member = next((member for member in _NAMES if member in given), "")
    name, page_of = str(given.get(member, "")), _NAMES.get(member)
    if member == "FunctionName":
        name = _function(name)
    is_to_go = details["resource"].startswith("delete")
    return Call(
        service=details["resourceType"].removeprefix("aws-sdk:"),
        operation=details["resource"],
        name=name,
        parameters=details.get("parameters", ""),
        page=page_of(name) if page_of and not is_to_go else "",
    )


def _started(call: Call, answer: Mapping[str, Any]) -> Started | None:
    operation = call.operation.partition(".")[0]
    kind, found = "", None
    if call.service == "codebuild" and isinstance(answer.get("Build"), dict):
        kind, found = "build", answer["Build"].get("Id")
    elif call.service in ("states", "sfn") and operation == "startExecution":
        kind, found = "execution", answer.get("ExecutionArn")
    elif call.service == "sagemaker" and operation == "createModelPackage":
        kind, found = "model package", answer.get("ModelPackageArn")
    elif call.service == "lambda" and call.name.partition(":")[0].endswith(_APPROVAL_FUNCTION):
        payload = answer.get("Payload", answer)  # what the function gave, then what was decided
        kind, found = "approval", payload.get("approval_id") if isinstance(payload, dict) else None
    return Started(kind=kind, id=found) if isinstance(found, str) and found else None


def _function(name: str) -> str:
    """The name of a function that may be given by its ARN, with the version or alias that is asked for."""
    return name.rpartition(":function:")[2]
