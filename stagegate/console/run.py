"""A run: what failed and why, its state machine as a graph, each state beside a time line, its events."""

import itertools
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from stagegate.aws import explained
from stagegate.console.execution import read_execution
from stagegate.console.live import Shown, stream
from stagegate.console.pages import Attempt, Console, insist, written
from stagegate.console.run_selected import Asked, Selected, select
from stagegate.console.run_view import EventFilters, RunView, read_run

PAGE_SECONDS = 0.25
"""For how long a page begins to read what is left of a long history; a call of AWS takes 0.1 to 0.3."""
STREAM_SECONDS = 2.0
"""The same of what follows it, but for the first time: longer, since each time the page is drawn anew."""
PARTS = ("head", "progress", "data", "states", "event_filters", "event_count", "events")
"""Of the page, as they change: `run_head.html` and so on."""


def run_page(request: Request) -> Response:
    """`?visit=`, or `?state=` with `?number=` or `?item=`, selects; `?type=`, `?of=` and `?skip=` choose."""
    console: Console = request.app.state.console
    run = _read(request, seconds=PAGE_SECONDS, attempt=partial(console.attempt, request))
    return console.page(
        request,
        "run.html",
        **_values(request, run),
        graph=json.dumps(run.graph_json()),
        drawn=json.dumps(run.drawn()),
        query=request.url.query,
        selected=_selected(request, run),
    )


def live(request: Request) -> Response:
    """The same page's parts while the run goes on, or while there is more of its history to read."""
    console: Console = request.app.state.console

    times = itertools.chain((PAGE_SECONDS,), itertools.repeat(STREAM_SECONDS))

    def look() -> Shown:
        run = _read(request, seconds=next(times))
        values = _values(request, run)
        parts = {part: console.part(f"run_{part}.html", **values) for part in PARTS}
        return Shown(parts=parts, data=run.drawn(), is_final=run.is_final, is_partial=not run.told.is_whole)

    return stream(console, request, look)


def state_part(request: Request) -> Response:
    """The selected state alone, for the page's script."""
    console: Console = request.app.state.console
    run = _read(request, seconds=PAGE_SECONDS)
    return HTMLResponse(console.part("run_selected.html", run=run, selected=_selected(request, run)))


def event_page(request: Request) -> Response:
    """All of one event, as far as its texts are kept."""
    event = _read(request, seconds=PAGE_SECONDS).event(_number(request, "id") or 0)
    if event is None:
        raise HTTPException(404, f"This run has no event '{request.query_params.get('id', '')}'.")
    return PlainTextResponse(written(event))


def run_file(request: Request) -> Response:
    """All that Step Functions has of it, for a report or another tool: the execution, and its events."""
    console: Console = request.app.state.console
    arn = request.path_params["execution_arn"]
    with explained(console.services.config):
        execution = read_execution(console.services, arn)
    history = console.services("stepfunctions").get_paginator("get_execution_history")

    def lines() -> Iterator[str]:
        yield f'{{"execution": {_compact(execution.described)},\n"events": ['
        events = (event for page in history.paginate(executionArn=arn) for event in page["events"])
        for number, event in enumerate(events):
            yield f"{',' if number else ''}\n{_compact(event)}"
        yield "\n]}\n"

    name = execution.described["name"]
    headers = {"Content-Disposition": f'attachment; filename="{name}.json"'}
    return StreamingResponse(lines(), media_type="application/json", headers=headers)


def _compact(value: Any) -> str:
    """Times as ISO 8601."""
    return json.dumps(value, default=lambda time: time.isoformat())


def _read(request: Request, *, seconds: float, attempt: Attempt = insist) -> RunView:
    console: Console = request.app.state.console
    arn = request.path_params["execution_arn"]
    with explained(console.services.config):
        return read_run(console.services, arn, seconds=seconds, attempt=attempt)


def _values(request: Request, run: RunView) -> dict[str, Any]:
    asked = request.query_params
    filters = EventFilters(
        kind=asked.get("type", ""), state=asked.get("of", ""), skip=_number(request, "skip") or 0
    )
    return {"run": run, "events": run.event_page(filters)}


def _selected(request: Request, run: RunView) -> Selected | None:
    """None where nothing is asked for, and while it may still be among what is not read yet."""
    asked = Asked(
        state=request.query_params.get("state", ""),
        visit=_number(request, "visit"),
        number=_number(request, "number"),
        item=_number(request, "item"),
    )
    if asked == Asked():
        return select(run, Asked(visit=run.failure.visit.id)) if run.failure and run.failure.visit else None
    found = select(run, asked)
    if found is None and run.is_whole:
        raise HTTPException(404, f"This run has no {_in_words(asked)}.")
    return found


def _in_words(asked: Asked) -> str:
    if asked.visit is not None:
        return f"state that was entered with event {asked.visit}"
    if asked.number is not None:
        return f"visit {asked.number} of a state '{asked.state}'"
    return f"state '{asked.state}'" + ("" if asked.item is None else f" for item {asked.item}")


def _number(request: Request, name: str) -> int | None:
    text = request.query_params.get(name, "")
    if text and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise HTTPException(404, f"'{name}' is '{text}'; it should be a number.")
    return int(text) if text else None


ROUTES = (
    Route("/runs/{execution_arn:path}/stream", live),
    Route("/runs/{execution_arn:path}/state", state_part),
    Route("/runs/{execution_arn:path}/event", event_page),
    Route("/runs/{execution_arn:path}/execution.json", run_file),
    Route("/runs/{execution_arn:path}", run_page),
)
