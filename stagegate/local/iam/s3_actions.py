"""S3's actions, which are not called what its operations are, and its resources."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from stagegate.local.iam.resources import Members, Request

_OBJECT = {
    "AbortMultipartUpload": "AbortMultipartUpload",
    "CompleteMultipartUpload": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "DeleteObject": "DeleteObject",
    "DeleteObjectTagging": "DeleteObjectTagging",
    "GetObject": "GetObject",
    "GetObjectAcl": "GetObjectAcl",
    "GetObjectAttributes": "GetObject",
    "GetObjectLegalHold": "GetObjectLegalHold",
    "GetObjectRetention": "GetObjectRetention",
    "GetObjectTagging": "GetObjectTagging",
    "HeadObject": "GetObject",
    "ListParts": "ListMultipartUploadParts",
    "PutObject": "PutObject",
    "PutObjectAcl": "PutObjectAcl",
    "PutObjectLegalHold": "PutObjectLegalHold",
    "PutObjectRetention": "PutObjectRetention",
    "PutObjectTagging": "PutObjectTagging",
    "RestoreObject": "RestoreObject",
    "SelectObjectContent": "GetObject",
    "UploadPart": "PutObject",
}
_VERSIONED = {
    "DeleteObject": "DeleteObjectVersion",
    "DeleteObjectTagging": "DeleteObjectVersionTagging",
    "GetObject": "GetObjectVersion",
    "GetObjectAcl": "GetObjectVersionAcl",
    "GetObjectTagging": "GetObjectVersionTagging",
    "PutObjectAcl": "PutObjectVersionAcl",
    "PutObjectTagging": "PutObjectVersionTagging",
}
"""The action where the request names a version."""

_BUCKET = {
    "DeleteBucketCors": "PutBucketCORS",
    "DeleteBucketEncryption": "PutEncryptionConfiguration",
    "DeleteBucketLifecycle": "PutLifecycleConfiguration",
    "DeleteBucketOwnershipControls": "PutBucketOwnershipControls",
    "DeleteBucketReplication": "PutReplicationConfiguration",
    "DeleteBucketTagging": "PutBucketTagging",
    "DeletePublicAccessBlock": "PutBucketPublicAccessBlock",
    "GetBucketAccelerateConfiguration": "GetAccelerateConfiguration",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "GetBucketNotificationConfiguration": "GetBucketNotification",
    "GetBucketReplication": "GetReplicationConfiguration",
    "GetObjectLockConfiguration": "GetBucketObjectLockConfiguration",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "HeadBucket": "ListBucket",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "ListObjectVersions": "ListBucketVersions",
    "PutBucketAccelerateConfiguration": "PutAccelerateConfiguration",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "PutBucketNotificationConfiguration": "PutBucketNotification",
    "PutBucketReplication": "PutReplicationConfiguration",
    "PutObjectLockConfiguration": "PutBucketObjectLockConfiguration",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
}
"""Those of buckets that are called otherwise."""


def requests_of_s3(operation: str, members: Members) -> list[Request]:
    bucket, key = members.get("Bucket", ""), members.get("Key", "")
    if operation == "ListBuckets":
        return [_request("ListAllMyBuckets", "*")]
    if operation in ("CopyObject", "UploadPartCopy"):
        source, version = _source(members["CopySource"])
        read = "GetObjectVersion" if version else "GetObject"
        return [_request(read, f"arn:aws:s3:::{source}"), _object("PutObject", bucket, key)]
    if operation == "DeleteObjects":
        entries = members.get("Delete", {}).get("Objects", ())
        return [
            _object("DeleteObjectVersion" if entry.get("VersionId") else "DeleteObject", bucket, entry["Key"])
            for entry in entries
        ]
    if operation in _OBJECT:
        action = _OBJECT[operation]
        if members.get("VersionId"):
            action = _VERSIONED.get(action, action)
        tagging = [_object("PutObjectTagging", bucket, key)] if members.get("Tagging") else []
        return [_object(action, bucket, key), *(tagging if operation != "PutObjectTagging" else [])]
    listing = {
        f"s3:{name}": [str(members[member])]
        for name, member in (("prefix", "Prefix"), ("delimiter", "Delimiter"), ("max-keys", "MaxKeys"))
        if member in members
    }
    return [_request(_BUCKET.get(operation, operation), f"arn:aws:s3:::{bucket}", listing)]


def listing_of(members: Members) -> Request:
    """What says whether a missing object is told from one that may not be read."""
    return _request("ListBucket", f"arn:aws:s3:::{members.get('Bucket', '')}")


def _object(action: str, bucket: str, key: str) -> Request:
    return _request(action, f"arn:aws:s3:::{bucket}/{key}")


def _request(action: str, resource: str, context: Mapping[str, Sequence[str]] | None = None) -> Request:
    return Request(action=f"s3:{action}", resource=resource, context=context or {})


def _source(given: Any) -> tuple[str, bool]:
    """Bucket and key of a CopySource, and whether it names a version."""
    if isinstance(given, dict):
        return f"{given['Bucket']}/{given['Key']}", bool(given.get("VersionId"))
    path, _, version = str(given).partition("?versionId=")
    return unquote(path).lstrip("/"), bool(version)
