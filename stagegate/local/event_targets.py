"""What a rule's target is given of an event, and how it is called."""

import json
import re
from typing import Any

from stagegate.local.service import Aws, AWSError

Document = dict[str, Any]

_VARIABLE = re.compile(r"<([\w.-]+)>")


def input_of(target: Document, event: Document, *, rule_arn: str, rule_name: str) -> str:
    """The text that the target gets: the event, or what Input, InputPath or InputTransformer make of it."""
    if "Input" in target:
        return str(target["Input"])
    if "InputPath" in target:
        return json.dumps(at_path(target["InputPath"], event))
    if "InputTransformer" in target:
        return transformed(target["InputTransformer"], event, rule_arn=rule_arn, rule_name=rule_name)
    return json.dumps(event)


def transformed(transformer: Document, event: Document, *, rule_arn: str, rule_name: str) -> str:
    """The template with its variables filled in (EventBridge User Guide, "Input transformation").

    Within quotation marks a variable is put in as text; outside of them as JSON.
    """
    values: Document = {
        name: at_path(path, event) for name, path in transformer.get("InputPathsMap", {}).items()
    }
    values |= {
        "aws.events.rule-arn": rule_arn,
        "aws.events.rule-name": rule_name,
        "aws.events.event.ingestion-time": event["time"],
        "aws.events.event": {name: value for name, value in event.items() if name != "detail"},
        "aws.events.event.json": event,
    }
    template, result, position, quoted = transformer["InputTemplate"], "", 0, False
    for match in _VARIABLE.finditer(template):
        before = template[position : match.start()]
        quoted ^= len(re.findall(r'(?<!\\)"', before)) % 2 == 1
        result += before + _filled(values, match, quoted=quoted)
        position = match.end()
    return str(result + template[position:])


def _filled(values: Document, match: "re.Match[str]", *, quoted: bool) -> str:
    name = match.group(1)
    if name not in values:
        return match.group()
    value = values[name]
    if not quoted:
        return "" if value is None else json.dumps(value)
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    return json.dumps(text)[1:-1]


def at_path(path: str, event: Any) -> Any:
    """The value at a path such as `$.detail.names[0]`; None where there is none."""
    value = event
    for key, index in re.findall(r"\.([^.\[\]]+)|\[(\d+)\]", path.removeprefix("$")):
        if key:
            value = value.get(key) if isinstance(value, dict) else None
        else:
            value = value[int(index)] if isinstance(value, list) and int(index) < len(value) else None
    return value


async def call(aws: Aws, target: Document, text: str, *, event_id: str, rule_name: str) -> None:
    """Hand the text to the target. Raises AWSError where the target refuses it."""
    arn: str = target["Arn"]
    service = arn.split(":")[2]
    if service == "states":
        # The name makes a delivery that comes twice one execution.
        name = f"{event_id}_{target['Id']}"[:80]
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
        url = (await aws("sqs", "GetQueueUrl", {"QueueName": queue, "QueueOwnerAWSAccountId": account}))[
            "QueueUrl"
        ]
        group = target.get("SqsParameters", {}).get("MessageGroupId")
        parameters = {"QueueUrl": url, "MessageBody": text, **({"MessageGroupId": group} if group else {})}
        await aws("sqs", "SendMessage", parameters)
    elif service == "codebuild":
        overrides = json.loads(text) if text.startswith("{") and '"detail-type"' not in text else {}
        await aws("codebuild", "StartBuild", {"projectName": arn.rsplit("/", 1)[-1], **overrides})
    else:
        raise AWSError(
            "ValidationException", f"Targets of {service} are not supported by the local runtime: {arn}"
        )


def is_supported(arn: str) -> bool:
    parts = arn.split(":")
    return len(parts) > 5 and parts[2] in ("states", "lambda", "sns", "sqs", "codebuild")
