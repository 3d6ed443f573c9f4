"""What a task calls, and what botocore's service models say of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from botocore.exceptions import UnknownServiceError
from botocore.loaders import Loader

from stagegate.doctor.project import State

SYNC = ".sync"
TASK_TOKEN = ".waitForTaskToken"  # noqa: S105 - a pattern, not a password

_OPTIMISED = {
    "apigateway": "ApiGateway",
    "athena": "Athena",
    "batch": "Batch",
    "codebuild": "CodeBuild",
    "dynamodb": "DynamoDB",
    "ecs": "ECS",
    "eks": "EKS",
    "elasticmapreduce": "ElasticMapReduce",
    "events": "EventBridge",
    "glue": "Glue",
    "lambda": "Lambda",
    "sagemaker": "SageMaker",
    "sns": "SNS",
    "sqs": "SQS",
    "states": "StepFunctions",
}
"""How errors of the optimised integrations begin, where that is known."""

_BOTOCORE = {
    "cloudwatchlogs": "logs",
    "dynamodbstreams": "dynamodbstreams",
    "elasticmapreduce": "emr",
    "eventbridge": "events",
    "sagemakermetrics": "sagemaker-metrics",
    "sagemakerruntime": "sagemaker-runtime",
    "sfn": "stepfunctions",
    "states": "stepfunctions",
}
"""botocore's names of services, where Step Functions has others."""

_WORD = re.compile(r"[A-Z]{2,}(?=v[0-9])|v[0-9]+|[A-Z]+(?![a-z])[0-9]*|[A-Z][a-z]+[0-9]*|[a-z]+[0-9]*|[0-9]+")
_RESOURCE = re.compile(
    r"arn:(?:aws[\w-]*|\$\{AWS::Partition\}):states:::(?P<sdk>aws-sdk:)?(?P<service>\w+):(?P<api>\w+)(?P<pattern>\..+)?"
)


@dataclass(frozen=True, kw_only=True)
class Call:
    """A task's Resource, taken apart."""

    service: str
    api: str
    pattern: str = ""
    is_sdk: bool = False
    is_activity: bool = False

    def __str__(self) -> str:
        return f"{'aws-sdk:' if self.is_sdk else ''}{self.service}:{self.api}{self.pattern}"

    @property
    def is_sync(self) -> bool:
        return self.pattern.startswith(SYNC)

    @property
    def waits_for_token(self) -> bool:
        return self.is_activity or self.pattern == TASK_TOKEN

    @property
    def model(self) -> Mapping[str, Any]:
        return service_model(_BOTOCORE.get(self.service, self.service))

    @property
    def operation(self) -> str:
        """The operation's name in the API: `CreateTrainingJob`."""
        named = (name for name in self.model.get("operations", ()) if name.lower() == self.api.lower())
        return next(named, self.api[:1].upper() + self.api[1:])

    @property
    def error_prefix(self) -> str | None:
        """What stands before the dot in the errors of this call; None where that is not known."""
        if not self.is_sdk:
            return _OPTIMISED.get(self.service)
        service_id = self.model.get("metadata", {}).get("serviceId")
        return _java_name(service_id) if service_id else None

    @property
    def mistaken_prefixes(self) -> frozenset[str]:
        """What is written for the prefix by mistake, in small letters."""
        service_id = self.model.get("metadata", {}).get("serviceId", self.service)
        names = {self.service, service_id.replace(" ", ""), _OPTIMISED.get(self.service, self.service)}
        return frozenset(name.lower() for name in names) - {"states"}

    @property
    def is_paginated(self) -> bool:
        return self.operation in self._paginators

    @property
    def limit_member(self) -> str | None:
        """The member of the request that bounds a page."""
        member: str | None = self._paginators.get(self.operation, {}).get("limit_key")
        return member

    @property
    def has_blob(self) -> bool:
        """Whether the answer has a body of any length."""
        operation = self.model.get("operations", {}).get(self.operation, {})
        output = operation.get("output", {}).get("shape")
        shapes = self.model.get("shapes", {})
        members = shapes.get(output, {}).get("members", {}).values()
        return any(
            shapes.get(member["shape"], {}).get("type") == "blob" and "max" not in shapes[member["shape"]]
            for member in members
        )

    def longest(self, member: str) -> int | None:
        """How long the API lets a member of the request be."""
        shapes = self.model.get("shapes", {})
        request = self.model.get("operations", {}).get(self.operation, {}).get("input", {}).get("shape")
        shape = shapes.get(request, {}).get("members", {}).get(member, {}).get("shape")
        limit: int | None = shapes.get(shape, {}).get("max")
        return limit

    @property
    def _paginators(self) -> Mapping[str, Any]:
        file = _service_file(_BOTOCORE.get(self.service, self.service), "paginators-1")
        paginators: Mapping[str, Any] = file.get("pagination", {})
        return paginators


def call_of(state: State) -> Call | None:
    """What a Task calls; None for other states, and for a Resource that is filled in later."""
    resource = state.body.get("Resource")
    if state.kind != "Task" or not isinstance(resource, str):
        return None
    if match := _RESOURCE.fullmatch(resource):
        return Call(
            service=match["service"],
            api=match["api"],
            pattern=match["pattern"] or "",
            is_sdk=match["sdk"] is not None,
        )
    if ":activity:" in resource:
        return Call(service="activity", api="activity", is_activity=True)
    if ":lambda:" in resource:
        return Call(service="lambda", api="invoke")
    return None


def service_model(name: str) -> Mapping[str, Any]:
    return _service_file(name, "service-2")


@cache
def _service_file(name: str, kind: str) -> Mapping[str, Any]:
    try:
        read: Mapping[str, Any] = Loader().load_service_model(name, kind)
    except UnknownServiceError:
        return {}
    return read


def _java_name(service_id: str) -> str:
    """A service's name as the SDK for Java 2 writes it: `DynamoDB` is DynamoDb, `SESv2` is SesV2."""
    return "".join(word.capitalize() for word in _WORD.findall(service_id))
