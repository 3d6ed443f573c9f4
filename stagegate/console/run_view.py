"""What the page of a run shows: the execution, its definition, and what its history says of each state."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from stagegate.aws import Services
from stagegate.console.execution import Execution, read_execution
from stagegate.console.map_run_view import MapRunView, read_map_run, result_of
from stagegate.console.pages import Attempt, insist, written
from stagegate.console.run_definition import definition_of, state_of
from stagegate.console.run_failure import Failure, bare_failure, explain_failure
from stagegate.console.run_graph import Graph, StateRow, read_graph, state_rows
from stagegate.console.run_history import Told, history_of
from stagegate.console.visits import ENDS, Event, Story, Visit, details_of
from stagegate.console.words import shortened
from stagegate.errors import NotFound

EVENTS = 100
JOB_SECONDS = 0.2
"""For how long a look waits for what a job says, when all else is there."""
_HISTORY = "what has happened in it"
_NO_GRAPH = Graph(nodes=[], edges=[], starts=[])


@dataclass(frozen=True, kw_only=True)
class EventFilters:
    """`skip`: how many of the events that they let through are on earlier pages."""

    kind: str = ""
    state: str = ""
    skip: int = 0


@dataclass(frozen=True, kw_only=True)
class EventRow:
    id: int
    time: datetime
    kind: str
    state: str
    details: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class EventPage:
    rows: list[EventRow]
    count: int
    kinds: list[str]
    states: list[str]
    filters: EventFilters

    @property
    def last(self) -> int:
        """How many are before the last page."""
        return max(self.count - 1, 0) // EVENTS * EVENTS


@dataclass(frozen=True, kw_only=True)
class RunView(Execution):
    """One look at a run."""

    told: Told
    definition: Mapping[str, Any]
    graph: Graph
    failure: Failure | None
    map_run: MapRunView | None
    """The one of which it is a child."""
    map_runs: Mapping[str, MapRunView]
    """By the Map state, the latest Map Run of each."""

    @property
    def story(self) -> Story:
        return self.told.story

    @property
    def is_whole(self) -> bool:
        """Everything that has happened is known."""
        events = self.told.events
        return self.told.is_whole and (self.is_running or not events or events[-1]["type"] in ENDS)

    @property
    def is_final(self) -> bool:
        """Nothing will change any more."""
        return self.is_whole and not self.is_running and not (self.failure and self.failure.is_incomplete)

    @property
    def parent(self) -> str:
        """The ARN of the execution that has started it, where AWS or its input says which."""
        return self.map_run.parent if self.map_run else self.started_by

    def result_of(self, visit: Visit, map_run_arn: str) -> str:
        return result_of(self.definition, visit, map_run_arn)

    @cached_property
    def rows(self) -> list[StateRow]:
        read_until = self.told.events[-1]["timestamp"] if self.told.events else self.started
        rows = state_rows(
            self.story,
            self.graph,
            started=self.started,
            until=self.until if self.is_whole else read_until,
            is_whole=self.is_whole,
        )
        return [
            replace(row, counts=self.map_runs[row.name].counts) if row.name in self.map_runs else row
            for row in rows
        ]

    def state_definition(self, state: str) -> str:
        """What the state machine says of it, as JSON; "" where that is gone."""
        found = state_of(self.definition, state)
        return shortened(written(found)) if found else ""

    def drawn(self) -> dict[str, Any]:
        """What the graph's script colours: states by name, and the ways that were taken."""
        states = {
            row.name: {
                "status": row.status,
                "retries": row.retries,
                "counts": row.counts,
                "visits": row.visits,
            }
            for row in self.rows
        }
        if self.failure and self.failure.state and not self.is_whole:  # it is known before its row is
            known = states.get(self.failure.state, {"retries": 0, "counts": "", "visits": 1})
            status = self.failure.visit.status if self.failure.visit else "failed"
            states[self.failure.state] = {**known, "status": status}
        return {"states": states, "ways": sorted(self.story.ways), "is_whole": self.is_whole}

    def graph_json(self) -> dict[str, Any]:
        return asdict(self.graph)

    def event_page(self, filters: EventFilters) -> EventPage:
        events, end = self.told.events, filters.skip + EVENTS
        if filters.kind or filters.state:
            events = [*self._chosen(filters)]
        rows = [
            EventRow(
                id=event["id"],
                time=event["timestamp"],
                kind=event["type"],
                state=self._state_of(event),
                details=details_of(event),
            )
            for event in events[filters.skip : end]
        ]
        return EventPage(
            rows=rows,
            count=len(events),
            kinds=sorted(self.story.kinds),
            states=[row.name for row in self.rows],
            filters=filters,
        )

    def _chosen(self, filters: EventFilters) -> Iterator[Event]:
        for event in self.told.events:
            if filters.kind in ("", event["type"]) and filters.state in ("", self._state_of(event)):
                yield event

    def _state_of(self, event: Event) -> str:
        visit = self.story.by_event.get(event["id"])
        return visit.name if visit else ""

    def event(self, number: int) -> Event | None:
        events = self.told.events if number <= len(self.told.events) else self.told.latest
        return next((event for event in events[number - events[0]["id"] :][:1]), None) if events else None


def read_run(services: Services, execution_arn: str, *, seconds: float, attempt: Attempt = insist) -> RunView:
    """What is to be known of it in that time, and a call of AWS more: each look at a long history reads on.

    Raises HTTPException where there is no such execution.
    """
    deadline = time.monotonic() + seconds
    history = history_of(services, execution_arn)
    with ThreadPoolExecutor(3) as threads:
        described = threads.submit(read_execution, services, execution_arn)
        defined = threads.submit(definition_of, services, execution_arn)
        looked = threads.submit(history.look, seconds=seconds)
        execution = described.result()
    told = attempt(_HISTORY, looked.result, None) or history.told()
    with contextlib.suppress(ClientError, BotoCoreError):  # what is wrong is asked for again, and said, below
        explain_failure(services, execution, told, seconds=0)  # begins to ask for its job
    told = attempt(_HISTORY, lambda: history.read_on(seconds=deadline - time.monotonic()), told)
    left = max(deadline - time.monotonic(), JOB_SECONDS)
    failure = attempt(
        "what is behind its failure", lambda: explain_failure(services, execution, told, seconds=left), None
    )
    nothing: Mapping[str, Any] = {}
    definition = attempt("its state machine", defined.result, nothing)
    return RunView(
        described=execution.described,
        told=told,
        definition=definition,
        graph=_graph(services, execution_arn) if definition else _NO_GRAPH,
        failure=failure or bare_failure(execution, told),
        map_run=attempt("the Map Run that it is of", lambda: _map_run(services, execution.map_run_arn), None),
        map_runs=attempt("its Map Runs", lambda: _map_runs(services, told.story), {}),
    )


def _map_runs(services: Services, story: Story) -> dict[str, MapRunView]:
    latest = {name: tally.visits[-1].map_runs[-1:] for name, tally in story.tallies.items()}
    found = {name: _map_run(services, arn) for name, arns in latest.items() for arn in arns}
    return {name: map_run for name, map_run in found.items() if map_run}


def _map_run(services: Services, map_run_arn: str) -> MapRunView | None:
    """None for one that AWS has forgotten, and where there is none."""
    if not map_run_arn:
        return None
    try:
        return read_map_run(services, map_run_arn)
    except NotFound:
        return None


@lru_cache(maxsize=64)
def _graph(services: Services, execution_arn: str) -> Graph:
    """Of the definition that the execution began with."""
    return read_graph(definition_of(services, execution_arn))
