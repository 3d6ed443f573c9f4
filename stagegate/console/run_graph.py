"""A state machine as nodes and edges for the page to lay out, and its states as rows beside a time line."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from stagegate.console.visits import Story, Tally, Visit

UNREAD = "unread"
_BARS = 60


@dataclass(frozen=True, kw_only=True)
class Node:
    """`holder` is the Map or Parallel state in which it is, "" outside."""

    name: str
    kind: str
    holder: str


@dataclass(frozen=True, kw_only=True)
class Edge:
    """`kind` is next, choice, default or catch."""

    begin: str
    end: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class Graph:
    nodes: list[Node]
    edges: list[Edge]
    starts: list[str]
    """Where the state machine, and each part of it inside a Map or Parallel state, begins."""

    def depths(self) -> dict[str, int]:
        """In how many others each state is."""
        depths: dict[str, int] = {}
        for node in self.nodes:  # the holder comes before what it holds
            depths[node.name] = depths[node.holder] + 1 if node.holder else 0
        return depths


def read_graph(definition: Mapping[str, Any]) -> Graph:
    graph = Graph(nodes=[], edges=[], starts=[])
    _read(definition, "", graph)
    return graph


def _read(machine: Mapping[str, Any], holder: str, graph: Graph) -> None:
    graph.starts.append(machine["StartAt"])
    for name, state in machine["States"].items():
        graph.nodes.append(Node(name=name, kind=state["Type"], holder=holder))
        graph.edges.extend(_edges(name, state))
        for inner in (state.get("ItemProcessor") or state.get("Iterator"), *state.get("Branches", ())):
            if inner:
                _read(inner, name, graph)


def _edges(name: str, state: Mapping[str, Any]) -> Iterator[Edge]:
    ends = [
        *(
            (state[member], kind)
            for member, kind in (("Next", "next"), ("Default", "default"))
            if member in state
        ),
        *((choice["Next"], "choice") for choice in state.get("Choices", ())),
        *((catcher["Next"], "catch") for catcher in state.get("Catch", ())),
    ]
    for end in dict.fromkeys(end for end, _ in ends):
        yield Edge(begin=name, end=end, kind=next(kind for target, kind in ends if target == end))


@dataclass(frozen=True, kw_only=True)
class Bar:
    """Of the time line, in hundredths of the run's time."""

    start: float
    width: float
    status: str


@dataclass(frozen=True, kw_only=True)
class StateRow:
    """All visits of a state as one row."""

    name: str
    kind: str
    depth: int
    status: str
    visits: int
    retries: int
    counts: str
    """Of a Map: how many of its items are done."""
    entered: datetime
    seconds: float
    bars: list[Bar]


def state_rows(
    story: Story, graph: Graph, *, started: datetime, until: datetime, is_whole: bool
) -> list[StateRow]:
    """A row for each state that was entered, in the order in which they were first.

    `until` is the last moment of which is known what happened; `is_whole` whether that is all of it.
    """
    depths = graph.depths()
    return [
        StateRow(
            name=name,
            kind=tally.visits[-1].kind,
            depth=depths.get(name, 0),
            status=status_of(tally, is_whole=is_whole),
            visits=len(tally.visits),
            retries=tally.retries,
            counts=_counts(tally.visits[-1]),
            entered=tally.visits[0].entered,
            seconds=tally.seconds + sum(_seconds(visit, until) for visit in tally.open.values()),
            bars=_bars(tally, started=started, until=until, is_whole=is_whole),
        )
        for name, tally in story.tallies.items()
    ]


def status_of(tally: Tally, *, is_whole: bool) -> str:
    """What is most worth knowing: that one runs or has failed; else how the last one ended."""
    if tally.open:
        return told_status("running", is_whole=is_whole)
    return "failed" if tally.statuses["failed"] else tally.visits[-1].status


def told_status(status: str, *, is_whole: bool) -> str:
    """What seems to run may have ended in events that are not read yet."""
    return status if is_whole or status != "running" else UNREAD


def _seconds(visit: Visit, until: datetime) -> float:
    return max((until - visit.entered).total_seconds(), 0.0)


def _counts(visit: Visit) -> str:
    if not visit.items:
        return ""
    failed = f", {visit.items_failed} failed" if visit.items_failed else ""
    return f"{visit.items_succeeded} of {visit.items} items{failed}"


def _bars(tally: Tally, *, started: datetime, until: datetime, is_whole: bool) -> list[Bar]:
    """Those of many visits become one."""
    whole = max((until - started).total_seconds(), 0.001)

    def percent(time: datetime) -> float:
        return round(min(max((time - started).total_seconds() / whole, 0.0), 1.0) * 100, 2)

    if len(tally.visits) > _BARS:
        end = until if tally.open or tally.ended is None else tally.ended
        spans = [(tally.visits[0].entered, end, status_of(tally, is_whole=is_whole))]
    else:
        spans = [
            (visit.entered, visit.ended or until, told_status(visit.status, is_whole=is_whole))
            for visit in tally.visits
        ]
    return [
        Bar(start=min(percent(begin), 99.4), width=max(percent(end) - percent(begin), 0.6), status=status)
        for begin, end, status in spans
    ]
