"""Who may speak to the console.

Whoever reaches it acts as the one who started it. So it answers on the loopback address, and only to requests
that name it (against DNS rebinding); on any other address it asks for a token.
"""

import hmac
import ipaddress

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stagegate.console.pages import POLICY

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it: `localhost`, 127.0.0.0/8, ::1."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """Asks for the token, or for a name of this machine, and gives each answer its headers."""

    def __init__(self, app: ASGIApp, *, token: str | None) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                message["headers"] += [
                    (name.encode(), value.encode())
                    for name, value in HEADERS.items()
                    if name.lower().encode() not in given  # a page's own policy is not made stricter
                ]
            await send(message)

        request = Request(scope)
        refused = self._without_token(request) if self._token is None else self._asked(request, self._token)
        answer = refused or self._app
        await answer(scope, receive, send_guarded)

    def _without_token(self, request: Request) -> Response | None:
        """None for a request that names this machine: another name's pages would else be ours, too."""
        if is_loopback(_name_of(request.headers.get("host", ""))):
            return None
        return PlainTextResponse("This console answers to 127.0.0.1 and localhost alone.", status_code=400)

    def _asked(self, request: Request, token: str) -> Response | None:
        """None for who has the token; the token in an address becomes a cookie."""
        # A browser keeps one set of cookies for all ports of a host.
        cookie = f"stagegate-console-{(request.scope.get('server') or ('', 0))[1]}"
        if _equal(request.cookies.get(cookie, ""), token):
            return None
        if request.method == "GET" and _equal(request.query_params.get("token", ""), token):
            response = RedirectResponse(request.url.path, status_code=303)
            response.set_cookie(
                cookie, token, httponly=True, samesite="strict", secure=request.url.scheme == "https"
            )
            return response
        return PlainTextResponse(
            "Open the address that `stagegate console` printed: it has the token.", status_code=401
        )


def _name_of(host: str) -> str:
    """`[::1]:4567` without its port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())
