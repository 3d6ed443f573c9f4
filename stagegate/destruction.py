"""Take the platform away: what goes and what is kept, in the order in which it goes, and what is left."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from stagegate.aws import Services, error_code
from stagegate.deployment import assets_bucket_name
from stagegate.platform_parameters import DataStore, data_stores, has_bucket, stack_name
from stagegate.stacks import StackEvent, delete_stack, find_stack, follow
from stagegate.templates import read_template

STAGES = ("production", "staging")
_GONE = ("DELETE_COMPLETE", "DELETE_SKIPPED")
_PAGE = 1000  # objects that S3 deletes at once


@dataclass(frozen=True, kw_only=True)
class Part:
    """A resource, mostly of one of the stacks."""

    stack: str
    """Empty for data that is in none of them."""
    logical_id: str
    resource_type: str
    name: str
    """Its own name where it is data, else its physical id."""
    is_kept: bool
    """Whether the template says that it stays when the stack goes."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What is still there afterwards."""

    resource_type: str
    name: str
    command: str
    """What would delete it."""


@dataclass(frozen=True, kw_only=True)
class Destruction:
    """What there is to take away, and what stays."""

    stacks: tuple[str, ...]
    """In the order in which they go: the platform's last, since the others go by a role of it."""
    parts: tuple[Part, ...]
    executions: tuple[str, ...]
    """Those that run, and are stopped."""
    assets_bucket: str
    """Empty where there is none."""

    @property
    def is_nothing(self) -> bool:
        return not self.stacks and not self.assets_bucket


def plan_destruction(services: Services) -> Destruction:
    config, bucket = services.config, assets_bucket_name(services)
    names = [*(f"{config.project}-{stage}" for stage in STAGES), stack_name(config)]
    stacks = [stack for name in names if (stack := find_stack(services, name))]
    stores = {store.physical_id: store for store in data_stores(services) if store.is_there}
    parts = tuple(part for stack in stacks for part in _parts(services, stack, stores))
    parts += tuple(_outside(stores, {(part.resource_type, part.name) for part in parts}))
    return Destruction(
        stacks=tuple(stack["StackName"] for stack in stacks),
        parts=parts,
        executions=tuple(_running(services, parts)),
        assets_bucket=bucket if _is_ours(services, bucket) else "",
    )


def _is_ours(services: Services, bucket: str) -> bool:
    """Whether it is there, and made by `stagegate up`."""
    return "AssetsBucket" not in services.config.platform and has_bucket(services, bucket)


def destroy(services: Services, destruction: Destruction) -> Iterator[StackEvent]:
    """Stop what runs, delete the stacks, then the assets bucket; gives CloudFormation's events as they come.

    Raises ReleaseFailed where a stack could not be deleted; destroyed again, the rest goes.
    """
    for execution in destruction.executions:
        _stop(services, execution)
    for name in destruction.stacks:
        if stack := find_stack(services, name):
            if stack["StackStatus"] != "REVIEW_IN_PROGRESS":
                yield from follow(services, stack["StackId"])  # an update has to end before
            yield from delete_stack(services, stack["StackId"])
    if destruction.assets_bucket:
        _delete_bucket(services, destruction.assets_bucket)


def kept(services: Services, destruction: Destruction) -> list[Kept]:
    """What is left after it: the data, and the logs and reports that the services have made by themselves."""
    parts = [
        Kept(
            resource_type=part.resource_type,
            name=part.name,
            command=_COMMANDS.get(part.resource_type, "").format(name=part.name),
        )
        for part in destruction.parts
        if part.is_kept and part.resource_type != "AWS::S3::BucketPolicy"  # which is a part of the bucket
    ]
    return [*parts, *_logs(services), *_reports(services)]


_COMMANDS = {
    # A thousand objects at a time.
    "AWS::S3::Bucket": (
        "aws s3api list-object-versions --bucket {name} --max-items 1000 --output json --query "
        "'{{Objects: [Versions, DeleteMarkers][][].{{Key: Key, VersionId: VersionId}}}}' > versions.json && "
        "aws s3api delete-objects --bucket {name} --delete file://versions.json; aws s3 rb s3://{name}"
    ),
    "AWS::CodeCommit::Repository": "aws codecommit delete-repository --repository-name {name}",
    "AWS::DynamoDB::Table": "aws dynamodb delete-table --table-name {name}",
    "AWS::SageMaker::ModelPackageGroup": (
        "for package in $(aws sagemaker list-model-packages --model-package-group-name {name} "
        "--query 'ModelPackageSummaryList[].ModelPackageArn' --output text); do "
        "aws sagemaker delete-model-package --model-package-name $package; done; "
        "aws sagemaker delete-model-package-group --model-package-group-name {name}"
    ),
}


Stores = dict[str, DataStore]
"""By their physical ids."""


def _parts(services: Services, stack: dict[str, Any], stores: Stores) -> Iterator[Part]:
    if stack["StackStatus"] == "REVIEW_IN_PROGRESS":
        return
    cloudformation, name = services("cloudformation"), stack["StackName"]
    body = cloudformation.get_template(StackName=name)["TemplateBody"]
    template = read_template(body) if isinstance(body, str) else body  # botocore reads JSON by itself
    for page in cloudformation.get_paginator("list_stack_resources").paginate(StackName=name):
        for resource in page["StackResourceSummaries"]:
            if resource["ResourceStatus"] in _GONE or not resource.get("PhysicalResourceId"):
                continue
            store = stores.get(resource["PhysicalResourceId"].rpartition("/")[2])
            declared = template["Resources"].get(resource["LogicalResourceId"], {})
            yield Part(
                stack=name,
                logical_id=resource["LogicalResourceId"],
                resource_type=resource["ResourceType"],
                name=store.name if store else resource["PhysicalResourceId"],
                is_kept=str(declared.get("DeletionPolicy")).startswith("Retain"),
            )


def _outside(stores: Stores, within: set[tuple[str, str]]) -> Iterator[Part]:
    """The data that is in no stack: kept when an earlier one was destroyed, or the user's own."""
    for store in stores.values():
        if (store.resource_type, store.name) not in within:
            yield Part(
                stack="",
                logical_id=store.logical_id,
                resource_type=store.resource_type,
                name=store.name,
                is_kept=True,
            )


def _running(services: Services, parts: tuple[Part, ...]) -> Iterator[str]:
    """A state machine is deleted only when its executions have ended, and one may wait for a person."""
    pages = services("stepfunctions").get_paginator("list_executions")
    for part in parts:
        if part.resource_type == "AWS::StepFunctions::StateMachine":
            for page in pages.paginate(stateMachineArn=part.name, statusFilter="RUNNING"):
                yield from (execution["executionArn"] for execution in page["executions"])


def _stop(services: Services, execution: str) -> None:
    try:
        services("stepfunctions").stop_execution(
            executionArn=execution, error="Destroyed", cause="The platform was taken away: stagegate destroy."
        )
    except ClientError as error:
        if error_code(error) != "ExecutionDoesNotExist":
            raise


def _delete_bucket(services: Services, bucket: str) -> None:
    """With every version of every object."""
    s3 = services("s3")
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, MaxKeys=_PAGE):
        objects = [
            {"Key": version["Key"], "VersionId": version["VersionId"]}
            for version in [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
        ]
        if objects:
            s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
    s3.delete_bucket(Bucket=bucket)


def _logs(services: Services) -> Iterator[Kept]:
    prefix = f"/aws/sagemaker/Endpoints/{services.config.project}-"
    for page in services("logs").get_paginator("describe_log_groups").paginate(logGroupNamePrefix=prefix):
        for group in page["logGroups"]:
            name = group["logGroupName"]
            yield Kept(
                resource_type="AWS::Logs::LogGroup",
                name=name,
                command=f"aws logs delete-log-group --log-group-name {name}",
            )


def _reports(services: Services) -> Iterator[Kept]:
    for page in services("codebuild").get_paginator("list_report_groups").paginate():
        for arn in page["reportGroups"]:
            if arn.rpartition("/")[2].startswith(f"{services.config.project}-"):
                yield Kept(
                    resource_type="AWS::CodeBuild::ReportGroup",
                    name=arn,
                    command=f"aws codebuild delete-report-group --delete-reports --arn {arn}",
                )
