"""Parallel and Map: several strands at once. When one fails, the others are given up and the state fails."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from stagegate.local.service import Json
from stagegate.local.states.definition import Map, Parallel, Program, Task
from stagegate.local.states.errors import QUERY_EVALUATION_ERROR, EvaluationFailed, StateFailed
from stagegate.local.states.jsontext import to_text
from stagegate.local.states.strand import Outcome, Strand, Visit
from stagegate.local.states.templates import Setting


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A branch of a Parallel, or an iteration of a Map (`item` is then its part of the context object)."""

    index: int
    program: Program
    input: Json
    item: Json = None


async def perform_parallel(visit: Visit, state: Parallel) -> Outcome:
    data = visit.arguments(state.parameters, visit.effective_input())
    if not visit.is_resumed:
        visit.strand.scope.event("ParallelStateStarted")
    branches = [
        Branch(index=index, program=program, input=data) for index, program in enumerate(state.branches)
    ]
    outputs = await Fork(visit, branches, is_map=False).run(concurrency=len(branches))
    visit.strand.scope.event("ParallelStateSucceeded", leads_on=False)
    return visit.outcome_of_work(outputs, result_path=state.result_path, selector=state.result_selector)


async def perform_map(visit: Visit, state: Map) -> Outcome:
    """The inline Map; the distributed one is in `distributed.py`."""
    data = visit.effective_input()
    items = map_items(visit, state, data)
    concurrency = max_concurrency(visit, state, data) or len(items)
    if not visit.is_resumed:
        visit.strand.scope.event("MapStateStarted", {"length": len(items)})
    inputs = [item_input(visit, state, data, item_context(index, item)) for index, item in enumerate(items)]
    branches = [
        Branch(index=index, program=state.item_processor, input=input, item=item_context(index, item))
        for index, (item, input) in enumerate(zip(items, inputs, strict=True))
    ]
    outputs = await Fork(visit, branches, is_map=True).run(concurrency=concurrency)
    visit.strand.scope.event("MapStateSucceeded", leads_on=False)
    return visit.outcome_of_work(outputs, result_path=state.result_path, selector=state.result_selector)


def map_items(visit: Visit, state: Map, data: Json) -> Any:
    """The items that the state's input has for a Map: an array, for a distributed one also an object."""
    if state.is_jsonata:
        items = visit.input if state.items is None else state.items(visit.values(data))
    else:
        items = visit.at(state.items_path, data)
    if isinstance(items, list) or (state.is_distributed and isinstance(items, dict)):
        if not state.is_jsonata:
            visit.inspect("afterItemsPath", items)
        return items
    if not state.is_jsonata:
        path = state.items_path.replace("$$", "$", 1)  # as AWS writes it
        raise EvaluationFailed(f'Reference path "{path}" must point to array.')
    raise EvaluationFailed(
        f"The Items field must be an array, but is {to_text(items)}",
        error=QUERY_EVALUATION_ERROR,
        location="Items",
    )


def max_concurrency(visit: Visit, state: Map, data: Json) -> int:
    """How many iterations go on at once; 0 for as many as there are."""
    setting = state.max_concurrency
    if setting is None:
        return 0
    value = setting.evaluate(visit.values(data))
    try:
        number = int(value if isinstance(value, str) and not state.is_jsonata else to_text(value))
    except ValueError:
        shown = value if isinstance(value, str) else to_text(value)
        raise _refused(
            state,
            setting,
            f'The {setting.field} field refers to value "{shown}" which is not a valid integer: '
            f"{setting.written}",
        ) from None
    if number < 0:
        raise _refused(state, setting, f"{setting.field} cannot be negative.")
    return number


def _refused(state: Map, setting: Setting, cause: str) -> EvaluationFailed:
    if state.is_jsonata:
        return EvaluationFailed(cause, error=QUERY_EVALUATION_ERROR, location=setting.field)
    return EvaluationFailed(cause)


def item_context(index: int, item: Json) -> dict[str, Json]:
    """What the context object has as `Map` for an item."""
    return {"Item": {"Index": index, "Value": item}}


def item_input(visit: Visit, state: Map, data: Json, item: dict[str, Json]) -> Json:
    """What an iteration begins with: the item, or what ItemSelector makes of it."""
    if state.parameters is None:
        return item["Item"]["Value"]
    values = visit.values(data)
    return state.parameters(replace(values, context=lambda: {**values.context(), "Map": item}))


class Fork:
    """The strands of one Parallel or Map, in one attempt."""

    def __init__(self, visit: Visit, branches: Sequence[Branch], *, is_map: bool) -> None:
        self.visit = visit
        self.strand = visit.strand
        self.scope = visit.strand.scope
        self.path = self.scope.fork(is_resumed=visit.is_resumed)
        self.is_map = is_map
        self.waiting = deque(branches)
        self.outputs: list[Json] = [None] * len(branches)
        self.last_id = self.scope.last_id
        self.failed: StateFailed | None = None
        self.workers: list[asyncio.Task[None]] = []

    async def run(self, *, concurrency: int) -> list[Json]:
        """The outputs, in the order of the branches."""
        self.scope.take_redrive()
        if failure := self.scope.next_fact("failed"):
            self.scope.last_id = failure["last"]
            raise _as_state_failed(failure)
        started = min(concurrency, len(self.waiting))
        first = [self._begin(self.waiting.popleft(), self.scope.last_id) for _ in range(started)]
        self.workers = [asyncio.create_task(self._work(branch, strand)) for branch, strand in first]
        try:
            await asyncio.gather(*self.workers)
        except (StateFailed, asyncio.CancelledError):
            if self.failed is None:
                raise
        finally:
            for worker in self.workers:
                worker.cancel()
            await asyncio.gather(*self.workers, return_exceptions=True)
            self.strand.children.clear()
        if self.failed is not None:
            raise self.failed
        self.scope.last_id = self.last_id
        return self.outputs

    def _begin(self, branch: Branch, previous_id: int) -> tuple[Branch, Strand]:
        context = self.strand.context if branch.item is None else {**self.strand.context, "Map": branch.item}
        strand = Strand(
            self.strand.execution,
            branch.program,
            self.scope.journal.scope(f"{self.path}.{branch.index}", previous_id),
            variables=self.strand.variables,
            context=context,
        )
        if self.is_map:
            strand.scope.event("MapIterationStarted", self._iteration(branch))
        self.strand.children.append(strand)
        return branch, strand

    async def _work(self, branch: Branch, strand: Strand) -> None:
        """Go through `branch`, then through those that wait, one after the other."""
        while True:
            try:
                self.outputs[branch.index] = await strand.run(branch.input)
            except StateFailed as failed:
                self._fail(failed, branch, strand)
                raise
            self._succeed(branch, strand)
            if not self.waiting:
                return
            branch, strand = self._begin(self.waiting.popleft(), strand.scope.last_id)

    def _succeed(self, branch: Branch, strand: Strand) -> None:
        self.strand.children.remove(strand)
        last_id = strand.scope.last_id
        if self.is_map:
            last_id = strand.scope.event("MapIterationSucceeded", self._iteration(branch), leads_on=False).id
        self.last_id = max(self.last_id, last_id)

    def _fail(self, failed: StateFailed, branch: Branch, strand: Strand) -> None:
        """Write the failure, and that the other strands are given up, in one step: no other may go on."""
        for worker in self.workers:
            if worker is not asyncio.current_task():
                worker.cancel()
        journal, last_id = self.scope.journal, strand.scope.last_id
        if self.is_map:
            journal.event("MapIterationFailed", self._iteration(branch), previous_id=last_id)
        if isinstance(strand.state, Task):
            # AWS writes it for the task that failed too: recorded executions have it.
            journal.event("TaskStateAborted", None, previous_id=last_id)
        for other in self.strand.children:
            if other is strand:
                continue
            if self.is_map:
                iteration = {"index": other.context["Map"]["Item"]["Index"], "name": self.visit.state.name}
                journal.event("MapIterationAborted", iteration, previous_id=last_id)
            other.abort(last_id)
        failure = {
            "error": failed.error,
            "cause": failed.cause,
            "from_task": failed.from_task,
            "heartbeat": failed.heartbeat,
            "last": last_id,
        }
        self.scope.fact(lambda: {"failed": failure})
        self.scope.last_id = last_id
        self.failed = _as_state_failed(failure)

    def _iteration(self, branch: Branch) -> dict[str, Json]:
        return {"index": branch.index, "name": self.visit.state.name}


def _as_state_failed(failure: dict[str, Json]) -> StateFailed:
    return StateFailed(
        failure["error"],
        failure["cause"],
        from_task=failure["from_task"],
        heartbeat=failure["heartbeat"],
        has_failed_inside=True,
    )
