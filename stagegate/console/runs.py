"""Runs: each with what started it, where it is and how good its model is; the newest first."""

import math
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stagegate.aws import explained
from stagegate.console.live import Shown, stream
from stagegate.console.pages import Console
from stagegate.console.run_list import STATUSES, Filters, RunPage, list_page
from stagegate.errors import NotFound

SEARCH_SECONDS = 0.4
"""For how long a page looks for a name before it is shown; what is left is searched by the stream."""


def runs_page(request: Request) -> Response:
    """A page of them; `?state_machine=`, `?status=` and `?name=` choose, `?begin=` is where a page begins."""
    console: Console = request.app.state.console
    values = _values(request, seconds=SEARCH_SECONDS)
    if unanswered := values["page"].unanswered:
        console.miss(request, "what started some runs, their states and accuracies", unanswered)
    return console.page(
        request,
        "runs.html",
        **values,
        statuses=STATUSES,
        query=request.url.query,
    )


def live(request: Request) -> Response:
    """The rows of the same page, as they change."""
    console: Console = request.app.state.console

    def look() -> Shown:
        values = _values(request, seconds=math.inf)
        if unanswered := values["page"].unanswered:
            raise unanswered  # rather the rows that are there than some with less
        return Shown(parts={"rows": console.part("run_rows.html", **values)})

    return stream(console, request, look)


def _values(request: Request, *, seconds: float) -> dict[str, Any]:
    return {
        "page": _read(request, seconds=seconds),
        "filters": _filters(request),
        "is_first": "begin" not in request.query_params,
    }


def _filters(request: Request) -> Filters:
    asked = request.query_params
    status = asked.get("status", "")
    if status and status not in STATUSES:
        raise HTTPException(404, f"There is no status '{status}'; there are {', '.join(STATUSES)}.")
    return Filters(
        state_machine=asked.get("state_machine", ""), status=status, name=asked.get("name", "").strip()
    )


def _read(request: Request, *, seconds: float) -> RunPage:
    console: Console = request.app.state.console
    begin = request.query_params.get("begin", "")
    try:
        with explained(console.services.config):
            return list_page(console.services, _filters(request), begin=begin, seconds=seconds)
    except NotFound as error:
        raise HTTPException(404, str(error)) from error


ROUTES = (Route("/runs", runs_page), Route("/runs/stream", live))
