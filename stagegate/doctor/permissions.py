"""What a state machine's tasks do, and what its role may do."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from stagegate.doctor.apis import Call, call_of
from stagegate.doctor.findings import Fault
from stagegate.doctor.project import Machine, Project, Resource, State, Template, choices_of, text_of

_PREFIXES = {"monitoring": "cloudwatch", "email": "ses", "elasticmapreduce": "elasticmapreduce"}
"""IAM's names of services where these are neither the signing name nor the endpoint's."""

_S3 = {
    "CopyObject": ("GetObject", "PutObject"),
    "DeleteObject": ("DeleteObject",),
    "DeleteObjects": ("DeleteObject",),
    "GetObject": ("GetObject",),
    "HeadBucket": ("ListBucket",),
    "HeadObject": ("GetObject",),
    "ListObjects": ("ListBucket",),
    "ListObjectsV2": ("ListBucket",),
    "PutObject": ("PutObject",),
    "SelectObjectContent": ("GetObject",),
}
"""S3's actions are not called what its operations are; others than these are not checked."""

_RULE = "StepFunctionsGetEventsFor"
_SYNC: Mapping[tuple[str, str], tuple[tuple[str, ...], str]] = {
    ("sagemaker", "createTrainingJob"): (
        ("sagemaker:DescribeTrainingJob", "sagemaker:StopTrainingJob", "sagemaker:AddTags"),
        f"{_RULE}SageMakerTrainingJobsRule",
    ),
    ("sagemaker", "createProcessingJob"): (
        ("sagemaker:DescribeProcessingJob", "sagemaker:StopProcessingJob", "sagemaker:AddTags"),
        f"{_RULE}SageMakerProcessingJobsRule",
    ),
    ("sagemaker", "createTransformJob"): (
        ("sagemaker:DescribeTransformJob", "sagemaker:StopTransformJob", "sagemaker:AddTags"),
        f"{_RULE}SageMakerTransformJobsRule",
    ),
    ("sagemaker", "createHyperParameterTuningJob"): (
        (
            "sagemaker:DescribeHyperParameterTuningJob",
            "sagemaker:StopHyperParameterTuningJob",
            "sagemaker:AddTags",
        ),
        f"{_RULE}SageMakerTuningJobsRule",
    ),
    ("codebuild", "startBuild"): (
        ("codebuild:BatchGetBuilds", "codebuild:StopBuild"),
        "StepFunctionsGetEventForCodeBuildStartBuildRule",
    ),
    ("codebuild", "startBuildBatch"): (
        ("codebuild:BatchGetBuildBatches", "codebuild:StopBuildBatch"),
        "StepFunctionsGetEventForCodeBuildStartBuildBatchRule",
    ),
    ("states", "startExecution"): (
        ("states:DescribeExecution", "states:StopExecution"),
        f"{_RULE}StepFunctionsExecutionRule",
    ),
    ("batch", "submitJob"): (("batch:DescribeJobs", "batch:TerminateJob"), f"{_RULE}BatchJobsRule"),
    ("ecs", "runTask"): (("ecs:DescribeTasks", "ecs:StopTask"), f"{_RULE}ECSTaskRule"),
    ("glue", "startJobRun"): (("glue:GetJobRun", "glue:GetJobRuns", "glue:BatchStopJobRun"), ""),
    ("athena", "startQueryExecution"): (("athena:GetQueryExecution", "athena:StopQueryExecution"), ""),
}
"""What `.sync` needs beside the call: the actions, and the rule that Step Functions makes to be told.

https://docs.aws.amazon.com/step-functions/latest/dg/service-integration-iam-templates.html
"""

_PASSED_TO = {"sagemaker": "sagemaker", "cloudformation": "cloudformation", "sfn": "states"}
_PASSED_ROLES = frozenset({"RoleArn", "RoleARN", "ExecutionRoleArn", "roleArn"})


@dataclass(frozen=True, kw_only=True)
class Need:
    """An action, the rule of EventBridge that it is for, or the service that a role is passed to."""

    action: str
    rule: str = ""
    passed_to: str = ""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What a policy allows."""

    actions: tuple[str, ...]
    resources: tuple[str | None, ...]
    passed_to: tuple[str, ...] = ()

    def allows(self, need: Need) -> bool:
        if not any(fnmatchcase(need.action.lower(), action.lower()) for action in self.actions):
            return False
        if need.rule and not any(_covers(resource, need.rule) for resource in self.resources):
            return False
        return not (need.passed_to and self.passed_to and need.passed_to not in self.passed_to)


def permission_missing(project: Project) -> Iterator[Fault]:
    for machine in project.machines:
        for credentials, needs in _needs(machine).items():
            for role in _roles_of(machine, credentials):
                allowed = statements(role, machine.template)
                for need, state in needs.items():
                    if allowed is None or any(statement.allows(need) for statement in allowed):
                        continue
                    on = f" on rule/{need.rule}" if need.rule else ""
                    to = f" to {need.passed_to}" if need.passed_to else ""
                    wrong = (
                        f"{role.logical_id} does not allow {need.action}{on}{to}, which '{state.name}' needs"
                    )
                    yield Fault(file=machine.template.file, where=machine.resource.logical_id, wrong=wrong)


def role_of(resource: Resource, template: Template, *, member: str) -> Resource | None:
    """The role of the template that a resource is given."""
    return _role(resource.properties.get(member), template)


def _role(arn: Any, template: Template) -> Resource | None:
    match = re.fullmatch(r"\$\{(\w+)\.Arn\}", text_of(arn) or "")
    role = template.resources.get(match[1]) if match else None
    return role if role and role.type == "AWS::IAM::Role" else None


def _roles_of(machine: Machine, credentials: str) -> list[Resource]:
    """The template's roles by which tasks with such Credentials may call: those of another account are not
    here. Without Credentials it is the machine's own."""
    given = machine.resource.properties.get("RoleArn")
    if credentials:
        filled = machine.resource.properties.get("DefinitionSubstitutions")
        name = re.fullmatch(r"\$\{(\w+)\}", credentials)
        given = filled.get(name[1]) if name and isinstance(filled, dict) else credentials
    roles = [_role(arn, machine.template) for arn in choices_of(given)]
    return [role for role in roles if role is not None]


def statements(role: Resource, template: Template) -> list[Statement] | None:
    """What a role allows; None where managed policies, which are not here, allow more."""
    if role.properties.get("ManagedPolicyArns"):
        return None
    policies = [
        policy for policy in choices_of(role.properties.get("Policies", [])) if isinstance(policy, dict)
    ]
    for policy in template.of_type("AWS::IAM::Policy", "AWS::IAM::RolePolicy", "AWS::IAM::ManagedPolicy"):
        roles = [policy.properties.get("RoleName"), *choices_of(policy.properties.get("Roles", []))]
        if any(text_of(name) == f"${{{role.logical_id}}}" for name in roles):
            policies.append(dict(policy.properties))
    return [
        _statement(written)
        for policy in policies
        for written in choices_of(policy.get("PolicyDocument", {}).get("Statement", []))
        if isinstance(written, dict) and written.get("Effect") == "Allow"
    ]


def _statement(written: Mapping[str, Any]) -> Statement:
    actions = choices_of(written.get("Action", "*" if "NotAction" in written else []))
    conditions = written.get("Condition", {})
    services = [
        service
        for condition in (conditions.values() if isinstance(conditions, dict) else ())
        if isinstance(condition, dict)
        for service in choices_of(condition.get("iam:PassedToService", []))
    ]
    return Statement(
        actions=tuple(action for action in actions if isinstance(action, str)),
        resources=tuple(text_of(resource) for resource in choices_of(written.get("Resource", "*"))),
        passed_to=tuple(service for service in services if isinstance(service, str)),
    )


def _covers(resource: str | None, rule: str) -> bool:
    """Whether a resource of a policy is, or may be, the rule; what only AWS knows may be."""
    if resource is None or resource == "*":
        return True
    return fnmatchcase(f"rule/{rule}", re.sub(r"^.*:(?=rule/|\*)", "", resource))


def _needs(machine: Machine) -> dict[str, dict[Need, State]]:
    """By the role of their Credentials: what the tasks need, each with the first state that does."""
    found: dict[str, dict[Need, State]] = {"": {}}
    for state in machine.definition.states:
        call = call_of(state)
        needs = [*_of_call(call, state)] if call and not call.is_activity else []
        if state.kind == "Map" and state.is_distributed:
            needs += _of_map(state)
        credentials = state.body.get("Credentials")
        role = str(credentials.get("RoleArn", "")) if isinstance(credentials, dict) else ""
        if credentials:
            found[""].setdefault(Need(action="sts:AssumeRole"), state)
        if credentials and not role:
            continue  # it is computed, so that nobody knows it before
        for need in needs:
            found.setdefault(role, {}).setdefault(need, state)
    return found


def _of_call(call: Call, state: State) -> Iterator[Need]:
    yield from (Need(action=action) for action in _actions(call))
    if call.is_sync:
        actions, rule = _SYNC.get((call.service, call.api), ((), ""))
        yield from (Need(action=action) for action in actions)
        if rule and "Credentials" not in state.body:  # with them Step Functions asks, and is not told
            for action in ("events:PutTargets", "events:PutRule", "events:DescribeRule"):
                yield Need(action=action, rule=rule)
    service = _PASSED_TO.get(call.service)
    if service and _members(state.request) & _PASSED_ROLES:
        yield Need(action="iam:PassRole", passed_to=f"{service}.amazonaws.com")


def _actions(call: Call) -> tuple[str, ...]:
    if call.service == "lambda" and call.operation == "Invoke":
        return ("lambda:InvokeFunction",)
    if call.service == "s3":
        return tuple(f"s3:{action}" for action in _S3.get(call.operation, ()))
    metadata = call.model.get("metadata", {})
    prefix = metadata.get("signingName") or metadata.get("endpointPrefix")
    if not prefix or call.operation not in call.model.get("operations", {}):
        return ()
    return (f"{_PREFIXES.get(prefix, prefix)}:{call.operation}",)


def _of_map(state: State) -> Iterator[Need]:
    yield Need(action="states:StartExecution")
    reader = str(state.body.get("ItemReader", {}).get("Resource", ""))
    if reader.endswith(":s3:getObject"):
        yield Need(action="s3:GetObject")
    elif reader.endswith(":s3:listObjectsV2"):
        yield Need(action="s3:ListBucket")
    if "ResultWriter" in state.body:
        yield Need(action="s3:PutObject")


def _members(value: Any) -> set[str]:
    """The names of all members, however deep."""
    if isinstance(value, dict):
        inner = [_members(item) for item in value.values()]
        return {key.removesuffix(".$") for key in value}.union(*inner)
    return set().union(*map(_members, value)) if isinstance(value, list) else set()
