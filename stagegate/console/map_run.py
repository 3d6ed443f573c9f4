"""A Map Run: how many items came to what, its limits, and its executions, a page at a time."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from botocore.exceptions import ClientError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from stagegate.aws import Services, error_code, explained
from stagegate.console.live import Shown, stream
from stagegate.console.map_run_view import MapRunView, read_map_run
from stagegate.console.pages import Console
from stagegate.console.run_list import STATUSES
from stagegate.errors import NotFound

ROWS = 25
SHOWN_CHARACTERS = 120
_THREADS = 8
_LIMITS: Mapping[str, tuple[type[int] | type[float], str]] = {
    "maxConcurrency": (int, "At once, 0 for as many as AWS runs"),
    "toleratedFailureCount": (int, "Items that may fail"),
    "toleratedFailurePercentage": (float, "Items that may fail, in percent"),
}
"""What UpdateMapRun changes: its members, with their types and what they are called here."""


@dataclass(frozen=True, kw_only=True)
class Child:
    """An execution of a Map Run: its name says nothing, so what it was given does."""

    arn: str
    name: str
    status: str
    items: int
    """More than one where items come in batches."""
    started: datetime
    stopped: datetime | None
    input: str
    error: str


@dataclass(frozen=True, kw_only=True)
class Children:
    rows: list[Child]
    following: str
    """Where the next page begins; "" after the last."""


def map_run_page(request: Request) -> Response:
    """`?status=` chooses among its executions, `?begin=` is where a page of them begins."""
    console: Console = request.app.state.console
    map_run, children = _read(request)
    return console.page(
        request,
        "map_run.html",
        it=map_run,
        children=children,
        status_filter=request.query_params.get("status", ""),
        statuses=STATUSES,
        query=request.url.query,
        is_first="begin" not in request.query_params,
        limits=_LIMITS,
    )


def live(request: Request) -> Response:
    """The same page's parts while the Map Run goes on."""
    console: Console = request.app.state.console

    def look() -> Shown:
        map_run, children = _read(request)
        parts = {
            "head": console.part("map_run_head.html", it=map_run),
            "children": console.part("map_run_children.html", children=children),
        }
        return Shown(parts=parts, is_final=not map_run.is_running)

    return stream(console, request, look)


async def update(request: Request) -> Response:
    """The form's limits count at once; what is left empty stays as it is."""
    form = await request.app.state.console.form(request)
    return await run_in_threadpool(_update, request, form)


def _update(request: Request, form: dict[str, str]) -> Response:
    console: Console = request.app.state.console
    arn = request.path_params["map_run_arn"]
    changes = {name: _number(name, form[name].strip()) for name in _LIMITS if form.get(name, "").strip()}
    with explained(console.services.config):
        map_run = _found(console.services, arn)
        if changes:
            console.services("stepfunctions").update_map_run(mapRunArn=arn, **changes)
    return RedirectResponse(map_run.page, status_code=303)


def _number(name: str, text: str) -> int | float:
    kind, said = _LIMITS[name]
    try:
        number: int | float = kind(text)
    except ValueError:
        number = -1
    if not 0 <= number < float("inf"):
        whole = "whole number" if kind is int else "number"
        raise HTTPException(400, f"'{said}' is '{text}'; it should be a {whole}, 0 or more.")
    return number


def _read(request: Request) -> tuple[MapRunView, Children]:
    console: Console = request.app.state.console
    status = request.query_params.get("status", "")
    if status and status not in STATUSES:
        raise HTTPException(404, f"There is no status '{status}'; there are {', '.join(STATUSES)}.")
    with explained(console.services.config):
        map_run = _found(console.services, request.path_params["map_run_arn"])
        _ = map_run.visit  # asks AWS, too
        children = list_children(
            console.services, map_run.arn, status=status, begin=request.query_params.get("begin", "")
        )
    return map_run, children


def _found(services: Services, arn: str) -> MapRunView:
    try:
        return read_map_run(services, arn)
    except NotFound as error:
        raise HTTPException(404, str(error)) from error


def list_children(services: Services, map_run_arn: str, *, status: str = "", begin: str = "") -> Children:
    """The latest first, as AWS lists them; only those of the status where there is one."""
    asked = {"statusFilter": status} if status else {}
    try:
        answer = services("stepfunctions").list_executions(
            mapRunArn=map_run_arn, maxResults=ROWS, **asked, **({"nextToken": begin} if begin else {})
        )
    except ClientError as error:
        if error_code(error) != "InvalidToken":
            raise
        raise HTTPException(404, "This page of the list is no more: go to the first page.") from error
    with ThreadPoolExecutor(_THREADS) as threads:
        rows = list(threads.map(lambda execution: _child(services, execution), answer["executions"]))
    return Children(rows=rows, following=answer.get("nextToken", ""))


def _child(services: Services, execution: dict[str, Any]) -> Child:
    given, error = _told(services, execution["executionArn"], execution.get("stopDate"))
    return Child(
        arn=execution["executionArn"],
        name=execution["name"],
        status=execution["status"],
        items=execution.get("itemCount", 1),
        started=execution["startDate"],
        stopped=execution.get("stopDate"),
        input=given,
        error=error,
    )


@lru_cache(maxsize=4_000)
def _told(services: Services, execution_arn: str, stopped: datetime | None) -> tuple[str, str]:
    """Its input and its error, in short. Asked for once while it runs, and once when it has `stopped`."""
    try:
        described = services("stepfunctions").describe_execution(executionArn=execution_arn)
    except ClientError as error:
        if error_code(error) != "ExecutionDoesNotExist":  # it is listed before it can be described
            raise
        return "", ""
    return _short(described.get("input", "")), _short(
        ": ".join(text for text in (described.get("error"), described.get("cause")) if text)
    )


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


ROUTES = (
    Route("/map-runs/{map_run_arn:path}/stream", live),
    Route("/map-runs/{map_run_arn:path}/limits", update, methods=["POST"]),
    Route("/map-runs/{map_run_arn:path}", map_run_page),
)
