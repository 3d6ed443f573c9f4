"""AWS::Scheduler: schedules and their groups."""

from datetime import datetime
from typing import Any

from stagegate.local.service import AWSError
from stagegate.local.stacks.resources.kind import (
    Attributes,
    Context,
    Properties,
    ResourceType,
    ignoring,
    picked,
    properties,
    update_tags,
)

_MISSING = "ResourceNotFoundException"
_ALIKE = (
    "Name GroupName Description ScheduleExpression ScheduleExpressionTimezone State KmsKeyArn Target "
    "FlexibleTimeWindow"
)


async def _put(context: Context, operation: str, wanted: Properties) -> Attributes:
    answer = await context(
        "scheduler",
        operation,
        StartDate=_date(wanted, "StartDate"),
        EndDate=_date(wanted, "EndDate"),
        **picked(wanted, _ALIKE),
    )
    return {"Arn": answer["ScheduleArn"]}


async def _create(context: Context, wanted: Properties) -> Attributes:
    attributes = await _put(context, "CreateSchedule", wanted)
    context.made(wanted["Name"])
    return attributes


async def _update(context: Context, name: str, old: Properties, new: Properties) -> Attributes:
    """The API moves no schedule to another group: it is made anew there."""
    if new.get("GroupName", "default") == old.get("GroupName", "default"):
        return await _put(context, "UpdateSchedule", new)
    attributes = await _put(context, "CreateSchedule", new)
    await _delete(context, name, old)
    return attributes


async def _delete(context: Context, name: str | None, had: Properties) -> None:
    deletion = context("scheduler", "DeleteSchedule", **picked(had, "Name GroupName"))
    await ignoring(_MISSING, deletion)


def _date(wanted: Properties, name: str) -> Any:
    if name not in wanted:
        return None
    try:
        return datetime.fromisoformat(wanted[name])
    except ValueError as error:
        message = f"{name} is {wanted[name]}; it should be a time, as 2026-12-01T08:00:00Z"
        raise AWSError("ValidationException", message) from error


async def _create_group(context: Context, wanted: Properties) -> Attributes:
    await context("scheduler", "CreateScheduleGroup", Name=wanted["Name"], Tags=context.merged_tags(wanted))
    context.made(wanted["Name"])
    return await _described(context, wanted["Name"])


async def _update_group(context: Context, name: str, old: Properties, new: Properties) -> Attributes:
    attributes = await _described(context, name)
    arn = attributes["Arn"]
    await update_tags(
        context,
        old,
        new,
        put=lambda tags: context(
            "scheduler",
            "TagResource",
            ResourceArn=arn,
            Tags=[{"Key": key, "Value": tags[key]} for key in tags],
        ),
        remove=lambda keys: context("scheduler", "UntagResource", ResourceArn=arn, TagKeys=keys),
    )
    return attributes


async def _delete_group(context: Context, name: str | None, had: Properties) -> None:
    await ignoring(_MISSING, context("scheduler", "DeleteScheduleGroup", Name=had["Name"]))


async def _described(context: Context, name: str) -> Attributes:
    group = await context("scheduler", "GetScheduleGroup", Name=name)
    dates = {part: group[part].isoformat() for part in ("CreationDate", "LastModificationDate")}
    return {**picked(group, "Arn State"), **dates}


TYPES = (
    ResourceType(
        name="AWS::Scheduler::Schedule",
        supported=properties(f"{_ALIKE} StartDate EndDate"),
        create=_create,
        update=_update,
        delete=_delete,
        named_by="Name",
        longest_name=64,
    ),
    ResourceType(
        name="AWS::Scheduler::ScheduleGroup",
        supported=properties("Name Tags"),
        create=_create_group,
        update=_update_group,
        delete=_delete_group,
        named_by="Name",
        longest_name=64,
    ),
)
