"""AWS::Events: rules with their targets."""

import json
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


async def _put(context: Context, wanted: Properties, *, tags: list[dict[str, str]] | None = None) -> str:
    pattern = wanted.get("EventPattern")
    answer = await context(
        "events",
        "PutRule",
        EventPattern=json.dumps(pattern) if isinstance(pattern, dict) else pattern,
        Tags=tags,
        **picked(wanted, "Name ScheduleExpression State Description RoleArn EventBusName"),
    )
    arn: str = answer["RuleArn"]
    return arn


async def _put_targets(context: Context, wanted: Properties) -> None:
    if not wanted.get("Targets"):
        return
    answer = await context(
        "events",
        "PutTargets",
        Rule=wanted["Name"],
        Targets=wanted["Targets"],
        **picked(wanted, "EventBusName"),
    )
    if failed := answer.get("FailedEntries"):
        raise AWSError(failed[0]["ErrorCode"], failed[0]["ErrorMessage"])


async def _create(context: Context, wanted: Properties) -> Attributes:
    if await ignoring(_MISSING, context("events", "DescribeRule", **picked(wanted, "Name EventBusName"))):
        raise AWSError("AlreadyExists", f"{wanted['Name']} already exists")
    arn = await _put(context, wanted, tags=context.merged_tags(wanted))
    bus = wanted.get("EventBusName", "default")
    context.made(wanted["Name"] if bus == "default" else f"{bus}|{wanted['Name']}")
    await _put_targets(context, wanted)
    return {"Arn": arn}


async def _update(context: Context, name: str, old: Properties, new: Properties) -> None:
    arn = await _put(context, new)
    kept = {target["Id"] for target in new.get("Targets", ())}
    gone = [target["Id"] for target in old.get("Targets", ()) if target["Id"] not in kept]
    if gone:
        await _remove_targets(context, new, gone)
    await _put_targets(context, new)
    await update_tags(
        context,
        old,
        new,
        put=lambda tags: context(
            "events", "TagResource", ResourceARN=arn, Tags=[{"Key": key, "Value": tags[key]} for key in tags]
        ),
        remove=lambda keys: context("events", "UntagResource", ResourceARN=arn, TagKeys=keys),
    )


async def _remove_targets(context: Context, rule: Properties, ids: list[Any]) -> None:
    await context("events", "RemoveTargets", Rule=rule["Name"], Ids=ids, **picked(rule, "EventBusName"))


async def _delete(context: Context, name: str | None, had: Properties) -> None:
    bus = picked(had, "EventBusName")
    targets = await ignoring(_MISSING, context("events", "ListTargetsByRule", Rule=had["Name"], **bus))
    if targets is None:
        return
    if ids := [target["Id"] for target in targets["Targets"]]:
        await _remove_targets(context, had, ids)
    await context("events", "DeleteRule", Name=had["Name"], **bus)


TYPES = (
    ResourceType(
        name="AWS::Events::Rule",
        supported=properties(
            "Description EventBusName EventPattern Name RoleArn ScheduleExpression State Tags Targets"
        ),
        create=_create,
        update=_update,
        delete=_delete,
        named_by="Name",
        longest_name=64,
    ),
)
