"""TestState: what may be tested, with what, and the test itself, which `trials` performs.

https://docs.aws.amazon.com/step-functions/latest/apireference/API_TestState.html
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stagegate.local.service import AWSError, Json
from stagegate.local.states.definition import Map, Parallel, State, Task
from stagegate.local.states.execution import Engine
from stagegate.local.states.integrations import SYNC, SYNC_2, TASK_TOKEN, UnknownResource, parse_resource
from stagegate.local.states.jsontext import from_text
from stagegate.local.states.mocks import read_mock
from stagegate.local.states.parser import parse_state
from stagegate.local.states.requests import check_arn, check_input
from stagegate.local.states.templates import JSONPATH
from stagegate.local.states.trials import NAME, Trial
from stagegate.local.states.validation import Diagnostic, diagnose, diagnose_state

_SUPPORTED = "[Task, Wait, Pass, Succeed, Fail, Choice]"
_INTEGRATION = "arn:aws:states:::"
_STANDS_IN = "arn:aws:states:::lambda:invoke"
_CONTEXT: dict[str, dict[str, Any] | None] = {
    "Execution": dict.fromkeys(
        ("Id", "Input", "Name", "RoleArn", "StartTime", "RedriveCount", "RedriveTime")
    ),
    "State": dict.fromkeys(("EnteredTime", "Name", "RetryCount")),
    "StateMachine": dict.fromkeys(("Id", "Name")),
    "Task": {"Token": None},
    "Map": {"Item": dict.fromkeys(("Index", "Value", "Key", "Source"))},
}
"""The fields of a context object that may be given; None for any value."""


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """What is tested."""

    state: State
    resource: str | None
    """A Task's, as written: it may be one that only AWS has, since a mock can stand in for it."""
    is_in_map: bool = False


class StateTests:
    """TestState."""

    engine: Engine

    async def test_state(
        self,
        *,
        definition: str,
        roleArn: str | None = None,
        input: str = "{}",
        inspectionLevel: str = "INFO",
        revealSecrets: bool = False,
        variables: str = "{}",
        stateName: str | None = None,
        mock: dict[str, Any] | None = None,
        context: str | None = None,
        stateConfiguration: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        if roleArn is not None:
            check_arn(roleArn, "iam")
        check_input(input)
        subject = _subject(definition, stateName, is_mocked=mock is not None)
        if mock is None:
            _check_can_run(subject, roleArn)
            if context is not None:
                raise _invalid("A Context object can only be specified when a mock is specified")
        trial = Trial(
            self.engine,
            subject.state,
            input=from_text(input),
            role_arn=roleArn,
            variables=_object(variables, "The variables must be a JSON object"),
            is_in_map=subject.is_in_map,
            configuration=stateConfiguration or {},
            mock=None if mock is None else read_mock(mock, subject.state, subject.resource),
            given_context=None if context is None else _checked_context(context),
        )
        tested = await trial.perform()
        if inspectionLevel == "INFO":
            tested.pop("inspectionData")
        return tested


def _subject(definition: str, name: str | None, *, is_mocked: bool) -> _Subject:
    """The state under test: the definition itself, or the one of this name in a state machine."""
    found = diagnose_state(definition) if name is None else diagnose(definition, is_express=False)
    if is_mocked or name is not None:
        found = [problem for problem in found if not _is_unknown_integration(problem)]
    if found:
        problems = ", ".join(map(str, found))
        raise AWSError("InvalidDefinition", f"Invalid State Machine Definition: '{problems}'")
    parsed = json.loads(definition)
    if name is None:
        return _subject_of(NAME, parsed, JSONPATH)
    for state, fields, is_in_map in _states(parsed):
        if state == name:
            return _subject_of(name, fields, parsed.get("QueryLanguage", JSONPATH), is_in_map=is_in_map)
    raise _malformed("State not found in definition")


def _is_unknown_integration(problem: Diagnostic) -> bool:
    """Whether it is only that this runtime has not got what a Task calls."""
    return problem.message.startswith(f"The resource provided {_INTEGRATION}")


def _subject_of(name: str, fields: Mapping[str, Any], language: str, *, is_in_map: bool = False) -> _Subject:
    resource = fields.get("Resource")
    if resource is not None:
        try:
            parse_resource(resource)
        except UnknownResource:
            waits = resource.endswith((SYNC, SYNC_2, TASK_TOKEN))
            fields = {**fields, "Resource": _STANDS_IN + (TASK_TOKEN if waits else "")}
    return _Subject(state=parse_state(name, fields, language), resource=resource, is_in_map=is_in_map)


def _states(
    machine: Mapping[str, Any], *, is_in_map: bool = False
) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Every state, also inside of Parallel and Map; with whether it is inside of a Map."""
    for name, fields in machine["States"].items():
        yield name, fields, is_in_map
        for branch in fields.get("Branches", ()):
            yield from _states(branch, is_in_map=is_in_map)
        for part in ("ItemProcessor", "Iterator"):
            if part in fields:
                yield from _states(fields[part], is_in_map=True)


def _check_can_run(subject: _Subject, role_arn: str | None) -> None:
    """Refuse what can be tested only with a mock."""
    state = subject.state
    if isinstance(state, Map | Parallel):
        raise AWSError(
            "InvalidDefinition",
            "TestState API does not support Map or Parallel states. "
            f"Supported state types include: {_SUPPORTED}",
        )
    if isinstance(state, Task):
        if state.resource.has_token:
            raise _invalid(f"A mock must be specified when testing the resource '{subject.resource}'")
        if state.resource.arn != subject.resource:
            message = f"The resource '{subject.resource}' is not supported here without a mock"
            raise AWSError("InvalidDefinition", f"Invalid State Machine Definition: '{message}'")
        if role_arn is None:
            raise _invalid("RoleArn must be specified when testing a Task state")


def _checked_context(text: str) -> dict[str, Json]:
    context = _object(text, "Invalid Context object provided: it must be a JSON object")
    _check_fields(context, _CONTEXT)
    return context


def _check_fields(value: Mapping[str, Json], allowed: Mapping[str, Any]) -> None:
    for name, member in value.items():
        if name not in allowed:
            raise _malformed(f"Invalid Context object provided: Field '{name}' is not allowed")
        if allowed[name] is not None:
            if not isinstance(member, dict):
                raise _malformed(f"Invalid Context object provided: Field '{name}' must be an object")
            _check_fields(member, allowed[name])


def _object(text: str, problem: str) -> dict[str, Json]:
    try:
        value = json.loads(text)
    except ValueError:
        raise _invalid(problem) from None
    if not isinstance(value, dict):
        raise _invalid(problem)
    return value


def _malformed(message: str) -> AWSError:
    """What AWS finds before it knows of TestState's own error, and writes by another member's name."""
    return AWSError("ValidationException", message, Message=message)


def _invalid(message: str) -> AWSError:
    return AWSError("ValidationException", message)
