"""AWS::KMS: symmetric keys, and aliases."""

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

_FIXED = "KeySpec KeyUsage MultiRegion Origin"
_MISSING = "NotFoundException"


async def _create_key(context: Context, wanted: Properties) -> Attributes:
    answer = await context(
        "kms",
        "CreateKey",
        Policy=_policy(wanted),
        Tags=_tags(context.tag_map(wanted) or {}) or None,
        **picked(wanted, f"{_FIXED} BypassPolicyLockoutSafetyCheck Description"),
    )
    key_id = answer["KeyMetadata"]["KeyId"]
    context.made(key_id)
    await _set_rotation(context, key_id, wanted.get("EnableKeyRotation", False))
    if not wanted.get("Enabled", True):
        await context("kms", "DisableKey", KeyId=key_id)
    return {"Arn": answer["KeyMetadata"]["Arn"], "KeyId": key_id}


async def _update_key(context: Context, key_id: str, old: Properties, new: Properties) -> None:
    for name in _FIXED.split():
        if old.get(name) != new.get(name):
            raise AWSError("InvalidRequest", f"You cannot change the {name} of a key: {key_id}")
    if new.get("Enabled", True):  # before the rest, since a disabled key can't be made to rotate
        await context("kms", "EnableKey", KeyId=key_id)
    await _set_rotation(context, key_id, new.get("EnableKeyRotation", False))
    if old.get("KeyPolicy") != new.get("KeyPolicy"):
        policy = _policy(new) or _default_policy(context)
        bypass = picked(new, "BypassPolicyLockoutSafetyCheck")
        await context("kms", "PutKeyPolicy", KeyId=key_id, PolicyName="default", Policy=policy, **bypass)
    description = new.get("Description", "")
    await context("kms", "UpdateKeyDescription", KeyId=key_id, Description=description)
    await update_tags(
        context,
        old,
        new,
        put=lambda tags: context("kms", "TagResource", KeyId=key_id, Tags=_tags(tags)),
        remove=lambda keys: context("kms", "UntagResource", KeyId=key_id, TagKeys=keys),
    )
    if not new.get("Enabled", True):
        await context("kms", "DisableKey", KeyId=key_id)


async def _delete_key(context: Context, key_id: str | None, had: Properties) -> None:
    """A key that is made has its id: both are written down in one step."""
    if key_id is None:
        return
    described = await ignoring(_MISSING, context("kms", "DescribeKey", KeyId=key_id))
    if described is None or described["KeyMetadata"]["KeyState"] == "PendingDeletion":
        return
    days = int(had.get("PendingWindowInDays", 30))
    await context("kms", "ScheduleKeyDeletion", KeyId=key_id, PendingWindowInDays=days)


async def _set_rotation(context: Context, key_id: str, rotates: bool) -> None:
    await context("kms", "EnableKeyRotation" if rotates else "DisableKeyRotation", KeyId=key_id)


def _policy(wanted: Properties) -> str | None:
    policy = wanted.get("KeyPolicy")
    return json.dumps(policy) if isinstance(policy, dict) else policy


def _default_policy(context: Context) -> str:
    """The policy of a key that was made without one: the account's users may do what IAM lets them."""
    statement = {
        "Sid": "Enable IAM User Permissions",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{context.runtime.account_id}:root"},
        "Action": "kms:*",
        "Resource": "*",
    }
    return json.dumps({"Version": "2012-10-17", "Id": "key-default-1", "Statement": [statement]})


def _tags(tags: dict[str, str]) -> list[dict[str, Any]]:
    return [{"TagKey": key, "TagValue": value} for key, value in tags.items()]


async def _create_alias(context: Context, wanted: Properties) -> Attributes:
    await context("kms", "CreateAlias", **picked(wanted, "AliasName TargetKeyId"))
    context.made(wanted["AliasName"])
    return {}


async def _update_alias(context: Context, name: str, old: Properties, new: Properties) -> None:
    await context("kms", "UpdateAlias", AliasName=name, TargetKeyId=new["TargetKeyId"])


async def _delete_alias(context: Context, name: str | None, had: Properties) -> None:
    await ignoring(_MISSING, context("kms", "DeleteAlias", AliasName=name or had["AliasName"]))


TYPES = (
    ResourceType(
        name="AWS::KMS::Key",
        supported=properties(
            f"{_FIXED} BypassPolicyLockoutSafetyCheck Description EnableKeyRotation Enabled KeyPolicy "
            "PendingWindowInDays Tags"
        ),
        create=_create_key,
        update=_update_key,
        delete=_delete_key,
    ),
    ResourceType(
        name="AWS::KMS::Alias",
        supported=properties("AliasName TargetKeyId"),
        create=_create_alias,
        update=_update_alias,
        delete=_delete_alias,
    ),
)
