"""One strand of an execution: states, one after the other, with Retry and Catch.

The execution itself is a strand, and so is each branch of a Parallel and each iteration of a Map.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from stagegate.local.service import Json
from stagegate.local.states import paths
from stagegate.local.states.definition import Catcher, Map, Program, Retrier, State, Working
from stagegate.local.states.errors import DATA_LIMIT_EXCEEDED, RUNTIME, EvaluationFailed, StateFailed
from stagegate.local.states.journal import Event, Redriven, Scope
from stagegate.local.states.jsontext import to_text
from stagegate.local.states.paths import MISSING, Values
from stagegate.local.states.templates import Template

if TYPE_CHECKING:
    from stagegate.local.states.execution import Execution

MAXIMUM_DATA = 262_144
MAXIMUM_VARIABLES = 10_485_760
_STATES_BEFORE_OTHERS = 50  # a loop without waits lets others run after so many states


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a state comes to."""

    output: Json
    next: str | None
    assigned: Mapping[str, Json] | None = None


@dataclass(kw_only=True)
class Visit:
    """One visit to a state: what it sees."""

    strand: "Strand"
    state: State
    input: Json
    entered: Event
    retry_count: int = 0
    token: str | None = None
    retries: dict[int, int] = field(default_factory=dict)
    map_run_arn: str = ""
    """Of a distributed Map: what it runs in this attempt."""
    is_resumed: bool = False
    """After a redrive: the branches that succeeded are kept, the others go on."""

    def values(self, data: Json, *, result: Json = MISSING, error_output: Json = MISSING) -> Values:
        return Values(
            data=self.input if self.state.is_jsonata else data,
            context=self.context,
            variables=self.strand.variables,
            record=self.strand.scope.fact,
            result=result,
            error_output=error_output,
        )

    def inspect(self, name: str, value: Json) -> None:
        """Report a step of the data's way through the state, under the name that TestState has for it."""
        self.strand.inspect(name, value)

    def context(self) -> dict[str, Json]:
        """The context object, `$$`."""
        state: dict[str, Json] = {"EnteredTime": timestamp(self.entered.timestamp), "Name": self.state.name}
        if isinstance(self.state, Working):
            state["RetryCount"] = self.retry_count
        context = {**self.strand.execution.context(), **self.strand.context, "State": state}
        return context if self.token is None else {**context, "Task": {"Token": self.token}}

    def effective_input(self) -> Json:
        """What InputPath leaves of the input."""
        if self.state.is_jsonata:
            return self.input
        data = self.at(self.state.input_path, self.input)
        self.inspect("afterInputPath", data)
        return data

    def at(self, path: str | None, data: Json) -> Json:
        if path is None:
            return {}
        return data if path == "$" else paths.resolve(path, self.values(data))

    def arguments(self, template: Template | None, data: Json) -> Json:
        """What Parameters or Arguments make of the data: what the work is done with."""
        arguments = data if template is None else template(self.values(data))
        self.inspect("afterArguments" if self.state.is_jsonata else "afterParameters", arguments)
        return arguments

    def outcome(self, data: Json) -> Outcome:
        """The outcome of a state that hands on its data."""
        values = self.values(data)
        if self.state.is_jsonata:
            output = data if self.state.output is None else self.state.output(values)
        else:
            output = self.at(self.state.output_path, data)
        return Outcome(output=output, next=self.state.next, assigned=self._assigned(values))

    def outcome_of_work(
        self, result: Json, *, result_path: str | None, selector: Template | None = None
    ) -> Outcome:
        """The outcome of a state that has a result: Output, or ResultSelector, ResultPath, OutputPath."""
        if self.state.is_jsonata:
            values = self.values(self.input, result=result)
            output = result if self.state.output is None else self.state.output(values)
            return Outcome(output=output, next=self.state.next, assigned=self._assigned(values))
        selected = result if selector is None else selector(self.values(result))
        self.inspect("afterResultSelector", selected)
        combined = self.input if result_path is None else paths.put(result_path, self.input, selected)
        self.inspect("afterResultPath", combined)
        output = self.at(self.state.output_path, combined)
        return Outcome(output=output, next=self.state.next, assigned=self._assigned(self.values(selected)))

    def _assigned(self, values: Values) -> Mapping[str, Json] | None:
        return None if self.state.assign is None else self.state.assign(values)


Perform = Callable[[Visit, Any], Awaitable[Outcome]]


class Strand:
    def __init__(
        self,
        execution: "Execution",
        program: Program,
        scope: Scope,
        *,
        variables: Mapping[str, Json],
        context: Mapping[str, Json],
    ) -> None:
        self.execution = execution
        self.program = program
        self.scope = scope
        self.variables = dict(variables)
        self.context = context
        """What the context object has here beside the execution: the item of a Map."""
        self.state: State | None = None
        self.children: list[Strand] = []
        self.cancel_work: Callable[[], None] | None = None
        """Stops the job that a task waits for."""
        self.inspect: Callable[[str, Json], None] = _ignore
        """Called with each step of the data's way through a state."""

    async def run(self, data: Json) -> Json:
        """The output of the last state."""
        name: str | None = self.program.start_at
        visited = 0
        while name is not None:
            if self.execution.is_deleted:
                self.execution.stop(None, None)
            outcome = await self._visit(self.program.states[name], data)
            name, data = outcome.next, outcome.output
            visited += 1
            if visited % _STATES_BEFORE_OTHERS == 0:
                await asyncio.sleep(0)
        self.state = None
        return data

    async def _visit(self, state: State, data: Json) -> Outcome:
        from stagegate.local.states.kinds import PERFORM

        self.state = state
        self.scope.take_redrive()
        text = to_text(data)
        entered = self.scope.event(f"{state.type}StateEntered", {"input": text, "name": state.name})
        visit = Visit(strand=self, state=state, input=data, entered=entered)
        outcome = await self._attempts(visit, PERFORM[state.type])
        self._assign(outcome.assigned)
        details: dict[str, Json] = {"name": state.name, "output": to_text(outcome.output)}
        if outcome.assigned:
            details["assignedVariables"] = {name: to_text(value) for name, value in outcome.assigned.items()}
        self.scope.event(f"{state.type}StateExited", details)
        return outcome

    async def _attempts(self, visit: Visit, perform: Perform) -> Outcome:
        """Do what the state does, and anew when the execution was redriven here."""
        while True:
            try:
                return await self._attempt(visit, perform)
            except Redriven:
                visit.retries.clear()
                visit.retry_count = 0
                visit.is_resumed = True
                self.scope.last_id = visit.entered.id  # AWS: the new attempt follows upon the state's entry

    async def _attempt(self, visit: Visit, perform: Perform) -> Outcome:
        """Do what the state does, again as Retry says, and turn what Catch names into an outcome."""
        while True:
            try:
                outcome = await perform(visit, visit.state)
                self.check_sizes(outcome, visit.state)
                return outcome
            except EvaluationFailed as failure:
                failed = self._evaluation_failed(visit, failure)
            except StateFailed as failure:
                failed = failure
            if isinstance(visit.state, Working):
                if retrier := self._retrier(visit, failed):
                    await self._wait_before_retry(visit, retrier)
                    continue
                if (visit.state.type != "Task" and failed.error != RUNTIME) or failed.has_failed_inside:
                    self.scope.event(f"{visit.state.type}StateFailed")
                if (index := answering(visit.state.catch, failed)) is not None:
                    try:
                        return self.handled(visit, visit.state.catch[index], failed)
                    except EvaluationFailed as failure:
                        failed = self._evaluation_failed(visit, failure)
            self._end_here(failed)

    def _evaluation_failed(self, visit: Visit, failure: EvaluationFailed) -> StateFailed:
        cause = (
            f"An error occurred while executing the state '{visit.state.name}' "
            f"(entered at the event id #{visit.entered.id}). {failure.cause}"
        )
        if failure.location is not None:
            if failure.is_of_expression and self.scope.last_id == visit.entered.id:
                # In recorded executions it follows upon what came before the state.
                self.scope.last_id = visit.entered.previous_id
            details = {"error": failure.error, "cause": cause, "location": failure.location}
            self.scope.event("EvaluationFailed", {**details, "state": visit.state.name})
        return StateFailed(failure.error, cause)

    def _end_here(self, failed: StateFailed) -> NoReturn:
        if self.scope.take_redrive():
            raise Redriven
        raise failed

    def check_sizes(self, outcome: Outcome, state: State) -> None:
        """Raise `StateFailed` for more data, or variables, than a state may hand on."""
        if _size(outcome.output) > MAXIMUM_DATA:
            raise StateFailed(DATA_LIMIT_EXCEEDED, too_large(state.name))
        if not outcome.assigned:
            return
        if _size(outcome.assigned) > MAXIMUM_DATA:
            cause = (
                f"The variables that the state '{state.name}' assigns are larger than {MAXIMUM_DATA} bytes."
            )
            raise StateFailed(DATA_LIMIT_EXCEEDED, cause)
        if _size({**self.variables, **outcome.assigned}) > MAXIMUM_VARIABLES:
            cause = f"The variables of the execution are larger than {MAXIMUM_VARIABLES} bytes."
            raise StateFailed(DATA_LIMIT_EXCEEDED, cause)

    def _retrier(self, visit: Visit, failed: StateFailed) -> tuple[int, Retrier] | None:
        """The first retrier that answers this error; None also when it has no attempt left."""
        assert isinstance(visit.state, Working)
        if (index := answering(visit.state.retry, failed)) is None:
            return None
        retrier = visit.state.retry[index]
        return (index, retrier) if visit.retries.get(index, 0) < retrier.max_attempts else None

    async def _wait_before_retry(self, visit: Visit, found: tuple[int, Retrier]) -> None:
        index, retrier = found
        attempt = visit.retries.get(index, 0)
        delay = retrier.delay(attempt)
        await self.sleep_until(
            lambda: time.time() + (random.uniform(0, delay) if retrier.has_full_jitter else delay)
        )
        visit.retries[index] = attempt + 1
        visit.retry_count += 1
        visit.is_resumed = False

    def handled(self, visit: Visit, catcher: Catcher, failed: StateFailed) -> Outcome:
        """What a Catch makes of an error."""
        error = {"Error": failed.error, "Cause": failed.cause}
        error_output = {name: value for name, value in error.items() if value is not None}
        values = visit.values(error_output, error_output=error_output)
        if catcher.output is not None:
            output = catcher.output(values)
        elif visit.state.is_jsonata or catcher.result_path == "$":
            output = error_output
        elif catcher.result_path is None:
            output = visit.input
        else:
            output = paths.put(catcher.result_path, visit.input, error_output)
        assigned = None if catcher.assign is None else catcher.assign(values)
        return Outcome(output=output, next=catcher.next, assigned=assigned)

    def _assign(self, assigned: Mapping[str, Json] | None) -> None:
        if assigned:
            self.variables = {**self.variables, **assigned}

    async def sleep_until(self, deadline: Callable[[], float]) -> None:
        """Sleep until the recorded time; after a restart for what is left of it."""
        until = self.scope.fact(deadline)
        if self.scope.take_redrive():
            raise Redriven
        if not self.scope.is_replaying:
            await asyncio.sleep(max(0.0, until - time.time()))

    def abort(self, previous_id: int) -> None:
        """Write that this strand is given up because another has failed, and stop what it runs."""
        for child in self.children:
            child.abort(previous_id)
        if isinstance(self.state, Map) and self.state.is_distributed and self.cancel_work is not None:
            self.scope.journal.event("MapRunAborted", None, previous_id=previous_id)
        if self.state is not None:
            self.scope.journal.event(f"{self.state.type}StateAborted", None, previous_id=previous_id)
        self.stop_work()

    def stop_work(self) -> None:
        for child in self.children:
            child.stop_work()
        if self.cancel_work is not None:
            self.cancel_work()
            self.cancel_work = None


def answering(rules: Sequence[Retrier | Catcher], failed: StateFailed) -> int | None:
    """The index of the first of these rules that answers an error."""
    return next((index for index, rule in enumerate(rules) if failed.is_one_of(rule.error_equals)), None)


def _size(value: Json) -> int:
    return len(to_text(value).encode())


def _ignore(name: str, value: Json) -> None:
    """Nobody looks."""


def timestamp(seconds: float) -> str:
    """A time as the context object has it: "2026-11-23T07:44:18.123Z"."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def too_large(name: str) -> str:
    return (
        f"The state/task '{name}' returned a result with a size exceeding "
        "the maximum number of bytes service limit."
    )
