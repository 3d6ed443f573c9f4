"""AWS::SNS: topics, their policies, and subscriptions."""

import json
from typing import Any

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

_TOPIC = "DisplayName KmsMasterKeyId FifoTopic ContentBasedDeduplication SignatureVersion TracingConfig"
_SUBSCRIPTION = (
    "DeliveryPolicy FilterPolicy FilterPolicyScope RawMessageDelivery RedrivePolicy SubscriptionRoleArn"
)
_OWNER_MAY = (
    "Publish", "RemovePermission", "SetTopicAttributes", "DeleteTopic", "GetTopicAttributes", "AddPermission",
    "Subscribe", "ListSubscriptionsByTopic",
)  # fmt: skip
_MISSING = "NotFound NotFoundException"


def _texts(had: Properties, names: str) -> dict[str, str]:
    """Attributes as SNS takes them: texts, policies as JSON."""
    return {
        name: json.dumps(value) if isinstance(value, dict) else text(value)
        for name, value in picked(had, names).items()
    }


async def _create_topic(context: Context, wanted: Properties) -> Attributes:
    answer = await context(
        "sns",
        "CreateTopic",
        Name=wanted["TopicName"],
        Attributes=_texts(wanted, _TOPIC) or None,
        Tags=context.merged_tags(wanted),
    )
    arn = answer["TopicArn"]
    context.made(arn)
    await _subscribe_all(context, arn, wanted.get("Subscription", ()))
    return {"TopicArn": arn, "TopicName": wanted["TopicName"]}


async def _subscribe_all(context: Context, arn: str, subscriptions: Any) -> None:
    for subscription in subscriptions:
        await context("sns", "Subscribe", TopicArn=arn, **picked(subscription, "Protocol Endpoint"))


async def _update_topic(context: Context, arn: str, old: Properties, new: Properties) -> None:
    before, after = _texts(old, _TOPIC), _texts(new, _TOPIC)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            value = after.get(name, "")
            await context("sns", "SetTopicAttributes", TopicArn=arn, AttributeName=name, AttributeValue=value)
    if old.get("Subscription") != new.get("Subscription"):
        wanted = [(it["Protocol"], it["Endpoint"]) for it in new.get("Subscription", ())]
        there = await context("sns", "ListSubscriptionsByTopic", TopicArn=arn)
        had = [(it["Protocol"], it["Endpoint"]) for it in old.get("Subscription", ())]
        for subscription in there["Subscriptions"]:
            pair = (subscription["Protocol"], subscription["Endpoint"])
            if pair in had and pair not in wanted:
                await context("sns", "Unsubscribe", SubscriptionArn=subscription["SubscriptionArn"])
        await _subscribe_all(context, arn, new.get("Subscription", ()))
    await update_tags(
        context,
        old,
        new,
        put=lambda tags: context(
            "sns", "TagResource", ResourceArn=arn, Tags=[{"Key": key, "Value": tags[key]} for key in tags]
        ),
        remove=lambda keys: context("sns", "UntagResource", ResourceArn=arn, TagKeys=keys),
    )


async def _delete_topic(context: Context, arn: str | None, had: Properties) -> None:
    arn = arn or context.runtime.arn("sns", had["TopicName"])
    there = await ignoring(_MISSING, context("sns", "ListSubscriptionsByTopic", TopicArn=arn))
    for subscription in (there or {}).get("Subscriptions", ()):
        if subscription["SubscriptionArn"].startswith("arn:"):
            await ignoring(
                _MISSING, context("sns", "Unsubscribe", SubscriptionArn=subscription["SubscriptionArn"])
            )
    await ignoring(_MISSING, context("sns", "DeleteTopic", TopicArn=arn))


async def _subscribe(context: Context, wanted: Properties) -> Attributes:
    answer = await context(
        "sns",
        "Subscribe",
        ReturnSubscriptionArn=True,
        Attributes=_texts(wanted, _SUBSCRIPTION) or None,
        **picked(wanted, "TopicArn Protocol Endpoint"),
    )
    context.made(answer["SubscriptionArn"])
    return {"Arn": answer["SubscriptionArn"]}


async def _update_subscription(context: Context, arn: str, old: Properties, new: Properties) -> None:
    before, after = _texts(old, _SUBSCRIPTION), _texts(new, _SUBSCRIPTION)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            await context(
                "sns",
                "SetSubscriptionAttributes",
                SubscriptionArn=arn,
                AttributeName=name,
                AttributeValue=after.get(name, "{}" if name.endswith("Policy") else "false"),
            )


async def _unsubscribe(context: Context, arn: str | None, had: Properties) -> None:
    if arn:
        await ignoring(_MISSING, context("sns", "Unsubscribe", SubscriptionArn=arn))


async def _set_policy(context: Context, topics: list[str], policy: Any) -> None:
    for arn in topics:
        value = json.dumps(policy)
        await context("sns", "SetTopicAttributes", TopicArn=arn, AttributeName="Policy", AttributeValue=value)


async def _create_policy(context: Context, wanted: Properties) -> Attributes:
    context.made(wanted["Id"])
    await _set_policy(context, wanted["Topics"], wanted["PolicyDocument"])
    return {"Id": wanted["Id"]}


async def _update_policy(context: Context, policy_id: str, old: Properties, new: Properties) -> None:
    await _reset_policy(context, [arn for arn in old["Topics"] if arn not in new["Topics"]])
    await _set_policy(context, new["Topics"], new["PolicyDocument"])


async def _delete_policy(context: Context, policy_id: str | None, had: Properties) -> None:
    await _reset_policy(context, had["Topics"])


async def _reset_policy(context: Context, topics: list[str]) -> None:
    """The policy that SNS gives a new topic: its owner may do everything."""
    for arn in topics:
        statement = {
            "Sid": "__default_statement_ID",
            "Effect": "Allow",
            "Principal": {"AWS": "*"},
            "Action": [f"SNS:{action}" for action in _OWNER_MAY],
            "Resource": arn,
            "Condition": {"StringEquals": {"AWS:SourceOwner": context.runtime.account_id}},
        }
        policy = {"Version": "2008-10-17", "Id": "__default_policy_ID", "Statement": [statement]}
        await ignoring(_MISSING, _set_policy(context, [arn], policy))


TYPES = (
    ResourceType(
        name="AWS::SNS::Topic",
        supported=properties(f"{_TOPIC} Subscription Tags TopicName"),
        create=_create_topic,
        update=_update_topic,
        delete=_delete_topic,
        named_by="TopicName",
        longest_name=256,
        attributes=properties("TopicName"),
    ),
    ResourceType(
        name="AWS::SNS::Subscription",
        supported=properties(f"{_SUBSCRIPTION} Endpoint Protocol TopicArn"),
        create=_subscribe,
        update=_update_subscription,
        delete=_unsubscribe,
    ),
    ResourceType(
        name="AWS::SNS::TopicPolicy",
        supported=properties("PolicyDocument Topics"),
        create=_create_policy,
        update=_update_policy,
        delete=_delete_policy,
        named_by="Id",
        longest_name=128,
    ),
)
