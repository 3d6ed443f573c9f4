"""AWS::ApplicationAutoScaling: what may scale, and by which policies."""

from typing import Any

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

_SERVICE = "application-autoscaling"
_WHAT = "ServiceNamespace ResourceId ScalableDimension"
_TARGET = f"{_WHAT} MinCapacity MaxCapacity RoleARN SuspendedState"
_POLICY = "PolicyName PolicyType StepScalingPolicyConfiguration TargetTrackingScalingPolicyConfiguration"
_MISSING = "ObjectNotFoundException"


def _target_id(wanted: Properties) -> str:
    return "|".join((wanted["ResourceId"], wanted["ScalableDimension"], wanted["ServiceNamespace"]))


async def _create_target(context: Context, wanted: Properties) -> Attributes:
    tags = context.tag_map(wanted)
    await context(_SERVICE, "RegisterScalableTarget", Tags=tags, **picked(wanted, _TARGET))
    context.made(_target_id(wanted))
    return {"Id": _target_id(wanted)}


async def _update_target(context: Context, target_id: str, old: Properties, new: Properties) -> None:
    arn = (await context(_SERVICE, "RegisterScalableTarget", **picked(new, _TARGET)))["ScalableTargetARN"]
    await update_tags(
        context,
        old,
        new,
        put=lambda tags: context(_SERVICE, "TagResource", ResourceARN=arn, Tags=tags),
        remove=lambda keys: context(_SERVICE, "UntagResource", ResourceARN=arn, TagKeys=keys),
    )


async def _delete_target(context: Context, target_id: str | None, had: Properties) -> None:
    await ignoring(_MISSING, context(_SERVICE, "DeregisterScalableTarget", **picked(had, _WHAT)))


def _scaled(wanted: Properties) -> dict[str, Any]:
    """What a policy scales: named by the target's id, or by its parts."""
    if target_id := wanted.get("ScalingTargetId"):
        resource_id, dimension, namespace = target_id.split("|")
        return {"ServiceNamespace": namespace, "ResourceId": resource_id, "ScalableDimension": dimension}
    return picked(wanted, _WHAT)


async def _put_policy(context: Context, wanted: Properties) -> str:
    answer = await context(_SERVICE, "PutScalingPolicy", **_scaled(wanted), **picked(wanted, _POLICY))
    arn: str = answer["PolicyARN"]
    return arn


async def _create_policy(context: Context, wanted: Properties) -> Attributes:
    arn = await _put_policy(context, wanted)
    context.made(arn)
    return {"Arn": arn}


async def _update_policy(context: Context, arn: str, old: Properties, new: Properties) -> None:
    await _put_policy(context, new)


async def _delete_policy(context: Context, arn: str | None, had: Properties) -> None:
    name = had["PolicyName"]
    await ignoring(_MISSING, context(_SERVICE, "DeleteScalingPolicy", PolicyName=name, **_scaled(had)))


TYPES = (
    ResourceType(
        name="AWS::ApplicationAutoScaling::ScalableTarget",
        supported=properties(f"{_TARGET} Tags"),
        create=_create_target,
        update=_update_target,
        delete=_delete_target,
    ),
    ResourceType(
        name="AWS::ApplicationAutoScaling::ScalingPolicy",
        supported=properties(f"{_WHAT} {_POLICY} ScalingTargetId"),
        create=_create_policy,
        update=_update_policy,
        delete=_delete_policy,
    ),
)
