"""What a rule's target is given of an event."""

import json
import re
from typing import Any

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
