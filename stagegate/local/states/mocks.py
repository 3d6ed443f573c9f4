"""Mocked results for TestState: whether they are what the mocked API could have answered.

https://docs.aws.amazon.com/step-functions/latest/dg/test-state-isolation.html
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stagegate.local import apis
from stagegate.local.service import AWSError, Json
from stagegate.local.states.definition import Map, Parallel, State, Task
from stagegate.local.states.integrations import TASK_TOKEN, Resource

_MOCKABLE = (Task, Map, Parallel)
_NUMBERS = ("integer", "long", "float", "double", "bigdecimal")
_STRINGS = ("string", "character", "blob", "timestamp")


@dataclass(frozen=True, kw_only=True)
class Mock:
    """What stands in the place of the work: a result, or an error and its cause."""

    result: Json = None
    error: str | None = None
    cause: str | None = None
    is_error: bool = False


def read_mock(given: Mapping[str, Any], state: State, *, is_known_resource: bool) -> Mock:
    """The mock for `state`. Raises a ValidationException for what can't stand in for its work."""
    if not isinstance(state, _MOCKABLE):
        raise _invalid(f"State type '{state.type}' is not supported when a mock is specified")
    if ("result" in given) == ("errorOutput" in given):
        raise _invalid("A test mock should have only one of the following fields: [result, errorOutput].")
    if (output := given.get("errorOutput")) is not None:
        return Mock(error=output.get("error"), cause=output.get("cause"), is_error=True)
    try:
        result = json.loads(given["result"])
    except ValueError as error:
        raise _invalid(f"Mocked result must be a valid JSON string: {error}") from error
    mode = given.get("fieldValidationMode", "STRICT")
    if isinstance(state, Task):
        if mode != "NONE" and is_known_resource:
            _check_task(state.resource, result, is_strict=mode == "STRICT")
    else:
        _check_outputs(state, result)
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


def _check_task(resource: Resource, result: Json, *, is_strict: bool) -> None:
    """The result of a call, or of the description of a job that `.sync` waits for."""
    if resource.takes_anything or resource.pattern == TASK_TOKEN:
        return
    job = resource.job if resource.is_sync else None
    operation = job.describe if job is not None else resource.operation
    shape = apis.operation_model(resource.botocore, operation).output_shape
    if shape is None:
        return
    if job is not None and job.wrapped_as:
        shape = shape.members[f"{job.wrapped_as.lower()}s"].member
        result = result.get(job.wrapped_as, {}) if isinstance(result, dict) else result
    if not isinstance(result, dict):
        raise _mismatch("Mocked result must be a JSON object")
    _check_structure(result, shape, is_strict=is_strict)


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
