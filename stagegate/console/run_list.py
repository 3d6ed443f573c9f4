"""The project's runs, newest first, a page at a time: the lists of several state machines as one."""

import base64
import heapq
import json
import math
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from stagegate.aws import Services, explained
from stagegate.console.pages import UNANSWERED
from stagegate.errors import NotFound, StagegateError
from stagegate.pipeline import Run

ROWS = 25
SEARCHED = 10_000
STATUSES = ("RUNNING", "SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED", "PENDING_REDRIVE")
_BATCH = 1_000
_THREADS = 8

Position = tuple[str, int]
"""In the list of a state machine: the token of a batch, and how many of it come before."""


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What is asked for; "" for everything."""

    state_machine: str = ""
    status: str = ""
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A run, and what its input and its history say of it."""

    run: Run
    subject: str
    trigger: str
    state: str
    """Where it is, or where it ended."""
    accuracy: str


@dataclass(frozen=True, kw_only=True)
class RunPage:
    rows: list[Row]
    state_machines: list[str]
    following: str
    """Where the next page begins, for `list_page`; "" after the last."""
    searched: int
    """Among so many names."""
    is_partial: bool
    """The time was over before as many were searched as a page may."""
    unanswered: StagegateError | None
    """Why some rows say nothing but what the list says: AWS does not answer."""


def list_page(services: Services, filters: Filters, *, begin: str = "", seconds: float = math.inf) -> RunPage:
    """The runs that the filters let through, from `begin` on; a search begins no call after so many seconds.

    Raises NotFound for a `begin` that is none of ours.
    """
    deadline = time.monotonic() + seconds
    machines = {arn.rsplit(":", 1)[-1]: arn for arn in _state_machines(services)}
    chosen = {name: arn for name, arn in machines.items() if filters.state_machine in ("", name)}
    positions = _read_positions(begin) if begin else dict.fromkeys(chosen, ("", 0))
    lists = [
        _Executions(services, name, chosen[name], filters=filters, position=position)
        for name, position in positions.items()
        if name in chosen
    ]
    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(lambda executions: executions.read_first(deadline), lists))
        merged = heapq.merge(
            *(executions.runs() for executions in lists), key=lambda run: run.started, reverse=True
        )
        runs = [run for run, _ in zip(merged, range(ROWS), strict=False)]
        taken = {executions.name: 0 for executions in lists}
        for run in runs:
            taken[run.state_machine] += 1
        following = {
            executions.name: position
            for executions in lists
            if (position := executions.after(taken[executions.name])) is not None
        }
        told = _Rows(services)
        rows = list(threads.map(told.row, runs))
    return RunPage(
        rows=rows,
        state_machines=sorted(machines),
        following=_write_positions(following) if following else "",
        searched=sum(executions.looked_at for executions in lists),
        is_partial=any(executions.may_read_on for executions in lists),
        unanswered=told.unanswered,
    )


def _state_machines(services: Services) -> list[str]:
    """Those of the project, by their names' prefix; Express ones keep no list of their executions."""
    pages = services("stepfunctions").get_paginator("list_state_machines").paginate()
    return [
        machine["stateMachineArn"]
        for page in pages
        for machine in page["stateMachines"]
        if machine["type"] == "STANDARD" and machine["name"].startswith(f"{services.config.project}-")
    ]


class _Executions:
    """The list of one state machine, read as far as it is needed."""

    def __init__(
        self, services: Services, name: str, arn: str, *, filters: Filters, position: Position
    ) -> None:
        self.name = name
        self._list = services("stepfunctions").list_executions
        self._asked = {"stateMachineArn": arn, "maxResults": _BATCH if filters.name else ROWS + 1}
        if filters.status:
            self._asked["statusFilter"] = filters.status
        self._searched = filters.name.lower()
        self._position: Position | None = position
        self._found: list[tuple[Run, Position]] = []
        self.looked_at = 0

    def read_first(self, deadline: float) -> None:
        """What a page may need of it, as far as there is time; at least one batch."""
        while self.may_read_on and (not self.looked_at or time.monotonic() < deadline):
            assert self._position is not None
            self._read_batch(*self._position)

    @property
    def may_read_on(self) -> bool:
        """There is more, which a page may need."""
        return len(self._found) <= ROWS and self._position is not None and self.looked_at < SEARCHED

    def runs(self) -> Iterator[Run]:
        return (run for run, _ in self._found)

    def after(self, count: int) -> Position | None:
        """Where it goes on after so many runs; None at its end."""
        return self._found[count][1] if count < len(self._found) else self._position

    def _read_batch(self, token: str, before: int) -> None:
        answer = self._list(**self._asked, **({"nextToken": token} if token else {}))
        for index, execution in enumerate(answer["executions"]):
            if index >= before and self._searched in execution["name"].lower():
                self._found.append((_run(self.name, execution), (token, index)))
        self.looked_at += len(answer["executions"])
        self._position = (answer["nextToken"], 0) if "nextToken" in answer else None


def _run(state_machine: str, execution: Mapping[str, Any]) -> Run:
    return Run(
        name=execution["name"],
        arn=execution["executionArn"],
        state_machine=state_machine,
        status=execution["status"],
        started=execution["startDate"],
        stopped=execution.get("stopDate"),
    )


class _Rows:
    """What AWS says of each run, until it does not answer: the others are not asked for then."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.unanswered: StagegateError | None = None

    def row(self, run: Run) -> Row:
        if self.unanswered is None:
            try:
                with explained(self._services.config):
                    return _row(self._services, run)
            except UNANSWERED as error:
                self.unanswered = error
        return Row(run=run, subject="", trigger="", state="", accuracy="")


def _row(services: Services, run: Run) -> Row:
    return _ended_row(services, run) if run.stopped else _look(services, run)


@lru_cache(maxsize=2_000)
def _ended_row(services: Services, run: Run) -> Row:
    """What has ended is asked for once; one that is redriven has another `stopped`."""
    return _look(services, run)


def _look(services: Services, run: Run) -> Row:
    described = services("stepfunctions").describe_execution(executionArn=run.arn)
    state = _latest_state(services, run) if run.status != "SUCCEEDED" else {}
    given = read_json(described.get("input", ""))
    return Row(
        run=run,
        subject=subject_of(given),
        trigger=str(given.get("Trigger", "")) if isinstance(given, dict) else "",
        state=state.get("name", ""),
        accuracy=_accuracy(read_json(described.get("output") or state.get("input", ""))),
    )


def subject_of(given: Any) -> str:
    """What a run is about, by its input: the version that it deploys, or a build's commit and data."""
    if not isinstance(given, dict):
        return ""
    package, commit, dataset = (
        str(given.get(name) or "") for name in ("ModelPackageArn", "Commit", "DatasetUri")
    )
    parts = [
        f"version {package.rpartition('/')[2]}" if package else "",
        f"commit {commit[:12]}" if commit else "",
        dataset.rpartition("/")[2],
    ]
    return ", ".join(part for part in parts if part)


def _latest_state(services: Services, run: Run) -> dict[str, Any]:
    """The one that was entered last, with its input; nothing where that is long ago."""
    latest = services("stepfunctions").get_execution_history(
        executionArn=run.arn, reverseOrder=True, maxResults=20
    )
    for event in latest["events"]:
        if event["type"].endswith("StateEntered"):
            state: dict[str, Any] = event["stateEnteredEventDetails"]
            return state
    return {}


def _accuracy(result: Any) -> str:
    """Of the evaluation that the state machine carries along, where it has come so far."""
    for member in ("Evaluation", "multiclass_classification_metrics", "accuracy", "value"):
        result = result.get(member) if isinstance(result, dict) else None
    return f"{result:.4f}" if isinstance(result, int | float) else ""


def read_json(text: str) -> Any:
    """None for what is no JSON, since AWS leaves out what is too long, and cuts it; or is too deep."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _write_positions(positions: Mapping[str, Position]) -> str:
    return base64.urlsafe_b64encode(json.dumps(positions).encode()).decode()


def _read_positions(text: str) -> dict[str, Position]:
    try:
        positions = json.loads(base64.urlsafe_b64decode(text))
        return {str(name): (str(token), int(before)) for name, (token, before) in positions.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise NotFound("This page of the list is none of ours: go to the first page.") from error
