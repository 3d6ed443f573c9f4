"""The distributed Map: a Map Run, which has an execution of its own for each item, or each batch of items."""

import asyncio
import uuid
from dataclasses import replace

from stagegate.local.service import AWSError, Json
from stagegate.local.states.branches import item_context, map_items, max_concurrency
from stagegate.local.states.definition import Map
from stagegate.local.states.errors import (
    DATA_LIMIT_EXCEEDED,
    PERMISSIONS,
    QUERY_EVALUATION_ERROR,
    EvaluationFailed,
    StateFailed,
)
from stagegate.local.states.item_batcher import make_batches
from stagegate.local.states.item_reader import Item, items_of, read_items
from stagegate.local.states.journal import Redriven
from stagegate.local.states.jsontext import to_text
from stagegate.local.states.map_run import (
    FAILED,
    MAP_RUN,
    SUCCEEDED,
    MapRun,
    default_label,
    machine_of,
    new_map_run,
)
from stagegate.local.states.paths import Values
from stagegate.local.states.result_writer import transformed, write_results
from stagegate.local.states.strand import MAXIMUM_DATA, Outcome, Visit, too_large
from stagegate.local.states.templates import Setting

_COMPACT = {"Transformation": "COMPACT"}
_ITEMS_BEFORE_OTHERS = 100


async def perform_distributed_map(visit: Visit, state: Map) -> Outcome:
    scope = visit.strand.scope
    data = visit.effective_input()
    items = None if state.item_reader is not None else items_of(map_items(visit, state, data))
    concurrency = max_concurrency(visit, state, data)
    if visit.is_resumed:
        generation = _redriven(visit)
    else:
        generation = 0
        scope.event("MapStateStarted", {"length": 0 if items is None else len(items)})
        limits = tolerated_failures(visit, state, data) | {"maxConcurrency": concurrency}
        visit.map_run_arn = scope.fact(lambda: _new_arn(visit, state))
        scope.event("MapRunStarted", {"mapRunArn": visit.map_run_arn})
        _remember(visit, state, limits)
    started_id = scope.last_id
    if scope.take_redrive():
        raise Redriven
    if scope.is_replaying:
        outcome = scope.replayed_fact()
    else:
        outcome = await _run(visit, state, data, items=items, generation=generation)
    if "error" in outcome:
        scope.event("MapRunFailed", outcome)
        raise StateFailed(outcome["error"], outcome.get("cause"), has_failed_inside=True)
    scope.event("MapRunSucceeded")
    scope.event("MapStateSucceeded", leads_on=False)
    if state.is_jsonata or visit.entered.previous_id:
        # AWS does it so since late in 2024; the older recordings, mostly of a single Map, go on from the end.
        scope.last_id = started_id
    if "result" not in outcome:
        raise StateFailed(DATA_LIMIT_EXCEEDED, too_large(state.name))
    return visit.outcome_of_work(
        outcome["result"], result_path=state.result_path, selector=state.result_selector
    )


def _redriven(visit: Visit) -> int:
    """Write that the Map Run is redriven; gives how often it was by then."""
    run = visit.strand.execution.engine.runtime.store.get(MAP_RUN, visit.map_run_arn)
    assert run is not None
    details = {"mapRunArn": visit.map_run_arn, "redriveCount": run["redriveCount"] + 1}
    event = visit.strand.scope.event("MapRunRedriven", details)
    assert event.details is not None
    return int(event.details["redriveCount"])


def _new_arn(visit: Visit, state: Map) -> str:
    machine = machine_of(visit.strand.execution.document).replace(":stateMachine:", ":mapRun:")
    label = state.label or default_label(state.name)
    return f"{machine}/{label}:{uuid.uuid4()}"


def _remember(visit: Visit, state: Map, limits: dict[str, Json]) -> None:
    execution = visit.strand.execution
    new_map_run(
        execution.engine.runtime.store,
        visit.map_run_arn,
        parent=execution.document,
        state=state,
        limits=limits,
    )


def tolerated_failures(visit: Visit, state: Map, data: Json) -> dict[str, Json]:
    """How many children may fail, by number and by percentage; None where the definition does not say."""
    count = _number(visit, state, state.tolerated_failure_count, data, kind=int)
    percentage = _number(visit, state, state.tolerated_failure_percentage, data, kind=float)
    if count is not None and count < 0:
        raise _refused(state, "ToleratedFailureCount", "ToleratedFailureCount cannot be negative.")
    if percentage is not None and not 0 <= percentage <= 100:
        cause = "ToleratedFailurePercentage must be between 0 and 100."
        raise _refused(state, "ToleratedFailurePercentage", cause)
    return {"toleratedFailureCount": count, "toleratedFailurePercentage": percentage}


def _number(
    visit: Visit, state: Map, setting: Setting | None, data: Json, *, kind: type[int] | type[float]
) -> int | float | None:
    if setting is None:
        return None
    value = setting.evaluate(visit.values(data))
    try:
        return kind(value if isinstance(value, str) and not state.is_jsonata else to_text(value))
    except ValueError:
        shown = value if isinstance(value, str) else to_text(value)
        expected = "integer" if kind is int else "float"
        cause = (
            f'The {setting.field} field refers to value "{shown}" which is not a valid {expected}: '
            f"{setting.written}"
        )
        raise _refused(state, setting.field, cause) from None


def _refused(state: Map, field: str, cause: str) -> EvaluationFailed:
    if state.is_jsonata:
        return EvaluationFailed(cause, error=QUERY_EVALUATION_ERROR, location=field)
    return EvaluationFailed(cause)


async def _run(
    visit: Visit, state: Map, data: Json, *, items: list[Item] | None, generation: int
) -> dict[str, Json]:
    """Run the children; what the Map Run comes to is recorded when it is known."""
    execution = visit.strand.execution
    run = MapRun(execution.engine, execution.document, visit.map_run_arn)
    visit.strand.cancel_work = run.abort
    try:
        if not run.is_prepared:
            await _prepare(run, visit, state, data, items=items)
        outcome = await _outcome(run, visit, state, data, generation=generation)
    except (StateFailed, EvaluationFailed) as failed:
        outcome = _failure(failed)
        run.end(FAILED)
    visit.strand.cancel_work = None
    visit.strand.scope.fact(lambda: outcome)
    visit.strand.scope.journal.flush()  # into the same transaction as the end of the run
    return outcome


async def _prepare(run: MapRun, visit: Visit, state: Map, data: Json, *, items: list[Item] | None) -> None:
    """Read the items, and make of them what the children begin with."""
    values = _unrecorded(visit, data)
    await _authorize(visit)
    if items is None:
        assert state.item_reader is not None
        items = await read_items(visit.strand.execution.as_role().aws, state.item_reader, values)
    inputs = []
    for index, item in enumerate(items):
        inputs.append(selected_input(state, values, index, item))
        if index % _ITEMS_BEFORE_OTHERS == 0:
            await asyncio.sleep(0)
    await run.prepare(make_batches(state.item_batcher, inputs, values))


async def _authorize(visit: Visit) -> None:
    """The children are started by the role, as executions of its own state machine."""
    execution = visit.strand.execution
    try:
        await execution.as_role().authorize("states:StartExecution", execution.document["stateMachineArn"])
    except AWSError as error:
        raise StateFailed(PERMISSIONS, error.message) from error


def _unrecorded(visit: Visit, data: Json) -> Values:
    """What is random or of the clock is not recorded one by one here: what comes of it is stored itself."""
    return replace(visit.values(data), record=lambda produce: produce())


def selected_input(state: Map, values: Values, index: int, item: Item) -> Json:
    """What a child begins with, where there are no batches."""
    if state.parameters is None:
        return item.value
    context = _context(index, item)
    return state.parameters(replace(values, context=lambda: {**values.context(), "Map": context}))


async def _outcome(run: MapRun, visit: Visit, state: Map, data: Json, *, generation: int) -> dict[str, Json]:
    """What the children come to together: a result, or an error. Written to S3 where the Map says so."""
    failure: StateFailed | None = None
    try:
        await run.perform(generation)
    except StateFailed as failed:
        failure = failed  # what there is by then is written all the same
    writer = state.result_writer
    outcome: dict[str, Json] = {}
    if writer is not None and writer.resource is not None:
        place = {} if writer.parameters is None else writer.parameters(_unrecorded(visit, data))
        written = await write_results(
            visit.strand.execution.as_role().aws,
            writer.config,
            place,
            run=run.document,
            children=run.children(),
        )
        run.save(files=written.files, writtenGeneration=generation)
        outcome = {"result": written.result}
    elif failure is None:
        outcome = _collected(run, state)
    run.end(SUCCEEDED if failure is None else FAILED, are_results_written=True)
    return outcome if failure is None else _failure(failure)


def _failure(failed: StateFailed | EvaluationFailed) -> dict[str, Json]:
    return {name: text for name, text in (("error", failed.error), ("cause", failed.cause)) if text}


def _collected(run: MapRun, state: Map) -> dict[str, Json]:
    """The result of a Map that writes none: what the children gave. Nothing where that is too much."""
    is_wanted = state.is_jsonata or state.result_path or state.result_selector or state.assign
    if not is_wanted:
        return {"result": None}
    config = _COMPACT if state.result_writer is None else state.result_writer.config
    result: list[Json] = []
    size = 0
    for child in run.children():
        part = transformed(config, child)
        size += len(to_text(part))
        if size > MAXIMUM_DATA:
            return {}
        result += part
    return {"result": result}


def _context(index: int, item: Item) -> dict[str, Json]:
    context = item_context(index, item.value)
    context["Item"]["Source"] = item.source
    if item.key is not None:
        context["Item"] |= {"Key": item.key, "Value": item.value["Value"]}
    return context
