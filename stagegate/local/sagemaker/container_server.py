"""The process behind a production variant whose model brings a server of its own, as a container does.

The archive's `code/serve` is started as SageMaker starts a container, with the model at /opt/ml/model. It has
to listen on the port of SAGEMAKER_BIND_TO_PORT and to answer `/ping` and `/invocations`. What comes to the
socket that is handed down is passed on to it. Run by `model_process.py`.
https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html
"""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from stagegate.local import launcher
from stagegate.local.sagemaker.model_server import READY, end_with_parent

_PING_SECONDS = 2  # that a container has to answer
_BETWEEN_PINGS = 0.05
_CHUNK = 65_536


def program_of(model: Path) -> Path | None:
    """The server that a model brings, if it does."""
    program = model / "code" / "serve"
    return program if program.is_file() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", type=int, required=True, help="the descriptor of a listening socket")
    parser.add_argument("--lifeline", type=int, required=True, help="the descriptor that tells when to end")
    parser.add_argument("--model-dir", required=True)
    arguments = parser.parse_args()
    model, port = Path(arguments.model_dir), _free_port()
    process = _started(model, port)
    lifeline = socket.socket(fileno=arguments.lifeline)
    end_with_parent(lifeline)
    sys.exit(asyncio.run(_serve(process, port, lifeline, socket.socket(fileno=arguments.listen))))


def _started(model: Path, port: int) -> "subprocess.Popen[bytes]":
    code = model / "code"
    path = os.pathsep.join((str(code), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    return subprocess.Popen(
        ["serve"],
        executable=code / "serve",
        cwd=code,
        env={
            **os.environ,
            "PATH": path,
            "SAGEMAKER_BIND_TO_PORT": str(port),
            "SAGEMAKER_SAFE_PORT_RANGE": f"{port}-{port}",
        },
        stdin=subprocess.DEVNULL,
        preexec_fn=partial(_isolate, model),
    )


def _isolate(model: Path) -> None:
    """In the new process: where that can be the first one of a namespace, so that all it starts ends with it,
    and the model where a container has it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, launcher.PASSED_ON)
    launcher.die_with_parent()
    try:
        launcher.enter_namespaces(model.parent, Path("/opt/ml"))
    except OSError as error:
        os.write(2, f"The model is not at /opt/ml/model, but at {model}: {error}\n".encode())
    else:
        launcher.become_parent()
        launcher.die_with_parent()
        launcher.mount("proc", "/proc", "proc", 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, launcher.PASSED_ON)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


async def _serve(
    process: "subprocess.Popen[bytes]", port: int, lifeline: socket.socket, listener: socket.socket
) -> int:
    """Pass on what comes, once `/ping` answers 200, until the program ends; gives its status."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, process.terminate)
    ended = asyncio.ensure_future(asyncio.to_thread(process.wait))
    healthy = asyncio.ensure_future(_until_healthy(port))
    await asyncio.wait((ended, healthy), return_when=asyncio.FIRST_COMPLETED)
    if healthy.done():
        lifeline.send(READY)
        async with await asyncio.start_server(_relay(port), sock=listener):
            await ended
    healthy.cancel()
    return launcher.exit_code_of(process.returncode)


async def _until_healthy(port: int) -> None:
    while True:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(_PING_SECONDS):
                if await _ping(port) == 200:
                    return
        await asyncio.sleep(_BETWEEN_PINGS)


async def _ping(port: int) -> int:
    """The status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET /ping HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
        words = (await reader.readuntil(b"\n")).split()
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    finally:
        writer.close()


def _relay(port: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            theirs, to_them = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, to_them), _copy(theirs, writer))

    return connected


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    main()
