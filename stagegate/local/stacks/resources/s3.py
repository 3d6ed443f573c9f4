"""AWS::S3: buckets and their policies."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stagegate.local.service import AWSError
from stagegate.local.stacks.resources.kind import (
    Attributes,
    Context,
    Properties,
    ResourceType,
    ignoring,
    properties,
    renamed,
)

Apply = Callable[[Context, str, Any], Awaitable[Any]]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One of a bucket's settings, each of which has an operation of its own."""

    put: Apply
    remove: Callable[[Context, str], Awaitable[Any]]


async def _versioning(context: Context, bucket: str, value: Any) -> None:
    await context("s3", "PutBucketVersioning", Bucket=bucket, VersioningConfiguration=value)


async def _suspend_versioning(context: Context, bucket: str) -> None:
    await _versioning(context, bucket, {"Status": "Suspended"})


async def _encryption(context: Context, bucket: str, value: Any) -> None:
    rules = [
        {
            **{name: part for name, part in rule.items() if name != "ServerSideEncryptionByDefault"},
            "ApplyServerSideEncryptionByDefault": rule["ServerSideEncryptionByDefault"],
        }
        for rule in value["ServerSideEncryptionConfiguration"]
    ]
    await context(
        "s3", "PutBucketEncryption", Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": rules}
    )


async def _public_access(context: Context, bucket: str, value: Any) -> None:
    await context("s3", "PutPublicAccessBlock", Bucket=bucket, PublicAccessBlockConfiguration=value)


async def _notification(context: Context, bucket: str, value: Any) -> None:
    if others := sorted(value.keys() - {"EventBridgeConfiguration"}):
        raise AWSError("InvalidRequest", f"NotificationConfiguration: {others[0]} is not supported locally.")
    enabled = value.get("EventBridgeConfiguration", {}).get("EventBridgeEnabled", True)
    configuration: dict[str, Any] = {"EventBridgeConfiguration": {}} if value and enabled else {}
    await context(
        "s3", "PutBucketNotificationConfiguration", Bucket=bucket, NotificationConfiguration=configuration
    )


async def _ownership(context: Context, bucket: str, value: Any) -> None:
    await context("s3", "PutBucketOwnershipControls", Bucket=bucket, OwnershipControls=value)


async def _logging(context: Context, bucket: str, value: Any) -> None:
    target = renamed(value, DestinationBucketName="TargetBucket", LogFilePrefix="TargetPrefix")
    enabled = {"TargetBucket": bucket, "TargetPrefix": "", **target}
    await context("s3", "PutBucketLogging", Bucket=bucket, BucketLoggingStatus={"LoggingEnabled": enabled})


async def _no_logging(context: Context, bucket: str) -> None:
    await context("s3", "PutBucketLogging", Bucket=bucket, BucketLoggingStatus={})


async def _tags(context: Context, bucket: str, value: Any) -> None:
    await context("s3", "PutBucketTagging", Bucket=bucket, Tagging={"TagSet": value})


def _removal(operation: str) -> Callable[[Context, str], Awaitable[Any]]:
    async def remove(context: Context, bucket: str) -> None:
        await context("s3", operation, Bucket=bucket)

    return remove


async def _no_notification(context: Context, bucket: str) -> None:
    await _notification(context, bucket, {})


_SETTINGS: Mapping[str, Setting] = {
    "VersioningConfiguration": Setting(put=_versioning, remove=_suspend_versioning),
    "BucketEncryption": Setting(put=_encryption, remove=_removal("DeleteBucketEncryption")),
    "PublicAccessBlockConfiguration": Setting(put=_public_access, remove=_removal("DeletePublicAccessBlock")),
    "NotificationConfiguration": Setting(put=_notification, remove=_no_notification),
    "LoggingConfiguration": Setting(put=_logging, remove=_no_logging),
    "OwnershipControls": Setting(put=_ownership, remove=_removal("DeleteBucketOwnershipControls")),
    "Tags": Setting(put=_tags, remove=_removal("DeleteBucketTagging")),
}


def _with_tags(context: Context, wanted: Properties) -> Properties:
    tags = context.merged_tags(wanted)
    return {**wanted, "Tags": tags} if tags else wanted


async def _create_bucket(context: Context, wanted: Properties) -> Attributes:
    bucket = wanted["BucketName"]
    if await ignoring("404 NoSuchBucket NotFound", context("s3", "HeadBucket", Bucket=bucket)) is not None:
        raise AWSError("BucketAlreadyExists", f"{bucket} already exists", status=409)
    region = context.runtime.region
    location = {"LocationConstraint": region} if region != "us-east-1" else None
    await context("s3", "CreateBucket", Bucket=bucket, CreateBucketConfiguration=location)
    context.made(bucket)
    for name, value in _with_tags(context, wanted).items():
        if name in _SETTINGS:
            await _SETTINGS[name].put(context, bucket, value)
    return {
        "Arn": f"arn:aws:s3:::{bucket}",
        "DomainName": f"{bucket}.s3.amazonaws.com",
        "DualStackDomainName": f"{bucket}.s3.dualstack.{region}.amazonaws.com",
        "RegionalDomainName": f"{bucket}.s3.{region}.amazonaws.com",
        "WebsiteURL": f"http://{bucket}.s3-website-{region}.amazonaws.com",
    }


async def _update_bucket(context: Context, bucket: str, old: Properties, new: Properties) -> None:
    before, after = _with_tags(context, old), _with_tags(context, new)
    for name, setting in _SETTINGS.items():
        if before.get(name) == after.get(name):
            continue
        if name in after:
            await setting.put(context, bucket, after[name])
        else:
            await setting.remove(context, bucket)


async def _delete_bucket(context: Context, bucket: str | None, had: Properties) -> None:
    await ignoring("NoSuchBucket 404", context("s3", "DeleteBucket", Bucket=bucket or had["BucketName"]))


async def _put_policy(context: Context, wanted: Properties) -> Attributes:
    bucket = wanted["Bucket"]
    await context("s3", "PutBucketPolicy", Bucket=bucket, Policy=json.dumps(wanted["PolicyDocument"]))
    context.made(bucket)
    return {}


async def _update_policy(context: Context, bucket: str, old: Properties, new: Properties) -> None:
    await context("s3", "PutBucketPolicy", Bucket=bucket, Policy=json.dumps(new["PolicyDocument"]))


async def _delete_policy(context: Context, bucket: str | None, had: Properties) -> None:
    await ignoring(
        "NoSuchBucket NoSuchBucketPolicy", context("s3", "DeleteBucketPolicy", Bucket=had["Bucket"])
    )


TYPES = (
    ResourceType(
        name="AWS::S3::Bucket",
        supported=frozenset({"BucketName", *_SETTINGS}),
        create=_create_bucket,
        update=_update_bucket,
        delete=_delete_bucket,
        named_by="BucketName",
        lower_name=True,
    ),
    ResourceType(
        name="AWS::S3::BucketPolicy",
        supported=properties("Bucket PolicyDocument"),
        create=_put_policy,
        update=_update_policy,
        delete=_delete_policy,
    ),
)
