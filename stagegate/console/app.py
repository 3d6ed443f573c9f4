"""The console as a web application, and what guards it.

Whoever reaches the console acts as the one who started it. So it answers on the loopback address, and only to
requests that name it (against DNS rebinding); on any other address it asks for a token.
"""

import hmac
from collections.abc import Mapping
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stagegate.aws import Services
from stagegate.console import approvals
from stagegate.console.pages import Console
from stagegate.errors import StagegateError

LOOPBACK = ("127.0.0.1", "localhost")
COOKIE = "stagegate-console"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; "
        "base-uri 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def application(services: Services, *, allows_changes: bool, token: str | None = None) -> Starlette:
    """The pages over these services. With a `token` they answer under any name, to who has it."""
    app = Starlette(
        routes=[
            Route("/", lambda request: RedirectResponse("/approvals")),
            *approvals.ROUTES,
            Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=["*"] if token else LOOPBACK),
            Middleware(Guard, token=token),
        ],
        exception_handlers={StagegateError: _explain, HTTPException: _refuse},
    )
    app.state.console = Console(services=services, allows_changes=allows_changes)
    return app


class Guard:
    """Asks for the token, where there is one, and gives each answer its headers."""

    def __init__(self, app: ASGIApp, *, token: str | None) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            await send(message)

        answer = self._asked(Request(scope)) or self._app
        await answer(scope, receive, send_guarded)

    def _asked(self, request: Request) -> Response | None:
        """None for who has the token; the token in an address becomes a cookie."""
        if self._token is None or _equal(request.cookies.get(COOKIE, ""), self._token):
            return None
        if request.method == "GET" and _equal(request.query_params.get("token", ""), self._token):
            response = RedirectResponse(request.url.path, status_code=303)
            response.set_cookie(
                COOKIE, self._token, httponly=True, samesite="strict", secure=request.url.scheme == "https"
            )
            return response
        return PlainTextResponse(
            "Open the address that `stagegate console` printed: it has the token.", status_code=401
        )


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def _explain(request: Request, error: Exception) -> Response:
    console: Console = request.app.state.console
    return console.page(request, "message.html", title="That did not work", message=str(error), status=502)


def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    titles: Mapping[int, str] = {403: "Not allowed", 404: "Not found"}
    console: Console = request.app.state.console
    return console.page(
        request,
        "message.html",
        title=titles.get(error.status_code, "That did not work"),
        message=error.detail,
        status=error.status_code,
    )
