"""How the targets of rules and of schedules are called: those that have an ARN of their own."""

import hashlib
import json
import time
from datetime import datetime
from typing import Any

from stagegate.local.service import Aws, AWSError, Runtime

Document = dict[str, Any]


async def call(runtime: Runtime, caller: str, target: Document, text: str, *, name: str) -> None:
    """Hand the text to the target, by its role where it has one. Raises AWSError where the target refuses it.

    `caller`: the service that does so.

    `name` becomes an execution's: it makes a delivery that comes twice one execution.
    """
    arn: str = target["Arn"]
    aws = by_role(runtime, target, name=name).by(caller)
    service = arn.split(":")[2]
    if service == "states":
        try:
            await aws(
                "stepfunctions", "StartExecution", {"stateMachineArn": arn, "name": name, "input": text}
            )
        except AWSError as error:
            if error.code != "ExecutionAlreadyExists":
                raise
    elif service == "lambda":
        await aws(
            "lambda", "Invoke", {"FunctionName": arn, "InvocationType": "Event", "Payload": text.encode()}
        )
    elif service == "sns":
        await aws("sns", "Publish", {"TopicArn": arn, "Message": text})
    elif service == "sqs":
        account, queue = arn.split(":")[4:6]
        place = {"QueueName": queue, "QueueOwnerAWSAccountId": account}
        url = (await runtime.aws("sqs", "GetQueueUrl", place))["QueueUrl"]
        group = target.get("SqsParameters", {}).get("MessageGroupId")
        parameters = {"QueueUrl": url, "MessageBody": text, **({"MessageGroupId": group} if group else {})}
        await aws("sqs", "SendMessage", parameters)
    elif service == "codebuild":
        overrides = json.loads(text) if text.startswith("{") and '"detail-type"' not in text else {}
        await aws("codebuild", "StartBuild", {"projectName": arn.rsplit("/", 1)[-1], **overrides})
    elif service == "logs":
        await _log(aws, arn, text, stream=name)
    else:
        raise AWSError(
            "ValidationException", f"Targets of {service} are not supported by the local runtime: {arn}"
        )


async def _log(aws: Aws, arn: str, text: str, *, stream: str) -> None:
    """An event in a stream of its own in the log group.

    What a transformer makes is to be {"timestamp": …, "message": …} (EventBridge User Guide, "Input
    transformation", on CloudWatch Logs); the timestamp is in milliseconds, or as an event's time is written.
    """
    place = {"logGroupName": arn.split(":log-group:")[1].removesuffix(":*"), "logStreamName": stream}
    try:
        await aws("logs", "CreateLogStream", place)
    except AWSError as error:
        if error.code != "ResourceAlreadyExistsException":  # it comes once more
            raise
    await aws("logs", "PutLogEvents", {**place, "logEvents": [_log_event(text)]})


def _log_event(text: str) -> Document:
    try:
        made = json.loads(text)
    except ValueError:
        made = None
    if not isinstance(made, dict) or made.keys() != {"timestamp", "message"}:
        return {"timestamp": int(time.time() * 1000), "message": text}
    message = made["message"] if isinstance(made["message"], str) else json.dumps(made["message"])
    return {"timestamp": _milliseconds(made["timestamp"]), "message": message}


def _milliseconds(timestamp: Any) -> int:
    try:
        if isinstance(timestamp, str) and not timestamp.isdecimal():
            return int(datetime.fromisoformat(timestamp).timestamp() * 1000)
        return int(timestamp)
    except (ValueError, TypeError) as error:
        raise AWSError(
            "InvalidParameterException",
            f"timestamp is {timestamp!r}; it should be a number of milliseconds or an ISO 8601 time",
        ) from error


def by_role(runtime: Runtime, target: Document, *, name: str) -> Runtime:
    """As the target's role sees it."""
    return runtime.as_role(target.get("RoleArn"), session=hashlib.sha256(name.encode()).hexdigest()[:32])


def is_log_group(arn: str) -> bool:
    """Which is a target of rules, and not of schedules."""
    parts = arn.split(":")
    return len(parts) > 6 and parts[2] == "logs" and parts[5] == "log-group"


def is_supported(arn: str) -> bool:
    parts = arn.split(":")
    return len(parts) > 5 and parts[2] in ("states", "lambda", "sns", "sqs", "codebuild")
