"""CloudFormation's stacks: what a change set would do, doing it, following it, and taking a stack away."""

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from stagegate.aws import Services, error_code
from stagegate.errors import ReleaseFailed

_NO_CHANGES = ("didn't contain changes", "No updates are to be performed")
_ONLY_CANCELLED = ("Resource creation cancelled", "Resource update cancelled")


@dataclass(frozen=True, kw_only=True)
class StackEvent:
    """A line of what CloudFormation did."""

    time: datetime
    logical_id: str
    resource_type: str
    status: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ValueChange:
    """A property or a parameter; a value that is not there, or that nobody knows yet, is empty."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class ResourceChange:
    """What a change set does to one resource."""

    action: str
    """Add, Modify, Remove, Import or Dynamic."""
    logical_id: str
    resource_type: str
    replacement: str
    """True, False or Conditional of what is modified; else empty."""
    is_kept: bool
    """Whether what goes out of the stack, or is replaced, is left where it is."""
    properties: tuple[ValueChange, ...]


@dataclass(frozen=True, kw_only=True)
class ChangeSet:
    """What CloudFormation would do, and does when it is told to."""

    arn: str
    stack_name: str
    stack_id: str
    is_first: bool
    """Whether there is no stack yet: one in REVIEW_IN_PROGRESS is only the change set's place."""
    changes: tuple[ResourceChange, ...]
    parameters: tuple[ValueChange, ...]


def find_stack(services: Services, name: str) -> dict[str, Any] | None:
    """As DescribeStacks has it, by name or ARN; None where there is none."""
    try:
        stack: dict[str, Any] = services("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if error_code(error) == "ValidationError":
            return None
        raise
    return stack


@dataclass(frozen=True, kw_only=True)
class StackSummary:
    """A line in the list of all stacks."""

    name: str
    status: str
    reason: str
    description: str
    updated: datetime


@dataclass(frozen=True, kw_only=True)
class StackResource:
    logical_id: str
    physical_id: str
    resource_type: str
    status: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class PlannedChanges:
    """A change set that has not been carried out."""

    name: str
    status: str
    reason: str
    created: datetime
    changes: tuple[ResourceChange, ...]


def list_stacks(services: Services) -> list[StackSummary]:
    """Every stack that is not deleted."""
    pages = services("cloudformation").get_paginator("describe_stacks").paginate()
    return [
        StackSummary(
            name=stack["StackName"],
            status=stack["StackStatus"],
            reason=stack.get("StackStatusReason", ""),
            description=stack.get("Description", ""),
            updated=stack.get("LastUpdatedTime", stack["CreationTime"]),
        )
        for page in pages
        for stack in page["Stacks"]
    ]


def list_events(services: Services, stack_id: str, *, limit: int = 200) -> list[StackEvent]:
    """The latest, newest first."""
    found: list[StackEvent] = []
    pages = services("cloudformation").get_paginator("describe_stack_events").paginate(StackName=stack_id)
    for page in pages:
        found += [_event(event) for event in page["StackEvents"]]
        if len(found) >= limit:
            break
    return found[:limit]


def list_resources(services: Services, stack_id: str) -> list[StackResource]:
    pages = services("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack_id)
    return [
        StackResource(
            logical_id=resource["LogicalResourceId"],
            physical_id=resource.get("PhysicalResourceId", ""),
            resource_type=resource["ResourceType"],
            status=resource["ResourceStatus"],
            reason=resource.get("ResourceStatusReason", ""),
        )
        for page in pages
        for resource in page["StackResourceSummaries"]
    ]


def list_changes(services: Services, stack_id: str) -> list[PlannedChanges]:
    """The change sets that wait to be carried out, the newest first."""
    pages = services("cloudformation").get_paginator("list_change_sets").paginate(StackName=stack_id)
    summaries = [summary for page in pages for summary in page["Summaries"]]
    waiting = [it for it in summaries if it.get("ExecutionStatus") == "AVAILABLE"]
    return [
        PlannedChanges(
            name=summary["ChangeSetName"],
            status=summary["Status"],
            reason=summary.get("StatusReason", ""),
            created=summary["CreationTime"],
            changes=tuple(
                _change(it["ResourceChange"])
                for it in _when_made(services, summary["ChangeSetId"])["Changes"]
            ),
        )
        for summary in sorted(waiting, key=lambda it: it["CreationTime"], reverse=True)
    ]


def physical_name(services: Services, stack: str, logical_id: str) -> str:
    """What a resource of the stack is called; empty where the stack, or it, does not exist."""
    try:
        found = services("cloudformation").describe_stack_resource(
            StackName=stack, LogicalResourceId=logical_id
        )
    except ClientError as error:
        if error_code(error) == "ValidationError":
            return ""
        raise
    resource = found["StackResourceDetail"]
    is_gone = resource["ResourceStatus"] in ("CREATE_FAILED", "DELETE_COMPLETE", "DELETE_SKIPPED")
    return "" if is_gone else str(resource.get("PhysicalResourceId", "")).rpartition("/")[2]


def make_change_set(
    services: Services, name: str, *, template_url: str, parameters: dict[str, str]
) -> ChangeSet | None:
    """What it takes to create the stack, or to bring it up to date; None where there is nothing to do.

    Raises ReleaseFailed where CloudFormation makes no change set of it.
    """
    cloudformation, stack = services("cloudformation"), find_stack(services, name)
    is_first = stack is None or stack["StackStatus"] == "REVIEW_IN_PROGRESS"
    made = cloudformation.create_change_set(
        StackName=name,
        ChangeSetName=f"stagegate-{uuid.uuid4().hex[:12]}",
        ChangeSetType="CREATE" if is_first else "UPDATE",
        TemplateURL=template_url,
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    described = _when_made(services, made["Id"])
    change_set = ChangeSet(
        arn=made["Id"],
        stack_name=name,
        stack_id=made["StackId"],
        is_first=is_first,
        changes=tuple(_change(it["ResourceChange"]) for it in described["Changes"]),
        parameters=() if is_first else _parameters(stack or {}, described),
    )
    if described["Status"] == "CREATE_COMPLETE":
        return change_set
    discard(services, change_set)
    reason = described.get("StatusReason", "")
    if any(words in reason for words in _NO_CHANGES):
        return None
    raise ReleaseFailed(f"CloudFormation makes no change set for the stack '{name}': {reason}")


def discard(services: Services, change_set: ChangeSet) -> None:
    """Delete it, and the stack with it where that is nothing but its place."""
    services("cloudformation").delete_change_set(ChangeSetName=change_set.arn)
    if change_set.is_first:
        services("cloudformation").delete_stack(StackName=change_set.stack_id)


def execute(services: Services, change_set: ChangeSet) -> Iterator[StackEvent]:
    """Make the changes; gives CloudFormation's events as they come.

    Raises ReleaseFailed where the stack ends in anything but success, with what failed first.
    """
    happening = follow(services, change_set.stack_id)
    services("cloudformation").execute_change_set(ChangeSetName=change_set.arn)
    yield from _to_success(services, change_set.stack_id, happening)


def delete_stack(services: Services, stack_id: str) -> Iterator[StackEvent]:
    """Take a stack away; gives CloudFormation's events as they come.

    Raises ReleaseFailed where something of it could not be deleted, with what failed first.
    """
    happening = follow(services, stack_id)
    services("cloudformation").delete_stack(StackName=stack_id)
    yield from _to_success(services, stack_id, happening)


def follow(services: Services, stack_id: str) -> Iterator[StackEvent]:
    """What happens on a stack after this call, until nothing is under way on it."""
    seen = {event["EventId"] for event in _events(services, stack_id)}

    def happening() -> Iterator[StackEvent]:
        while True:
            is_over = not _status(services, stack_id).endswith("_IN_PROGRESS")
            for event in reversed(_events(services, stack_id)):
                if event["EventId"] not in seen:
                    seen.add(event["EventId"])
                    yield _event(event)
            if is_over:
                return
            time.sleep(0.2 if services.config.is_local else 2)

    return happening()


def _to_success(services: Services, stack_id: str, happening: Iterator[StackEvent]) -> Iterator[StackEvent]:
    """The events as they come; raises ReleaseFailed with the first failure where the stack is no success."""
    failed: StackEvent | None = None
    for event in happening:
        yield event
        if failed is None and _is_failure(event):
            failed = event
    status = _status(services, stack_id)
    if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "DELETE_COMPLETE"):
        name = stack_id.split("/")[1]
        why = f": {failed.logical_id} ({failed.resource_type}): {failed.reason}" if failed else "."
        raise ReleaseFailed(f"The stack '{name}' ended as {status}{why}")


def _status(services: Services, stack_id: str) -> str:
    """By its ARN, a stack is known after it was deleted too; but not one that never had resources."""
    stack = find_stack(services, stack_id)
    return stack["StackStatus"] if stack else "DELETE_COMPLETE"


def _is_failure(event: StackEvent) -> bool:
    """Whether something failed by itself, and was not broken off because something else had failed."""
    return event.status.endswith("_FAILED") and not event.reason.startswith(_ONLY_CANCELLED)


def _event(event: dict[str, Any]) -> StackEvent:
    return StackEvent(
        time=event["Timestamp"],
        logical_id=event["LogicalResourceId"],
        resource_type=event["ResourceType"],
        status=event["ResourceStatus"],
        reason=event.get("ResourceStatusReason", ""),
    )


def _events(services: Services, stack_id: str) -> list[dict[str, Any]]:
    """Newest first."""
    pages = services("cloudformation").get_paginator("describe_stack_events").paginate(StackName=stack_id)
    return [event for page in pages for event in page["StackEvents"]]


def _when_made(services: Services, arn: str) -> dict[str, Any]:
    """The whole change set, once CloudFormation has worked it out."""
    cloudformation = services("cloudformation")
    while True:
        described: dict[str, Any] = cloudformation.describe_change_set(
            ChangeSetName=arn, IncludePropertyValues=True
        )
        if described["Status"] not in ("CREATE_PENDING", "CREATE_IN_PROGRESS"):
            break
        time.sleep(0.2 if services.config.is_local else 2)
    while token := described.pop("NextToken", None):
        page = cloudformation.describe_change_set(
            ChangeSetName=arn, IncludePropertyValues=True, NextToken=token
        )
        described["Changes"] += page["Changes"]
        if "NextToken" in page:
            described["NextToken"] = page["NextToken"]
    return described


def _change(change: dict[str, Any]) -> ResourceChange:
    targets: dict[str, dict[str, Any]] = {}
    for detail in change.get("Details", ()):
        target = detail["Target"]
        name = target.get("Path", "").removeprefix("/Properties/") or target.get("Name", target["Attribute"])
        # One may be told twice: as it is known now, and as what it refers to changes it.
        if name not in targets or "AfterValue" in target:
            targets[name] = target
    return ResourceChange(
        action=change["Action"],
        logical_id=change["LogicalResourceId"],
        resource_type=change["ResourceType"],
        replacement=change.get("Replacement", ""),
        is_kept=str(change.get("PolicyAction", "")).endswith("Retain"),
        properties=tuple(
            part
            for name, target in targets.items()
            for part in _parts(name, target.get("BeforeValue", ""), target.get("AfterValue", ""))
        ),
    )


def _parts(name: str, before: str, after: str) -> Iterator[ValueChange]:
    """The members that differ where both are objects, all the way down; else the whole."""
    old, new = _object(before), _object(after)
    if old is None or new is None:
        yield ValueChange(name=name, before=before, after=after)
        return
    for member in sorted(old.keys() | new.keys()):
        if old.get(member) != new.get(member):
            yield from _parts(f"{name}/{member}", _text(old.get(member)), _text(new.get(member)))


def _object(value: str) -> dict[str, Any] | None:
    """None for what is no JSON object; long ones may be cut short."""
    try:
        read = json.loads(value)
    except ValueError:
        return None
    return read if isinstance(read, dict) else None


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _parameters(stack: dict[str, Any], described: dict[str, Any]) -> tuple[ValueChange, ...]:
    """The parameters that are given other values than the stack has."""
    before, after = (
        {it["ParameterKey"]: it["ParameterValue"] for it in source.get("Parameters", ())}
        for source in (stack, described)
    )
    return tuple(
        ValueChange(name=name, before=before.get(name, ""), after=after.get(name, ""))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    )
