"""Bring up the platform: the assets bucket, the code in it, and the stack of deploy/platform.yaml."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from stagegate.aws import Services, error_code
from stagegate.bundle import function_package, is_there, read_bundle, upload_bundle
from stagegate.config import FILE
from stagegate.definitions import within_account
from stagegate.errors import NotFound, ReleaseFailed
from stagegate.git import current_commit
from stagegate.platform_parameters import (
    STATE_MACHINES,
    chosen_parameters,
    data_parameters,
    definition_key,
    has_bucket,
    stack_name,
    stage_accounts,
)
from stagegate.stacks import (
    ChangeSet,
    StackEvent,
    delete_stack,
    execute,
    find_stack,
    follow,
    make_change_set,
)

LOCAL_SENDER = "releases@stagegate.example.com"


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
    ci_arn: str
    """"" where the platform has no repository."""
    clone_url: str

    @property
    def state_machines(self) -> tuple[str, ...]:
        return tuple(arn for arn in (self.ci_arn, self.model_build_arn, self.model_deploy_arn) if arn)


def read_platform(services: Services) -> Platform:
    """Raises NotFound while the platform has not been brought up."""
    name = stack_name(services.config)
    stack = find_stack(services, name)
    if stack is None:
        raise NotFound(f"There is no stack '{name}' yet: bring the platform up with `stagegate up`.")
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
        ci_arn=outputs.get("CiArn", ""),
        clone_url=outputs.get("RepositoryCloneUrl", ""),
    )


def assets_bucket(services: Services) -> str:
    """The bucket for code and templates. It is made before the stack, since the stack is made from it."""
    bucket = assets_bucket_name(services)
    if not has_bucket(services, bucket):
        if "AssetsBucket" in services.config.platform:
            raise NotFound(f"{FILE}: [platform] AssetsBucket is '{bucket}', and there is no such bucket.")
        _make_assets_bucket(services, bucket)
    return bucket


def assets_bucket_name(services: Services) -> str:
    config = services.config
    default = f"{config.project}-assets-{services.account()}-{config.region}"
    return config.platform.get("AssetsBucket", default)


def _make_assets_bucket(services: Services, bucket: str) -> None:
    """Versioned, encrypted, reached over TLS only, and never public."""
    s3, region = services("s3"), services.config.region
    # us-east-1 is the one region that must not be named here
    location = {} if region == "us-east-1" else {"LocationConstraint": region}
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
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    if key := services.config.platform.get("KmsKeyArn"):  # else S3 encrypts with its own
        by_key = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
        rule = {"ApplyServerSideEncryptionByDefault": by_key, "BucketKeyEnabled": True}
        s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    _put_assets_policy(services, bucket)


def _put_assets_policy(services: Services, bucket: str) -> None:
    """Over TLS only; and the accounts of stages read the code, by the roles of deploy/account.yaml."""
    config, arn = services.config, f"arn:{services.partition}:s3:::{bucket}"
    over_tls_only = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn, f"{arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    statements = [over_tls_only]
    if accounts := stage_accounts(config):
        roles = f"arn:{services.partition}:iam::*:role/{config.project}-*"
        statements.append(
            {
                "Sid": "StagesRead",
                "Effect": "Allow",
                "Principal": {"AWS": [f"arn:{services.partition}:iam::{it}:root" for it in accounts]},
                "Action": ["s3:GetObject", "s3:GetObjectVersion"],
                "Resource": f"{arn}/code/*",
                "Condition": {"ArnLike": {"aws:PrincipalArn": roles}},
            }
        )
    policy = {"Version": "2012-10-17", "Statement": statements}
    services("s3").put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))


def upload_code(services: Services) -> str:
    """The project's code as it is now, in the assets bucket; gives its URI."""
    return upload_bundle(services, read_bundle(services.config.root), assets_bucket(services))


def plan_platform(services: Services) -> ChangeSet | None:
    """What it takes to bring the platform up, or up to date; None where there is nothing to do."""
    config = services.config
    template = (config.root / "deploy" / "platform.yaml").read_bytes()
    chosen_parameters(config, template.decode())  # refused before anything is made
    bucket = assets_bucket(services)
    if "AssetsBucket" not in config.platform:
        _put_assets_policy(services, bucket)
    parameters = release_parameters(services, bucket, commit=current_commit(config.root)) | {
        "Project": config.project,
        "AssetsBucket": bucket,
        "FourEyes": str(config.needs_four_eyes).lower(),
        "SenderEmail": verified_sender(services),
        "Repository": config.project,
        **data_parameters(services),
    }
    if config.is_local:  # nobody is throttled here, and nobody waits for a version to prove itself
        parameters |= {"PollSeconds": "1", "StateMachineDeployment": "ALL_AT_ONCE"}
    return make_change_set(
        services,
        stack_name(config),
        # From S3, since CloudFormation takes no more than 51,200 bytes in a request.
        template_url=services.object_url(bucket, keep(services, bucket, "templates", ".yaml", template)),
        parameters=parameters,
    )


def release_parameters(services: Services, bucket: str, *, commit: str) -> dict[str, str]:
    """The platform's parameters that are a commit's: its files, kept in the bucket, and its settings."""
    config = services.config
    chosen = chosen_parameters(config, (config.root / "deploy" / "platform.yaml").read_text())
    parameters = {
        **chosen,
        "Commit": commit,
        "CodeUri": upload_bundle(services, read_bundle(config.root), bucket),
        "FunctionsKey": keep(services, bucket, "functions", ".zip", function_package(config.root)),
        "Approvers": ",".join(config.approvers),
        "TopicSubscriber": config.approvers[0],
        "RequiredApprovals": str(config.required_approvals),
        "RemoveStaging": str(config.remove_staging).lower(),
        "WebhookUrl": config.webhook_url,
        "AccuracyThreshold": str(config.accuracy_threshold),
        "HyperParameters": json.dumps(dict(config.hyperparameters)),
        "Preprocess": json.dumps(dict(config.preprocess)),
    }
    for machine in STATE_MACHINES:
        written = (config.root / "statemachines" / f"{machine}.asl.json").read_text()
        definition = within_account(written, chosen).encode()
        parameters[definition_key(machine)] = keep(services, bucket, "definitions", ".asl.json", definition)
    return parameters


def deploy_platform(services: Services) -> Iterator[StackEvent]:
    """Create or update the platform's stack, without a question; gives CloudFormation's events as they come.

    Raises ReleaseFailed where the stack ends in anything but success.
    """
    if change_set := plan_platform(services):
        yield from execute(services, change_set)


def settle(services: Services) -> Iterator[StackEvent]:
    """Bring the platform's stack to where it can be changed: wait for what is under way, and take away what
    is left of a creation that failed.

    Raises ReleaseFailed where somebody has to look at it first.
    """
    name = stack_name(services.config)
    if (stack := find_stack(services, name)) and _is_under_way(stack):
        yield from follow(services, stack["StackId"])
        stack = find_stack(services, name)
    if stack is None:
        return
    status, stack_id = stack["StackStatus"], stack["StackId"]
    if status == "ROLLBACK_COMPLETE":
        yield from delete_stack(services, stack_id)
    elif status == "UPDATE_ROLLBACK_FAILED":
        raise ReleaseFailed(
            f"The stack '{name}' is UPDATE_ROLLBACK_FAILED: see in its events what kept it from going back, "
            f"then `aws cloudformation continue-update-rollback --stack-name {name}`."
        )
    elif status in ("ROLLBACK_FAILED", "DELETE_FAILED"):
        raise ReleaseFailed(f"The stack '{name}' is {status}: finish that with `stagegate destroy`.")


def _is_under_way(stack: dict[str, Any]) -> bool:
    status: str = stack["StackStatus"]
    return status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS"


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


def keep(services: Services, bucket: str, folder: str, suffix: str, content: bytes) -> str:
    """Keep `content` under its hash, so that a changed file is a changed parameter; gives the key."""
    key = f"{folder}/{hashlib.sha256(content).hexdigest()[:16]}{suffix}"
    if not is_there(services, bucket, key):
        services("s3").put_object(Bucket=bucket, Key=key, Body=content)
    return key
