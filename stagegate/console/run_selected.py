"""What the page of a run shows of one state: one visit of it, and where the others are."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, replace

from stagegate.console.run_definition import fail_texts
from stagegate.console.run_graph import status_of, told_status
from stagegate.console.run_view import RunView
from stagegate.console.visits import Tally, Visit

VISITS = 50


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A visit by its id; else a state, and of its visits the one of that number (from 1) or item."""

    state: str = ""
    visit: int | None = None
    number: int | None = None
    item: int | None = None


@dataclass(frozen=True, kw_only=True)
class Numbered:
    number: int
    visit: Visit


@dataclass(frozen=True, kw_only=True)
class Selected:
    """A state, or one visit of it, to look at closely."""

    name: str
    kind: str
    visit: Visit | None
    """None for a state that was not entered."""
    count: int
    """Of the visits that are known."""
    visits: list[Numbered]
    """Some of them, the latest first, with the one that is looked at among them."""
    failed: list[Numbered]
    """The latest that failed, where not all visits are listed."""
    earlier: Visit | None
    """One of those that are listed next."""
    later: Visit | None
    """One of those that are listed before."""


def select(run: RunView, asked: Asked) -> Selected | None:
    """None where there is no such state or visit, as far as is known."""
    if asked.visit is not None:
        visit = run.told.latest_story.visit(asked.visit) or run.story.visit(asked.visit)
        return _selected(run, visit.name, visit) if visit else None
    tally = run.story.tallies.get(asked.state)
    if tally is None:
        is_known = any(node.name == asked.state for node in run.graph.nodes)
        return _selected(run, asked.state, None) if is_known and asked.number == asked.item is None else None
    chosen = _chosen(tally, asked)
    return _selected(run, asked.state, chosen) if chosen else None


def _chosen(tally: Tally, asked: Asked) -> Visit | None:
    """Where nothing says which: a failed one, else the latest."""
    if asked.number is not None:
        return tally.visits[asked.number - 1] if 0 < asked.number <= len(tally.visits) else None
    if asked.item is not None:
        return next((visit for visit in reversed(tally.visits) if visit.item == asked.item), None)
    status = status_of(tally, is_whole=True)
    return next((visit for visit in reversed(tally.visits) if visit.status == status), None)


def _selected(run: RunView, name: str, visit: Visit | None) -> Selected:
    tally = run.story.tallies.get(name, Tally())
    error, cause = _error_of(run, visit) if visit else ("", "")
    count = len(tally.visits)
    place = bisect_left(tally.visits, visit.id, key=_id) if visit else count
    end = count - max(count - 1 - place, 0) // VISITS * VISITS
    begin = max(end - VISITS, 0)
    failed = [index for index, known in enumerate(tally.visits) if known.status == "failed"]
    node = next((node for node in run.graph.nodes if node.name == name), None)
    return Selected(
        name=name,
        kind=node.kind if node else visit.kind if visit else "",
        visit=visit
        and replace(visit, status=told_status(visit.status, is_whole=run.is_whole), error=error, cause=cause),
        count=count,
        visits=_numbered(tally, reversed(range(begin, end))),
        failed=_numbered(tally, failed[: -VISITS - 1 : -1]) if count > VISITS else [],
        earlier=tally.visits[begin - 1] if begin else None,
        later=tally.visits[end] if end < count else None,
    )


def _error_of(run: RunView, visit: Visit) -> tuple[str, str]:
    """Error and cause. Those of a Fail state inside others are in no event, but in the definition."""
    failing = visit.failed_by or visit
    if failing.kind != "Fail":
        return visit.error, visit.cause
    error, cause = fail_texts(run.definition).get(failing.name, ("", ""))
    error = error or visit.error
    return error, cause or (visit.cause if visit.error == error else "")


def _id(visit: Visit) -> int:
    return visit.id


def _numbered(tally: Tally, indices: Iterable[int]) -> list[Numbered]:
    return [Numbered(number=index + 1, visit=tally.visits[index]) for index in indices]
