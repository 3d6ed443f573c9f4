"""The resources that an operation is about, as ARNs, from its members."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stagegate.local.iam.conditions import as_list

Members = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Request:
    """One action on one resource."""

    action: str
    resource: str
    context: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The condition keys of this action, by their names in small letters."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the resources are."""

    region: str
    account_id: str

    def arn(self, service: str, resource: str) -> str:
        return f"arn:aws:{service}:{self.region}:{self.account_id}:{resource}"


RESOURCES: Mapping[str, Mapping[str, str]] = {
    "application-autoscaling": {"ResourceId": "scalable-target/*"},
    "cloudformation": {"StackName": "stack/{}/*", "StackId": "stack/{}/*", "ChangeSetName": "changeSet/{}/*"},
    "cloudwatch": {"AlarmName": "alarm:{}", "AlarmNames": "alarm:{}", "ResourceARN": "{}"},
    "codebuild": {
        "projectName": "project/{}",
        "names": "project/{}",
        "reportGroupArn": "report-group/{}",
        "reportGroupArns": "report-group/{}",
    },
    "codecommit": {"repositoryName": "{}", "repositoryNames": "{}", "resourceArn": "{}"},
    "dynamodb": {"TableName": "table/{}", "ResourceArn": "{}", "StreamArn": "{}"},
    "ecr": {"repositoryName": "repository/{}", "repositoryNames": "repository/{}", "resourceArn": "{}"},
    "iam": {
        "InstanceProfileName": "instance-profile/{}",
        "GroupName": "group/{}",
        "RoleName": "role/{}",
        "UserName": "user/{}",
        "PolicyArn": "policy/{}",
    },
    "kms": {"KeyId": "key/{}", "TargetKeyId": "key/{}", "ResourceArn": "{}"},
    "lambda": {"UUID": "event-source-mapping:{}", "FunctionName": "function:{}", "Resource": "{}"},
    "logs": {"logGroupName": "log-group:{}:log-stream:", "resourceArn": "{}"},
    "sagemaker": {
        "TrainingJobName": "training-job/{}",
        "ProcessingJobName": "processing-job/{}",
        "TransformJobName": "transform-job/{}",
        "HyperParameterTuningJobName": "hyper-parameter-tuning-job/{}",
        "EndpointName": "endpoint/{}",
        "EndpointConfigName": "endpoint-config/{}",
        "ModelName": "model/{}",
        "ModelPackageArn": "model-package/{}",
        "ModelPackageName": "model-package/{}",
        "ModelPackageGroupName": "model-package-group/{}",
        "ExperimentName": "experiment/{}",
        "TrialName": "experiment-trial/{}",
        "TrialComponentName": "experiment-trial-component/{}",
        "ContextName": "context/{}",
        "ArtifactArn": "artifact/{}",
        "ActionName": "action/{}",
        "ResourceArn": "{}",
    },
    "scheduler": {"ResourceArn": "{}"},
    "secretsmanager": {"SecretId": "secret:{}-??????", "Name": "secret:{}-??????"},
    "ses": {
        "Source": "identity/{}",
        "FromEmailAddress": "identity/{}",
        "EmailIdentity": "identity/{}",
        "Identity": "identity/{}",
    },
    "sns": {"TopicArn": "{}", "Name": "{}", "ResourceArn": "{}"},
    "sqs": {"QueueUrl": "{}", "QueueName": "{}"},
    "ssm": {"Name": "parameter/{}", "Names": "parameter/{}", "Path": "parameter/{}"},
    "states": {
        "stateMachineArn": "stateMachine:{}",
        "executionArn": "execution:{}",
        "activityArn": "activity:{}",
        "mapRunArn": "mapRun:{}",
        "stateMachineAliasArn": "{}",
        "stateMachineVersionArn": "{}",
        "resourceArn": "{}",
    },
    "sts": {"RoleArn": "role/{}"},
}
"""The members that name a resource, with its ARN; the first of an operation's is its resource."""

_MANY = {
    "sagemaker:CreateEndpoint": ("EndpointName", "EndpointConfigName"),
    "sagemaker:UpdateEndpoint": ("EndpointName", "EndpointConfigName"),
}
"""The operations that are about more than one of them."""

_WITHOUT_NAME = {
    "cloudwatch:DescribeAlarms": "alarm:*",
    "cloudformation:DescribeStacks": "stack/*/*",
}
"""The resource where an operation names none, and yet IAM knows some."""

_ON_ANYTHING = frozenset(
    {
        "application-autoscaling:DescribeScalableTargets",
        "application-autoscaling:DescribeScalingActivities",
        "application-autoscaling:DescribeScalingPolicies",
        "application-autoscaling:DescribeScheduledActions",
        "application-autoscaling:GetPredictiveScalingForecast",
        "cloudformation:CreateGeneratedTemplate",
        "cloudwatch:ListManagedInsightRules",
        "dynamodb:ListBackups",
        "dynamodb:ListContributorInsights",
        "dynamodb:ListStreams",
        "kms:ListAliases",
        "lambda:CreateEventSourceMapping",
        "lambda:ListEventSourceMappings",
        "logs:DeleteResourcePolicy",
        "logs:DescribeQueries",
        "logs:DescribeResourcePolicies",
        "logs:PutResourcePolicy",
        "sagemaker:ListDataQualityJobDefinitions",
        "sagemaker:ListDevices",
        "sagemaker:ListModelBiasJobDefinitions",
        "sagemaker:ListModelExplainabilityJobDefinitions",
        "sagemaker:ListModelQualityJobDefinitions",
        "sagemaker:ListMonitoringExecutions",
        "sagemaker:ListMonitoringSchedules",
        "sagemaker:ListTrialComponents",
        "sagemaker:ListTrials",
        "ses:DeleteIdentity",
        "ses:DeleteIdentityPolicy",
        "ses:GetIdentityPolicies",
        "ses:ListIdentityPolicies",
        "ses:PutIdentityPolicy",
        "ses:SetIdentityDkimEnabled",
        "ses:SetIdentityFeedbackForwardingEnabled",
        "ses:SetIdentityHeadersInNotificationsEnabled",
        "ses:SetIdentityMailFromDomain",
        "ses:SetIdentityNotificationTopic",
        "sns:CreatePlatformApplication",
    }
)
"""Actions that IAM knows no resources for, though their operations name some."""


def resources_of(name: str, members: Members, place: Place) -> list[str]:
    """What the operation is about, by its name as an action; "*" where IAM knows no resources for it."""
    return _SPECIAL[name](members, place) if name in _SPECIAL else _named(name, members, place)


def _named(name: str, members: Members, place: Place) -> list[str]:
    prefix = name.partition(":")[0]
    given = RESOURCES.get(prefix, {})
    if name in _ON_ANYTHING or (prefix == "ssm" and "Parameter" not in name):
        return ["*"]
    if name in _MANY:
        return [arn_of(prefix, given[member], members[member], place) for member in _MANY[name]]
    for member, pattern in given.items():
        if member in members:
            return [arn_of(prefix, pattern, one, place) for one in as_list(members[member])] or ["*"]
    return [place.arn(prefix, _WITHOUT_NAME[name])] if name in _WITHOUT_NAME else ["*"]


def arn_of(prefix: str, pattern: str, value: Any, place: Place) -> str:
    """The resource's ARN, from its name or from an ARN that was given in its place."""
    text = str(value)
    if text.startswith("arn:"):
        return text
    if prefix == "sqs":
        text = text.rsplit("/", 1)[-1]
    elif prefix == "ssm":
        text = text.lstrip("/")
    resource = pattern.format(text)
    is_global = prefix in ("iam", "sts")
    return f"arn:aws:iam::{place.account_id}:{resource}" if is_global else place.arn(prefix, resource)


# ---- Those whose resources are not in one member --------------------------------------------------


def _tables(members: Members, place: Place) -> list[str]:
    return [arn_of("dynamodb", "table/{}", table, place) for table in members.get("RequestItems", {})] or [
        "*"
    ]


def _table_or_index(members: Members, place: Place) -> list[str]:
    table = arn_of("dynamodb", "table/{}", members["TableName"], place)
    return [f"{table}/index/{members['IndexName']}" if "IndexName" in members else table]


def _projects_of_builds(members: Members, place: Place) -> list[str]:
    """`project:id`, or a build's ARN: IAM is asked about the project."""
    ids = [one.rsplit(":build/", 1)[-1] for one in (*members.get("ids", ()), *as_list(members.get("id", [])))]
    return sorted({place.arn("codebuild", f"project/{one.partition(':')[0]}") for one in ids}) or ["*"]


def _groups_of_reports(members: Members, place: Place) -> list[str]:
    """`report/group:id`: IAM is asked about the group."""
    arns = [*members.get("reportArns", ()), *as_list(members.get("reportArn") or members.get("arn") or [])]
    groups = {one.rpartition(":report/")[2].partition(":")[0] for one in arns}
    return sorted(place.arn("codebuild", f"report-group/{group}") for group in groups) or ["*"]


def _rule(members: Members, place: Place) -> list[str]:
    bus = str(members.get("EventBusName") or "default").rsplit("/", 1)[-1]
    name = members.get("Rule") or members.get("Name") or ""
    return [place.arn("events", f"rule/{name}" if bus == "default" else f"rule/{bus}/{name}")]


def _buses(members: Members, place: Place) -> list[str]:
    names = {str(entry.get("EventBusName") or "default") for entry in members.get("Entries", ())}
    return sorted(arn_of("events", "event-bus/{}", name, place) for name in names)


def _bus(members: Members, place: Place) -> list[str]:
    return [arn_of("events", "event-bus/{}", members.get("Name") or "default", place)]


def _log_stream(members: Members, place: Place) -> list[str]:
    group, stream = members.get("logGroupName", ""), members.get("logStreamName", "")
    return [place.arn("logs", f"log-group:{group}:log-stream:{stream}")]


def _log_groups(members: Members, place: Place) -> list[str]:
    return [place.arn("logs", f"log-group:{members.get('logGroupNamePrefix', '')}:log-stream:")]


def _schedule(members: Members, place: Place) -> list[str]:
    return [place.arn("scheduler", f"schedule/{members.get('GroupName') or 'default'}/{members.get('Name')}")]


def _schedule_group(members: Members, place: Place) -> list[str]:
    return [place.arn("scheduler", f"schedule-group/{members.get('Name')}")]


def _new_machine(members: Members, place: Place) -> list[str]:
    return [place.arn("states", f"stateMachine:{members['name']}")]


def _new_activity(members: Members, place: Place) -> list[str]:
    return [place.arn("states", f"activity:{members['name']}")]


def _machine_of_token(members: Members, place: Place) -> list[str]:
    """IAM is asked about the state machine whose task it is; a token of ours says which."""
    token = str(members.get("taskToken", "")).removeprefix("AQCg")
    try:
        execution = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))["execution"]
    except (ValueError, TypeError, KeyError):
        return ["*"]
    return [place.arn("states", f"stateMachine:{execution.split(':')[6]}")]


def _new_project(members: Members, place: Place) -> list[str]:
    return [place.arn("codebuild", f"project/{members['name']}")]


def _function(members: Members, place: Place) -> list[str]:
    """A name, a part of an ARN or an ARN; with a qualifier, IAM is asked about that."""
    given = str(members["FunctionName"])
    name, _, written = given.rpartition("function:")[2].partition(":")
    qualifier = members.get("Qualifier") or written
    return [place.arn("lambda", f"function:{name}" + (f":{qualifier}" if qualifier else ""))]


def _change_set(members: Members, place: Place) -> list[str]:
    """IAM is asked about the stack; an ARN of a change set alone says which only to CloudFormation."""
    if "StackName" in members:
        return [arn_of("cloudformation", "stack/{}/*", members["StackName"], place)]
    return [str(members.get("ChangeSetName", "*"))]


def _packages(members: Members, place: Place) -> list[str]:
    """Those of a group, or one that is no version of any."""
    if group := members.get("ModelPackageGroupName"):
        return [arn_of("sagemaker", "model-package/{}/*", str(group).rsplit("/", 1)[-1], place)]
    return [arn_of("sagemaker", "model-package/{}", members.get("ModelPackageName", "*"), place)]


_SPECIAL: Mapping[str, Callable[[Members, Place], list[str]]] = {
    "cloudformation:DeleteChangeSet": _change_set,
    "cloudformation:DescribeChangeSet": _change_set,
    "cloudformation:ExecuteChangeSet": _change_set,
    "cloudformation:GetTemplate": _change_set,
    "codebuild:BatchGetBuilds": _projects_of_builds,
    "codebuild:BatchDeleteBuilds": _projects_of_builds,
    "codebuild:BatchGetReports": _groups_of_reports,
    "codebuild:CreateProject": _new_project,
    "codebuild:DeleteProject": _new_project,
    "codebuild:DeleteReport": _groups_of_reports,
    "codebuild:DescribeTestCases": _groups_of_reports,
    "codebuild:RetryBuild": _projects_of_builds,
    "codebuild:StopBuild": _projects_of_builds,
    "codebuild:UpdateProject": _new_project,
    "dynamodb:BatchGetItem": _tables,
    "dynamodb:BatchWriteItem": _tables,
    "dynamodb:Query": _table_or_index,
    "dynamodb:Scan": _table_or_index,
    "events:CreateEventBus": _bus,
    "events:DeleteEventBus": _bus,
    "events:DeleteRule": _rule,
    "events:DescribeEventBus": _bus,
    "events:DescribeRule": _rule,
    "events:DisableRule": _rule,
    "events:EnableRule": _rule,
    "events:ListTargetsByRule": _rule,
    "events:PutEvents": _buses,
    "events:PutRule": _rule,
    "events:PutTargets": _rule,
    "events:RemoveTargets": _rule,
    "lambda:Invoke": _function,
    "lambda:GetFunction": _function,
    "lambda:GetFunctionConfiguration": _function,
    "logs:CreateLogStream": _log_stream,
    "logs:DeleteLogStream": _log_stream,
    "logs:DescribeLogGroups": _log_groups,
    "logs:GetLogEvents": _log_stream,
    "logs:PutLogEvents": _log_stream,
    "sagemaker:CreateModelPackage": _packages,
    "sagemaker:ListModelPackages": _packages,
    "scheduler:CreateSchedule": _schedule,
    "scheduler:CreateScheduleGroup": _schedule_group,
    "scheduler:DeleteSchedule": _schedule,
    "scheduler:DeleteScheduleGroup": _schedule_group,
    "scheduler:GetSchedule": _schedule,
    "scheduler:GetScheduleGroup": _schedule_group,
    "scheduler:UpdateSchedule": _schedule,
    "states:CreateActivity": _new_activity,
    "states:CreateStateMachine": _new_machine,
    "states:SendTaskFailure": _machine_of_token,
    "states:SendTaskHeartbeat": _machine_of_token,
    "states:SendTaskSuccess": _machine_of_token,
}
