"""AWS::StepFunctions: versions of state machines, and aliases that move to them, at once or gradually."""

import asyncio
from typing import Any

from stagegate.local.service import AWSError
from stagegate.local.stacks.resources.kind import (
    Attributes,
    Cancelled,
    Context,
    NotStabilized,
    Properties,
    ResourceType,
    ignoring,
    properties,
    renamed,
)

MINUTE = 60.0
"""Of a deployment preference's Interval, in seconds."""
_ALARM_SECONDS = 5.0
"""How often the alarms of a gradual deployment are looked at."""
_MISSING = "ResourceNotFound StateMachineDoesNotExist"

Routes = list[dict[str, Any]]


async def _publish(context: Context, wanted: Properties) -> Attributes:
    answer = await context(
        "stepfunctions",
        "PublishStateMachineVersion",
        **renamed(
            wanted,
            StateMachineArn="stateMachineArn",
            StateMachineRevisionId="revisionId",
            Description="description",
        ),
    )
    context.made(answer["stateMachineVersionArn"])
    return {"Arn": answer["stateMachineVersionArn"]}


async def _delete_version(context: Context, arn: str | None, had: Properties) -> None:
    """Without an id nothing is known of it: publishing the same revision again gives the same version."""
    if arn is not None:
        await ignoring(
            _MISSING, context("stepfunctions", "DeleteStateMachineVersion", stateMachineVersionArn=arn)
        )


async def _create_alias(context: Context, wanted: Properties) -> Attributes:
    answer = await context(
        "stepfunctions",
        "CreateStateMachineAlias",
        name=wanted["Name"],
        routingConfiguration=_routes(wanted),
        **renamed(wanted, Description="description"),
    )
    context.made(answer["stateMachineAliasArn"])
    return {"Arn": answer["stateMachineAliasArn"]}


async def _update_alias(context: Context, arn: str, old: Properties, new: Properties) -> None:
    described = await context("stepfunctions", "DescribeStateMachineAlias", stateMachineAliasArn=arn)
    before: Routes = described["routingConfiguration"]
    description = {"description": new.get("Description", "")}
    preference = new.get("DeploymentPreference")
    if preference is None or preference["Type"] == "ALL_AT_ONCE":
        await _route(context, arn, _routes(new), **description)
        return
    target = preference["StateMachineVersionArn"]
    if before == _all_to(target):
        await _route(context, arn, before, **description)
        return
    try:
        await _shift(context, arn, before, preference)
    except (Cancelled, NotStabilized):
        await _route(context, arn, before)
        raise
    await _route(context, arn, _all_to(target), **description)


async def _shift(context: Context, arn: str, before: Routes, preference: dict[str, Any]) -> None:
    """Step by step to the new version, from the one that had most, as long as no alarm is raised."""
    source = max(before, key=lambda route: int(route["weight"]))["stateMachineVersionArn"]
    percentage, minutes = preference.get("Percentage"), preference.get("Interval")
    if percentage is None or minutes is None:
        raise AWSError(
            "InvalidRequest",
            f"DeploymentPreference of Type {preference['Type']} needs Percentage and Interval.",
        )
    steps = [percentage] if preference["Type"] == "CANARY" else range(percentage, 100, percentage)
    for weight in steps:
        await _route(
            context,
            arn,
            [
                {"stateMachineVersionArn": preference["StateMachineVersionArn"], "weight": weight},
                {"stateMachineVersionArn": source, "weight": 100 - weight},
            ],
        )
        await _watch(context, preference.get("Alarms", ()), seconds=minutes * MINUTE)


async def _watch(context: Context, alarms: Any, *, seconds: float) -> None:
    """Raises NotStabilized as soon as an alarm is raised, Cancelled where the stack goes no further."""
    loop = asyncio.get_running_loop()
    over = loop.time() + seconds
    while True:
        if alarms:
            answer = await context(
                "cloudwatch", "DescribeAlarms", AlarmNames=list(alarms), StateValue="ALARM"
            )
            if raised := [alarm["AlarmName"] for alarm in answer.get("MetricAlarms", ())]:
                raise NotStabilized(f"Alarms went into ALARM state: {', '.join(raised)}")
        left = over - loop.time()
        if left <= 0:
            return
        try:
            await asyncio.wait_for(context.failing.wait(), min(left, _ALARM_SECONDS))
        except TimeoutError:
            continue
        raise Cancelled


async def _route(context: Context, arn: str, routes: Routes, **more: str) -> None:
    await context(
        "stepfunctions",
        "UpdateStateMachineAlias",
        stateMachineAliasArn=arn,
        routingConfiguration=routes,
        **more,
    )


def _routes(wanted: Properties) -> Routes:
    """What the alias is to have in the end: of its routes and its deployment preference it has one."""
    given, preference = wanted.get("RoutingConfiguration"), wanted.get("DeploymentPreference")
    if (given is None) == (preference is None):
        raise AWSError(
            "InvalidRequest", "One of RoutingConfiguration and DeploymentPreference must be given, not both."
        )
    if preference is not None:
        return _all_to(preference["StateMachineVersionArn"])
    return [
        {"stateMachineVersionArn": route["StateMachineVersionArn"], "weight": route["Weight"]}
        for route in given or ()
    ]


def _all_to(version: str) -> Routes:
    return [{"stateMachineVersionArn": version, "weight": 100}]


async def _delete_alias(context: Context, arn: str | None, had: Properties) -> None:
    if arn is None:
        version = _routes(had)[0]["stateMachineVersionArn"]
        arn = f"{version.rpartition(':')[0]}:{had['Name']}"
    await ignoring(_MISSING, context("stepfunctions", "DeleteStateMachineAlias", stateMachineAliasArn=arn))


TYPES = (
    ResourceType(
        name="AWS::StepFunctions::StateMachineVersion",
        supported=properties("Description StateMachineArn StateMachineRevisionId"),
        create=_publish,
        delete=_delete_version,
    ),
    ResourceType(
        name="AWS::StepFunctions::StateMachineAlias",
        supported=properties("DeploymentPreference Description Name RoutingConfiguration StateMachineArn"),
        create=_create_alias,
        update=_update_alias,
        delete=_delete_alias,
        named_by="Name",
        longest_name=80,
    ),
)
