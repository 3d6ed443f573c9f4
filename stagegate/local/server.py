"""The local runtime as a server: one port, one data directory, one event loop.

`run` is what `stagegate local` calls: it prints one line when it is ready, and ends at SIGINT or SIGTERM.
"""

import asyncio
import contextlib
import fcntl
import gc
import logging
import os
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import datetime
from email.utils import formatdate
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import uvicorn
import uvloop
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse

from stagegate.errors import StagegateError
from stagegate.local import inbox_pages
from stagegate.local.endpoint import Endpoint
from stagegate.local.fault_file import read_faults
from stagegate.local.iam.usage import usage_of
from stagegate.local.inbox import read_inbox, read_mail, read_message
from stagegate.local.messages import HttpRequest
from stagegate.local.prune import Pruned, prune
from stagegate.local.service import AWSError, Service
from stagegate.local.services import SERVICES
from stagegate.local.store import Store

log = logging.getLogger(__name__)

_FUNCTION_URL = "/_aws/lambda-url/"
_INBOX = "/_stagegate/inbox"
_INTERRUPTION = "/_stagegate/interruption"
_FAULTS = "/_stagegate/faults"
_IAM = "/_stagegate/iam"
_CONSOLE = "/_stagegate/console"
_OURS = (_FUNCTION_URL, "/_stagegate/")
_GIT = "/v1/repos/"
_WITHOUT_BODY = (204, 304)
_GRACE_SECONDS = 5  # for requests under way when the server is told to end


class CannotServe(StagegateError):
    """The port or the data directory is in use."""


class NotPruned(StagegateError):
    """The database could not be written."""


class NoData(StagegateError):
    """No runtime has run in the directory."""


def run(
    *,
    host: str = "127.0.0.1",
    port: int = 4566,
    data: Path,
    smtp: str | None = None,
    max_jobs: int | None = None,
    preload: tuple[str, ...] | None = None,
    faults: Path | None = None,
    enforce_iam: bool = False,
    account: str | None = None,
    region: str | None = None,
    console: Callable[[str], str] | None = None,
) -> int:
    """Serve until SIGINT or SIGTERM; gives the exit status. `console` starts the console over an endpoint
    URL, and gives its address. Raises CannotServe where the port or the data directory is taken,
    ConfigurationError where the file of faults is wrong."""
    injected = None if faults is None else read_faults(faults)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = {
        "smtp": smtp,
        "max_jobs": max_jobs,
        "preload": preload,
        "faults": injected,
        "enforce_iam": enforce_iam,
        **({"account_id": account} if account else {}),
        **({"region": region} if region else {}),
    }
    if injected is not None:
        sys.stdout.write(f"Faults are injected: {len(injected.tallies)}, by {faults}\n")
    uvloop.run(serve(host=host, port=port, data=data.absolute(), console=console, **settings))
    if injected is not None:
        sys.stdout.write(f"{injected.summary()}\n")
    return 0


async def serve(
    *, host: str, port: int, data: Path, console: Callable[[str], str] | None, **settings: Any
) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with running(host=host, port=port, data=data, console=console, **settings) as endpoint:
        gc.freeze()  # what is loaded stays: the collector need not stop the loop to look through it again
        url = endpoint.runtime.endpoint_url
        sys.stdout.write(f"Stagegate local is ready at {url} (data in {data})\n")
        if console is not None:
            sys.stdout.write(f"Its console: {url}{_CONSOLE}\n")
        sys.stdout.flush()
        await stopping.wait()


@contextlib.asynccontextmanager
async def running(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    data: Path,
    classes: Mapping[str, tuple[type[Service], ...]] = SERVICES,
    console: Callable[[str], str] | None = None,
    **settings: Any,
) -> AsyncIterator[Endpoint]:
    """The runtime, answering and with its services started, for as long as the block lasts.

    `classes` stand in for `SERVICES`; `settings` are further fields of `Runtime` (`smtp`, `max_jobs`).
    """
    data.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240  (nothing else runs yet)
    with _locked(data), _listening(host, port) as listener:
        store = Store(data / "stagegate.db")
        store.on_failure = partial(_end_at_once, store.path)
        try:
            url = f"http://{host}:{listener.getsockname()[1]}"
            endpoint = Endpoint(store, data, endpoint_url=url, classes=classes, **settings)
            _check_place(endpoint, data)
            replayed = await endpoint.moto.replay()
            log.info("replayed %d requests to moto", replayed)
            async with _answering(endpoint, listener, console):
                try:
                    await endpoint.start()
                    yield endpoint
                finally:
                    await endpoint.stop()
        finally:
            store.close()


def _check_place(endpoint: Endpoint, data: Path) -> None:
    """Names that are on disk have the account and the region in them."""
    given = {"account_id": endpoint.runtime.account_id, "region": endpoint.runtime.region}
    known = endpoint.store.get("runtime", "place")
    if known is None:
        endpoint.store.put("runtime", "place", given)
    elif known != given:
        raise CannotServe(
            f"What is in {data} belongs to account {known['account_id']} in {known['region']}, and not to "
            f"account {given['account_id']} in {given['region']}: give these, or another data directory."
        )


def _end_at_once(path: Path, error: Exception) -> None:
    """The database fails: answer nothing more, so that nothing is answered that is not on disk."""
    sys.stderr.write(
        f"Stagegate local ends: the database {path} failed: {error}. What was answered is kept. "
        "See that the disk has room and works, then start again.\n"
    )
    sys.stderr.flush()
    os._exit(1)


@contextlib.asynccontextmanager
async def _answering(
    endpoint: Endpoint, listener: socket.socket, console: Callable[[str], str] | None
) -> AsyncIterator[None]:
    config = uvicorn.Config(
        _app(endpoint, hang_up=lambda client: server.hang_up(client), console=console),
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    try:
        yield
    finally:
        server.stopping.set()
        await serving


class _Server(uvicorn.Server):
    """Leaves signals to `serve`, and sleeps where uvicorn would look ten times a second whether to end."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stopping = asyncio.Event()

    async def main_loop(self) -> None:
        await self.stopping.wait()

    def hang_up(self, client: tuple[str, int]) -> None:
        """End the connection of a client, without a word."""
        for connection in list(self.server_state.connections):
            transport: Any = getattr(connection, "transport", None)
            if transport is not None and getattr(connection, "client", None) == client:
                transport.abort()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _app(
    endpoint: Endpoint,
    *,
    hang_up: Callable[[tuple[str, int]], None],
    console: Callable[[str], str] | None,
) -> Any:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if path.startswith(_GIT):
            response = await _git(endpoint, Request(scope, receive))
            await response(scope, receive, send)
            return
        if not path.startswith(_OURS):
            await _answer_aws(endpoint, scope, receive, send, hang_up=hang_up)
            return
        request = Request(scope, receive)
        await request.body()  # kept by the request, for whoever reads it again
        if path.startswith(_FUNCTION_URL):
            response = await _function_url(endpoint, request)
        elif path == "/_stagegate/health":
            where = {} if console is None else {"console": f"{endpoint.runtime.endpoint_url}{_CONSOLE}"}
            response = JSONResponse({"status": "ok", **where})
        elif path == _FAULTS:
            faults = endpoint.runtime.faults
            response = JSONResponse([] if faults is None else faults.counted())
        elif path == _INTERRUPTION:
            response = await _interrupt(endpoint, request)
        elif path == _IAM:
            response = await _iam(endpoint, request)
        elif path == _INBOX or path.startswith(f"{_INBOX}/"):
            is_browser = "text/html" in request.headers.get("accept", "")
            answer = _inbox_page if is_browser else _inbox
            response = await asyncio.to_thread(answer, endpoint.runtime.data / "inbox", path)
        elif console is not None and (path == _CONSOLE or path.startswith(f"{_CONSOLE}/")):
            response = await asyncio.to_thread(_to_console, console, endpoint.runtime.endpoint_url, request)
        else:
            response = JSONResponse({"Message": "Not Found"}, status_code=404)
        await response(scope, receive, send)

    return app


def _inbox_page(folder: Path, path: str) -> Response:
    """The same for a browser: a page each, and the HTML of a mail for the frame in its page."""
    mail_id, _, part = path.removeprefix(_INBOX).strip("/").partition("/")
    if not mail_id:
        return HTMLResponse(inbox_pages.list_page(read_inbox(folder)), headers=inbox_pages.HEADERS)
    message = read_message(folder, mail_id)
    if message is None or part not in ("", "html", "raw"):
        return HTMLResponse(inbox_pages.missing_page(), status_code=404, headers=inbox_pages.HEADERS)
    if part == "raw":
        headers = inbox_pages.BODY_HEADERS
        return Response(read_mail(folder, mail_id), media_type="text/plain; charset=utf-8", headers=headers)
    if part == "html":
        return HTMLResponse(inbox_pages.html_body(message) or "", headers=inbox_pages.BODY_HEADERS)
    return HTMLResponse(inbox_pages.mail_page(mail_id, message), headers=inbox_pages.HEADERS)


def _inbox(folder: Path, path: str) -> Response:
    """The mails that have come, as a list, or one of them as it came."""
    mail_id = path.removeprefix(_INBOX).strip("/")
    if not mail_id:
        return JSONResponse(read_inbox(folder))
    mail = read_mail(folder, mail_id)
    if mail is None:
        return JSONResponse({"Message": "Not Found"}, status_code=404)
    return Response(mail, media_type="message/rfc822")


def _to_console(console: Callable[[str], str], endpoint_url: str, request: Request) -> Response:
    """To the same page of the console, which is started where it does not run yet."""
    try:
        address = console(endpoint_url)
    except StagegateError as error:
        return JSONResponse({"Message": str(error)}, status_code=503)
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"{address}/{request.url.path.removeprefix(_CONSOLE).lstrip('/')}{query}")


async def _iam(endpoint: Endpoint, request: Request) -> Response:
    """What each role has asked for, and what of its policies nothing needed; DELETE begins a new record."""
    access = endpoint.access
    if request.method == "DELETE":
        access.record.clear()
        await endpoint.store.committed()
    roles = usage_of(await access.roles(), access.record.all())
    return JSONResponse({"IsEnforced": access.is_enforced, "Roles": roles})


async def _interrupt(endpoint: Endpoint, request: Request) -> Response:
    """Take the spot capacity of a training job away: AWS does it unasked."""
    if request.method != "POST":
        return JSONResponse({"Message": "Method Not Allowed"}, status_code=405)
    try:
        asked = await request.json()
        name, seconds = str(asked["TrainingJobName"]), float(asked.get("Seconds", 0))
        [jobs] = [job for job in endpoint.services.get("sagemaker", ()) if hasattr(job, "interrupt")]
        jobs.interrupt(name, seconds=seconds)
    except AWSError as error:
        return JSONResponse({"Message": error.message}, status_code=error.status)
    except (ValueError, KeyError, TypeError, AttributeError):
        message = 'The body should read {"TrainingJobName": "…", "Seconds": 60}'
        return JSONResponse({"Message": message}, status_code=400)
    return JSONResponse({})


async def _function_url(endpoint: Endpoint, request: Request) -> Response:
    url_id = request.url.path.removeprefix(_FUNCTION_URL).partition("/")[0]
    for service in endpoint.services.get("lambda", ()):
        if handle := getattr(service, "handle_url", None):
            try:
                response: Response = await handle(url_id, request)
            except Exception:
                log.exception("the function URL %s failed", url_id)
                response = JSONResponse({"Message": "Internal Server Error"}, status_code=502)
            await endpoint.store.committed()
            return response
    return JSONResponse({"Message": "Not Found"}, status_code=404)


async def _git(endpoint: Endpoint, request: Request) -> Response:
    """A git client at one of CodeCommit's repositories; what it pushes need not fit into memory."""
    for service in endpoint.services.get("codecommit", ()):
        if handle := getattr(service, "handle_git", None):
            try:
                response: Response = await handle(request)
            except Exception:
                log.exception("git at %s failed", request.url.path)
                response = Response("The local runtime failed; its log says why.\n", status_code=500)
            return response
    return JSONResponse({"Message": "Not Found"}, status_code=404)


async def _answer_aws(
    endpoint: Endpoint,
    scope: dict[str, Any],
    receive: Any,
    send: Any,
    *,
    hang_up: Callable[[tuple[str, int]], None],
) -> None:
    """By hand: an invocation of an endpoint would spend a third of our time in Starlette's classes."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        if not message.get("more_body"):
            break
    response = await endpoint.answer(_to_request(scope, bytes(body), receive))
    if response.is_lost:
        hang_up(scope["client"])
        await _disconnected(receive)
        return
    headers = {"date": _date(int(time.time())), **response.headers}
    if response.stream is not None:
        streaming = StreamingResponse(response.stream, status_code=response.status, headers=headers)
        await streaming(scope, receive, send)
        return
    if response.status not in _WITHOUT_BODY:
        headers = {"content-length": str(len(response.body)), **headers}
    named = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": response.status, "headers": named})
    await send({"type": "http.response.body", "body": response.body})


def _to_request(scope: dict[str, Any], body: bytes, receive: Any) -> HttpRequest:
    raw_path: bytes | None = scope.get("raw_path")
    return HttpRequest(
        method=scope["method"],
        path=raw_path.decode("ascii") if raw_path else quote(scope["path"]),
        query=scope["query_string"].decode("ascii"),
        headers={name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
        body=body,
        client_left=partial(_disconnected, receive),
    )


async def _disconnected(receive: Any) -> None:
    """Return when the client of a request whose body is read hangs up, or has its answer."""
    while (await receive())["type"] != "http.disconnect":
        pass


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def prune_data(data: Path, *, before: datetime, is_dry: bool) -> Pruned:
    """Take away what ended before a moment; a dry run only counts. Raises CannotServe where the runtime runs,
    NoData where there is none."""
    if not (path := data / "stagegate.db").is_file():
        raise NoData(f"There is no data of a local runtime in {data}.")
    with _locked(data):
        try:
            with contextlib.closing(Store(path)) as store:
                return prune(store, data, before=before, is_dry=is_dry)
        except sqlite3.DatabaseError as error:
            remedy = "See that the disk has room and works, then prune again."
            raise NotPruned(f"The database {path} failed: {error}. {remedy}") from error


@contextlib.contextmanager
def _locked(data: Path) -> Iterator[None]:
    """The data directory is ours alone; the lock goes with the process, however it ends."""
    with (data / "lock").open("a") as lock:
        _lock(lock, data)
        yield


def _lock(lock: IO[str], data: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise CannotServe(f"Another local runtime uses the data directory {data}.") from error


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    # With the protocol named, asyncio turns Nagle's delay off: an answer takes 1 ms and not 45.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise CannotServe(f"Port {port} of {host} cannot be used: {error.strerror}.") from error
        listener.listen(1024)
        yield listener
