"""Mocked results for TestState: whether they are what the mocked API could have answered.

https://docs.aws.amazon.com/step-functions/latest/dg/test-state-isolation.html
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from stagegate.local import apis
from stagegate.local.service import AWSError, Json
from stagegate.local.states.definition import Map, Parallel, State, Task
from stagegate.local.states.errors import StateFailed
from stagegate.local.states.integrations import (
    SYNC_2,
    TASK_TOKEN,
    Resource,
    UnknownResource,
    parse_resource,
)

_MOCKABLE = (Task, Map, Parallel)
_NUMBERS = ("integer", "long", "float", "double", "bigdecimal")
_STRINGS = ("string", "character", "blob", "timestamp")
_INTEGRATION = "arn:aws:states:::"


@dataclass(frozen=True, kw_only=True)
class Mock:
    """What stands in the place of the work: a result, or an error and its cause."""

    result: Json = None
    error: str | None = None
    cause: str | None = None
    is_error: bool = False

    def answer(self, *, from_task: bool) -> Json:
        """The result. Raises the error that is mocked; `from_task`: it counts as States.TaskFailed too."""
        if self.is_error:
            raise StateFailed(self.error, self.cause, from_task=from_task)
        return self.result


def read_mock(given: Mapping[str, Any], state: State, resource: str | None) -> Mock:
    """The mock for `state`, which calls `resource`. Raises ValidationException for what can't stand in."""
    if not isinstance(state, _MOCKABLE):
        raise _invalid(f"State type '{state.type}' is not supported when a mock is specified")
    if ("result" in given) == ("errorOutput" in given):
        raise _invalid("A test mock should have only one of the following fields: [result, errorOutput].")
    if (output := given.get("errorOutput")) is not None:
        if output.get("error") is None:
            raise _invalid(
                "1 validation error detected: Value null at 'mock.errorOutput.error' failed to satisfy "
                "constraint: Member must not be null"
            )
        return Mock(error=output["error"], cause=output.get("cause"), is_error=True)
    try:
        result = json.loads(given["result"])
    except ValueError:
        raise _invalid("Mocked result must be a valid JSON.") from None
    mode = given.get("fieldValidationMode", "STRICT")
    if not isinstance(state, Task):
        _check_outputs(state, result)
    elif mode != "NONE" and resource is not None:
        _check_result(resource, result, is_strict=mode == "STRICT")
    return Mock(result=result)


def _check_outputs(state: Map | Parallel, result: Json) -> None:
    if isinstance(state, Map) and state.result_writer is not None:
        if not isinstance(result, dict):
            raise _invalid("Mocked result must be a JSON object.")
        return
    if not isinstance(result, list):
        raise _invalid("Mocked result must be an array.")
    if isinstance(state, Parallel) and len(result) != len(state.branches):
        raise _invalid("Mocked result must contain the same number of items as number of Parallel branches.")


def _check_result(arn: str, result: Json, *, is_strict: bool) -> None:
    """The result of a call, or of the description of a job that `.sync` waits for."""
    try:
        resource = parse_resource(arn)
    except UnknownResource:
        shape, converted = _shape_elsewhere(arn), frozenset[str]()
    else:
        shape, converted = _shape_of(resource), _converted(resource)
        job = resource.job
        if job is not None and job.wrapped_as and isinstance(result, dict) and job.wrapped_as in result:
            shape, result = shape.members[f"{job.wrapped_as.lower()}s"].member, result[job.wrapped_as]
    if shape is None:
        return
    if not isinstance(result, dict):
        raise _invalid("Mocked result must be a JSON object.")
    checked = {name: value for name, value in result.items() if name not in converted}
    _check_structure(checked, shape, is_strict=is_strict)


def _shape_of(resource: Resource) -> Any:
    """The shape of what the resource's API answers; None where anything may be answered."""
    if resource.takes_anything or resource.pattern == TASK_TOKEN:
        return None
    operation = resource.operation if resource.job is None else resource.job.describe
    return apis.operation_model(resource.botocore, operation).output_shape


def _converted(resource: Resource) -> frozenset[str]:
    """Members that a state's result has as any JSON, since Step Functions has read it from the API's text."""
    if resource.service == "lambda" and not resource.is_sdk:
        return frozenset({"Payload"})
    return frozenset({"Input", "Output"} if resource.pattern == SYNC_2 else ())


def _shape_elsewhere(arn: str) -> Any:
    """The shape for an API that only AWS has; None where the resource doesn't name an API's operation."""
    text = arn.removeprefix(_INTEGRATION)
    service, _, api = text.removeprefix("aws-sdk:").partition(":")
    name = _services().get(service.lower())
    if name is None or text == arn:
        return None
    model = apis.model(name)
    operations = {operation.lower(): operation for operation in model.operation_names}
    operation = operations.get(api.lower())  # none for one with a pattern: its result is not the call's
    return None if operation is None else model.operation_model(operation).output_shape


@cache
def _services() -> Mapping[str, str]:
    """botocore's names of all services, by the names that "aws-sdk:" has for them."""
    from botocore.loaders import create_loader

    names = create_loader().list_available_services("service-2")
    return {name.replace("-", ""): name for name in names}


def _check_structure(value: Mapping[str, Json], shape: Any, *, is_strict: bool) -> None:
    if is_strict:
        for name in shape.required_members:
            if _pascal(name) not in value:
                raise _mismatch(f"Field '{_pascal(name)}' is required")
    members = {_pascal(name): member for name, member in shape.members.items()}
    for name, member in value.items():
        if name in members and member is not None:
            _check(name, member, members[name], is_strict=is_strict)


def _check(name: str, value: Json, shape: Any, *, is_strict: bool) -> None:
    kind = shape.type_name
    if kind == "structure":
        if getattr(shape, "is_document_type", False):
            return
        _must_be(name, "an object", isinstance(value, dict))
        _check_structure(value, shape, is_strict=is_strict)
    elif kind == "map":
        _must_be(name, "an object", isinstance(value, dict))
        for member in value.values():
            _check(name, member, shape.value, is_strict=is_strict)
    elif kind == "list":
        _must_be(name, "an array", isinstance(value, list))
        for item in value:
            _check(name, item, shape.member, is_strict=is_strict)
    elif kind == "boolean":
        _must_be(name, "a boolean", isinstance(value, bool))
    elif kind in _NUMBERS:
        _must_be(name, "a number", isinstance(value, int | float) and not isinstance(value, bool))
        _check_range(name, value, shape.metadata)
    elif kind in _STRINGS:
        _must_be(name, "a string", isinstance(value, str))
        if value not in (getattr(shape, "enum", None) or [value]):
            raise _mismatch(f"Field '{name}' is not an expected value")


def _must_be(name: str, what: str, is_so: bool) -> None:
    if not is_so:
        raise _mismatch(f"Field '{name}' must be {what}")


def _check_range(name: str, value: float, limits: Mapping[str, Any]) -> None:
    if "min" in limits and value < limits["min"]:
        raise _mismatch(f"Field '{name}' is less than the minimum value")
    if "max" in limits and value > limits["max"]:
        raise _mismatch(f"Field '{name}' exceeds the maximum value")


def _pascal(name: str) -> str:
    return name[:1].upper() + name[1:]


def _mismatch(reason: str) -> AWSError:
    return _invalid(f"Mock result schema validation error: {reason}")


def _invalid(message: str) -> AWSError:
    return AWSError("ValidationException", message)
