"""Lambda functions as processes: warm workers, one invocation each at a time, ended when it takes long."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stagegate.local import function_worker
from stagegate.local.pipe_streams import PipeReader, reader_of, writer_of

_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
_PACKAGES = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
_MAX_LINE = 32 * 1024 * 1024  # a result of 6 MB, escaped as JSON in JSON
_INIT_SECONDS = 10.0  # what Lambda gives a function to start
_STARTS = 2 * (os.cpu_count() or 1)
"""Workers that start at a time. Who waits for that takes a worker that has become idle meanwhile: a burst of
short invocations is not a process each."""

Json = Any


@dataclass(frozen=True, kw_only=True)
class Configured:
    """What a worker is started with; a changed function is another one."""

    name: str
    revision: str
    root: Path
    environment: dict[str, str] = field(hash=False)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an invocation ended: with a result, as JSON text, or with an error as Lambda describes it."""

    result: str = "null"
    error: dict[str, Json] | None = None
    seconds: float = 0.0
    """How long the handler took."""
    init_seconds: float | None = None
    """How long its process took to start and to import it; None for one that was warm."""


class Worker:
    """One process."""

    def __init__(
        self, process: asyncio.subprocess.Process, events: asyncio.StreamWriter, results: PipeReader
    ) -> None:
        self._process = process
        self._events = events
        self._results = results

    @classmethod
    async def started(cls, configured: Configured) -> "Worker":
        events_in, events_out = os.pipe()
        results_in, results_out = os.pipe()
        events, results = await writer_of(events_out), await reader_of(results_in, limit=_MAX_LINE)
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-S", "-P", function_worker.__file__),
                *(str(events_in), str(results_out), *_PACKAGES),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                pass_fds=(events_in, results_out),
                start_new_session=True,
                cwd=configured.root,
                env={name: os.environ[name] for name in _KEPT if name in os.environ} | configured.environment,
            )
        except BaseException:
            events.transport.abort()
            results.close()
            raise
        finally:
            os.close(events_in)
            os.close(results_out)
        return cls(process, events, results)

    @property
    def is_running(self) -> bool:
        return self._process.returncode is None

    async def ready(self, log: Callable[[str], None]) -> Outcome | None:
        """None once the handler is imported, else the error in it."""
        message = await self._next(log)
        if message is None:
            return await self._crashed()
        if "init_error" in message:
            return Outcome(error=message["init_error"])
        return None

    async def invoke(self, request: dict[str, Json], log: Callable[[str], None]) -> Outcome:
        self._events.write(json.dumps(request).encode() + b"\n")
        with contextlib.suppress(ConnectionError):  # it has crashed: nothing will come from it either
            await self._events.drain()
        message = await self._next(log)
        if message is None:
            return await self._crashed()
        return Outcome(result=message.get("result", "null"), error=message.get("error"))

    async def end(self) -> None:
        """Kill it, and what it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._events.transport.abort()
        self._results.close()
        await self._process.wait()

    async def _next(self, log: Callable[[str], None]) -> dict[str, Json] | None:
        while line := await self._results.readline():
            message: dict[str, Json] = json.loads(line)
            if "log" not in message:
                return message
            log(message["log"])
        return None

    async def _crashed(self) -> Outcome:
        status = await self._process.wait()
        text = f"exit status {status}" if status >= 0 else f"signal: {signal.Signals(-status).name}"
        return Outcome(
            error={"errorType": "Runtime.ExitError", "errorMessage": f"Runtime exited with error: {text}"}
        )


@dataclass
class Workers:
    """The idle workers of every function; a further invocation at the same time gets a further worker."""

    idle: dict[Configured, list[Worker]] = field(default_factory=dict)
    all: set[Worker] = field(default_factory=set)
    starting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_STARTS))

    async def invoke(
        self, configured: Configured, request: dict[str, Json], log: Callable[[str], None]
    ) -> Outcome:
        """Run one event, within `request["timeout"]` seconds."""
        init_seconds = None
        worker = self._take_idle(configured)
        if worker is None:
            async with self.starting:
                worker = self._take_idle(configured)
                if worker is None:
                    began = time.monotonic()
                    started = await self._started(configured, request, log)
                    init_seconds = time.monotonic() - began
                    if isinstance(started, Outcome):
                        return replace(started, init_seconds=init_seconds)
                    worker = started
        began = time.monotonic()
        try:
            outcome = await asyncio.wait_for(worker.invoke(request, log), request["timeout"])
        except TimeoutError:
            await self._discard(worker)
            outcome = _timed_out(request, request["timeout"])
            return replace(outcome, seconds=request["timeout"], init_seconds=init_seconds)
        except BaseException:
            await self._discard(worker)
            raise
        if worker.is_running and (outcome.error or {}).get("errorType") != "Runtime.ExitError":
            self.idle.setdefault(configured, []).append(worker)
        else:
            await self._discard(worker)
        return replace(outcome, seconds=time.monotonic() - began, init_seconds=init_seconds)

    async def _started(
        self, configured: Configured, request: dict[str, Json], log: Callable[[str], None]
    ) -> Worker | Outcome:
        """A worker with its handler imported, or the error in that."""
        worker = await Worker.started(configured)
        self.all.add(worker)
        try:
            failed = await asyncio.wait_for(worker.ready(log), _INIT_SECONDS)
        except TimeoutError:
            failed = _timed_out(request, _INIT_SECONDS)
        except BaseException:
            await self._discard(worker)
            raise
        if failed:
            await self._discard(worker)
        return failed or worker

    async def retire(self, name: str) -> None:
        """End the idle workers of a function that has changed or gone."""
        for configured in [configured for configured in self.idle if configured.name == name]:
            for worker in self.idle.pop(configured):
                await self._discard(worker)

    async def stop(self) -> None:
        self.idle.clear()
        for worker in list(self.all):
            await self._discard(worker)

    def _take_idle(self, configured: Configured) -> Worker | None:
        workers = self.idle.get(configured, [])
        while workers:
            worker = workers.pop()
            if worker.is_running:
                return worker
            self.all.discard(worker)
        return None

    async def _discard(self, worker: Worker) -> None:
        self.all.discard(worker)
        await worker.end()


def _timed_out(request: dict[str, Json], seconds: float) -> Outcome:
    message = f"RequestId: {request['request_id']} Error: Task timed out after {seconds:.2f} seconds"
    return Outcome(error={"errorType": "Sandbox.Timedout", "errorMessage": message})
