"""TestState: one state performed by the interpreter, on its own, with or without a mock for its work.

Nothing of it is kept. What a Retry would do is reported, not waited for.
https://docs.aws.amazon.com/step-functions/latest/apireference/API_TestState.html
"""

import asyncio
import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stagegate.local.service import AWSError, Json
from stagegate.local.states.branches import item_context, item_input, map_items, max_concurrency
from stagegate.local.states.definition import Map, Parallel, Program, State, Task, Working, parse_state
from stagegate.local.states.distributed import tolerated_failures
from stagegate.local.states.errors import TIMEOUT, EvaluationFailed, ExecutionError, StateFailed
from stagegate.local.states.execution import Engine
from stagegate.local.states.integrations import UnknownResource, parse_resource
from stagegate.local.states.item_batcher import make_batches
from stagegate.local.states.item_reader import parsed_items
from stagegate.local.states.journal import Event, Journal
from stagegate.local.states.jsontext import from_text, to_text
from stagegate.local.states.kinds import PERFORM
from stagegate.local.states.mocks import Mock, read_mock
from stagegate.local.states.requests import check_input
from stagegate.local.states.strand import Outcome, Strand, Visit, answering, timestamp
from stagegate.local.states.templates import JSONPATH
from stagegate.local.states.validation import diagnose, diagnose_state

_NAME = "StateName"
"""What a state that is tested is called in the context object."""
_MAXIMUM_SECONDS = 300
_SUPPORTED = "[Task, Wait, Pass, Succeed, Fail, Choice]"
_EXCEEDED = "States.ExceedToleratedFailureThreshold"
_STANDS_IN = "arn:aws:states:::lambda:invoke"
_NUMBERS = ("maxConcurrency", "toleratedFailureCount", "toleratedFailurePercentage")
_CONTEXT: dict[str, dict[str, Any] | None] = {
    "Execution": dict.fromkeys(
        ("Id", "Input", "Name", "RoleArn", "StartTime", "RedriveCount", "RedriveTime")
    ),
    "State": dict.fromkeys(("EnteredTime", "Name", "RetryCount")),
    "StateMachine": dict.fromkeys(("Id", "Name")),
    "Task": {"Token": None},
    "Map": {"Item": dict.fromkeys(("Index", "Value", "Key", "Source"))},
}


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
        check_input(input)
        state, is_known_resource = _state(definition, stateName, is_mocked=mock is not None)
        if mock is None:
            _check_can_run(state, roleArn)
        if context is not None and mock is None:
            raise _invalid("A Context object can only be specified when a mock is specified")
        trial = Trial(self.engine, state, input=from_text(input), role_arn=roleArn)
        trial.configuration = stateConfiguration or {}
        if mock is not None:
            trial.mock = read_mock(mock, state, is_known_resource=is_known_resource)
        if context is not None:
            trial.given_context = _checked_context(context)
        trial.strand.variables = _object(variables, "variables")
        tested = await trial.perform()
        if inspectionLevel == "INFO":
            tested.pop("inspectionData")
        return tested


def _state(definition: str, name: str | None, *, is_mocked: bool) -> tuple[State, bool]:
    """The state under test, and whether its resource is one that the runtime has."""
    try:
        parsed = json.loads(definition)
    except ValueError:
        parsed = None
    is_alone = name is None and isinstance(parsed, dict) and "Type" in parsed
    problems = diagnose_state(definition) if is_alone else diagnose(definition, is_express=False)
    if is_mocked or not is_alone:
        # What the runtime has no service for can be mocked all the same.
        problems = [problem for problem in problems if not (problem.location or "").endswith("/Resource")]
    if problems:
        raise AWSError(
            "InvalidDefinition", f"Invalid State Machine Definition: '{', '.join(map(str, problems))}'"
        )
    if is_alone:
        name, fields, language = _NAME, parsed, JSONPATH
    else:
        name, language = name or parsed["StartAt"], parsed.get("QueryLanguage", JSONPATH)
        found = next((fields for state, fields in _states(parsed) if state == name), None)
        if found is None:
            raise _invalid("State not found in definition")
        fields = found
    is_known_resource = True
    if fields["Type"] == "Task":
        try:
            parse_resource(fields["Resource"])
        except UnknownResource:
            fields, is_known_resource = {**fields, "Resource": _STANDS_IN}, False
    return parse_state(name, fields, language), is_known_resource


def _states(machine: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every state, also inside of Parallel and Map."""
    for name, fields in machine["States"].items():
        yield name, fields
        inside = [*fields.get("Branches", ()), fields.get("ItemProcessor"), fields.get("Iterator")]
        for part in inside:
            if isinstance(part, dict):
                yield from _states(part)


def _check_can_run(state: State, role_arn: str | None) -> None:
    if isinstance(state, Map | Parallel):
        raise AWSError(
            "InvalidDefinition",
            "TestState API does not support Map or Parallel states. "
            f"Supported state types include: {_SUPPORTED}",
        )
    if isinstance(state, Task):
        if state.resource.has_token:
            raise AWSError(
                "InvalidDefinition",
                f"TestState API does not support the resource '{state.resource.arn}' without a mock",
            )
        if role_arn is None:
            raise _invalid("RoleArn must be specified when testing a Task state")


def _checked_context(text: str) -> dict[str, Json]:
    context = _object(text, "context")
    _check_fields(context, _CONTEXT)
    return context


def _check_fields(value: Mapping[str, Json], allowed: Mapping[str, Any]) -> None:
    for name, member in value.items():
        if name not in allowed:
            raise _invalid(f"Invalid Context object provided: Field '{name}' is not allowed")
        if allowed[name] is not None:
            if not isinstance(member, dict):
                raise _invalid(f"Invalid Context object provided: Field '{name}' must be an object")
            _check_fields(member, allowed[name])


def _object(text: str, member: str) -> dict[str, Json]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise _invalid(f"The {member} must be a JSON object: {error}") from error
    if not isinstance(value, dict):
        raise _invalid(f"The {member} must be a JSON object, not {text}")
    return value


class Trial:
    """What a state that is tested takes for its execution. Nothing is stored."""

    is_stopping = False
    is_deleted = False
    document = {"redriveCount": 0}  # noqa: RUF012 (never changed)

    def __init__(self, engine: Engine, state: State, *, input: Json, role_arn: str | None) -> None:
        self.engine = engine
        self.state = state
        self.input = input
        self.mock: Mock | None = None
        self.configuration: Mapping[str, Any] = {}
        self.given_context: dict[str, Json] | None = None
        self.inspected: dict[str, Json] = {"input": input}
        machine, name = str(uuid.uuid4()), str(uuid.uuid4())
        self.arn = engine.runtime.arn("states", f"express:{machine}:{name}")
        now = time.time()
        self._context: dict[str, Json] = {
            "Execution": {
                "Id": self.arn,
                "Input": input,
                "Name": name,
                "RoleArn": role_arn,
                "StartTime": timestamp(now),
            },
            "StateMachine": {"Id": engine.runtime.arn("states", f"stateMachine:{machine}"), "Name": machine},
        }
        program = Program(start_at=state.name, states={state.name: state})
        scope = Journal(_Nowhere(), self.arn).scope("", 0)  # type: ignore[arg-type]
        self.strand = Strand(self, program, scope, variables={}, context={})  # type: ignore[arg-type]
        self.strand.inspect = self.inspected.__setitem__
        entered = Event(id=0, previous_id=0, type="", timestamp=now, details=None)
        self.visit = _TestVisit(strand=self.strand, state=state, input=input, entered=entered)
        self.visit.trial = self

    def context(self) -> dict[str, Json]:
        return self._context

    async def perform(self) -> dict[str, Any]:
        """The response of TestState."""
        try:
            async with asyncio.timeout(_MAXIMUM_SECONDS):
                outcome = await self._outcome()
        except TimeoutError:
            return self._answer("FAILED", error=TIMEOUT)
        except (StateFailed, EvaluationFailed) as failure:
            return self._failed(failure)
        return self._succeeded("SUCCEEDED", outcome)

    async def _outcome(self) -> Outcome:
        if self.mock is None:
            return await PERFORM[self.state.type](self.visit, self.state)
        if isinstance(self.state, Map):
            self._prepare_map(self.state)
        elif isinstance(self.state, Task | Parallel):
            data = self.visit.effective_input()
            self.visit.arguments(self.state.parameters, data)
        if self.mock.is_error:
            raise StateFailed(self.mock.error, self.mock.cause, from_task=self._is_task_error())
        assert isinstance(self.state, Working)
        if isinstance(self.state, Task):
            self.visit.inspect("result", self.mock.result)
        return self.visit.outcome_of_work(
            self.mock.result, result_path=self.state.result_path, selector=self.state.result_selector
        )

    def _is_task_error(self) -> bool:
        return isinstance(self.state, Task) or "errorCausedByState" in self.configuration

    def _prepare_map(self, state: Map) -> None:
        """The items as the Map would take them, and whether too many iterations have failed."""
        visit = self.visit
        data = visit.effective_input()
        items = self._items(state, data)
        visit.inspect("maxConcurrency", max_concurrency(visit, state, data))
        tolerated = tolerated_failures(visit, state, data)
        for name, limit in tolerated.items():
            if limit is not None:
                visit.inspect(name, limit)
        inputs = [
            item_input(visit, state, data, item_context(index, item)) for index, item in enumerate(items)
        ]
        if state.parameters is not None:
            visit.inspect("afterItemSelector", inputs)
        if state.item_batcher is not None:
            batches = make_batches(state.item_batcher, inputs, visit.values(data))
            visit.inspect("afterItemBatcher", [batch.input for batch in batches])
        failures = self.configuration.get("mapIterationFailureCount", 0)
        count, percentage = tolerated["toleratedFailureCount"], tolerated["toleratedFailurePercentage"]
        is_exceeded = (count is not None and failures > count) or (
            percentage is not None and failures * 100 > percentage * len(items)
        )
        if is_exceeded and self.mock is not None and not self.mock.is_error:
            cause = "The specified tolerated failure threshold was exceeded"
            raise StateFailed(_EXCEEDED, cause, has_failed_inside=True)

    def _items(self, state: Map, data: Json) -> Sequence[Json]:
        text = self.configuration.get("mapItemReaderData")
        if state.item_reader is None or text is None:
            found = [] if state.item_reader is not None else map_items(self.visit, state, data)
            return list(found.values()) if isinstance(found, dict) else list(found)
        values = self.visit.values(data)
        pointer = None if state.item_reader.items_pointer is None else state.item_reader.items_pointer(values)
        items = [value for _, value in parsed_items(text, state.item_reader.config, pointer)]
        if pointer is not None:
            self.visit.inspect("afterItemsPointer", items)
        return items

    def _failed(self, failure: ExecutionError) -> dict[str, Any]:
        failed = failure if isinstance(failure, StateFailed) else StateFailed(failure.error, failure.cause)
        error: dict[str, Any] = {"error": failed.error, "cause": failed.cause}
        if not isinstance(self.state, Working):
            return self._answer("FAILED", **error)
        details: dict[str, Json] = {}
        if (index := answering(self.state.retry, failed)) is not None:
            details["retryIndex"] = index
            retrier = self.state.retry[index]
            attempts = self.configuration.get("retrierRetryCount", 0)
            if attempts < retrier.max_attempts:
                details["retryBackoffIntervalSeconds"] = round(retrier.delay(attempts))
                return self._answer("RETRIABLE", details=details, **error)
        if (index := answering(self.state.catch, failed)) is None:
            return self._answer("FAILED", details=details, **error)
        try:
            outcome = self.strand.handled(self.visit, self.state.catch[index], failed)
        except EvaluationFailed as unhandled:
            return self._answer("FAILED", error=unhandled.error, cause=unhandled.cause)
        return self._succeeded("CAUGHT_ERROR", outcome, details={**details, "catchIndex": index}, **error)

    def _succeeded(self, status: str, outcome: Outcome, **described: Any) -> dict[str, Any]:
        self.strand.variables |= outcome.assigned or {}
        answer = self._answer(status, **described)
        answer["output"] = to_text(outcome.output)
        if outcome.next is not None:
            answer["nextState"] = outcome.next
        return answer

    def _answer(
        self,
        status: str,
        *,
        error: str | None = None,
        cause: str | None = None,
        details: dict[str, Json] | None = None,
    ) -> dict[str, Any]:
        answer: dict[str, Any] = {"status": status}
        if error is not None:
            answer["error"] = error
        if cause is not None:
            answer["cause"] = cause
        if self.strand.variables:
            self.inspected["variables"] = self.strand.variables
        answer["inspectionData"] = {
            name: value if name in _NUMBERS else to_text(value)
            for name, value in self.inspected.items()
            if name not in _UNREPORTED.get(self.state.type, ())
        }
        if details:
            answer["inspectionData"]["errorDetails"] = details
        return answer


_UNREPORTED = {
    "Parallel": ("afterInputPath", "afterParameters", "afterArguments"),
}


class _TestVisit(Visit):
    """A visit to a state that is tested: its context object may be given."""

    trial: Trial

    def context(self) -> dict[str, Json]:
        if self.trial.given_context is not None:
            return self.trial.given_context
        context = super().context()
        return {**context, "State": {**context["State"], "Name": _NAME}}


class _Nowhere:
    """In the place of a store."""

    def append(self, stream: str, entry: dict[str, Any]) -> int:
        return 0

    async def committed(self) -> None:
        """Nothing is kept."""


def _invalid(message: str) -> AWSError:
    return AWSError("ValidationException", message)
