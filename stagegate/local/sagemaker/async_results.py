"""What becomes of an asynchronous invocation: an object in S3, and a message to a topic.

The message: https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference-check-predictions.html
"""

import base64
import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime

from stagegate.local import s3
from stagegate.local.sagemaker.resources import Document
from stagegate.local.service import Aws, AWSError, Runtime

log = logging.getLogger(__name__)

_MOST_IN_MESSAGE = 128 * 1024  # bytes of an answer that a message takes along


@dataclass(frozen=True, kw_only=True)
class Result:
    """What the model answered."""

    content_type: str
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why there is no result, and what the model answered instead where it did."""

    reason: str
    answer: Result | None = None

    def as_written(self) -> Result:
        """As it is put into S3."""
        return self.answer or Result(content_type="text/plain; charset=utf-8", body=self.reason.encode())


async def upload(aws: Aws, request: Document, location: str | None, result: Result) -> None:
    """Put it where the endpoint's config wants it, if it wants it anywhere."""
    if location is None:
        return
    bucket, key = s3.split_uri(location)
    key_id = request["OutputConfig"].get("KmsKeyId")
    encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key_id} if key_id else {}
    await aws(
        "s3",
        "PutObject",
        {
            "Bucket": bucket,
            "Key": key,
            "Body": result.body,
            "ContentType": result.content_type,
            **encryption,
        },
    )


async def publish(runtime: Runtime, request: Document, result: Result | Failure) -> None:
    """Tell the topic that the endpoint's config names for this."""
    config = request["OutputConfig"].get("NotificationConfig", {})
    kind = "ERROR_NOTIFICATION_TOPIC" if isinstance(result, Failure) else "SUCCESS_NOTIFICATION_TOPIC"
    topic = config.get("ErrorTopic" if isinstance(result, Failure) else "SuccessTopic")
    if not topic:
        return
    message = notification(
        request,
        result,
        region=runtime.region,
        with_response=kind in config.get("IncludeInferenceResponseIn", ()),
    )
    try:
        await runtime.aws(
            "sns", "Publish", {"TopicArn": topic, "Message": json.dumps(message, separators=(",", ":"))}
        )
    except AWSError as error:  # nobody waits for an answer who could be told
        log.warning("%s: no notification to %s: %s", request["EndpointName"], topic, error)


def notification(
    request: Document, result: Result | Failure, *, region: str, with_response: bool = False
) -> Document:
    """The message, in the order in which AWS writes its members."""
    answer = result.answer if isinstance(result, Failure) else result
    message = {
        "awsRegion": region,
        "eventTime": _time(datetime.now(UTC)),
        "receivedTime": _time(request["ReceivedTime"]),
        "invocationStatus": "Failed" if isinstance(result, Failure) else "Completed",
        **({"failureReason": result.reason} if isinstance(result, Failure) else {}),
        "requestParameters": _given(
            accept=request["Accept"],
            contentType=request["ContentType"],
            customAttributes=request["CustomAttributes"],
            endpointName=request["EndpointName"],
            inputLocation=request["InputLocation"],
        ),
    }
    if isinstance(result, Result):
        message["responseParameters"] = _given(
            contentType=result.content_type, outputLocation=request["OutputLocation"]
        )
    if with_response and answer is not None and len(answer.body) <= _MOST_IN_MESSAGE:
        content = base64.b64encode(answer.body).decode()
        message["responseBody"] = {"content": content, "encoding": "BASE64"}
    return {
        **message,
        "inferenceId": request["InferenceId"],
        "eventVersion": "1.0",
        "eventSource": "aws:sagemaker",
        "eventName": "InferenceResult",
    }


def _given(**members: str | None) -> dict[str, str]:
    return {name: value for name, value in members.items() if value is not None}


def _time(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}Z"
