"""AWS::Logs: log groups."""

from stagegate.local.stacks.resources.kind import (
    Attributes,
    Context,
    Properties,
    ResourceType,
    ignoring,
    properties,
    renamed,
    update_tags,
)


def _arn(context: Context, name: str) -> str:
    return context.runtime.arn("logs", f"log-group:{name}")


async def _create(context: Context, wanted: Properties) -> Attributes:
    name = wanted["LogGroupName"]
    await context(
        "logs",
        "CreateLogGroup",
        logGroupName=name,
        tags=context.tag_map(wanted),
        **renamed(wanted, KmsKeyId="kmsKeyId", LogGroupClass="logGroupClass"),
    )
    context.made(name)
    if days := wanted.get("RetentionInDays"):
        await context("logs", "PutRetentionPolicy", logGroupName=name, retentionInDays=days)
    return {"Arn": f"{_arn(context, name)}:*"}


async def _update(context: Context, name: str, old: Properties, new: Properties) -> None:
    if old.get("RetentionInDays") != new.get("RetentionInDays"):
        if days := new.get("RetentionInDays"):
            await context("logs", "PutRetentionPolicy", logGroupName=name, retentionInDays=days)
        else:
            await context("logs", "DeleteRetentionPolicy", logGroupName=name)
    await update_tags(
        context,
        old,
        new,
        put=lambda tags: context("logs", "TagLogGroup", logGroupName=name, tags=tags),
        remove=lambda keys: context("logs", "UntagLogGroup", logGroupName=name, tags=keys),
    )


async def _delete(context: Context, name: str | None, had: Properties) -> None:
    call = context("logs", "DeleteLogGroup", logGroupName=name or had["LogGroupName"])
    await ignoring("ResourceNotFoundException", call)


TYPES = (
    ResourceType(
        name="AWS::Logs::LogGroup",
        supported=properties("KmsKeyId LogGroupClass LogGroupName RetentionInDays Tags"),
        create=_create,
        update=_update,
        delete=_delete,
        named_by="LogGroupName",
        longest_name=512,
    ),
)
