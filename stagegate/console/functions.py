"""A function: what it is, and the end of its log, which goes on while somebody looks."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stagegate.aws import explained
from stagegate.console.live import Shown, stream
from stagegate.console.pages import Console
from stagegate.errors import NotFound
from stagegate.functions import Function, find_function, function_log_tail
from stagegate.job_logs import LogLine


def function_page(request: Request) -> Response:
    """Without a script it is what it was when it was asked for."""
    console: Console = request.app.state.console
    with explained(console.services.config):
        function = _found(request)

        def lines() -> list[LogLine]:
            return function_log_tail(console.services, function)

        return console.page(
            request,
            "function.html",
            function=function,
            lines=console.attempt(request, "its log", lines, list[LogLine]()),
        )


def function_stream(request: Request) -> Response:
    """Its log, for as long as somebody looks."""
    console: Console = request.app.state.console

    def look() -> Shown:
        with explained(console.services.config):
            lines = function_log_tail(console.services, _found(request))
        return Shown(parts={"log": console.part("job_log.html", lines=lines)})

    return stream(console, request, look)


def _found(request: Request) -> Function:
    console: Console = request.app.state.console
    try:
        return find_function(console.services, request.path_params["name"])
    except NotFound as error:
        raise HTTPException(404, str(error)) from error


ROUTES = (
    Route("/functions/{name}", function_page),
    Route("/functions/{name}/live", function_stream),
)
