"""A production variant's process: started, asked for its health, watched, started again, ended."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from stagegate.local.log_stream import LogStream
from stagegate.local.sagemaker import container_server, model_server
from stagegate.local.sagemaker.connections import Answer, ConnectionLost, Connections, Headers, Reply

_GRACE_SECONDS = 5  # from SIGTERM to SIGKILL
_DRAIN_SECONDS = 480  # a stream takes no longer, any other invocation a minute
_STARTUP_SECONDS = 480  # for a restart, as AWS has for a start unless told otherwise
_STABLE_SECONDS = 30  # a process that has lived for so long did not die of its start
_RESTART_SECONDS = (0, 0.5, 1, 2, 5, 10, 30)  # before the first, second, … restart in a row
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")

Result = TypeVar("Result")


class Unhealthy(Exception):
    """The process ended, or did not answer `/ping`, before it was healthy."""


class ModelProcess:
    """One variant. Requests wait while its process is on its way back."""

    def __init__(
        self,
        *,
        name: str,
        model_dir: Path,
        environment: Mapping[str, str],
        log: LogStream,
        startup_seconds: float = _STARTUP_SECONDS,
    ) -> None:
        self.name = name
        self._startup_seconds = startup_seconds
        self._model_dir = model_dir
        self._environment = {
            **{variable: os.environ[variable] for variable in _KEPT if variable in os.environ},
            "PYTHONUNBUFFERED": "1",
            **environment,
        }
        self._log = log
        # Ours, and handed down: a request that comes while the process restarts waits in its backlog.
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._connections = Connections(*self._listening.getsockname())
        self._process: asyncio.subprocess.Process | None = None
        self._lifeline: socket.socket | None = None
        self._watch: asyncio.Task[None] | None = None
        self._logging: set[asyncio.Task[None]] = set()
        self._healthy = asyncio.Event()
        self._under_way = 0
        self._drained = asyncio.Event()
        self._drained.set()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def pids(self) -> list[int]:
        """Of what the variant has running: each with all others below it."""
        return [self._process.pid] if self._process else []

    @property
    def is_healthy(self) -> bool:
        return self._healthy.is_set()

    @property
    def has_stopped(self) -> bool:
        """Whether it was ended for good; what it was asked then is lost, but not by its fault."""
        return self._listening.fileno() < 0

    async def start(self, *, seconds: float) -> None:
        """Return when it is healthy; else end it and raise `Unhealthy`."""
        try:
            async with asyncio.timeout(seconds):
                await self._launch()
        except (TimeoutError, Unhealthy) as error:
            await self.stop()
            raise Unhealthy(str(error) or f"not healthy after {seconds:g} s") from error
        self.resume()

    def resume(self) -> None:
        """Keep it running, in the background; where it does not run yet, as after a restart, start it."""
        self._watch = asyncio.create_task(self._keep_running(), name=f"watch {self.name}")

    async def wait_until_healthy(self) -> None:
        await self._healthy.wait()

    async def request(self, method: str, path: str, *, headers: Headers, body: bytes = b"") -> Reply:
        """Raises `ConnectionLost` when the process ends before it has answered."""
        async with self._request_under_way():
            await self._healthy.wait()
            return await self._connections.request(method, path, headers=headers, body=body)

    async def stream(
        self, method: str, path: str, *, headers: Headers, body: bytes = b""
    ) -> AsyncGenerator[Answer | bytes, None]:
        """The answer as soon as its head is there, then its body part by part. Raises as `request` does.

        Whoever reads has to close it: until then the request is under way.
        """
        async with self._request_under_way():
            await self._healthy.wait()
            answer, parts = await self._connections.stream(method, path, headers=headers, body=body)
            async with contextlib.aclosing(parts):
                yield answer
                async for part in parts:
                    yield part

    async def drain(self) -> None:
        """Return when every request has its answer, or has had the time for it."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._drained.wait(), _DRAIN_SECONDS)

    async def stop(self) -> None:
        """End it, and all that it has started."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        self._connections.close()
        self._listening.close()
        await self._end()
        if self._logging:  # its last lines
            _, unfinished = await asyncio.wait(self._logging, timeout=_GRACE_SECONDS)
            for task in unfinished:
                task.cancel()

    @asynccontextmanager
    async def _request_under_way(self) -> AsyncIterator[None]:
        self._under_way += 1
        self._drained.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._drained.set()

    async def _keep_running(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0  # in a row: it could not be started, or died soon after
        while True:
            if self._process is not None:
                healthy_since = loop.time()
                status = await self._process.wait()
                self._healthy.clear()
                self._connections.close()
                self._log.write(f"The model server ended with status {status}; it is started again")
                failures = 0 if loop.time() - healthy_since > _STABLE_SECONDS else failures + 1
            await asyncio.sleep(_RESTART_SECONDS[min(max(failures - 1, 0), len(_RESTART_SECONDS) - 1)])
            await self._end()
            try:
                async with asyncio.timeout(self._startup_seconds):
                    await self._launch()
            except (Unhealthy, TimeoutError) as error:
                why = str(error) or f"not healthy after {self._startup_seconds:g} s"
                self._log.write(f"The model server could not be started: {why}")
                failures += 1
                await self._end()

    async def _launch(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._lifeline = ours
        brings_server = container_server.program_of(self._model_dir) is not None
        self._connections.are_kept = not brings_server
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # the user's modules come by the model's code folder, not by the working one
                *("-m", (container_server if brings_server else model_server).__name__),
                *("--listen", str(self._listening.fileno())),
                *("--lifeline", str(theirs.fileno())),
                *("--model-dir", str(self._model_dir)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=(self._listening.fileno(), theirs.fileno()),
                start_new_session=True,
                env=self._environment,
                cwd=self._model_dir,
            )
        output = self._process.stdout
        if output is not None:
            logging = asyncio.create_task(self._log.copy(output), name=f"log {self.name}")
            self._logging.add(logging)
            logging.add_done_callback(self._logging.discard)
        loop = asyncio.get_running_loop()
        said = await self._before_its_end(loop.sock_recv(ours, len(model_server.READY)))
        if said != model_server.READY:
            raise Unhealthy("the process ended before it was ready")
        try:
            reply = await self._before_its_end(self._connections.request("GET", "/ping", headers=[]))
        except ConnectionLost as error:
            raise Unhealthy(f"no answer to /ping: {error}") from error
        if reply.status != 200:
            raise Unhealthy(f"/ping answered {reply.status}")
        self._healthy.set()

    async def _before_its_end(self, work: Coroutine[Any, Any, Result]) -> Result:
        """What `work` gives, unless the process ends first: nobody would take a connection that waits."""
        assert self._process is not None
        done = asyncio.create_task(work)
        ended = asyncio.create_task(self._process.wait())
        try:
            await asyncio.wait((done, ended), return_when=asyncio.FIRST_COMPLETED)
            if not done.done():
                raise Unhealthy("the process ended before it was healthy")
            return done.result()
        finally:
            done.cancel()
            ended.cancel()
            await asyncio.gather(done, ended, return_exceptions=True)

    async def _end(self) -> None:
        self._healthy.clear()
        process, self._process = self._process, None
        lifeline, self._lifeline = self._lifeline, None
        try:
            if process is not None:
                _signal(process.pid, signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), _GRACE_SECONDS)
        finally:
            if process is not None:
                _signal(process.pid, signal.SIGKILL)  # what it has started, and itself if it would not end
            if lifeline is not None:
                lifeline.close()
        if process is not None:
            await process.wait()


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
