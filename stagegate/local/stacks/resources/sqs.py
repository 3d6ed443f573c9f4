"""AWS::SQS: queues and their policies."""

import json

from stagegate.local.stacks.intrinsics import text
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

_SETTINGS = (
    "ContentBasedDeduplication DeduplicationScope DelaySeconds FifoQueue FifoThroughputLimit "
    "KmsDataKeyReusePeriodSeconds KmsMasterKeyId MaximumMessageSize MessageRetentionPeriod "
    "ReceiveMessageWaitTimeSeconds RedriveAllowPolicy RedrivePolicy SqsManagedSseEnabled VisibilityTimeout"
)
_DEFAULTS = {
    "DelaySeconds": "0",
    "MaximumMessageSize": "262144",
    "MessageRetentionPeriod": "345600",
    "ReceiveMessageWaitTimeSeconds": "0",
    "VisibilityTimeout": "30",
}
_MISSING = "AWS.SimpleQueueService.NonExistentQueue QueueDoesNotExist"


def _texts(had: Properties) -> dict[str, str]:
    return {
        name: json.dumps(value) if isinstance(value, dict) else text(value)
        for name, value in picked(had, _SETTINGS).items()
    }


async def _create(context: Context, wanted: Properties) -> Attributes:
    name = wanted["QueueName"]
    answer = await context(
        "sqs", "CreateQueue", QueueName=name, Attributes=_texts(wanted), tags=context.tag_map(wanted)
    )
    url = answer["QueueUrl"]
    context.made(url)
    return {"Arn": context.runtime.arn("sqs", name), "QueueName": name, "QueueUrl": url}


async def _update(context: Context, url: str, old: Properties, new: Properties) -> None:
    before, after = _texts(old), _texts(new)
    changes = {name: value for name, value in after.items() if before.get(name) != value}
    changes.update({name: _DEFAULTS.get(name, "") for name in before.keys() - after.keys()})
    if changes:
        await context("sqs", "SetQueueAttributes", QueueUrl=url, Attributes=changes)
    await update_tags(
        context,
        old,
        new,
        put=lambda tags: context("sqs", "TagQueue", QueueUrl=url, Tags=tags),
        remove=lambda keys: context("sqs", "UntagQueue", QueueUrl=url, TagKeys=keys),
    )


async def _delete(context: Context, url: str | None, had: Properties) -> None:
    if url is None:
        found = await ignoring(_MISSING, context("sqs", "GetQueueUrl", QueueName=had["QueueName"]))
        if found is None:
            return
        url = found["QueueUrl"]
    await ignoring(_MISSING, context("sqs", "DeleteQueue", QueueUrl=url))


async def _put_policies(context: Context, wanted: Properties) -> Attributes:
    context.made(wanted["Id"])
    for url in wanted["Queues"]:
        policy = json.dumps(wanted["PolicyDocument"])
        await context("sqs", "SetQueueAttributes", QueueUrl=url, Attributes={"Policy": policy})
    return {}


async def _update_policies(context: Context, policy_id: str, old: Properties, new: Properties) -> None:
    gone = [url for url in old["Queues"] if url not in new["Queues"]]
    await _remove_policies(context, policy_id, {"Queues": gone})
    await _put_policies(context, {**new, "Id": policy_id})


async def _remove_policies(context: Context, policy_id: str | None, had: Properties) -> None:
    for url in had["Queues"]:
        empty = context("sqs", "SetQueueAttributes", QueueUrl=url, Attributes={"Policy": ""})
        await ignoring(_MISSING, empty)


TYPES = (
    ResourceType(
        name="AWS::SQS::Queue",
        supported=properties(f"{_SETTINGS} QueueName Tags"),
        create=_create,
        update=_update,
        delete=_delete,
        named_by="QueueName",
        longest_name=80,
        attributes=properties("QueueName"),
    ),
    ResourceType(
        name="AWS::SQS::QueuePolicy",
        supported=properties("PolicyDocument Queues"),
        create=_put_policies,
        update=_update_policies,
        delete=_remove_policies,
        named_by="Id",
        longest_name=128,
    ),
)
