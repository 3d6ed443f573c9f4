"""What a Task calls, and with what: its resource, parameters and credentials; what it retries and catches."""

from collections.abc import Iterator, Mapping
from typing import Any

from stagegate.local import apis
from stagegate.local.service import Json
from stagegate.local.states.conversion import unknown_fields
from stagegate.local.states.integrations import (
    SYNC,
    SYNC_2,
    TASK_TOKEN,
    Resource,
    UnknownResource,
    parse_resource,
)
from stagegate.local.states.validation.diagnostics import Diagnostic, schema
from stagegate.local.states.validation.shapes import Place

_ALL = "States.ALL"
_NOT_IN_EXPRESS = ((SYNC, SYNC), (SYNC_2, SYNC), (TASK_TOKEN, TASK_TOKEN))


def check_task(fields: Mapping[str, Any], place: Place, *, is_express: bool) -> Iterator[Diagnostic]:
    resource = fields.get("Resource")
    if isinstance(resource, str):
        yield from _resource(resource, fields, place, is_express=is_express)
    if isinstance(credentials := fields.get("Credentials"), dict):
        yield from _credentials(credentials, place.within("Credentials"), resource)
    yield from _heartbeat(fields, place)


def _resource(
    resource: str, fields: Mapping[str, Any], place: Place, *, is_express: bool
) -> Iterator[Diagnostic]:
    at = f"{place.at}/Resource"
    if not resource.startswith("arn:"):
        yield schema("Value is not a valid resource ARN", at)
        return
    if is_express and (problem := _express_problem(resource)):
        yield schema(f"Express state machine does not support {problem}", at)
        return
    try:
        parsed = parse_resource(resource)
    except UnknownResource:
        message = (
            f"The resource provided {resource} is not recognized. The value is not a valid resource ARN, or "
            "the resource is not available in this region."
        )
        yield schema(message, at)
        return
    if resource.startswith("arn:aws:states:::"):
        yield from _payload(parsed, fields, place)


def _express_problem(resource: str) -> str | None:
    if _is_activity(resource):
        return "Activity ARN"
    for pattern, text in _NOT_IN_EXPRESS:
        if resource.endswith(pattern):
            return f"'{text}' service integration "
    return None


def _is_activity(resource: Json) -> bool:
    return isinstance(resource, str) and ":activity:" in resource


def _payload(resource: Resource, fields: Mapping[str, Any], place: Place) -> Iterator[Diagnostic]:
    name = "Arguments" if place.is_jsonata else "Parameters"
    if name not in fields:
        yield schema(f"{name} field is required for resource ARN: {resource.arn}", f"{place.at}/Resource")
        return
    payload = fields[name]
    if not isinstance(payload, dict):
        return
    at = f"{place.at}/{name}"
    for member in unknown_fields(resource, payload):
        yield schema(f'The field "{member}" is not supported by Step Functions', at)
    if not resource.is_sdk:
        shape = apis.operation_model(resource.botocore, resource.operation).input_shape
        for member in _missing(payload, shape):
            yield schema(f"The field '{member}' is required but was missing", at)


def _missing(payload: Mapping[str, Any], shape: Any) -> Iterator[str]:
    """The members that the API requires and the payload has neither as a value nor as a path."""
    given = {name.removesuffix(".$").lower() for name in payload}
    for member in shape.required_members if shape is not None else ():
        if member.lower() not in given:
            yield member[:1].upper() + member[1:]


def _credentials(credentials: Mapping[str, Any], place: Place, resource: Json) -> Iterator[Diagnostic]:
    if _is_activity(resource):
        yield schema("The field 'Credentials' is not supported for activities", place.at)
    elif not {"RoleArn", "RoleArn.$"} & set(credentials):
        yield schema("The field 'RoleArn' is required but was missing", place.at)


def _heartbeat(fields: Mapping[str, Any], place: Place) -> Iterator[Diagnostic]:
    heartbeat, timeout = fields.get("HeartbeatSeconds"), fields.get("TimeoutSeconds")
    if isinstance(heartbeat, int) and isinstance(timeout, int) and heartbeat >= timeout:
        message = "The value of 'HeartbeatSeconds' must be smaller than the value of 'TimeoutSeconds'"
        yield schema(message, f"{place.at}/HeartbeatSeconds")


def check_error_names(fields: Mapping[str, Any], place: Place) -> Iterator[Diagnostic]:
    """States.ALL stands for every error: nothing beside it or after it would ever be looked at."""
    for rules in ("Retry", "Catch"):
        listed = fields.get(rules)
        for index, rule in enumerate(listed if isinstance(listed, list) else ()):
            errors = rule.get("ErrorEquals") if isinstance(rule, dict) else None
            if not isinstance(errors, list) or _ALL not in errors:
                continue
            if len(errors) > 1 or index < len(listed or ()) - 1:
                at = f"{place.at}/{rules}[{index}]/ErrorEquals[{errors.index(_ALL)}]"
                yield schema(f"{_ALL} must appear alone and at end of list", at)
