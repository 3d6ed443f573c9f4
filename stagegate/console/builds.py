"""A build: its phases, what it was given, its test reports and its log, which go on while it runs."""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from stagegate.aws import explained
from stagegate.builds import Build, build_log, build_log_tail, find_build, reports_of
from stagegate.console.live import Shown, stream
from stagegate.console.pages import Console
from stagegate.errors import NotFound


def build_page(request: Request) -> Response:
    """Without a script it is what it was when it was asked for."""
    console: Console = request.app.state.console
    with explained(console.services.config):
        return console.page(request, "build.html", **_values(request))


def build_stream(request: Request) -> Response:
    """The parts of the page that change, until the build is over."""
    console: Console = request.app.state.console

    def look() -> Shown:
        with explained(console.services.config):
            values = _values(request)
        parts = {
            "state": console.part("build_state.html", **values),
            "log": console.part("job_log.html", **values),
        }
        return Shown(parts=parts, is_final=values["build"].is_over)

    return stream(console, request, look)


def log_file(request: Request) -> Response:
    """All of the log, as text, a page after the other."""
    console: Console = request.app.state.console
    with explained(console.services.config):
        build = _found(request)
    lines = build_log(console.services, build)
    text = (f"{line.time.isoformat()} {line.text}\n" for line in lines)
    return StreamingResponse(text, media_type="text/plain")


def _values(request: Request) -> dict[str, Any]:
    console: Console = request.app.state.console
    build = _found(request)
    return {
        "build": build,
        "reports": reports_of(console.services, build),
        "lines": build_log_tail(console.services, build),
    }


def _found(request: Request) -> Build:
    console: Console = request.app.state.console
    try:
        return find_build(console.services, request.path_params["build_id"])
    except NotFound as error:
        raise HTTPException(404, str(error)) from error


ROUTES = (
    Route("/builds/{build_id}", build_page),
    Route("/builds/{build_id}/live", build_stream),
    Route("/builds/{build_id}/log.txt", log_file),
)
