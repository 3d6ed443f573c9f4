"""AWS::CloudWatch: alarms, and dashboards."""

from stagegate.local.service import AWSError
from stagegate.local.stacks.resources.kind import (
    Attributes,
    Context,
    Properties,
    ResourceType,
    ignoring,
    picked,
    properties,
)

_AS_GIVEN = (
    "AlarmName ActionsEnabled AlarmActions AlarmDescription ComparisonOperator DatapointsToAlarm Dimensions "
    "EvaluateLowSampleCountPercentile EvaluationPeriods ExtendedStatistic InsufficientDataActions MetricName "
    "Metrics Namespace OKActions Period Statistic Threshold ThresholdMetricId TreatMissingData Unit"
)
_NO_DASHBOARD = "DashboardNotFoundError ResourceNotFound"


async def _put(context: Context, wanted: Properties) -> None:
    members = picked(wanted, _AS_GIVEN)
    await context("cloudwatch", "PutMetricAlarm", Tags=context.merged_tags(wanted), **members)


async def _create(context: Context, wanted: Properties) -> Attributes:
    name = wanted["AlarmName"]
    there = await context("cloudwatch", "DescribeAlarms", AlarmNames=[name])
    if there.get("MetricAlarms"):
        raise AWSError("AlreadyExists", f"{name} already exists")
    await _put(context, wanted)
    context.made(name)
    return {"Arn": context.runtime.arn("cloudwatch", f"alarm:{name}")}


async def _update(context: Context, name: str, old: Properties, new: Properties) -> None:
    await _put(context, new)


async def _delete(context: Context, name: str | None, had: Properties) -> None:
    names = [name or had["AlarmName"]]
    if (await context("cloudwatch", "DescribeAlarms", AlarmNames=names)).get("MetricAlarms"):
        await context("cloudwatch", "DeleteAlarms", AlarmNames=names)


async def _put_dashboard(context: Context, wanted: Properties) -> None:
    await context("cloudwatch", "PutDashboard", **picked(wanted, "DashboardName DashboardBody"))


async def _create_dashboard(context: Context, wanted: Properties) -> Attributes:
    name = wanted["DashboardName"]
    if await ignoring(_NO_DASHBOARD, context("cloudwatch", "GetDashboard", DashboardName=name)):
        raise AWSError("AlreadyExists", f"{name} already exists")
    await _put_dashboard(context, wanted)
    context.made(name)
    return {}


async def _update_dashboard(context: Context, name: str, old: Properties, new: Properties) -> None:
    await _put_dashboard(context, new)


async def _delete_dashboard(context: Context, name: str | None, had: Properties) -> None:
    names = [name or had["DashboardName"]]
    await ignoring(_NO_DASHBOARD, context("cloudwatch", "DeleteDashboards", DashboardNames=names))


TYPES = (
    ResourceType(
        name="AWS::CloudWatch::Alarm",
        supported=properties(f"{_AS_GIVEN} Tags"),
        create=_create,
        update=_update,
        delete=_delete,
        named_by="AlarmName",
        longest_name=255,
    ),
    ResourceType(
        name="AWS::CloudWatch::Dashboard",
        supported=properties("DashboardBody DashboardName"),
        create=_create_dashboard,
        update=_update_dashboard,
        delete=_delete_dashboard,
        named_by="DashboardName",
        longest_name=255,
    ),
)
