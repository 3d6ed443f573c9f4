"""The API of Map Runs: what a distributed Map has under way, and its limits while it runs."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from stagegate.local.service import AWSError, Json
from stagegate.local.states.execution import Engine
from stagegate.local.states.jsontext import from_text, to_text
from stagegate.local.states.map_run import (
    MAP_RUN,
    PENDING_REDRIVE,
    RUNNING,
    UNSUCCESSFUL,
    MapRun,
    Progress,
    child_of,
    default_label,
    label_of,
    runs_of,
)
from stagegate.local.states.records import EXECUTION
from stagegate.local.states.requests import check_arn, page
from stagegate.local.store import Store

_COUNTED = {
    "pending": "PENDING",
    "running": "RUNNING",
    "succeeded": "SUCCEEDED",
    "failed": "FAILED",
    "timedOut": "TIMED_OUT",
    "aborted": "ABORTED",
}
_DESCRIBED = (
    *("mapRunArn", "executionArn", "status", "startDate", "stopDate", "maxConcurrency", "redriveCount"),
    *("toleratedFailurePercentage", "toleratedFailureCount", "redriveDate"),
)
_LISTED = ("executionArn", "mapRunArn", "stateMachineArn", "startDate", "stopDate")


class MapRuns:
    """DescribeMapRun, ListMapRuns, UpdateMapRun."""

    store: Store
    engine: Engine

    def describe_map_run(self, *, mapRunArn: str) -> dict[str, Any]:
        document = self._map_run(mapRunArn)
        counts = self._counts(document)
        are_written = bool(document.get("written"))
        return {
            **{name: document[name] for name in _DESCRIBED if document.get(name) is not None},
            "toleratedFailureCount": document["toleratedFailureCount"] or 0,
            "toleratedFailurePercentage": document["toleratedFailurePercentage"] or 0.0,
            "itemCounts": _counts(counts["items"], are_written=are_written),
            "executionCounts": _counts(counts["executions"], are_written=are_written),
        }

    def _counts(self, document: dict[str, Any]) -> dict[str, dict[str, int]]:
        if (under_way := self._under_way(document["mapRunArn"])) is not None:
            return under_way.described_counts()
        if document["status"] == RUNNING:  # not taken up again yet after a restart
            return Progress.of(self.store, document, document["redriveCount"]).counts()
        counts: dict[str, dict[str, int]] = document["counts"]
        return counts

    def list_map_runs(
        self, *, executionArn: str, maxResults: int = 100, nextToken: str | None = None
    ) -> dict[str, Any]:
        """The latest first."""
        check_arn(executionArn, "states")
        if (execution := self.store.get(EXECUTION, executionArn)) is None:
            raise AWSError("ExecutionDoesNotExist", f"Execution Does Not Exist: '{executionArn}'")
        listed = [
            {member: run[member] for member in _LISTED if run.get(member) is not None}
            for run in reversed(runs_of(self.store, execution))
        ]
        return page("mapRuns", listed, maxResults, nextToken)

    def update_map_run(
        self,
        *,
        mapRunArn: str,
        maxConcurrency: int | None = None,
        toleratedFailurePercentage: float | None = None,
        toleratedFailureCount: int | None = None,
    ) -> dict[str, Any]:
        """Counts at once for a run that is under way."""
        document = self._map_run(mapRunArn)
        given = {
            "maxConcurrency": maxConcurrency,
            "toleratedFailurePercentage": toleratedFailurePercentage,
            "toleratedFailureCount": toleratedFailureCount,
        }
        changes = {member: value for member, value in given.items() if value is not None}
        if not changes:
            raise AWSError(
                "ValidationException",
                "At least one of maxConcurrency, toleratedFailurePercentage and toleratedFailureCount "
                "must be given",
            )
        if document["status"] != RUNNING:
            raise AWSError("ValidationException", f"Map Run is not running: '{mapRunArn}'")
        self.store.put(MAP_RUN, mapRunArn, {**document, **changes})
        if (under_way := self._under_way(mapRunArn)) is not None:
            under_way.document = {**document, **changes}
            under_way.changed.set()
        return {}

    def map_run_executions(
        self, map_run_arn: str, *, before: int | None = None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """The child executions that have been started, the last item's first, each with its place.

        Only those before a place; what is not asked for is not read.
        """
        run = self._map_run(map_run_arn)
        return self._started(run, run["children"] if before is None else before)

    def _started(self, run: dict[str, Any], before: int) -> Iterator[tuple[int, dict[str, Any]]]:
        under_way = self._under_way(run["mapRunArn"])
        for index in range(before - 1, -1, -1):
            if (child := child_of(self.store, run, index)) is None:
                continue
            if child["status"] in UNSUCCESSFUL and under_way and under_way.statuses[index] == PENDING_REDRIVE:
                child["status"] = PENDING_REDRIVE
            yield index, child

    def _under_way(self, arn: str) -> MapRun | None:
        return cast(MapRun | None, self.engine.map_runs.get(arn))

    def _map_run(self, arn: str) -> dict[str, Any]:
        check_arn(arn, "states")
        if (document := self.store.get(MAP_RUN, arn)) is None:
            raise AWSError("ResourceNotFound", f"Resource not found: '{arn}'", resourceName=arn)
        return document


def _counts(counts: Mapping[str, int], *, are_written: bool) -> dict[str, Json]:
    """Every member of the API's counts."""
    total = sum(counts.values())
    return {
        **{name: counts.get(status, 0) for name, status in _COUNTED.items()},
        "total": total,
        "resultsWritten": total if are_written else 0,
        "failuresNotRedrivable": 0,
        "pendingRedrive": counts.get(PENDING_REDRIVE, 0),
    }


def of_processor(machine: Mapping[str, Any], child: Mapping[str, Any]) -> dict[str, Any]:
    """The state machine of a child execution: what the Map does with each item, as a definition."""
    definition = from_text(machine["definition"])
    processor = _processor(definition, lambda name, state: name == child["processorOf"])
    assert processor is not None
    return {
        **machine,
        "definition": _as_definition(processor, definition),
        "stateMachineArn": child["stateMachineArn"],
        "mapRunArn": child["mapRunArn"],
        "label": label_of(child["mapRunArn"]),
    }


def labelled_processor(definition: str, label: str) -> str | None:
    """What the distributed Map with this label does with each item, as a definition."""
    machine = from_text(definition)
    processor = _processor(machine, lambda name, state: state.get("Label", default_label(name)) == label)
    return None if processor is None else _as_definition(processor, machine)


def _as_definition(processor: Mapping[str, Any], machine: Mapping[str, Any]) -> str:
    own = {name: value for name, value in processor.items() if name != "ProcessorConfig"}
    if "QueryLanguage" in machine:
        own.setdefault("QueryLanguage", machine["QueryLanguage"])
    return to_text(own)


def _processor(
    program: Mapping[str, Any], is_meant: Callable[[str, Mapping[str, Any]], bool]
) -> dict[str, Any] | None:
    """The item processor of the Map that is meant, wherever it stands in a definition."""
    for name, state in program["States"].items():
        inside = [*state.get("Branches", ())]
        if state["Type"] == "Map":
            processor: dict[str, Any] = state.get("ItemProcessor") or state["Iterator"]
            if is_meant(name, state):
                return processor
            inside.append(processor)
        for part in inside:
            if (found := _processor(part, is_meant)) is not None:
                return found
    return None
