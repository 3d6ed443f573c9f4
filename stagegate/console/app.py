"""The console as a web application: its pages, and what it says where there is none."""

from collections.abc import Mapping
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from stagegate.aws import Services, explanation
from stagegate.console import (
    approvals,
    builds,
    endpoints,
    events,
    functions,
    jobs,
    map_run,
    models,
    run,
    run_changes,
    runs,
    stacks,
    tuning,
)
from stagegate.console.guard import HEADERS, Guard
from stagegate.console.pages import UNANSWERED, Console
from stagegate.errors import NotFound, StagegateError


def application(services: Services, *, allows_changes: bool, token: str | None = None) -> Starlette:
    """The pages over these services. With a `token` they answer under any name, to who has it."""
    app = Starlette(
        routes=[
            Route("/", lambda request: RedirectResponse("/runs")),
            *runs.ROUTES,
            *run_changes.ROUTES,
            *run.ROUTES,
            *map_run.ROUTES,
            *approvals.ROUTES,
            *models.ROUTES,
            *tuning.ROUTES,
            *jobs.ROUTES,
            *builds.ROUTES,
            *functions.ROUTES,
            *endpoints.ROUTES,
            *stacks.ROUTES,
            *events.ROUTES,
            Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
        ],
        middleware=[Middleware(Guard, token=token)],
        exception_handlers={
            StagegateError: _explain,
            ClientError: _explain,
            BotoCoreError: _explain,
            HTTPException: _refuse,
            Exception: _apologise,
        },
    )
    app.state.console = Console(services=services, allows_changes=allows_changes)
    return app


def _explain(request: Request, error: Exception) -> Response:
    """What does not pass by itself is said; for what may, the page asks again."""
    console: Console = request.app.state.console
    if isinstance(error, ClientError | BotoCoreError):
        error = explanation(error, console.services.config)
    if isinstance(error, UNANSWERED):
        return console.unanswered(request, error)
    is_missing = isinstance(error, NotFound)
    return _message(
        request, "Not found" if is_missing else "That did not work", str(error), 404 if is_missing else 502
    )


def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    titles: Mapping[int, str] = {403: "Not allowed", 404: "Not found"}
    title = titles.get(error.status_code, "That did not work")
    return _message(request, title, error.detail, error.status_code)


def _apologise(request: Request, error: Exception) -> Response:
    """A mistake of ours, which is in the log; no layer above this one gives its answer our headers."""
    said = "The console itself has failed: what it printed where it was started says how."
    page = _message(request, "That did not work", said, 500)
    page.headers.update(HEADERS)
    return page


def _message(request: Request, title: str, message: str, status: int) -> Response:
    console: Console = request.app.state.console
    return console.page(request, "message.html", title=title, message=message, status=status, account="")
