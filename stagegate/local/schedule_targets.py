"""What a schedule calls: a target with an ARN of its own, or any operation of a service ("universal")."""

import json
import re
from datetime import UTC, datetime
from typing import Any

from stagegate.local import apis, targets
from stagegate.local.service import Aws, AWSError, Runtime

_UNIVERSAL = re.compile(r"arn:aws[a-z-]*:scheduler:::aws-sdk:([A-Za-z0-9]+):([A-Za-z0-9]+)")
_CONTEXT = re.compile(r"<aws\.scheduler\.(schedule-arn|scheduled-time|execution-id|attempt-number)>")
_EXAMPLES = {"attempt-number": "1"}  # the others are texts, and stand in quotation marks
_SDK_NAMES = {"sfn": "stepfunctions", "eventbridge": "events", "cloudwatchlogs": "logs"}
_UNSUPPORTED = (
    "EcsParameters",
    "EventBridgePutEventsV2Parameters",
    "EventBridgePutRawEventsParameters",
    "KinesisParameters",
    "SageMakerPipelineParameters",
)
_READING = re.compile(
    "(get|describe|list|poll|receive|search|scan|query|select|read|lookup|discover|validate|batchGet|"
    "batchDescribe|batchRead|transactGet|adminGet|adminList|testMigration|retrieve|testConnection|"
    "translateDocument|isAuthorized|invokeModel).*"
)
"""Beginnings of operations that only read, which the Scheduler does not call (User Guide, "Using universal
targets")."""

Document = dict[str, Any]


def check(target: Document) -> None:
    """Refuse a target that cannot be called, by name."""
    arn: str = target["Arn"]
    for member in _UNSUPPORTED:
        if member in target:
            raise _invalid(f"Target.{member} is not supported by the local runtime.")
    kind = "universal" if _UNIVERSAL.fullmatch(arn) else (arn.split(":") + [""] * 3)[2]
    if kind == "universal":
        _universal(arn)
    elif not targets.is_supported(arn) and not _is_bus(arn):
        raise _invalid(
            f"Target.Arn {arn} is not supported by the local runtime; state machines, functions, topics, "
            "queues, event buses and build projects are, and arn:aws:scheduler:::aws-sdk:SERVICE:OPERATION"
        )
    for member, of in (("SqsParameters", "sqs"), ("EventBridgeParameters", "events")):
        if member in target and kind != of:
            raise _invalid(f"Target.{member} does not go with Target.Arn {arn}.")
    if kind == "events" and "EventBridgeParameters" not in target:
        raise _invalid("EventBridgeParameters must be provided for a target that is an event bus.")
    if kind == "sqs" and arn.endswith(".fifo") and not target.get("SqsParameters", {}).get("MessageGroupId"):
        raise _invalid("SqsParameters.MessageGroupId must be provided for a target that is a FIFO queue.")
    if kind not in ("sqs", "sns") and "Input" in target:
        _check_input(target["Input"], is_object=kind in ("universal", "events", "codebuild"))


def text(delivery: Document, *, attempt: int) -> str:
    """What the target gets: the schedule's input with its attributes of the context, or a notification."""
    if "Input" not in delivery["target"]:
        return json.dumps(_notification(delivery))
    values = {
        "schedule-arn": delivery["schedule_arn"],
        "scheduled-time": _iso(delivery["due"]),
        "execution-id": delivery["execution_id"],
        "attempt-number": str(attempt + 1),
    }
    return _CONTEXT.sub(lambda found: values[found.group(1)], delivery["target"]["Input"])


def attributes(delivery: Document) -> dict[str, str]:
    """What the dead-letter queue is told of a delivery."""
    return {
        "SCHEDULE_ARN": delivery["schedule_arn"],
        "SCHEDULED_TIME": _iso(delivery["due"]),
        "EXECUTION_ID": delivery["execution_id"],
        "IS_PAYLOAD_TRUNCATED": "false",
    }


async def call(runtime: Runtime, delivery: Document, *, attempt: int) -> None:
    """Raises AWSError where the target refuses it."""
    target, given = delivery["target"], text(delivery, attempt=attempt)
    arn: str = target["Arn"]
    aws = targets.by_role(runtime, target, name=delivery["execution_id"]).by("scheduler")
    if _UNIVERSAL.fullmatch(arn):
        service, operation = _universal(arn)
        shape = apis.operation_model(service, operation).input_shape
        members = json.loads(given) if "Input" in target else {}
        await aws(service, operation, _members(shape, members) if shape else {})
    elif _is_bus(arn):
        await _put_event(aws, target, given, schedule_arn=delivery["schedule_arn"])
    else:
        # One due time is one execution of a state machine, however often it is delivered.
        name = f"{delivery['schedule_name'][:63]}_{delivery['execution_id']}"
        await targets.call(runtime, "scheduler", target, given, name=name)


async def _put_event(aws: Aws, target: Document, detail: str, *, schedule_arn: str) -> None:
    parameters = target["EventBridgeParameters"]
    entry = {
        "Source": parameters["Source"],
        "DetailType": parameters["DetailType"],
        "Detail": detail,
        "Resources": [schedule_arn],
        "EventBusName": target["Arn"].rsplit("/", 1)[-1],
    }
    answer = await aws("events", "PutEvents", {"Entries": [entry]})
    if failed := [it for it in answer["Entries"] if "ErrorCode" in it]:
        raise AWSError(failed[0]["ErrorCode"], failed[0]["ErrorMessage"])


def _universal(arn: str) -> tuple[str, str]:
    """The service and the operation as botocore names them; ValidationException for what is not called."""
    match = _UNIVERSAL.fullmatch(arn)
    if match is None:
        raise _invalid(f"{arn} is no universal target.")
    service, action = match.groups()
    names = {name.replace("-", ""): name for name in apis.APIS if name not in _SDK_NAMES.values()}
    name = (names | _SDK_NAMES).get(service.lower())
    if name is None:
        raise _invalid(f"Target.Arn {arn}: the service {service} is not supported by the local runtime.")
    operations = {known.lower(): known for known in apis.model(name).operation_names}
    if action.lower() not in operations:
        raise _invalid(f"Target.Arn {arn}: {action} is no operation of {service}.")
    operation = operations[action.lower()]
    if _READING.fullmatch(operation[0].lower() + operation[1:]):
        raise _invalid(f"Target.Arn {arn}: {action} only reads, which a schedule does not call.")
    return name, operation


def _members(shape: Any, value: Any) -> Any:
    """JSON as the operation wants it: names begin with its letter, bytes and times are made of texts."""
    if shape.type_name == "structure" and isinstance(value, dict):
        names = {name[:1].lower() + name[1:]: name for name in shape.members}
        found = {names.get(name[:1].lower() + name[1:], name): part for name, part in value.items()}
        return {
            name: _members(shape.members[name], part) if name in shape.members else part
            for name, part in found.items()
        }
    if shape.type_name == "list" and isinstance(value, list):
        return [_members(shape.member, part) for part in value]
    if shape.type_name == "map" and isinstance(value, dict):
        return {name: _members(shape.value, part) for name, part in value.items()}
    if shape.type_name == "blob":
        return value.encode() if isinstance(value, str) else json.dumps(value).encode()
    if shape.type_name == "timestamp":
        return _time(value)
    return value


def _time(value: Any) -> Any:
    try:
        if isinstance(value, str):
            return datetime.fromisoformat(value)
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, TypeError, OverflowError):
        return value  # the operation's own check refuses it by name


def _check_input(given: str, *, is_object: bool) -> None:
    try:
        value = json.loads(_CONTEXT.sub(lambda found: _EXAMPLES.get(found.group(1), "x"), given))
    except ValueError as error:
        raise _invalid(f"Target.Input is no JSON, which this target wants: {error}") from error
    if is_object and not isinstance(value, dict):
        raise _invalid("Target.Input should be a JSON object for this target.")


def _notification(delivery: Document) -> Document:
    """What the Scheduler sends where a schedule has no input."""
    region, account = delivery["schedule_arn"].split(":")[3:5]
    return {
        "version": "0",
        "id": delivery["execution_id"],
        "detail-type": "Scheduled Event",
        "source": "aws.scheduler",
        "account": account,
        "time": _iso(delivery["due"]),
        "region": region,
        "resources": [delivery["schedule_arn"]],
        "detail": "{}",
    }


def _is_bus(arn: str) -> bool:
    parts = arn.split(":")
    return len(parts) == 6 and parts[2] == "events" and parts[5].startswith("event-bus/")


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _invalid(message: str) -> AWSError:
    return AWSError("ValidationException", message)
