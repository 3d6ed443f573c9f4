"""The API of Map Runs: what a distributed Map has under way, and its limits while it runs."""

from typing import Any, cast

from stagegate.local.service import AWSError, Json
from stagegate.local.states.distributed import MAP_RUN, MapRun, child_arn
from stagegate.local.states.execution import EXECUTION, Engine
from stagegate.local.states.requests import check_arn, page
from stagegate.local.store import Store

_STATUSES = {
    "pending": ("PENDING",),
    "running": ("RUNNING",),
    "succeeded": ("SUCCEEDED",),
    "failed": ("FAILED",),
    "timedOut": ("TIMED_OUT",),
    "aborted": ("ABORTED",),
}
_DESCRIBED = (
    *("mapRunArn", "executionArn", "status", "startDate", "stopDate", "maxConcurrency", "redriveCount"),
    *("toleratedFailurePercentage", "toleratedFailureCount", "redriveDate"),
)


class MapRuns:
    """DescribeMapRun, ListMapRuns, UpdateMapRun."""

    store: Store
    engine: Engine

    def describe_map_run(self, *, mapRunArn: str) -> dict[str, Any]:
        document = self._map_run(mapRunArn)
        under_way = cast(MapRun | None, self.engine.map_runs.get(mapRunArn))
        counts = under_way.described_counts() if under_way else document.get("counts", {})
        return {
            **{name: document[name] for name in _DESCRIBED if document.get(name) is not None},
            "toleratedFailureCount": document["toleratedFailureCount"] or 0,
            "toleratedFailurePercentage": document["toleratedFailurePercentage"] or 0.0,
            "itemCounts": _counts(counts.get("items", {})),
            "executionCounts": _counts(counts.get("executions", {})),
        }

    def list_map_runs(
        self, *, executionArn: str, maxResults: int = 100, nextToken: str | None = None
    ) -> dict[str, Any]:
        """The latest first."""
        check_arn(executionArn, "states")
        machine = executionArn.replace(":execution:", ":mapRun:").rpartition(":")[0]
        runs = [
            run
            for run in self.store.list(MAP_RUN, prefix=f"{machine}/")
            if run["executionArn"] == executionArn
        ]
        members = ("executionArn", "mapRunArn", "stateMachineArn", "startDate", "stopDate")
        listed = [
            {member: run[member] for member in members if run.get(member) is not None}
            for run in reversed(runs)
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
                "At least one of the limits of the Map Run must be given",
            )
        if document["status"] != "RUNNING":
            raise AWSError("ValidationException", f"Map Run is not running: '{mapRunArn}'")
        self.store.put(MAP_RUN, mapRunArn, {**document, **changes})
        if (under_way := cast(MapRun | None, self.engine.map_runs.get(mapRunArn))) is not None:
            under_way.document = {**document, **changes}
            under_way.changed.set()
        return {}

    def map_run_executions(self, map_run_arn: str) -> list[dict[str, Any]]:
        """The child executions that have been started, in the order of the items."""
        document = self._map_run(map_run_arn)
        started = (
            self.store.get(EXECUTION, child_arn(map_run_arn, index)) for index in range(document["children"])
        )
        return [child for child in started if child is not None]

    def _map_run(self, arn: str) -> dict[str, Any]:
        check_arn(arn, "states")
        if (document := self.store.get(MAP_RUN, arn)) is None:
            raise AWSError("ResourceNotFound", f"Resource not found: '{arn}'", resourceName=arn)
        return document


def _counts(counts: dict[str, int]) -> dict[str, Json]:
    """Every member of the API's counts; nothing is written as long as the run goes on."""
    described: dict[str, Json] = {
        name: sum(counts.get(status, 0) for status in statuses) for name, statuses in _STATUSES.items()
    }
    total = sum(described.values())
    return described | {
        "total": total,
        "resultsWritten": total - described["pending"] - described["running"],
        "failuresNotRedrivable": 0,
        "pendingRedrive": 0,
    }
