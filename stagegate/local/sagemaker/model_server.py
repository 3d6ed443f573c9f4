"""The process behind a production variant: a model's inference handlers behind `/ping` and `/invocations`.

Run by `model_process.py`, and all but on its own feet, so that it starts fast: of stagegate it imports
`inference_handlers.py` alone.
"""

import argparse
import asyncio
import contextlib
import functools
import importlib.util
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from stagegate.local.sagemaker.inference_handlers import JSON, Answer, Handlers, Question

READY = b"ready\n"

_NEVER = 10**9  # seconds; a connection that closes while a request is on its way would lose the request


def load_module(folder: Path, program: str) -> ModuleType | None:
    """The user's `inference.py`, with its folder on the path so that it finds its neighbours."""
    path = folder / program
    if not path.is_file():
        return None
    sys.path.insert(0, str(folder))
    specification = importlib.util.spec_from_file_location(path.stem, path)
    if specification is None or specification.loader is None:
        raise ImportError(f"{program} is not a Python file")
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module
    specification.loader.exec_module(module)
    return module


class Batches:
    """Requests that wait for a worker go to it together: at most `size`, and no later than `delay` seconds
    after the first of them has found it free."""

    def __init__(
        self,
        answers: Callable[[list[Question]], Awaitable[list[Answer]]],
        *,
        workers: int,
        size: int,
        delay: float,
    ) -> None:
        self._answers, self._workers, self._size, self._delay = answers, workers, size, delay
        self._waiting: asyncio.Queue[tuple[Question, asyncio.Future[Answer]]] = asyncio.Queue()
        self._working: list[asyncio.Task[None]] = []

    async def answer(self, asked: Question) -> Answer:
        if self._size == 1:
            return (await self._answers([asked]))[0]
        if not self._working:
            self._working = [asyncio.create_task(self._work()) for _ in range(self._workers)]
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((asked, answer))
        return await answer

    async def _work(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < self._size and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            if self._delay:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._delay):
                        while len(batch) < self._size:
                            batch.append(await self._waiting.get())
            try:
                answers = await self._answers([asked for asked, _ in batch])
            except TimeoutError as error:
                for _, waits in batch:
                    if not waits.done():
                        waits.set_exception(TimeoutError(*error.args))
                continue
            for (_, waits), answer in zip(batch, answers, strict=True):
                if not waits.done():  # its client has left
                    waits.set_result(answer)


def application(handlers: Handlers) -> Callable[..., Awaitable[None]]:
    default_accept = os.environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", JSON)
    seconds = float(_setting("SAGEMAKER_MODEL_SERVER_TIMEOUT", "SAGEMAKER_TS_RESPONSE_TIMEOUT", default="60"))
    # One at a time unless asked for more, as in the toolkit's workers: handlers need not be thread-safe.
    count = int(_setting("SAGEMAKER_MODEL_SERVER_WORKERS", "SAGEMAKER_TS_MAX_WORKERS", default="1"))
    workers = ThreadPoolExecutor(count)
    batches = Batches(
        lambda asked: in_time(functools.partial(handlers.answers, asked)),
        workers=count,
        size=int(_setting("SAGEMAKER_TS_BATCH_SIZE", default="1")),
        delay=float(_setting("SAGEMAKER_TS_MAX_BATCH_DELAY", default="0")) / 1000,
    )

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        """By hand: Starlette's routes and middleware would take longer than many a model."""
        if scope["type"] != "http":
            return
        if scope["path"] == "/ping":
            response = Response(status_code=200)
        elif scope["path"] != "/invocations":
            response = PlainTextResponse("Not Found", status_code=404)
        elif scope["method"] != "POST":
            response = PlainTextResponse("Method Not Allowed", status_code=405)
        else:
            response = await invocations(Request(scope, receive))
        await response(scope, receive, send)

    async def invocations(request: Request) -> Response:
        accept = request.headers.get("accept", "*/*")
        asked = Question(
            body=await request.body(),
            content_type=request.headers.get("content-type", JSON),
            accept=default_accept if accept == "*/*" else accept,
        )
        try:
            answer = await batches.answer(asked)
        except TimeoutError:
            return PlainTextResponse(f"The prediction took more than {seconds:g} s", status_code=500)
        headers = {"content-type": answer.content_type}
        if isinstance(answer.body, bytes):
            return Response(answer.body, status_code=answer.status, headers=headers)
        return StreamingResponse(parts(answer.body), status_code=answer.status, headers=headers)

    async def parts(body: Iterator[bytes]) -> AsyncIterator[bytes]:
        """Each as soon as the handler has made it, in the threads that run handlers."""
        while (part := await in_time(functools.partial(next, body, None))) is not None:
            if part:
                yield part

    async def in_time(work: Callable[[], Any]) -> Any:
        """What a handler gives. Its thread cannot be ended, the process can: it is started again, as the
        toolkit does it."""
        loop = asyncio.get_running_loop()
        try:
            return await asyncio.wait_for(loop.run_in_executor(workers, work), seconds)
        except TimeoutError:
            print(
                f"A prediction took more than {seconds:g} s: the model server is restarted", file=sys.stderr
            )
            loop.call_later(0.1, os._exit, 1)
            raise

    return app


def _setting(*names: str, default: str) -> str:
    """The first of the environment's variables that says something."""
    return next((value for name in names if (value := os.environ.get(name))), default)


def end_with_parent(lifeline: socket.socket) -> None:
    """Die, with all that the user's code has started, as soon as the server's end of `lifeline` closes."""

    def wait() -> None:
        while lifeline.recv(1):
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", type=int, required=True, help="the descriptor of a listening socket")
    parser.add_argument("--lifeline", type=int, required=True, help="the descriptor that tells when to end")
    parser.add_argument("--model-dir", required=True)
    arguments = parser.parse_args()

    lifeline = socket.socket(fileno=arguments.lifeline)
    end_with_parent(lifeline)
    module = load_module(
        Path(os.environ["SAGEMAKER_SUBMIT_DIRECTORY"]), os.environ.get("SAGEMAKER_PROGRAM", "inference.py")
    )
    handlers = Handlers(module, model_dir=arguments.model_dir)

    server = uvicorn.Server(
        uvicorn.Config(
            application(handlers),
            log_level="warning",
            access_log=False,
            lifespan="off",
            proxy_headers=False,
            server_header=False,
            date_header=False,
            http="httptools",
            loop="uvloop",
            timeout_keep_alive=_NEVER,
        )
    )
    lifeline.send(READY)
    server.run(sockets=[socket.socket(fileno=arguments.listen)])


if __name__ == "__main__":
    main()
