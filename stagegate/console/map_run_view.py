"""A Map Run as its page and its parent's show it: how many items came to what, its limits, its results."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from botocore.exceptions import ClientError

from stagegate.aws import Services, error_code
from stagegate.console.calls import map_run_page
from stagegate.console.run_definition import definition_of, result_place
from stagegate.console.run_history import history_of
from stagegate.console.run_list import read_json
from stagegate.console.visits import Visit
from stagegate.errors import NotFound

PARENT_SECONDS = 1.0
"""For how long its parent's history is read for the state that it is the work of."""
COUNTS = {
    "pending": "Waiting",
    "running": "Running",
    "succeeded": "Succeeded",
    "failed": "Failed",
    "timedOut": "Timed out",
    "aborted": "Aborted",
    "pendingRedrive": "To be redriven",
    "total": "All",
}
"""The members of the counts, in the order in which they are shown."""


@dataclass(frozen=True)
class MapRunView:
    """One look at a Map Run."""

    services: Services
    described: dict[str, Any]

    @property
    def arn(self) -> str:
        arn: str = self.described["mapRunArn"]
        return arn

    @property
    def name(self) -> str:
        return self.arn.rpartition(":")[2]

    @property
    def page(self) -> str:
        return map_run_page(self.arn)

    @property
    def parent(self) -> str:
        """The ARN of the execution that it is a part of."""
        arn: str = self.described["executionArn"]
        return arn

    @property
    def is_running(self) -> bool:
        status: str = self.described["status"]
        return status == "RUNNING"

    @property
    def seconds(self) -> float:
        """Since its start, its redrives included."""
        started: datetime = self.described["startDate"]
        return ((self.described.get("stopDate") or datetime.now(UTC)) - started).total_seconds()

    @property
    def counts(self) -> str:
        """Of its items, as those of a Map without a Map Run."""
        items = self.described["itemCounts"]
        failed = items["failed"] + items["timedOut"]
        return f"{items['succeeded']} of {items['total']} items" + (f", {failed} failed" if failed else "")

    @property
    def count_rows(self) -> list[tuple[str, int, int]]:
        """What they came to, with how many items and how many executions; those that there are."""
        items, executions = self.described["itemCounts"], self.described["executionCounts"]
        rows = [(said, items.get(name, 0), executions.get(name, 0)) for name, said in COUNTS.items()]
        return [row for row in rows if row[1] or row[2]] or rows[-1:]

    @cached_property
    def visit(self) -> Visit | None:
        """The Map state that it is the work of; None where the parent's history is gone, or not read yet."""
        history = history_of(self.services, self.parent)
        try:
            history.look(seconds=PARENT_SECONDS)
            told = history.read_on(seconds=PARENT_SECONDS)
        except ClientError as error:
            if error_code(error) == "ExecutionDoesNotExist":
                return None
            raise
        maps = (
            visit
            for story in (told.story, told.latest_story)
            for tally in story.tallies.values()
            for visit in tally.visits
            if visit.kind == "Map"
        )
        return next((visit for visit in maps if self.arn in visit.map_runs), None)

    @property
    def result(self) -> str:
        """Where its results are, or will be."""
        definition = definition_of(self.services, self.parent) if self.visit else {}
        return result_of(definition, self.visit, self.arn) if self.visit else ""


def read_map_run(services: Services, map_run_arn: str) -> MapRunView:
    """Raises NotFound."""
    try:
        described = services("stepfunctions").describe_map_run(mapRunArn=map_run_arn)
    except ClientError as error:
        if error_code(error) in ("ResourceNotFound", "InvalidArn", "ValidationException"):
            raise NotFound(f"There is no Map Run '{map_run_arn}'.") from error
        raise
    return MapRunView(services, described)


def result_of(definition: Mapping[str, Any], visit: Visit, map_run_arn: str) -> str:
    """Where a Map Run has written its results, or will; "" where that isn't known, or it writes none."""
    return _written(read_json(visit.output), map_run_arn) or result_place(definition, visit.name, map_run_arn)


def _written(output: Any, map_run_arn: str) -> str:
    """The manifest that a Map's output names, wherever in it that stands."""
    waiting = [output]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            details = value.get("ResultWriterDetails")
            if value.get("MapRunArn") == map_run_arn and isinstance(details, dict):
                return f"s3://{details.get('Bucket', '')}/{details.get('Key', '')}"
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return ""
