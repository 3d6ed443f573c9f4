"""AWS::DynamoDB: tables."""

from typing import Any

from stagegate.local.stacks.resources.kind import (
    Attributes,
    Context,
    Properties,
    ResourceType,
    ignoring,
    picked,
    properties,
    renamed,
    update_tags,
)

_THROUGHPUT = "BillingMode ProvisionedThroughput DeletionProtectionEnabled TableClass OnDemandThroughput"
_AS_GIVEN = (
    f"{_THROUGHPUT} AttributeDefinitions KeySchema GlobalSecondaryIndexes LocalSecondaryIndexes TableName"
)


async def _create(context: Context, wanted: Properties) -> Attributes:
    name = wanted["TableName"]
    answer = await context(
        "dynamodb",
        "CreateTable",
        SSESpecification=_encryption(wanted),
        StreamSpecification=_stream(wanted),
        Tags=context.merged_tags(wanted),
        **picked(wanted, _AS_GIVEN),
    )
    context.made(name)
    await _settle(context, name, {}, wanted)
    table = answer["TableDescription"]
    return {"Arn": table["TableArn"], **renamed(table, LatestStreamArn="StreamArn")}


def _encryption(wanted: Properties) -> dict[str, Any] | None:
    if "SSESpecification" not in wanted:
        return None
    given = wanted["SSESpecification"]
    return renamed(given, SSEEnabled="Enabled", SSEType="SSEType", KMSMasterKeyId="KMSMasterKeyId")


def _stream(wanted: Properties) -> dict[str, Any] | None:
    if "StreamSpecification" not in wanted:
        return None
    return {"StreamEnabled": True, **picked(wanted["StreamSpecification"], "StreamViewType")}


async def _settle(context: Context, name: str, old: Properties, new: Properties) -> None:
    """What a table has beside its definition: time to live, and recovery to a point in time."""
    before, after = old.get("TimeToLiveSpecification"), new.get("TimeToLiveSpecification")
    if before != after:
        specification = after or {**(before or {}), "Enabled": False}
        await context("dynamodb", "UpdateTimeToLive", TableName=name, TimeToLiveSpecification=specification)
    recovery = new.get("PointInTimeRecoverySpecification")
    if old.get("PointInTimeRecoverySpecification") != recovery:
        await context(
            "dynamodb",
            "UpdateContinuousBackups",
            TableName=name,
            PointInTimeRecoverySpecification=recovery or {"PointInTimeRecoveryEnabled": False},
        )


async def _update(context: Context, name: str, old: Properties, new: Properties) -> Attributes | None:
    changes = {part: new[part] for part in _THROUGHPUT.split() if part in new and new[part] != old.get(part)}
    if _encryption(new) != _encryption(old):
        changes["SSESpecification"] = _encryption(new) or {"Enabled": False}
    if _stream(new) != _stream(old):
        changes["StreamSpecification"] = _stream(new) or {"StreamEnabled": False}
    if changes:
        await context("dynamodb", "UpdateTable", TableName=name, **changes)
    await _update_indexes(context, name, old, new)
    await _settle(context, name, old, new)
    arn = (await context("dynamodb", "DescribeTable", TableName=name))["Table"]["TableArn"]
    await update_tags(
        context,
        old,
        new,
        put=lambda tags: context(
            "dynamodb",
            "TagResource",
            ResourceArn=arn,
            Tags=[{"Key": key, "Value": tags[key]} for key in tags],
        ),
        remove=lambda keys: context("dynamodb", "UntagResource", ResourceArn=arn, TagKeys=keys),
    )
    return None


async def _update_indexes(context: Context, name: str, old: Properties, new: Properties) -> None:
    """One index at a time, as UpdateTable wants it; a changed one is made anew."""
    before = {index["IndexName"]: index for index in old.get("GlobalSecondaryIndexes", ())}
    after = {index["IndexName"]: index for index in new.get("GlobalSecondaryIndexes", ())}
    changes: list[dict[str, Any]] = [
        {"Delete": {"IndexName": index}} for index in before if after.get(index) != before[index]
    ]
    changes += [{"Create": after[index]} for index in after if after[index] != before.get(index)]
    for change in changes:
        await context(
            "dynamodb",
            "UpdateTable",
            TableName=name,
            AttributeDefinitions=new["AttributeDefinitions"],
            GlobalSecondaryIndexUpdates=[change],
        )


async def _delete(context: Context, name: str | None, had: Properties) -> None:
    await ignoring(
        "ResourceNotFoundException", context("dynamodb", "DeleteTable", TableName=name or had["TableName"])
    )


TYPES = (
    ResourceType(
        name="AWS::DynamoDB::Table",
        supported=properties(
            f"{_AS_GIVEN} SSESpecification StreamSpecification TimeToLiveSpecification "
            "PointInTimeRecoverySpecification Tags"
        ),
        create=_create,
        update=_update,
        delete=_delete,
        named_by="TableName",
        longest_name=255,
    ),
)
