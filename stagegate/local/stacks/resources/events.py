"""AWS::Events: buses, rules with their targets, and archives."""

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
    answer = await context(
        "events",
        "PutRule",
        EventPattern=_text(wanted.get("EventPattern")),
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
    await _update_tags(context, arn, old, new)


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


def _policy(wanted: Properties) -> str | None:
    return _text(wanted.get("Policy"))


def _text(value: Any) -> str | None:
    return json.dumps(value) if isinstance(value, dict) else value


async def _create_bus(context: Context, wanted: Properties) -> Attributes:
    answer = await context(
        "events",
        "CreateEventBus",
        Tags=context.merged_tags(wanted),
        **picked(wanted, "Name Description KmsKeyIdentifier DeadLetterConfig"),
    )
    context.made(wanted["Name"])
    if policy := _policy(wanted):
        await context("events", "PutPermission", EventBusName=wanted["Name"], Policy=policy)
    return {"Arn": answer["EventBusArn"], "Name": wanted["Name"], "Policy": policy}


async def _update_bus(context: Context, name: str, old: Properties, new: Properties) -> None:
    answer = await context(
        "events",
        "UpdateEventBus",
        Name=name,
        Description=new.get("Description", ""),
        KmsKeyIdentifier=new.get("KmsKeyIdentifier", ""),
        DeadLetterConfig=new.get("DeadLetterConfig", {}),
    )
    if policy := _policy(new):
        await context("events", "PutPermission", EventBusName=name, Policy=policy)
    elif _policy(old):
        await context("events", "RemovePermission", EventBusName=name, RemoveAllPermissions=True)
    await _update_tags(context, answer["Arn"], old, new)


async def _update_tags(context: Context, arn: str, old: Properties, new: Properties) -> None:
    await update_tags(
        context,
        old,
        new,
        put=lambda tags: context(
            "events", "TagResource", ResourceARN=arn, Tags=[{"Key": key, "Value": tags[key]} for key in tags]
        ),
        remove=lambda keys: context("events", "UntagResource", ResourceARN=arn, TagKeys=keys),
    )


async def _delete_bus(context: Context, name: str | None, had: Properties) -> None:
    await context("events", "DeleteEventBus", Name=had["Name"])


async def _create_archive(context: Context, wanted: Properties) -> Attributes:
    answer = await context(
        "events",
        "CreateArchive",
        EventSourceArn=wanted["SourceArn"],
        EventPattern=_text(wanted.get("EventPattern")),
        **picked(wanted, "ArchiveName Description RetentionDays KmsKeyIdentifier"),
    )
    context.made(wanted["ArchiveName"])
    return {"Arn": answer["ArchiveArn"]}


async def _update_archive(context: Context, name: str, old: Properties, new: Properties) -> None:
    await context(
        "events",
        "UpdateArchive",
        ArchiveName=name,
        EventPattern=_text(new.get("EventPattern", "")),
        Description=new.get("Description", ""),
        KmsKeyIdentifier=new.get("KmsKeyIdentifier", ""),
        RetentionDays=new.get("RetentionDays", 0),
    )


async def _delete_archive(context: Context, name: str | None, had: Properties) -> None:
    await ignoring(_MISSING, context("events", "DeleteArchive", ArchiveName=had["ArchiveName"]))


TYPES = (
    ResourceType(
        name="AWS::Events::Archive",
        supported=properties("ArchiveName Description EventPattern KmsKeyIdentifier RetentionDays SourceArn"),
        create=_create_archive,
        update=_update_archive,
        delete=_delete_archive,
        named_by="ArchiveName",
        longest_name=48,
    ),
    ResourceType(
        name="AWS::Events::EventBus",
        supported=properties("DeadLetterConfig Description KmsKeyIdentifier Name Policy Tags"),
        create=_create_bus,
        update=_update_bus,
        delete=_delete_bus,
        named_by="Name",
        longest_name=256,
    ),
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
