"""Jobs as processes: started by the launcher, their output read, ended by signals, never outliving us."""

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from stagegate.local import launcher
from stagegate.local.log_stream import LogStream
from stagegate.local.pipe_streams import PipeReader, reader_of

_LOGGER = logging.getLogger(__name__)
MOUNT_AT = Path("/opt/ml")
_KEPT = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)
_SET_UP = ("PIP_", "UV_")  # what begins so says how packages are installed on this machine


@dataclass(frozen=True, kw_only=True)
class Program:
    """What a job runs. `mount` is the folder that it sees at /opt/ml, `home` is for what is kept of it,
    `hosts` the file that it sees at /etc/hosts.

    `forked`: Python scripts run in the launcher's interpreter, with what that has imported.
    """

    home: Path
    mount: Path | None = None
    hosts: Path | None = None
    command: list[str]
    environment: dict[str, str]
    directory: str
    forked: bool = True


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a job ended, and what it took: of all its processes that were waited for, and of the largest."""

    code: int
    """As a container has it: 128 and the signal's number for a process that was killed."""
    processor_seconds: float
    peak_memory: int
    """Bytes."""


class LauncherLost(Exception):
    """The launcher ended, and the job with it."""


class Processes:
    """The launcher and the jobs that it has started; `preload` are modules that it imports beforehand."""

    def __init__(self, *, preload: tuple[str, ...] = ()) -> None:
        self._preload = preload
        self._process: asyncio.subprocess.Process | None = None
        self._channel: socket.socket | None = None
        self._ready: asyncio.Future[bool] | None = None
        self._ends: dict[str, asyncio.Future[Ended]] = {}
        self._starting: dict[str, list[int]] = {}
        self._pids: dict[str, int] = {}

    async def isolates(self) -> bool:
        """Whether jobs get namespaces of their own, and so see their folder at /opt/ml."""
        if self._ready is None:
            await self._start()
        assert self._ready is not None
        return await asyncio.shield(self._ready)

    async def run(self, job: str, program: Program, log: LogStream) -> Ended:
        """Run to the end, the output line by line into `log`.

        Raises `LauncherLost`. Where the task is cancelled, the job is killed.
        """
        self._starting[job] = []
        try:
            reader, ended = await self._begin(job, program)
        finally:
            early = self._starting.pop(job)
        for number in early:
            self.signal(job, number)
        try:
            await log.copy(reader)
            return await ended
        except BaseException:
            self.signal(job, signal.SIGKILL)
            raise
        finally:
            reader.close()
            self._ends.pop(job, None)
            self._pids.pop(job, None)

    async def _begin(self, job: str, program: Program) -> tuple[PipeReader, asyncio.Future[Ended]]:
        """Have the launcher start it; gives its output, and what will say how it ended."""
        isolated = await self.isolates()
        assert self._channel is not None
        spec = program.home / "process.json"
        spec.write_text(
            json.dumps(
                {
                    "mount": str(program.mount) if program.mount else None,
                    "home": str(program.home),
                    "mount_at": str(MOUNT_AT),
                    "hosts": str(program.hosts) if program.hosts else None,
                    "isolated": isolated,
                    "forked": program.forked,
                    "command": program.command,
                    "environment": inherited() | program.environment,
                    "directory": program.directory,
                }
            )
        )
        ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._ends[job] = ended
        reader, theirs = await _pipe()
        try:
            message = json.dumps({"job": job, "spec": str(spec)}).encode()
            socket.send_fds(self._channel, [message], [theirs])
        except BaseException:
            reader.close()
            self._ends.pop(job, None)
            raise
        finally:
            os.close(theirs)
        return reader, ended

    def pid(self, job: str) -> int | None:
        """The process that has all others of a job below it, while it runs."""
        return self._pids.get(job)

    def signal(self, job: str, number: int) -> None:
        """Send the job's first process a signal, as the container's; as soon as there is one."""
        if job in self._starting:
            self._starting[job].append(number)
            return
        if self._channel is not None and job in self._ends:
            self._channel.send(json.dumps({"job": job, "signal": number}).encode())

    async def start(self) -> None:
        """Begin to import, so that the first job needn't wait for it."""
        await self._start()

    async def stop(self) -> None:
        """End the launcher, and every job with it."""
        if self._process is not None:
            process = self._process
            self._lost()
            await process.wait()

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # not this folder, whose modules are not for the jobs
                launcher.__file__,
                *("--socket", str(theirs.fileno())),
                *self._preload,
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env=inherited() | {"PYTHONUNBUFFERED": "1"},
            )
        ours.setblocking(False)
        self._channel = ours
        loop.add_reader(ours, self._receive)

    def _receive(self) -> None:
        assert self._channel is not None
        try:
            text = self._channel.recv(launcher.MAX_MESSAGE)
        except BlockingIOError:
            return
        except ConnectionError:
            text = b""
        if not text:
            _LOGGER.error("the process that starts jobs ended; it is started again with the next job")
            self._lost()
            return
        message = json.loads(text)
        if "ready" in message:
            if self._ready is not None and not self._ready.done():
                self._ready.set_result(message["isolates"])
        elif "pid" in message:
            if message["job"] in self._ends:
                self._pids[message["job"]] = message["pid"]
        elif (ended := self._ends.get(message["job"])) and not ended.done():
            seconds, memory = message["processor_seconds"], message["peak_memory"]
            ended.set_result(Ended(code=message["exit"], processor_seconds=seconds, peak_memory=memory))

    def _lost(self) -> None:
        if self._channel is not None:
            asyncio.get_running_loop().remove_reader(self._channel)
            self._channel.close()
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(LauncherLost("the process that starts jobs could not be started"))
            self._ready.exception()  # nobody may be waiting for a job
        for ended in self._ends.values():
            if not ended.done():
                ended.set_exception(LauncherLost("the process that starts jobs ended"))
        self._process, self._channel, self._ready = None, None, None


def inherited() -> dict[str, str]:
    """What a job gets of the server's own environment; our interpreter is the first on its path."""
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith(_SET_UP)}
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"}


async def _pipe() -> tuple[PipeReader, int]:
    """A pipe: our end to read from, and the descriptor of the other."""
    reading, writing = os.pipe()
    return await reader_of(reading), writing
