"""The events of objects in S3, for EventBridge, where a bucket sends them ("Amazon S3 event notifications and
Amazon EventBridge", event message structure). moto would send them to an EventBridge of its own.

Read from moto right after it was changed, in its thread.
"""

from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

from stagegate.local.messages import HttpRequest, HttpResponse
from stagegate.local.moto_moment import Moment
from stagegate.local.service import Announcement

_CREATES = ("PutObject", "CopyObject", "CompleteMultipartUpload")
_DELETES = ("DeleteObject", "DeleteObjects")
Document = dict[str, Any]


def object_events(
    operation: str, request: HttpRequest, response: HttpResponse, moment: Moment, *, account_id: str
) -> list[Announcement]:
    """Of a request that moto has carried out: an event for each object that it made or deleted."""
    if operation not in _CREATES + _DELETES:
        return []
    name, _, key = unquote(request.path).lstrip("/").partition("/")
    bucket = _bucket(account_id, name)
    if bucket is None or not sends_events(bucket):
        return []
    if operation in _CREATES:
        made = bucket.keys[key]
        known = {"key": key, "size": made.size, **_identity(made)}
        details: list[tuple[str, Document, Document]] = [("Object Created", known, {})]
    else:
        details = [
            ("Object Deleted", {"key": deleted} | of_object, {"deletion-type": kind})
            for deleted, of_object, kind in _deleted(operation, key, response)
        ]
    return [
        Announcement(
            source="aws.s3",
            detail_type=detail_type,
            resources=(f"arn:aws:s3:::{name}",),
            detail={
                "version": "0",
                "bucket": {"name": name},
                "object": of_object | {"sequencer": f"{int(moment.time * 1e6):018X}"},
                "request-id": response.headers.get("x-amz-request-id", ""),
                "requester": account_id,
                "source-ip-address": "127.0.0.1",
                "reason": operation,
                **more,
            },
        )
        for detail_type, of_object, more in details
    ]


def sends_events(bucket: Any) -> bool:
    """Whether EventBridge is enabled on moto's bucket."""
    configuration = bucket.notification_configuration
    return configuration is not None and configuration.event_bridge is not None


def bucket_of(path: str, *, account_id: str) -> Any:
    """moto's bucket that a request's path begins with; None where there is none."""
    return _bucket(account_id, unquote(path).lstrip("/").partition("/")[0])


def _bucket(account_id: str, name: str) -> Any:
    from moto.s3.models import s3_backends

    return s3_backends[account_id]["aws"].buckets.get(name)


def _identity(made: Any) -> Document:
    version = made.version_id
    return {"etag": made.etag.strip('"')} | ({"version-id": version} if version not in (None, "null") else {})


def _deleted(operation: str, key: str, response: HttpResponse) -> list[tuple[str, Document, str]]:
    """Each key, the version that is gone or the marker that was made, and which of the two it is."""
    if operation == "DeleteObject":
        is_marker = response.headers.get("x-amz-delete-marker") == "true"
        return [(key, _version(response.headers.get("x-amz-version-id")), _kind(is_marker))]
    found = []
    for element in ElementTree.fromstring(response.body):  # noqa: S314 - moto has written it
        if element.tag.rpartition("}")[2] == "Deleted":
            texts = {child.tag.rpartition("}")[2]: child.text or "" for child in element}
            is_marker = texts.get("DeleteMarker") == "true"
            version = texts.get("DeleteMarkerVersionId") if is_marker else texts.get("VersionId")
            found.append((texts["Key"], _version(version), _kind(is_marker)))
    return found


def _version(version: str | None) -> Document:
    return {"version-id": version} if version and version != "null" else {}


def _kind(is_marker: bool) -> str:
    return "Delete Marker Created" if is_marker else "Permanently Deleted"
