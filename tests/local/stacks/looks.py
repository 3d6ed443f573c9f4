"""What the services say of a stack's resources, by type, to be compared with what the stack says."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from stagegate.local.service import AWSError
from stagegate.local.stacks.records import Records
from stagegate.local.stacks.schemas import fitted, schema

Seen = dict[str, Any]
Look = Callable[[Any, str], Awaitable[Seen]]


async def consistent(stacks: Any, name: str) -> Seen:
    """Assert that the services have what the stack says; gives that, to be compared with another time."""
    records = Records(stacks.endpoint.runtime)
    stack = await stacks.stack(name)
    resources = {it["LogicalResourceId"]: it for it in records.resources(stack["StackId"])}
    seen = {}
    for logical_id, resource in resources.items():
        kind, physical_id = resource["ResourceType"], resource["PhysicalResourceId"]
        if kind in UNSEEN:
            continue
        there = await LOOKS[kind](stacks, physical_id)
        said = fitted(schema(kind), resource["Properties"])
        if "DeploymentPreference" in said:
            there.pop("RoutingConfiguration")  # which the deployment makes of it
        wanted = {part: said.get(part) for part in there}
        assert wanted == there, (logical_id, wanted, there)
        seen[logical_id] = there
    assert await stacks.physical(name) == {it: resources[it]["PhysicalResourceId"] for it in resources}
    everything = await inventory(stacks)
    by_type: dict[str, set[str]] = {kind: set() for kind in INVENTORY}
    for resource in resources.values():
        if resource["ResourceType"] in by_type:
            by_type[resource["ResourceType"]].add(resource["PhysicalResourceId"])
    different = {kind: (ids, by_type[kind]) for kind, ids in everything.items() if ids != by_type[kind]}
    assert different == {}, different
    outputs = {it["OutputKey"]: it["OutputValue"] for it in stack["Outputs"]}
    return {"resources": seen, "physical": await stacks.physical(name), "outputs": outputs}


async def inventory(stacks: Any) -> dict[str, set[str]]:
    """The physical ids of all that there is, by type."""
    found = {}
    for kind, (service, operation, listed, member) in INVENTORY.items():
        try:
            answer = await stacks.call(operation, service, **LISTED.get(kind, {}))
        except AWSError as error:
            if "not implemented" not in error.message and "no operation" not in error.message:
                raise
            answer = {}  # the service is not there in this test
        entries = answer.get(listed, ())
        found[kind] = {it if member is None else it[member] for it in entries} - BEFORE.get(kind, set())
        found[kind] = {it for it in found[kind] if not it.startswith(("alias/aws/", "/aws/sagemaker/"))}
    return found


def _texts(tags: Any) -> list[dict[str, str]] | None:
    """Tags in whatever form, by their keys; None for none, as the stack has it."""
    if isinstance(tags, Mapping):
        pairs = dict(tags)
    else:
        pairs = {tag.get("Key", tag.get("key")): tag.get("Value", tag.get("value")) for tag in tags or ()}
    return [{"Key": key, "Value": pairs[key]} for key in sorted(pairs)] or None


async def _scalable_target(stacks: Any, target_id: str) -> Seen:
    resource_id, dimension, namespace = target_id.split("|")
    answer = await stacks.call(
        "DescribeScalableTargets",
        "application-autoscaling",
        ServiceNamespace=namespace,
        ScalableDimension=dimension,
        ResourceIds=[resource_id],
    )
    (target,) = answer["ScalableTargets"]
    return {part: target[part] for part in ("MinCapacity", "MaxCapacity", "ResourceId")}


async def _scaling_policy(stacks: Any, arn: str) -> Seen:
    answer = await stacks.call(
        "DescribeScalingPolicies", "application-autoscaling", ServiceNamespace="sagemaker", PolicyNames=[arn]
    )
    (policy,) = answer["ScalingPolicies"]
    member = "TargetTrackingScalingPolicyConfiguration"
    return {part: policy[part] for part in ("PolicyName", "PolicyType", member)}


async def _alarm(stacks: Any, name: str) -> Seen:
    (alarm,) = (await stacks.call("DescribeAlarms", "cloudwatch", AlarmNames=[name]))["MetricAlarms"]
    parts = (
        "AlarmDescription", "ComparisonOperator", "EvaluationPeriods", "ExtendedStatistic", "MetricName",
        "Namespace", "Period", "Statistic", "Threshold", "TreatMissingData",
    )  # fmt: skip
    return {part: alarm.get(part) for part in parts}


async def _budget(stacks: Any, name: str) -> Seen:
    of = {"AccountId": stacks.endpoint.runtime.account_id, "BudgetName": name}
    budget = (await stacks.call("DescribeBudget", "budgets", **of))["Budget"]
    listed = await stacks.call("DescribeNotificationsForBudget", "budgets", **of)
    # moto tells no subscribers; the tests have this one.
    subscribers = [{"SubscriptionType": "EMAIL", "Address": "ada@example.com"}]
    parts = ("NotificationType", "ComparisonOperator", "Threshold", "ThresholdType")
    return {
        "Budget": {
            "BudgetType": budget["BudgetType"],
            "TimeUnit": budget["TimeUnit"],
            "BudgetLimit": {"Amount": int(budget["BudgetLimit"]["Amount"]), "Unit": "USD"},
        },
        "NotificationsWithSubscribers": [
            {"Notification": {part: it[part] for part in parts}, "Subscribers": subscribers}
            for it in listed["Notifications"]
        ]
        or None,
    }


async def _dashboard(stacks: Any, name: str) -> Seen:
    answer = await stacks.call("GetDashboard", "cloudwatch", DashboardName=name)
    return {"DashboardBody": answer["DashboardBody"]}


async def _project(stacks: Any, name: str) -> Seen:
    (project,) = (await stacks.call("BatchGetProjects", "codebuild", names=[name]))["projects"]
    return {
        "Description": project.get("description") or None,
        "ServiceRole": project["serviceRole"],
        "TimeoutInMinutes": project["timeoutInMinutes"],
        "Tags": _texts(project.get("tags")),
    }


async def _repository(stacks: Any, repository_id: str) -> Seen:
    listed = await stacks.call("ListRepositories", "codecommit")
    (name,) = [it["repositoryName"] for it in listed["repositories"] if it["repositoryId"] == repository_id]
    answer = await stacks.call("GetRepository", "codecommit", repositoryName=name)
    repository = answer["repositoryMetadata"]
    tags = await stacks.call("ListTagsForResource", "codecommit", resourceArn=repository["Arn"])
    return {
        "RepositoryName": name,
        "RepositoryDescription": repository.get("repositoryDescription"),
        "Tags": _texts(tags["tags"]),
    }


async def _table(stacks: Any, name: str) -> Seen:
    table = (await stacks.call("DescribeTable", "dynamodb", TableName=name))["Table"]
    live = (await stacks.call("DescribeTimeToLive", "dynamodb", TableName=name))["TimeToLiveDescription"]
    backups = await stacks.call("DescribeContinuousBackups", "dynamodb", TableName=name)
    recovery = backups["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]
    tags = await stacks.call("ListTagsOfResource", "dynamodb", ResourceArn=table["TableArn"])
    enabled = live["TimeToLiveStatus"] == "ENABLED"
    recovers = recovery["PointInTimeRecoveryStatus"] == "ENABLED"
    return {
        "KeySchema": table["KeySchema"],
        "BillingMode": table["BillingModeSummary"]["BillingMode"],
        "TimeToLiveSpecification": {"AttributeName": live["AttributeName"], "Enabled": True}
        if enabled
        else None,
        "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True} if recovers else None,
        "Tags": _texts(tags["Tags"]),
    }


async def _event_archive(stacks: Any, name: str) -> Seen:
    archive = await stacks.call("DescribeArchive", "events", ArchiveName=name)
    return {
        "SourceArn": archive["EventSourceArn"],
        "Description": archive.get("Description"),
        "EventPattern": json.loads(archive["EventPattern"]) if "EventPattern" in archive else None,
        "RetentionDays": archive["RetentionDays"] or None,
    }


async def _event_bus(stacks: Any, name: str) -> Seen:
    bus = await stacks.call("DescribeEventBus", "events", Name=name)
    tags = (await stacks.call("ListTagsForResource", "events", ResourceARN=bus["Arn"]))["Tags"]
    return {
        "Description": bus.get("Description"),
        "Policy": json.loads(bus["Policy"]) if "Policy" in bus else None,
        "Tags": tags or None,
    }


async def _rule(stacks: Any, name: str) -> Seen:
    rule = await stacks.call("DescribeRule", "events", Name=name)
    targets = (await stacks.call("ListTargetsByRule", "events", Rule=name))["Targets"]
    pattern = rule.get("EventPattern")
    return {
        "Description": rule.get("Description"),
        "State": rule["State"],
        "EventPattern": json.loads(pattern) if pattern else None,
        "ScheduleExpression": rule.get("ScheduleExpression"),
        "Targets": targets or None,
    }


async def _function(stacks: Any, name: str) -> Seen:
    function = (await stacks.call("GetFunction", "lambda", FunctionName=name))["Configuration"]
    environment = function.get("Environment", {}).get("Variables")
    return {
        "Description": function.get("Description") or None,
        "Handler": function["Handler"],
        "Role": function["Role"],
        "Runtime": function["Runtime"],
        "Timeout": function["Timeout"],
        "MemorySize": function["MemorySize"],
        "Environment": {"Variables": environment} if environment else None,
    }


async def _source(stacks: Any, mapping_id: str) -> Seen:
    mapping = await stacks.call("GetEventSourceMapping", "lambda", UUID=mapping_id)
    names = ("EventSourceArn", "BatchSize", "MaximumBatchingWindowInSeconds")
    return {**{name: mapping[name] for name in names}, "Enabled": mapping["State"] == "Enabled"}


async def _url(stacks: Any, arn: str) -> Seen:
    return {
        "AuthType": (await stacks.call("GetFunctionUrlConfig", "lambda", FunctionName=arn))["AuthType"],
    }


async def _role(stacks: Any, name: str) -> Seen:
    role = (await stacks.call("GetRole", "iam", RoleName=name))["Role"]
    duration = role.get("MaxSessionDuration", 3600)
    return {
        "AssumeRolePolicyDocument": _document(role["AssumeRolePolicyDocument"]),
        "Description": role.get("Description") or None,
        **({} if duration == 3600 else {"MaxSessionDuration": duration}),
        "Tags": _texts(role.get("Tags")),
    }


def _document(policy: Any) -> Any:
    from urllib.parse import unquote

    return json.loads(unquote(policy)) if isinstance(policy, str) else policy


async def _managed_policy(stacks: Any, arn: str) -> Seen:
    version = (await stacks.call("GetPolicy", "iam", PolicyArn=arn))["Policy"]["DefaultVersionId"]
    answer = await stacks.call("GetPolicyVersion", "iam", PolicyArn=arn, VersionId=version)
    return {"PolicyDocument": _document(answer["PolicyVersion"]["Document"])}


async def _key(stacks: Any, key_id: str) -> Seen:
    key = (await stacks.call("DescribeKey", "kms", KeyId=key_id))["KeyMetadata"]
    rotates = (await stacks.call("GetKeyRotationStatus", "kms", KeyId=key_id))["KeyRotationEnabled"]
    return {
        "Description": key.get("Description") or None,
        "EnableKeyRotation": rotates,
        "Enabled": key["Enabled"],
    }


async def _alias(stacks: Any, name: str) -> Seen:
    aliases = (await stacks.call("ListAliases", "kms"))["Aliases"]
    return {"TargetKeyId": next(it["TargetKeyId"] for it in aliases if it["AliasName"] == name)}


async def _log_group(stacks: Any, name: str) -> Seen:
    groups = (await stacks.call("DescribeLogGroups", "logs", logGroupNamePrefix=name))["logGroups"]
    group = next(it for it in groups if it["logGroupName"] == name)
    tags = await stacks.call("ListTagsLogGroup", "logs", logGroupName=name)
    return {"RetentionInDays": group.get("retentionInDays"), "Tags": _texts(tags["tags"])}


async def _bucket(stacks: Any, name: str) -> Seen:
    versioning = (await stacks.call("GetBucketVersioning", "s3", Bucket=name)).get("Status")
    try:
        tags = (await stacks.call("GetBucketTagging", "s3", Bucket=name))["TagSet"]
    except AWSError:
        tags = []
    # a bucket that had versions never goes back to none: it is suspended
    enabled = {"Status": "Enabled"} if versioning == "Enabled" else None
    return {"VersioningConfiguration": enabled, "Tags": _texts(tags)}


async def _bucket_policy(stacks: Any, name: str) -> Seen:
    answer = await stacks.call("GetBucketPolicy", "s3", Bucket=name)
    return {"PolicyDocument": json.loads(answer["Policy"])}


async def _group(stacks: Any, name: str) -> Seen:
    group = await stacks.call("DescribeModelPackageGroup", "sagemaker", ModelPackageGroupName=name)
    tags = await stacks.call("ListTags", "sagemaker", ResourceArn=group["ModelPackageGroupArn"])
    return {
        "ModelPackageGroupDescription": group.get("ModelPackageGroupDescription"),
        "Tags": _texts(tags["Tags"]),
    }


async def _model(stacks: Any, arn: str) -> Seen:
    model = await stacks.call("DescribeModel", "sagemaker", ModelName=arn.rsplit("/", 1)[-1])
    return {part: model.get(part) for part in ("ExecutionRoleArn", "PrimaryContainer")}


async def _endpoint_config(stacks: Any, arn: str) -> Seen:
    name = arn.rsplit("/", 1)[-1]
    config = await stacks.call("DescribeEndpointConfig", "sagemaker", EndpointConfigName=name)
    return {part: config.get(part) for part in ("ProductionVariants", "DataCaptureConfig")}


async def _endpoint(stacks: Any, arn: str) -> Seen:
    name = arn.rsplit("/", 1)[-1]
    endpoint = await stacks.call("DescribeEndpoint", "sagemaker", EndpointName=name)
    assert endpoint["EndpointStatus"] == "InService"
    return {part: endpoint[part] for part in ("EndpointName", "EndpointConfigName")}


async def _schedule(stacks: Any, name: str) -> Seen:
    listed = (await stacks.call("ListSchedules", "scheduler", NamePrefix=name))["Schedules"]
    (group,) = [it["GroupName"] for it in listed if it["Name"] == name]
    found = await stacks.call("GetSchedule", "scheduler", Name=name, GroupName=group)
    parts = ("Description", "FlexibleTimeWindow", "GroupName", "ScheduleExpression", "State")
    return {part: found.get(part) for part in parts}


async def _schedule_group(stacks: Any, name: str) -> Seen:
    arn = (await stacks.call("GetScheduleGroup", "scheduler", Name=name))["Arn"]
    tags = await stacks.call("ListTagsForResource", "scheduler", ResourceArn=arn)
    return {"Tags": _texts(tags["Tags"])}


async def _secret(stacks: Any, arn: str) -> Seen:
    secret = await stacks.call("DescribeSecret", "secretsmanager", SecretId=arn)
    assert (await stacks.call("GetSecretValue", "secretsmanager", SecretId=arn))["SecretString"]
    return {"Description": secret.get("Description") or None, "Tags": _texts(secret.get("Tags"))}


async def _topic(stacks: Any, arn: str) -> Seen:
    attributes = (await stacks.call("GetTopicAttributes", "sns", TopicArn=arn))["Attributes"]
    tags = await stacks.call("ListTagsForResource", "sns", ResourceArn=arn)
    return {"DisplayName": attributes.get("DisplayName") or None, "Tags": _texts(tags["Tags"])}


async def _subscription(stacks: Any, arn: str) -> Seen:
    attributes = (await stacks.call("GetSubscriptionAttributes", "sns", SubscriptionArn=arn))["Attributes"]
    filtered = json.loads(attributes.get("FilterPolicy") or "{}")
    return {
        "TopicArn": attributes["TopicArn"],
        "Endpoint": attributes["Endpoint"],
        "Protocol": attributes["Protocol"],
        "FilterPolicy": filtered or None,
    }


async def _queue(stacks: Any, url: str) -> Seen:
    answer = await stacks.call("GetQueueAttributes", "sqs", QueueUrl=url, AttributeNames=["All"])
    attributes = answer["Attributes"]
    tags = (await stacks.call("ListQueueTags", "sqs", QueueUrl=url)).get("Tags")
    delay, timeout = int(attributes["DelaySeconds"]), int(attributes["VisibilityTimeout"])
    return {
        "VisibilityTimeout": timeout if timeout != 30 else None,
        "DelaySeconds": delay or None,
        "Tags": _texts(tags),
    }


async def _parameter(stacks: Any, name: str) -> Seen:
    parameter = (await stacks.call("GetParameter", "ssm", Name=name))["Parameter"]
    (described,) = (
        await stacks.call("DescribeParameters", "ssm", ParameterFilters=[{"Key": "Name", "Values": [name]}])
    )["Parameters"]
    tags = await stacks.call("ListTagsForResource", "ssm", ResourceType="Parameter", ResourceId=name)
    said = {"Value": parameter["Value"], "Type": parameter["Type"]}
    return {
        **said,
        "Description": described.get("Description") or None,
        "Tags": {tag["Key"]: tag["Value"] for tag in tags["TagList"]} or None,
    }


async def _version(stacks: Any, arn: str) -> Seen:
    version = await stacks.call("DescribeStateMachine", "stepfunctions", stateMachineArn=arn)
    return {"Description": version.get("description")}


async def _version_alias(stacks: Any, arn: str) -> Seen:
    alias = await stacks.call("DescribeStateMachineAlias", "stepfunctions", stateMachineAliasArn=arn)
    routes = [
        {"StateMachineVersionArn": route["stateMachineVersionArn"], "Weight": route["weight"]}
        for route in alias["routingConfiguration"]
    ]
    return {"Description": alias.get("description") or None, "RoutingConfiguration": routes}


async def _state_machine(stacks: Any, arn: str) -> Seen:
    machine = await stacks.call("DescribeStateMachine", "stepfunctions", stateMachineArn=arn)
    tags = await stacks.call("ListTagsForResource", "stepfunctions", resourceArn=arn)
    assert json.loads(machine["definition"])["StartAt"]
    return {"RoleArn": machine["roleArn"], "Tags": _texts(tags["tags"])}


async def _queue_policy(stacks: Any, policy_id: str) -> Seen:
    policies = []
    for url in (await stacks.call("ListQueues", "sqs"))["QueueUrls"]:
        answer = await stacks.call("GetQueueAttributes", "sqs", QueueUrl=url, AttributeNames=["Policy"])
        policies += [json.loads(policy) for policy in answer.get("Attributes", {}).values()]
    (policy,) = policies
    return {"PolicyDocument": policy}


LOOKS: dict[str, Look] = {
    "AWS::ApplicationAutoScaling::ScalableTarget": _scalable_target,
    "AWS::ApplicationAutoScaling::ScalingPolicy": _scaling_policy,
    "AWS::Budgets::Budget": _budget,
    "AWS::CloudWatch::Alarm": _alarm,
    "AWS::CloudWatch::Dashboard": _dashboard,
    "AWS::CodeBuild::Project": _project,
    "AWS::CodeCommit::Repository": _repository,
    "AWS::DynamoDB::Table": _table,
    "AWS::Events::Archive": _event_archive,
    "AWS::Events::EventBus": _event_bus,
    "AWS::Events::Rule": _rule,
    "AWS::IAM::ManagedPolicy": _managed_policy,
    "AWS::IAM::Role": _role,
    "AWS::KMS::Alias": _alias,
    "AWS::KMS::Key": _key,
    "AWS::Lambda::EventSourceMapping": _source,
    "AWS::Lambda::Function": _function,
    "AWS::Lambda::Url": _url,
    "AWS::Logs::LogGroup": _log_group,
    "AWS::S3::Bucket": _bucket,
    "AWS::S3::BucketPolicy": _bucket_policy,
    "AWS::SageMaker::Endpoint": _endpoint,
    "AWS::SageMaker::EndpointConfig": _endpoint_config,
    "AWS::SageMaker::Model": _model,
    "AWS::SageMaker::ModelPackageGroup": _group,
    "AWS::Scheduler::Schedule": _schedule,
    "AWS::Scheduler::ScheduleGroup": _schedule_group,
    "AWS::SecretsManager::Secret": _secret,
    "AWS::SNS::Subscription": _subscription,
    "AWS::SNS::Topic": _topic,
    "AWS::SQS::Queue": _queue,
    "AWS::SQS::QueuePolicy": _queue_policy,
    "AWS::SSM::Parameter": _parameter,
    "AWS::StepFunctions::StateMachine": _state_machine,
    "AWS::StepFunctions::StateMachineAlias": _version_alias,
    "AWS::StepFunctions::StateMachineVersion": _version,
}
UNSEEN = frozenset({"AWS::IAM::Policy", "AWS::Lambda::Permission", "AWS::SNS::TopicPolicy"})
"""Parts of another resource: seen with it."""

INVENTORY: dict[str, tuple[str, str, str, str | None]] = {
    "AWS::CloudWatch::Alarm": ("cloudwatch", "DescribeAlarms", "MetricAlarms", "AlarmName"),
    "AWS::CloudWatch::Dashboard": ("cloudwatch", "ListDashboards", "DashboardEntries", "DashboardName"),
    "AWS::CodeBuild::Project": ("codebuild", "ListProjects", "projects", None),
    "AWS::CodeCommit::Repository": ("codecommit", "ListRepositories", "repositories", "repositoryId"),
    "AWS::DynamoDB::Table": ("dynamodb", "ListTables", "TableNames", None),
    "AWS::Events::Archive": ("events", "ListArchives", "Archives", "ArchiveName"),
    "AWS::Events::EventBus": ("events", "ListEventBuses", "EventBuses", "Name"),
    "AWS::Events::Rule": ("events", "ListRules", "Rules", "Name"),
    "AWS::IAM::ManagedPolicy": ("iam", "ListPolicies", "Policies", "Arn"),
    "AWS::IAM::Role": ("iam", "ListRoles", "Roles", "RoleName"),
    "AWS::KMS::Alias": ("kms", "ListAliases", "Aliases", "AliasName"),
    "AWS::Lambda::EventSourceMapping": (
        "lambda", "ListEventSourceMappings", "EventSourceMappings", "UUID",
    ),
    "AWS::Lambda::Function": ("lambda", "ListFunctions", "Functions", "FunctionName"),
    "AWS::Logs::LogGroup": ("logs", "DescribeLogGroups", "logGroups", "logGroupName"),
    "AWS::S3::Bucket": ("s3", "ListBuckets", "Buckets", "Name"),
    "AWS::SageMaker::Endpoint": ("sagemaker", "ListEndpoints", "Endpoints", "EndpointArn"),
    "AWS::SageMaker::EndpointConfig": (
        "sagemaker", "ListEndpointConfigs", "EndpointConfigs", "EndpointConfigArn",
    ),
    "AWS::SageMaker::Model": ("sagemaker", "ListModels", "Models", "ModelArn"),
    "AWS::SageMaker::ModelPackageGroup": (
        "sagemaker", "ListModelPackageGroups", "ModelPackageGroupSummaryList", "ModelPackageGroupArn",
    ),
    "AWS::Scheduler::Schedule": ("scheduler", "ListSchedules", "Schedules", "Name"),
    "AWS::Scheduler::ScheduleGroup": ("scheduler", "ListScheduleGroups", "ScheduleGroups", "Name"),
    "AWS::SecretsManager::Secret": ("secretsmanager", "ListSecrets", "SecretList", "ARN"),
    "AWS::SNS::Subscription": ("sns", "ListSubscriptions", "Subscriptions", "SubscriptionArn"),
    "AWS::SNS::Topic": ("sns", "ListTopics", "Topics", "TopicArn"),
    "AWS::SQS::Queue": ("sqs", "ListQueues", "QueueUrls", None),
    "AWS::SSM::Parameter": ("ssm", "DescribeParameters", "Parameters", "Name"),
    "AWS::StepFunctions::StateMachine": (
        "stepfunctions", "ListStateMachines", "stateMachines", "stateMachineArn",
    ),
}  # fmt: skip
LISTED = {"AWS::IAM::ManagedPolicy": {"Scope": "Local"}}
SERVED = "arn:aws:sagemaker:us-east-1:111111111111:model-package-group/served"
BEFORE = {
    "AWS::Events::EventBus": {"default"},
    "AWS::S3::Bucket": {"assets"},
    "AWS::SageMaker::ModelPackageGroup": {SERVED},
    "AWS::Scheduler::ScheduleGroup": {"default"},
}
"""What the tests have beside the stack."""
