"""The process behind a production variant: a model's inference handlers behind `/ping` and `/invocations`.

Run as a script by `variant.py`, and on its own feet: it imports nothing of stagegate. The handlers are those
of SageMaker's inference toolkit (`model_fn`, `input_fn`, `predict_fn`, `output_fn`, or `transform_fn`); what
`inference.py` leaves out is done as the toolkit does it for arrays in JSON, CSV and NPY.
"""

import argparse
import asyncio
import functools
import importlib.util
import inspect
import io
import json
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"
READY = b"ready\n"

_TEXT_TYPES = (JSON, CSV)  # the toolkit hands these to input_fn as text
_NEVER = 10**9  # seconds; a connection that closes while a request is on its way would lose the request


class Unusable(Exception):
    """A request that the default handlers cannot take, with its HTTP status."""

    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.message = message


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a handler that takes one argument more than it needs gets there, as from the toolkit."""

    model_dir: str
    system_properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    content_type: str
    body: bytes | Iterator[bytes]
    """In parts where the handler makes it so."""


class Handlers:
    """The functions of `inference.py` with the loaded model, as one function from request to answer."""

    def __init__(self, module: ModuleType | None, *, model_dir: str) -> None:
        self._module = module
        self._context = Context(
            model_dir=model_dir, system_properties={"model_dir": model_dir, "gpu_id": None}
        )
        self._model = self._call("model_fn", _no_model_fn, model_dir)

    def answer(self, body: bytes, *, content_type: str, accept: str) -> Answer:
        """Never raises: what goes wrong is an answer with a status and is written to the log."""
        try:
            return self._transform(body, content_type=content_type, accept=accept)
        except Exception as error:
            status = getattr(error, "status_code", None)
            message = str(getattr(error, "message", error))
            if not isinstance(status, int) or not 400 <= status < 600:
                status, message = 500, f"{message}\n{traceback.format_exc()}"
            print(f"{type(error).__name__} ({status}): {error}", file=sys.stderr)
            if status >= 500:
                traceback.print_exc()
            return Answer(status=status, content_type="text/plain; charset=utf-8", body=message.encode())

    def _transform(self, body: bytes, *, content_type: str, accept: str) -> Answer:
        data: bytes | str = body
        if content_type.partition(";")[0].strip().lower() in _TEXT_TYPES:
            try:
                data = body.decode()
            except UnicodeDecodeError as error:
                raise Unusable(400, f"The body is said to be {content_type} but is not UTF-8") from error
        if self._module is not None and hasattr(self._module, "transform_fn"):
            output = self._call("transform_fn", _no_model_fn, self._model, data, content_type, accept)
        else:
            decoded = self._call("input_fn", default_input_fn, data, content_type)
            prediction = self._call("predict_fn", default_predict_fn, decoded, self._model)
            output = self._call("output_fn", default_output_fn, prediction, accept)
        if isinstance(output, tuple):  # the toolkit also takes (body, content type)
            output, accept = output
        if isinstance(output, Iterator):
            return Answer(status=200, content_type=accept, body=map(_encoded, output))
        if isinstance(output, str):
            output = output.encode()
        if not isinstance(output, bytes | bytearray):
            raise TypeError(f"output_fn gave {type(output).__name__}; it should give str or bytes")
        return Answer(status=200, content_type=accept, body=bytes(output))

    def _call(self, name: str, default: Callable[..., Any], *arguments: Any) -> Any:
        function = getattr(self._module, name, default)
        return function(*arguments, *((self._context,) if _takes(function, len(arguments) + 1) else ()))


def _encoded(part: Any) -> bytes:
    if not isinstance(part, str | bytes | bytearray):
        raise TypeError(f"output_fn yielded {type(part).__name__}; it should yield str or bytes")
    return part.encode() if isinstance(part, str) else bytes(part)


def _takes(function: Callable[..., Any], count: int) -> bool:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return sum(parameter.kind in kinds for parameter in parameters) >= count


def _no_model_fn(model_dir: str) -> Any:
    raise NotImplementedError(
        "inference.py has no model_fn: write one that loads the model, as in "
        "'def model_fn(model_dir): return onnxruntime.InferenceSession(model_dir + \"/model.onnx\")'"
    )


def default_input_fn(body: bytes | str, content_type: str) -> Any:
    """An array from JSON, CSV or NPY."""
    import numpy as np

    kind = content_type.partition(";")[0].strip().lower()
    try:
        match kind, body:
            case "application/json", str():
                return np.array(json.loads(body))
            case "text/csv", str():
                return np.genfromtxt(io.StringIO(body), delimiter=",")
            case "application/x-npy", bytes():
                return np.load(io.BytesIO(body), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise Unusable(400, f"The body is not valid {kind}: {error}") from error
    raise Unusable(415, f"Content type {content_type} is not supported: use {JSON}, {CSV} or {NPY}")


def default_predict_fn(data: Any, model: Any) -> Any:
    return model.predict(data) if hasattr(model, "predict") else model(data)


def default_output_fn(prediction: Any, accept: str) -> bytes:
    """JSON, CSV or NPY of an array."""
    import numpy as np

    array = np.asarray(prediction)
    match accept.partition(";")[0].strip().lower():
        case "application/json":
            return json.dumps(array.tolist()).encode()
        case "text/csv":
            text = io.StringIO()
            np.savetxt(text, np.atleast_1d(array), delimiter=",", fmt="%s")
            return text.getvalue().encode()
        case "application/x-npy":
            buffer = io.BytesIO()
            np.save(buffer, array)
            return buffer.getvalue()
    raise Unusable(406, f"Accept {accept} is not supported: use {JSON}, {CSV} or {NPY}")


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


def application(handlers: Handlers) -> Starlette:
    default_accept = os.environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", JSON)
    seconds = float(os.environ.get("SAGEMAKER_MODEL_SERVER_TIMEOUT", "60"))
    # One at a time unless asked for more, as in the toolkit's workers: handlers need not be thread-safe.
    workers = ThreadPoolExecutor(int(os.environ.get("SAGEMAKER_MODEL_SERVER_WORKERS") or 1))

    async def ping(request: Request) -> Response:
        return Response(status_code=200)

    async def invocations(request: Request) -> Response:
        accept = request.headers.get("accept", "*/*")
        work = functools.partial(
            handlers.answer,
            await request.body(),
            content_type=request.headers.get("content-type", JSON),
            accept=default_accept if accept == "*/*" else accept,
        )
        try:
            answer = await in_time(work)
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

    return Starlette(
        routes=[Route("/ping", ping), Route("/invocations", invocations, methods=["POST"])],
    )


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
            http="httptools",
            loop="uvloop",
            timeout_keep_alive=_NEVER,
        )
    )
    lifeline.send(READY)
    server.run(sockets=[socket.socket(fileno=arguments.listen)])


if __name__ == "__main__":
    main()
