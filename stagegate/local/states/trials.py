"""A trial: one state performed by the interpreter on its own, for TestState.

It stands where a state has its execution. Nothing of it is stored; a mock answers in the place of the work;
what Retry and Catch would do is reported, not done.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from stagegate.local.service import Json, Runtime
from stagegate.local.states.branches import item_context, item_input, map_items, max_concurrency
from stagegate.local.states.definition import Map, Program, State, Task, Working
from stagegate.local.states.distributed import selected_input, tolerated_failures
from stagegate.local.states.errors import TIMEOUT, EvaluationFailed, ExecutionError, StateFailed
from stagegate.local.states.execution import Engine
from stagegate.local.states.item_batcher import make_batches
from stagegate.local.states.item_reader import Item, given_items, items_of
from stagegate.local.states.journal import Event, Journal
from stagegate.local.states.jsontext import to_text
from stagegate.local.states.kinds import PERFORM
from stagegate.local.states.mocks import Mock
from stagegate.local.states.strand import Outcome, Strand, Visit, answering, timestamp
from stagegate.local.states.task import Attempt, perform_task

NAME = "StateName"
"""What a state that is tested is called in the context object, whatever its name in the definition."""
_MAXIMUM_SECONDS = 300
_EXCEEDED = "States.ExceedToleratedFailureThreshold"
_NUMBERS = ("maxConcurrency", "toleratedFailureCount", "toleratedFailurePercentage")
_UNREPORTED = {"Parallel": ("afterInputPath", "afterParameters", "afterArguments")}
"""Steps that AWS does not show, by the type of the state."""


class Trial:
    """What a state that is tested takes for its execution."""

    is_stopping = False
    is_deleted = False
    session = "TestState"

    def __init__(
        self,
        engine: Engine,
        state: State,
        *,
        input: Json,
        role_arn: str | None,
        variables: Mapping[str, Json],
        is_in_map: bool,
        configuration: Mapping[str, Any],
        mock: Mock | None,
        given_context: dict[str, Json] | None,
    ) -> None:
        self.engine = engine
        self.state = state
        self.document = {"redriveCount": 0, "roleArn": role_arn}
        self.mock = mock
        self.configuration = configuration
        self.given_context = given_context
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
        self._role_arn = role_arn
        self.strand = Strand(
            self,  # type: ignore[arg-type]
            Program(start_at=state.name, states={state.name: state}),
            Journal(_Nowhere(), self.arn).scope("", 0),  # type: ignore[arg-type]
            variables=variables,
            context={"Map": item_context(0, input)} if is_in_map else {},
        )
        self.strand.inspect = self.inspected.__setitem__
        self.visit = _TrialVisit(
            strand=self.strand,
            state=state,
            input=input,
            entered=Event(id=0, previous_id=0, type="", timestamp=now, details=None),
            retry_count=configuration.get("retrierRetryCount", 0),
        )
        self.visit.trial = self

    def context(self) -> dict[str, Json]:
        return self._context

    def as_role(self) -> Runtime:
        """As the role of the request sees it, where it has one: a mock needs none."""
        return self.engine.runtime.as_role(self._role_arn, session=self.session)

    async def perform(self) -> dict[str, Any]:
        """The response of TestState."""
        try:
            async with asyncio.timeout(_MAXIMUM_SECONDS):
                outcome = await self._outcome()
            self.strand.check_sizes(outcome, self.state)
        except TimeoutError:
            return self._answer("FAILED", error=TIMEOUT)
        except (StateFailed, EvaluationFailed) as failure:
            return self._failed(failure)
        return self._succeeded("SUCCEEDED", outcome)

    async def _outcome(self) -> Outcome:
        if self.mock is None:
            return await PERFORM[self.state.type](self.visit, self.state)
        if isinstance(self.state, Task):
            return await perform_task(self.visit, self.state, _MockedAttempt)
        assert isinstance(self.state, Working)
        if isinstance(self.state, Map):
            self._inspect_map(self.state)
        else:
            self.visit.arguments(self.state.parameters, self.visit.effective_input())
        result = self.mock.answer(from_task="errorCausedByState" in self.configuration)
        return self.visit.outcome_of_work(
            result, result_path=self.state.result_path, selector=self.state.result_selector
        )

    def _inspect_map(self, state: Map) -> None:
        """The items as the Map would take them; fails when too many iterations are said to have failed."""
        visit, data = self.visit, self.visit.effective_input()
        items = self._items(state, data)
        visit.inspect("maxConcurrency", max_concurrency(visit, state, data))
        tolerated = tolerated_failures(visit, state, data)
        for name, limit in tolerated.items():
            if limit is not None:
                visit.inspect(name, limit)
        values = visit.values(data)
        if state.is_distributed:
            inputs = [selected_input(state, values, index, item) for index, item in enumerate(items)]
        else:
            contexts = [item_context(index, item.value) for index, item in enumerate(items)]
            inputs = [item_input(visit, state, data, context) for context in contexts]
        if state.parameters is not None:
            visit.inspect("afterItemSelector", inputs)
        if state.item_batcher is not None:
            batches = make_batches(state.item_batcher, inputs, values)
            visit.inspect("afterItemBatcher", [batch.input for batch in batches])
        self._check_failures(tolerated, len(items))

    def _items(self, state: Map, data: Json) -> list[Item]:
        reader = state.item_reader
        if reader is None:
            return items_of(map_items(self.visit, state, data))
        text = self.configuration.get("mapItemReaderData")
        if text is None:  # what would be read may be the input itself
            return items_of(data) if isinstance(data, list) else []
        items = given_items(reader, text, self.visit.values(data))
        if reader.items_pointer is not None:
            self.visit.inspect("afterItemsPointer", [item.value for item in items])
        return items

    def _check_failures(self, tolerated: Mapping[str, Json], item_count: int) -> None:
        failures = self.configuration.get("mapIterationFailureCount", 0)
        count, percentage = tolerated["toleratedFailureCount"], tolerated["toleratedFailurePercentage"]
        is_exceeded = (count is not None and failures > count) or (
            percentage is not None and failures * 100 > percentage * item_count
        )
        if is_exceeded and self.mock is not None and not self.mock.is_error:
            cause = "The specified tolerated failure threshold was exceeded"
            raise StateFailed(_EXCEEDED, cause, has_failed_inside=True)

    def _failed(self, failure: ExecutionError) -> dict[str, Any]:
        """What Retry and Catch would make of a failure."""
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


class _TrialVisit(Visit):
    """A visit to a state that is tested: its context object may be given."""

    trial: Trial

    def context(self) -> dict[str, Json]:
        if self.trial.given_context is not None:
            return self.trial.given_context
        context = super().context()
        return {**context, "State": {**context["State"], "Name": NAME}}


class _MockedAttempt(Attempt):
    """An attempt of a task that calls nobody: the mock has the answer."""

    async def run(self, *, parameters: Json, credentials: Json) -> Json:
        assert isinstance(self.visit, _TrialVisit)
        assert self.visit.trial.mock is not None
        return self.visit.trial.mock.answer(from_task=True)


class _Nowhere:
    """In the place of a store."""

    def append(self, stream: str, entry: dict[str, Any]) -> int:
        return 0

    def before_commit(self, write: Callable[[], None]) -> None:
        """Nothing is committed."""

    async def committed(self) -> None:
        """Nothing is kept."""
