"""Bring up the platform: the assets bucket, the code in it, and the stack of deploy/platform.yaml."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from stagegate.aws import Services, error_code
from stagegate.bundle import function_package, read_bundle, upload_bundle
from stagegate.config import Config
from stagegate.errors import NotFound, ReleaseFailed

STATE_MACHINES = ("model-build", "model-deploy")
LOCAL_SENDER = "releases@stagegate.example.com"


@dataclass(frozen=True, kw_only=True)
class StackEvent:
    """A line of what CloudFormation did."""

    time: datetime
    logical_id: str
    resource_type: str
    status: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Platform:
    """What the platform's stack gives out."""

    data_bucket: str
    model_build_arn: str
    model_deploy_arn: str
    model_package_group: str
    approval_table: str
    approval_record: str
    signing_key_arn: str
    decision_url: str

    @property
    def state_machines(self) -> tuple[str, str]:
        return (self.model_build_arn, self.model_deploy_arn)


def stack_name(config: Config) -> str:
    return f"{config.project}-platform"


def read_platform(services: Services) -> Platform:
    """Raises NotFound while the platform has not been brought up."""
    name = stack_name(services.config)
    try:
        stack = services("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if error_code(error) != "ValidationError":
            raise
        raise NotFound(
            f"There is no stack '{name}' yet: bring the platform up with `stagegate up`."
        ) from error
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", ())}
    if "ApprovalRecord" not in outputs:
        raise NotFound(f"The stack '{name}' is {stack['StackStatus']}: bring it up with `stagegate up`.")
    return Platform(
        data_bucket=outputs["DataBucket"],
        model_build_arn=outputs["ModelBuildArn"],
        model_deploy_arn=outputs["ModelDeployArn"],
        model_package_group=outputs["ModelPackageGroupName"],
        approval_table=outputs["ApprovalTable"],
        approval_record=outputs["ApprovalRecord"],
        signing_key_arn=outputs["SigningKeyArn"],
        decision_url=outputs["DecisionUrl"],
    )


def assets_bucket(services: Services) -> str:
    """The bucket for code and templates. It is made before the stack, since the stack is made from it."""
    config = services.config
    bucket = f"{config.project}-assets-{services.account()}-{config.region}"
    s3 = services("s3")
    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error_code(error) not in ("404", "NoSuchBucket"):
            raise
        # us-east-1 is the one region that must not be named here
        location = {} if config.region == "us-east-1" else {"LocationConstraint": config.region}
        s3.create_bucket(Bucket=bucket, **({"CreateBucketConfiguration": location} if location else {}))
        s3.put_public_access_block(
            Bucket=bucket,
            PublicAccessBlockConfiguration={
                "BlockPublicAcls": True,
                "IgnorePublicAcls": True,
                "BlockPublicPolicy": True,
                "RestrictPublicBuckets": True,
            },
        )
    return bucket


def upload_code(services: Services) -> str:
    """The project's code as it is now, in the assets bucket; gives its URI."""
    return upload_bundle(services, read_bundle(services.config.root), assets_bucket(services))


def deploy_platform(services: Services) -> Iterator[StackEvent]:
    """Create or update the platform's stack; gives CloudFormation's events as they come.

    Raises ReleaseFailed where the stack ends in anything but success.
    """
    config, bucket = services.config, assets_bucket(services)
    upload_code(services)
    parameters = {
        "Project": config.project,
        "AssetsBucket": bucket,
        "Approvers": ",".join(config.approvers),
        "TopicSubscriber": config.approvers[0],
        "RequiredApprovals": str(config.required_approvals),
        "FourEyes": str(config.needs_four_eyes).lower(),
        "SenderEmail": verified_sender(services),
        "WebhookUrl": config.webhook_url,
        "FunctionsKey": _put(services, bucket, "functions", ".zip", function_package(config.root)),
    }
    if config.is_local:
        parameters["PollSeconds"] = "1"  # nobody is throttled here
    for machine in STATE_MACHINES:
        definition = (config.root / "statemachines" / f"{machine}.asl.json").read_bytes()
        parameter = "".join(word.capitalize() for word in machine.split("-")) + "DefinitionKey"
        parameters[parameter] = _put(services, bucket, "definitions", ".asl.json", definition)
    template = (config.root / "deploy" / "platform.yaml").read_text()
    yield from deploy_stack(services, stack_name(config), template=template, parameters=parameters)


def verified_sender(services: Services) -> str:
    """Who mails come from; "" where that is nobody, or an address that SES does not know as verified yet.

    SES then mails a link to it; once it was followed, `stagegate up` takes the sender.
    """
    config, ses = services.config, services("sesv2")
    sender = config.sender or (LOCAL_SENDER if config.is_local else "")
    if not sender:
        return ""
    try:
        identity = ses.get_email_identity(EmailIdentity=sender)
    except ClientError as error:
        if error_code(error) != "NotFoundException":
            raise
        ses.create_email_identity(EmailIdentity=sender)
        identity = ses.get_email_identity(EmailIdentity=sender)
    return sender if identity["VerifiedForSendingStatus"] else ""


def deploy_stack(
    services: Services, name: str, *, template: str, parameters: dict[str, str]
) -> Iterator[StackEvent]:
    """Create the stack, or update it where it exists; nothing to change is a success without events."""
    cloudformation = services("cloudformation")
    request = {
        "StackName": name,
        "TemplateBody": template,
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
    }
    seen = {event["EventId"] for event in _events(services, name)}
    try:
        if seen:
            cloudformation.update_stack(**request)
        else:
            cloudformation.create_stack(**request)
    except ClientError as error:
        if "No updates are to be performed" in error.response["Error"]["Message"]:
            return
        raise
    while True:
        status = cloudformation.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
        for event in reversed(_events(services, name)):
            if event["EventId"] not in seen:
                seen.add(event["EventId"])
                yield StackEvent(
                    time=event["Timestamp"],
                    logical_id=event["LogicalResourceId"],
                    resource_type=event["ResourceType"],
                    status=event["ResourceStatus"],
                    reason=event.get("ResourceStatusReason", ""),
                )
        if not status.endswith("_IN_PROGRESS"):
            break
        time.sleep(0.2 if services.config.is_local else 5)
    if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        raise ReleaseFailed(f"The stack '{name}' ended as {status}; the events above say what failed.")


def _events(services: Services, name: str) -> list[dict[str, Any]]:
    """Newest first; none for a stack that does not exist."""
    try:
        pages = services("cloudformation").get_paginator("describe_stack_events").paginate(StackName=name)
        return [event for page in pages for event in page["StackEvents"]]
    except ClientError as error:
        if error_code(error) == "ValidationError":
            return []
        raise


def _put(services: Services, bucket: str, folder: str, suffix: str, content: bytes) -> str:
    """Keep `content` under its hash, so that a changed file is a changed parameter; gives the key."""
    key = f"{folder}/{hashlib.sha256(content).hexdigest()[:16]}{suffix}"
    services("s3").put_object(Bucket=bucket, Key=key, Body=content)
    return key
