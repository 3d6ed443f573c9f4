"""What an execution's events say of its states: each time that one is entered is a visit."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from stagegate.console.calls import Call, read_call
from stagegate.console.run_list import read_json

Event = dict[str, Any]

_BEGINS_INSIDE = ("MapStateStarted", "MapIterationStarted", "ParallelStateStarted")
_STARTS_WORK = (
    *("TaskScheduled", "LambdaFunctionScheduled", "ActivityScheduled"),
    *("MapStateStarted", "ParallelStateStarted"),
)
_TELLS_THE_STATE = ("StateEntered", "StateExited", "Succeeded")
UNHAPPY_ENDS = ("ExecutionFailed", "ExecutionAborted", "ExecutionTimedOut")
ENDS = ("ExecutionSucceeded", *UNHAPPY_ENDS)


@dataclass(frozen=True, kw_only=True)
class FailedAttempt:
    """One that was tried again."""

    error: str
    cause: str
    retried: datetime
    """When the next one began."""


@dataclass(kw_only=True)
class Visit:
    """`status`: running, succeeded, caught (it failed, and the state machine went on), failed or aborted."""

    id: int
    name: str
    kind: str
    holder: "Visit | None"
    """The Map or Parallel state in which it is."""
    entered: datetime
    input: str
    item: int | None = None
    """Of the Map in which it is, from 0."""
    output: str = ""
    ended: datetime | None = None
    status: str = "running"
    error: str = ""
    cause: str = ""
    has_failed: bool = False
    """In its last attempt."""
    failed_by: "Visit | None" = None
    """The state inside it, or itself, whose failure is its own."""
    attempts: int = 0
    failed_attempts: list[FailedAttempt] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    items: int = 0
    items_succeeded: int = 0
    items_failed: int = 0
    map_runs: list[str] = field(default_factory=list)
    """The ARNs of a distributed Map's Map Runs, one for each attempt."""

    @property
    def retries(self) -> int:
        return max(self.attempts - 1, 0)

    @property
    def seconds(self) -> float:
        return ((self.ended or datetime.now(self.entered.tzinfo)) - self.entered).total_seconds()

    def chain(self) -> Iterator["Visit"]:
        """It, and the states around it."""
        visit: Visit | None = self
        while visit is not None:
            yield visit
            visit = visit.holder


@dataclass(kw_only=True)
class Tally:
    """All visits of one state, counted as they come: what is shown of thousands costs no more than of one."""

    visits: list[Visit] = field(default_factory=list)
    open: dict[int, Visit] = field(default_factory=dict)
    statuses: Counter[str] = field(default_factory=Counter)
    """How many of the others ended how."""
    retries: int = 0
    seconds: float = 0.0
    """Of those that have ended."""
    ended: datetime | None = None
    """When the last of them did."""

    def copy(self) -> "Tally":
        return replace(self, visits=[*self.visits], open={**self.open}, statuses=Counter(self.statuses))


@dataclass(frozen=True, kw_only=True)
class Story:
    """The visits of each state in the order in which they began, whose each event is, and the ways taken."""

    tallies: Mapping[str, Tally]
    by_event: Mapping[int, Visit | None]
    ways: frozenset[tuple[str, str]]
    kinds: frozenset[str]
    """The types of the events."""

    @property
    def visits(self) -> list[Visit]:
        """All of them, in the order in which they began."""
        return sorted((visit for tally in self.tallies.values() for visit in tally.visits), key=_id)

    def visit(self, number: int) -> Visit | None:
        """The one that began with that event."""
        found = self.by_event.get(number)
        return found if found is not None and found.id == number else None


def _id(visit: Visit) -> int:
    return visit.id


def read_story(events: Iterable[Event]) -> Story:
    reader = Reader()
    for event in events:
        reader.read(event)
    return reader.story()


def read_end(events: Sequence[Event]) -> Story:
    """What the last events of an execution say by themselves: nothing of states that were entered before."""
    story = read_story(events)
    failed = last_visit(events, story)
    if failed and failed.status == "aborted" and events[-1]["type"] == "ExecutionFailed":
        details = details_of(events[-1])  # it was the cause of that end, though what is between is not known
        failed.status, failed.error, failed.cause = (
            "failed",
            details.get("error", ""),
            details.get("cause", ""),
        )
    return story


def last_visit(events: Sequence[Event], story: Story) -> Visit | None:
    """The innermost state in which an execution failed or was stopped.

    `events` are its last ones. None where they do not have it, because it was entered before them.
    """
    if not events or events[-1]["type"] not in UNHAPPY_ENDS:
        return None
    if events[-1]["type"] != "ExecutionFailed":
        stopped = (visit for visit in reversed(story.visits) if visit.status == "aborted")
        return next(stopped, None)
    event = events[-1]
    while not event["type"].endswith(_TELLS_THE_STATE):
        index = event["previousEventId"] - events[0]["id"]
        if index < 0:
            return None
        event = events[index]
    return story.by_event.get(event["id"])


class Reader:
    """Reads event after event; what was read before is not read again."""

    def __init__(self) -> None:
        self._tallies: dict[str, Tally] = {}
        self._open: dict[int, Visit] = {}
        self._by_event: dict[int, Visit | None] = {}
        self._ways: set[tuple[str, str]] = set()
        self._kinds: set[str] = set()
        self._types: dict[int, str] = {}
        self._items: dict[int, int] = {}

    def story(self) -> Story:
        """As it is now. The visits are the reader's own, and go on with it."""
        return Story(
            tallies={name: tally.copy() for name, tally in self._tallies.items()},
            by_event=self._by_event,
            ways=frozenset(self._ways),
            kinds=frozenset(self._kinds),
        )

    def read(self, event: Event) -> None:
        kind, details = event["type"], details_of(event)
        before = self._by_event.get(event["previousEventId"])
        if kind.endswith("StateEntered"):
            visit: Visit | None = self._entered(event, before)
        elif kind.endswith("StateExited"):
            visit = _nearest_open(before, lambda around: around.name == details["name"])
            if visit:
                self._exited(visit, event)
        elif kind.startswith("Map") and "name" in details:
            visit = _nearest_open(before, lambda around: around.name == details["name"])
        elif kind.startswith(("MapState", "MapRun")):
            visit = _nearest_open(before, lambda around: around.kind == "Map")
        elif kind.startswith("ParallelState"):
            visit = _nearest_open(before, lambda around: around.kind == "Parallel")
        else:
            visit = before
        self._by_event[event["id"]], self._types[event["id"]] = visit, kind
        self._kinds.add(kind)
        if kind.startswith("Execution"):
            self._execution(event, before)
        elif visit:
            self._happened(visit, before, event)

    def _entered(self, event: Event, before: Visit | None) -> Visit:
        details = details_of(event)
        begins_inside = self._types.get(event["previousEventId"]) in _BEGINS_INSIDE
        holder = before if begins_inside else before and before.holder
        item = before.item if before and not begins_inside else self._items.get(event["previousEventId"])
        visit = Visit(
            id=event["id"],
            name=details["name"],
            kind=event["type"].removesuffix("StateEntered"),
            holder=holder,
            entered=event["timestamp"],
            input=details.get("input", ""),
            item=item,
        )
        self._tallies.setdefault(visit.name, Tally()).visits.append(visit)
        self._is_open(visit)
        if before is not None and not begins_inside:
            self._ways.add((before.name, visit.name))
        return visit

    def _exited(self, visit: Visit, event: Event) -> None:
        visit.output = details_of(event).get("output", "")
        self._end(visit, "caught" if visit.has_failed else "succeeded", event)
        if visit.has_failed and not visit.error:  # a Fail state's: no event has it, the catcher's output does
            caught = read_json(visit.output)
            given = caught if isinstance(caught, dict) else {}
            _tell(visit, str(given.get("Error", "")), str(given.get("Cause", "")))
        if visit.kind not in ("Map", "Parallel"):
            return
        for other in [*self._open.values()]:  # what a failure, or the other branches, left open in it
            if visit in other.chain():
                self._end(other, "aborted", event)

    def _happened(self, visit: Visit, before: Visit | None, event: Event) -> None:
        kind, details = event["type"], details_of(event)
        if kind in _STARTS_WORK:
            visit.attempts += 1
            if visit.has_failed:
                visit.failed_attempts.append(
                    FailedAttempt(error=visit.error, cause=visit.cause, retried=event["timestamp"])
                )
            self._tallies[visit.name].retries += visit.attempts > 1
            visit.has_failed, visit.failed_by, visit.error, visit.cause = False, None, "", ""
        if kind in ("TaskScheduled", "LambdaFunctionScheduled", "ActivityScheduled"):
            visit.calls.append(read_call(details))
        elif kind in ("TaskSubmitted", "TaskSucceeded", "TaskFailed") and visit.calls:
            visit.calls[-1].hear(details)
        elif kind == "MapRunStarted":
            visit.map_runs.append(details["mapRunArn"])
        elif kind == "MapStateStarted":
            visit.items = details["length"]
            visit.items_succeeded = visit.items_failed = 0
        elif kind == "MapIterationStarted":
            self._items[event["id"]] = details["index"]
        elif kind == "MapIterationSucceeded":
            visit.items_succeeded += 1
        elif kind == "MapIterationFailed":
            visit.items_failed += 1
        if kind.endswith(("Failed", "TimedOut")):
            error, cause = details.get("error", ""), details.get("cause", "")
            for around in before.chain() if before else ():
                if around is visit:
                    break
                self._fail(around, error, cause, event)
            if not kind.startswith("MapIteration"):
                inside = next((around for around in (before.chain() if before else ()) if around.error), None)
                visit.has_failed, visit.failed_by = True, before
                visit.error = error or (inside.error if inside else "")
                visit.cause = cause or (inside.cause if inside else "")

    def _execution(self, event: Event, before: Visit | None) -> None:
        """Its end is the end of whatever is open; what has failed took the states around it along."""
        kind, details = event["type"], details_of(event)
        if kind == "ExecutionRedriven":
            self._reopen()
        if kind not in UNHAPPY_ENDS:
            return
        if kind == "ExecutionFailed" and before:
            for around in before.chain():
                self._fail(around, details.get("error", ""), details.get("cause", ""), event)
        for visit in [*self._open.values()]:
            self._end(visit, "aborted", event)

    def _reopen(self) -> None:
        """A redrive goes on in the states that had not succeeded, without entering them again."""
        visits = (visit for tally in self._tallies.values() for visit in tally.visits)
        for visit in sorted(visits, key=_id):  # the states around others come first
            is_left = visit.holder is not None and visit.holder.ended is not None
            if visit.status in ("failed", "aborted") and not is_left:
                self._tallies[visit.name].statuses[visit.status] -= 1
                self._tallies[visit.name].seconds -= visit.seconds
                visit.status, visit.ended = "running", None
                visit.has_failed, visit.error, visit.cause = False, "", ""
                self._is_open(visit)

    def _is_open(self, visit: Visit) -> None:
        self._open[visit.id] = self._tallies[visit.name].open[visit.id] = visit

    def _fail(self, visit: Visit, error: str, cause: str, event: Event) -> None:
        if visit.ended is None:
            _tell(visit, error, cause)
            self._end(visit, "failed", event)

    def _end(self, visit: Visit, status: str, event: Event) -> None:
        if visit.ended is not None:
            return
        tally = self._tallies[visit.name]
        visit.status, visit.ended = status, event["timestamp"]
        del self._open[visit.id], tally.open[visit.id]
        tally.statuses[status] += 1
        tally.seconds += visit.seconds
        tally.ended = event["timestamp"]


def _tell(visit: Visit, error: str, cause: str) -> None:
    """What has failed, and what inside it has failed so, as far as it was not known."""
    for failed in visit.failed_by.chain() if visit.failed_by else (visit,):
        failed.error, failed.cause = failed.error or error, failed.cause or cause
        if failed is visit:
            break


def _nearest_open(visit: Visit | None, matches: Callable[[Visit], bool]) -> Visit | None:
    """The nearest state around an event that has not been left yet."""
    for around in visit.chain() if visit else ():
        if around.ended is None and matches(around):
            return around
    return None


def details_of(event: Event) -> dict[str, Any]:
    """What an event says beyond its type: the one member that AWS names after the type."""
    found: dict[str, Any] = next(
        (value for name, value in event.items() if name.endswith("EventDetails")), {}
    )
    return found
