"""Where moto's answers are not AWS's, and what is put right: by operation, before moto is asked and after."""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from urllib.parse import parse_qsl
from xml.etree import ElementTree

from stagegate.local.apis import Target
from stagegate.local.messages import HttpRequest, HttpResponse
from stagegate.local.s3_events import bucket_of, sends_events
from stagegate.local.service import AWSError

_ENCRYPTION = "x-amz-server-side-encryption"
_OF_OBJECTS = (
    "CompleteMultipartUpload", "CopyObject", "CreateMultipartUpload", "GetObject", "HeadObject", "PutObject",
    "UploadPart",
)  # fmt: skip
_WITH_CAPACITY = (
    "BatchGetItem", "BatchWriteItem", "DeleteItem", "GetItem", "PutItem", "Query", "Scan",
    "TransactGetItems", "TransactWriteItems", "UpdateItem",
)  # fmt: skip


def check_request(target: Target, request: HttpRequest) -> None:
    """Refuse what AWS refuses and moto would not."""
    if check := _CHECKS.get((target.service, target.operation)):
        check(request)


def corrected(target: Target, request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """moto's answer as AWS would give it."""
    correct = _CORRECTIONS.get((target.service, target.operation))
    return response if correct is None else correct(request, response)


def _check_secret_name(request: HttpRequest) -> None:
    if not re.fullmatch(r"[\w/+=.@!-]*", json.loads(request.body).get("Name", ""), re.ASCII):
        raise AWSError(
            "ValidationException",
            "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: "
            "-/_+=.@!",
        )


def _check_message_body(request: HttpRequest) -> None:
    if request.body.startswith(b"{") and json.loads(request.body).get("MessageBody") == "":
        raise AWSError("MissingParameter", "The request must contain the parameter MessageBody.")


def _check_notification(request: HttpRequest) -> None:
    members = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
    if members.get("Message") == "":
        raise AWSError("InvalidParameter", "Invalid parameter: Empty message")
    if members.get("TopicArn", "").endswith(".fifo") and "MessageGroupId" not in members:
        reason = "Invalid parameter: The MessageGroupId parameter is required for FIFO topics"
        raise AWSError("InvalidParameter", reason)


def _with_encryption(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """S3 encrypts every object, and says so."""
    if response.status not in (200, 206):
        return response
    added = {_ENCRYPTION: "AES256"}
    if any(name.startswith("x-amz-checksum-") for name in response.headers) and request.method == "PUT":
        added["x-amz-checksum-type"] = "FULL_OBJECT"
    return replace(response, headers={**added, **response.headers})


def _without_capacity(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Only who asks for it is told what capacity a request has used."""
    if b'"ConsumedCapacity"' not in response.body or response.status != 200:
        return response
    if json.loads(request.body).get("ReturnConsumedCapacity", "NONE") != "NONE":
        return response
    answer = json.loads(response.body)
    answer.pop("ConsumedCapacity", None)
    body = json.dumps(answer).encode()
    headers = {name: value for name, value in response.headers.items() if name not in _OF_BODY}
    return replace(response, headers=headers, body=body)


_OF_BODY = ("content-length", "x-amz-crc32")


def _about_topic(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    if response.status != 404 or b"%3Aendpoint%2F" in request.body:
        return response
    body = response.body.replace(b"Endpoint does not exist", b"Topic does not exist")
    headers = {name: value for name, value in response.headers.items() if name not in _OF_BODY}
    return replace(response, headers=headers, body=body)


def _with_event_bridge(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """moto keeps that a bucket sends events to EventBridge, and does not say so."""
    bucket = bucket_of(request.path, account_id=os.environ["MOTO_ACCOUNT_ID"])
    if response.status != 200 or bucket is None or not sends_events(bucket):
        return response
    namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
    ElementTree.register_namespace("", namespace)
    root = (
        ElementTree.fromstring(response.body)  # noqa: S314 - moto has written it
        if response.body.strip()
        else ElementTree.Element(f"{{{namespace}}}NotificationConfiguration")
    )
    ElementTree.SubElement(root, f"{{{namespace}}}EventBridgeConfiguration")
    headers = {name: value for name, value in response.headers.items() if name not in _OF_BODY}
    return replace(response, headers=headers, body=ElementTree.tostring(root, xml_declaration=True))


_CHECKS: Mapping[tuple[str, str], Callable[[HttpRequest], None]] = {
    ("secretsmanager", "CreateSecret"): _check_secret_name,
    ("sns", "Publish"): _check_notification,
    ("sqs", "SendMessage"): _check_message_body,
}
_CORRECTIONS: Mapping[tuple[str, str], Callable[[HttpRequest, HttpResponse], HttpResponse]] = {
    **{("s3", operation): _with_encryption for operation in _OF_OBJECTS},
    ("s3", "GetBucketNotificationConfiguration"): _with_event_bridge,
    **{("dynamodb", operation): _without_capacity for operation in _WITH_CAPACITY},
    ("sns", "Publish"): _about_topic,
    ("sns", "PublishBatch"): _about_topic,
}
