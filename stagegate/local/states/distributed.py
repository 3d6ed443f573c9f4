"""The distributed Map: a Map Run, which has an execution of its own for each item, or each batch of items.

What the run works on is in the store before its first child starts. After a restart it goes on from there:
a child that has ended is not run again, and the items are not read again.
"""

import asyncio
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from stagegate.local.service import Json
from stagegate.local.states import execution as executions
from stagegate.local.states.branches import item_context, item_input, map_items, max_concurrency
from stagegate.local.states.definition import Map
from stagegate.local.states.errors import EvaluationFailed, StateFailed
from stagegate.local.states.item_batcher import Batch, make_batches
from stagegate.local.states.item_reader import Item, items_of, read_items
from stagegate.local.states.journal import Redriven
from stagegate.local.states.jsontext import from_text, to_text
from stagegate.local.states.result_writer import transformed, write_results
from stagegate.local.states.strand import Outcome, Visit
from stagegate.local.states.templates import Setting

MAP_RUN = "stepfunctions/map-run"
MAXIMUM_CHILDREN = 10_000
"""How many children run at once when MaxConcurrency is 0."""

_EXCEEDED = "States.ExceedToleratedFailureThreshold"
_ENTRIES_AT_ONCE = 100
_STARTS_BEFORE_OTHERS = 20
_PENDING, _RUNNING, _SUCCEEDED, _FAILED, _TIMED_OUT, _ABORTED = (
    *("PENDING", "RUNNING", "SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"),
)


async def perform_distributed_map(visit: Visit, state: Map) -> Outcome:
    scope = visit.strand.scope
    data = visit.effective_input()
    items = None if state.item_reader is not None else items_of(map_items(visit, state, data))
    concurrency = max_concurrency(visit, state, data)
    if visit.is_resumed:
        redrives = visit.strand.execution.document["redriveCount"]
        scope.event("MapRunRedriven", {"mapRunArn": visit.map_run_arn, "redriveCount": redrives})
    else:
        scope.event("MapStateStarted", {"length": 0 if items is None else len(items)})
        limits = tolerated_failures(visit, state, data) | {"maxConcurrency": concurrency}
        visit.map_run_arn = scope.fact(lambda: _new_arn(visit, state))
        scope.event("MapRunStarted", {"mapRunArn": visit.map_run_arn})
        _remember(visit, limits)
    if scope.take_redrive():
        raise Redriven
    outcome = scope.replayed_fact() if scope.is_replaying else await _run(visit, state, data, items)
    if "error" in outcome:
        scope.event("MapRunFailed", outcome)
        raise StateFailed(outcome["error"], outcome.get("cause"), has_failed_inside=True)
    scope.event("MapRunSucceeded")
    scope.event("MapStateSucceeded", leads_on=False)
    return visit.outcome_of_work(
        outcome["result"], result_path=state.result_path, selector=state.result_selector
    )


async def _run(visit: Visit, state: Map, data: Json, items: list[Item] | None) -> dict[str, Json]:
    """Run the children; what the Map Run comes to is recorded when it is known."""
    run = MapRun(visit, state)
    visit.strand.cancel_work = run.abort
    try:
        if not run.is_prepared:
            await run.prepare(data, items)
        outcome = await run.perform()
    except (StateFailed, EvaluationFailed) as failed:
        outcome = {name: text for name, text in (("error", failed.error), ("cause", failed.cause)) if text}
        run.end(_FAILED)
    visit.strand.cancel_work = None
    visit.strand.scope.fact(lambda: outcome)
    return outcome


def tolerated_failures(visit: Visit, state: Map, data: Json) -> dict[str, Json]:
    """How many children may fail, by number and by percentage; None where the definition does not say."""
    count = _number(visit, state.tolerated_failure_count, data)
    percentage = _number(visit, state.tolerated_failure_percentage, data)
    if count is not None and count < 0:
        raise EvaluationFailed("ToleratedFailureCount cannot be negative.")
    if percentage is not None and not 0 <= percentage <= 100:
        raise EvaluationFailed("ToleratedFailurePercentage must be between 0 and 100.")
    return {"toleratedFailureCount": count, "toleratedFailurePercentage": percentage}


def _number(visit: Visit, setting: Setting | None, data: Json) -> int | float | None:
    if setting is None:
        return None
    value = setting.evaluate(visit.values(data))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EvaluationFailed(
            f'The {setting.field} field refers to value "{to_text(value)}" which is not a valid number: '
            f"{setting.written}"
        )
    return value


def _new_arn(visit: Visit, state: Map) -> str:
    machine = visit.strand.execution.document["stateMachineArn"].replace(":stateMachine:", ":mapRun:")
    label = state.label or str(uuid.uuid5(uuid.NAMESPACE_URL, state.name))
    return f"{machine}/{label}:{uuid.uuid4()}"


def _remember(visit: Visit, limits: dict[str, Json]) -> None:
    """The Map Run as the API describes it; after a restart it is there already, perhaps updated."""
    execution = visit.strand.execution
    store = execution.engine.runtime.store
    if store.get(MAP_RUN, visit.map_run_arn) is None:
        document = {
            "mapRunArn": visit.map_run_arn,
            "executionArn": execution.arn,
            "stateMachineArn": execution.document["stateMachineArn"],
            "status": _RUNNING,
            "startDate": datetime.now(UTC),
            "redriveCount": 0,
            "children": 0,
            **limits,
        }
        store.put(MAP_RUN, visit.map_run_arn, document)


class MapRun:
    """A Map Run that is under way."""

    def __init__(self, visit: Visit, state: Map) -> None:
        self.visit = visit
        self.state = state
        self.engine = visit.strand.execution.engine
        self.store = self.engine.runtime.store
        self.arn = visit.map_run_arn
        self.changed = asyncio.Event()
        """Set when a child has ended, or UpdateMapRun has changed the limits."""
        document = self.store.get(MAP_RUN, self.arn)
        assert document is not None
        self.document = document
        self.batches: list[Batch] = [_stored_batch(entry) for entry in self._entries()]
        self.statuses: list[str] = []
        self.counts: Counter[str] = Counter()
        self.engine.map_runs[self.arn] = self

    @property
    def is_prepared(self) -> bool:
        """Whether its items are in the store, all of them."""
        return bool(self.document.get("isPrepared"))

    def _entries(self) -> Iterator[dict[str, Json]]:
        if self.is_prepared:
            for entry in self.store.read(self._stream):
                yield from entry["batches"]

    @property
    def _stream(self) -> str:
        return f"stepfunctions/items/{self.arn}"

    async def prepare(self, data: Json, items: list[Item] | None) -> None:
        """Read the items, and write down what each child is to work on."""
        visit, state = self.visit, self.state
        if items is None:
            assert state.item_reader is not None
            items = await read_items(self.engine.runtime.aws, state.item_reader, visit.values(data))
        inputs = [item_input(visit, state, data, _context(index, item)) for index, item in enumerate(items)]
        self.batches = make_batches(state.item_batcher, inputs, visit.values(data))
        self.store.delete_stream(self._stream)
        for begin in range(0, len(self.batches), _ENTRIES_AT_ONCE):
            chunk = self.batches[begin : begin + _ENTRIES_AT_ONCE]
            entries = [{"input": to_text(batch.input), "items": batch.item_count} for batch in chunk]
            self.store.append(self._stream, {"batches": entries})
            await asyncio.sleep(0)
        self._save(isPrepared=True, children=len(self.batches))

    async def perform(self) -> dict[str, Json]:
        """Run the children that have not succeeded, and gather what they come to."""
        if self.document["status"] != _RUNNING:
            redrives = self.document["redriveCount"] + 1
            self._save(status=_RUNNING, redriveCount=redrives, redriveDate=datetime.now(UTC), stopDate=None)
        for index in range(len(self.batches)):
            child = self.store.get(executions.EXECUTION, self.child_arn(index))
            self.statuses.append(_PENDING if child is None or self._is_redriven(child) else child["status"])
        self.counts = Counter(self.statuses)
        waiting = [index for index, status in enumerate(self.statuses) if status == _PENDING]
        waiting.reverse()
        while True:
            self.changed.clear()
            started = 0
            while waiting and self._has_room() and not self._is_exceeded():
                self._start(waiting.pop())
                started += 1
                if started % _STARTS_BEFORE_OTHERS == 0:
                    await asyncio.sleep(0)
            if self._is_exceeded():
                self._stop_children()
                await self._write()
                self.end(_FAILED)
                cause = "The specified tolerated failure threshold was exceeded"
                return {"error": _EXCEEDED, "cause": cause}
            if not waiting and not self.counts[_RUNNING]:
                break
            if not self.changed.is_set():
                await self.changed.wait()
        result = await self._write()
        self.end(_SUCCEEDED)
        return {"result": result}

    def _is_redriven(self, child: dict[str, Any]) -> bool:
        """Whether the redrive of the run is to run the child again, and has not done so yet."""
        began = child.get("redriveDate", child["startDate"])
        return (
            child["status"] in (_FAILED, _TIMED_OUT, _ABORTED)
            and self.document.get("redriveDate") is not None
            and began < self.document["redriveDate"]
        )

    def _has_room(self) -> bool:
        return self.counts[_RUNNING] < (self.document["maxConcurrency"] or MAXIMUM_CHILDREN)

    def _is_exceeded(self) -> bool:
        failed = sum(self.counts[status] for status in (_FAILED, _TIMED_OUT, _ABORTED))
        count, percentage = (
            self.document["toleratedFailureCount"],
            self.document["toleratedFailurePercentage"],
        )
        if count is None and percentage is None:
            return failed > 0
        if count is not None and failed > count:
            return True
        return percentage is not None and failed * 100 > percentage * len(self.batches)

    def _move(self, index: int, status: str) -> None:
        self.counts[self.statuses[index]] -= 1
        self.counts[status] += 1
        self.statuses[index] = status

    def child_arn(self, index: int) -> str:
        """The child of an item has a name of its own that is always the same, so that it is found again."""
        return child_arn(self.arn, index)

    def _start(self, index: int) -> None:
        self._move(index, _RUNNING)
        arn = self.child_arn(index)
        if (existing := self.store.get(executions.EXECUTION, arn)) is not None:
            executions.redrive(self.engine, existing)
            return
        parent = self.visit.strand.execution.document
        label = self.arn.rpartition("/")[2].partition(":")[0]
        executions.begin(
            self.engine,
            {
                "executionArn": arn,
                "stateMachineArn": f"{parent['stateMachineArn']}/{label}",
                "name": arn.rpartition(":")[2],
                "status": _RUNNING,
                "startDate": datetime.now(UTC),
                "input": to_text(self.batches[index].input),
                "roleArn": parent["roleArn"],
                "revision": parent["revision"],
                "redriveCount": 0,
                "mapRunArn": self.arn,
                "itemCount": self.batches[index].item_count,
                "index": index,
                "processorOf": self.state.name,
            },
        )

    def child_ended(self, child: dict[str, Any]) -> None:
        if self.statuses:  # a restart has the children go on before their parent looks
            self._move(child["index"], child["status"])
        self.changed.set()

    def abort(self) -> None:
        """The parent is stopped, has failed, or has run out of time."""
        self._stop_children()
        self.end(_ABORTED)

    def _stop_children(self) -> None:
        for index, status in enumerate(self.statuses):
            if status == _RUNNING and (child := self.engine.running.get(self.child_arn(index))):
                child.stop(None, None)

    def end(self, status: str) -> None:
        self.engine.map_runs.pop(self.arn, None)
        self._save(status=status, stopDate=datetime.now(UTC), counts=self.described_counts())

    def described_counts(self) -> dict[str, dict[str, int]]:
        """How many executions and items are in each status."""
        items: Counter[str] = Counter()
        for batch, status in zip(self.batches, self.statuses, strict=False):
            items[status] += batch.item_count
        return {"executions": dict(self.counts), "items": dict(items)}

    def children(self) -> Iterator[dict[str, Any]]:
        for index in range(len(self.batches)):
            if (child := self.store.get(executions.EXECUTION, self.child_arn(index))) is not None:
                yield child

    async def _write(self) -> Json:
        """The Map's result: what the children gave, or where it was written."""
        if self.state.result_writer is None:
            return [from_text(child["output"]) for child in self.children() if child["status"] == _SUCCEEDED]
        writer, values = self.state.result_writer, self.visit.values(self.visit.input)
        if writer.resource is None:
            return transformed(writer.config, self.children())
        return await write_results(self.engine.runtime.aws, writer, values, self.arn, self.children())

    def _save(self, **members: Json) -> None:
        self.document = {**(self.store.get(MAP_RUN, self.arn) or self.document), **members}
        self.store.put(MAP_RUN, self.arn, self.document)


def _context(index: int, item: Item) -> dict[str, Json]:
    context = item_context(index, item.value)
    context["Item"]["Source"] = item.source
    if item.key is not None:
        context["Item"] |= {"Key": item.key, "Value": item.value["Value"]}
    return context


def child_arn(map_run_arn: str, index: int) -> str:
    prefix, _, run = map_run_arn.replace(":mapRun:", ":execution:").rpartition(":")
    return f"{prefix}:{uuid.uuid5(uuid.UUID(run), str(index))}"


def _stored_batch(entry: dict[str, Json]) -> Batch:
    return Batch(input=from_text(entry["input"]), item_count=entry["items"])
