"""One job from its first status to its last: waits for its turn, gets its files, runs, gives what it made.

What differs between training and processing is in `training.py` and `processing.py`.
"""

import asyncio
import contextlib
import logging
import re
import shutil
import signal
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stagegate.local.log_stream import LogStream
from stagegate.local.processes import LauncherLost, Processes, Program
from stagegate.local.sagemaker.container import Folder
from stagegate.local.sagemaker.hosts import Host, hosts_of
from stagegate.local.sagemaker.spot import Capacity, time_left
from stagegate.local.sagemaker.usage import Usage, out_of_memory_kills
from stagegate.local.service import Announcement, Aws, AWSError, Runtime

_LOGGER = logging.getLogger(__name__)
_KEPT_LINES = 100
_FIRST_SAMPLE_SECONDS, _SAMPLE_SECONDS = 0.5, 2.0
_METRICS_SECONDS = 10.0  # between two PutMetricData; SageMaker's own metrics come once a minute
_METRICS_AT_ONCE = 500
_VOLUME = 30  # GB, where a job does not say
_KILLED = 128 + signal.SIGKILL
INTERNAL = "InternalServerError: We encountered an internal error. Please try again."

Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """The words of one kind of job."""

    title: str
    resource: str
    log_group: str
    words: str = ""
    """The title as events write it, where that differs."""

    @property
    def store(self) -> str:
        return f"sagemaker/{self.resource}"

    @property
    def name(self) -> str:
        return f"{self.title}JobName"

    @property
    def arn(self) -> str:
        return f"{self.title}JobArn"

    @property
    def status(self) -> str:
        return f"{self.title}JobStatus"


class JobFailed(Exception):
    """The job ends as Failed, for this reason."""


class JobStopped(Exception):
    """The job was asked to stop before it ran."""


class JobLog(LogStream):
    """The job's log. Keeps the last lines, and the metrics that `definitions` find in it."""

    def __init__(self, aws: Aws, *, group: str, stream: str, definitions: list[Document]) -> None:
        super().__init__(aws, group=group, stream=stream)
        self.last: deque[str] = deque(maxlen=_KEPT_LINES)
        self.metrics: list[tuple[str, float, datetime]] = []
        self._taken = 0
        self._definitions = [
            (definition["Name"], re.compile(definition["Regex"])) for definition in definitions
        ]

    def write(self, line: str) -> None:
        super().write(line)
        self.last.append(line)
        for name, pattern in self._definitions:
            if match := pattern.search(line):
                with contextlib.suppress(ValueError, IndexError):
                    self.metrics.append((name, float(match.group(1)), datetime.now(UTC)))

    def take_metrics(self) -> list[tuple[str, float, datetime]]:
        """Those that came since the last call."""
        new, self._taken = self.metrics[self._taken :], len(self.metrics)
        return new


class HostRun:
    """One of the job's hosts: its folder, its log, what it runs, and how that ended."""

    folder: Folder
    program: Program
    code: int | None = None

    def __init__(self, host: Host, *, home: Path, process: str, log: JobLog, usage: Usage) -> None:
        self.host, self.home, self.process, self.log = host, home, process, log
        self.usage = usage

    async def empty(self, *, isolated: bool, keep: tuple[str, ...]) -> None:
        self.folder = Folder(self.home / "ml", isolated=isolated)
        await asyncio.to_thread(_emptied, self.folder.path, keep=keep)


class JobRun(ABC):
    """A job under way. `run` ends when the job has; where it is cancelled, the job is run again later."""

    kind: Kind

    def __init__(
        self, runtime: Runtime, name: str, *, processes: Processes, turns: asyncio.Semaphore, grace: float
    ) -> None:
        self.runtime = runtime
        self.aws = runtime.aws
        self.name = name
        self.processes = processes
        self._turns = turns
        self._grace = grace
        self._stopping = asyncio.Event()
        self.capacity = Capacity()
        self.exceeded: str | None = None
        """The limit of time that the job ran into."""
        self._ran = 0.0
        document = runtime.store.get(self.kind.store, name)
        assert document is not None
        self.document: Document = document
        self.home = runtime.data / "jobs" / self.kind.resource / name
        self.hosts = [self._host(host) for host in hosts_of(self.resources())]
        self.failed: HostRun | None = None
        """The host whose program failed, the first of them if there are several."""
        self.is_out_of_memory = False
        """Whether it failed because the kernel ended it to have memory."""

    def _host(self, host: Host) -> HostRun:
        log = JobLog(
            self.aws,
            group=self.kind.log_group,
            stream=f"{self.name}/{host.name}-{int(datetime.now(UTC).timestamp())}",
            definitions=self.document.get("AlgorithmSpecification", {}).get("MetricDefinitions", []),
        )
        home = self.home if host.rank == 0 else self.home / host.name
        usage = Usage(f"{self.name}/{host.name}", volume=self.resources().get("VolumeSizeInGB", _VOLUME))
        process = f"{self.kind.resource}/{self.name}/{host.name}"
        return HostRun(host, home=home, process=process, log=log, usage=usage)

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def request_stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        try:
            while not await self._run_once():
                await self.or_stop(self.capacity.back())
                self.began_again()
        except JobStopped:
            self.end("Stopped")
        except JobFailed as error:
            self.end("Failed", str(error))
        except AWSError as error:
            self.end("Failed", f"ClientError: {error.message}")
        except LauncherLost as error:
            self.end("Failed", f"{INTERNAL} ({error})")
        except Exception as error:
            _LOGGER.exception("%s %s failed", self.kind.resource, self.name)
            self.end("Failed", f"{INTERNAL} ({type(error).__name__}: {error})")

    async def _run_once(self) -> bool:
        """Give the job a turn; false where its instances were taken away in the middle of it."""
        async with self._turn():
            await self._start()
            is_interrupted = await self._execute()
            await (self.interrupted() if is_interrupted else self.finish())
            return not is_interrupted

    async def _start(self) -> None:
        self.hosts = [self._host(host) for host in hosts_of(self.resources())]
        self.failed = None
        isolated = await self.processes.isolates()
        for one in self.hosts:
            await one.empty(isolated=isolated, keep=self.kept())
        await self.or_stop(self.prepare())
        self.began()

    def kept(self) -> tuple[str, ...]:
        """The folders that stay when an interrupted job is run again."""
        return ()

    @abstractmethod
    def resources(self) -> Document:
        """What the job was given to run on."""

    @abstractmethod
    async def prepare(self) -> None:
        """Get the job's files, and set the program of each host."""

    @abstractmethod
    def began(self) -> None:
        """The program is about to run."""

    @abstractmethod
    async def finish(self) -> None:
        """Give what the programs have made, and end the job."""

    async def interrupted(self) -> None:
        """The instances were taken away, and the programs ended."""
        raise NotImplementedError

    def began_again(self) -> None:
        """There are instances again."""
        raise NotImplementedError

    def exceed(self, limit: str) -> None:
        """The time is up that a member of StoppingCondition allows."""
        self.exceeded = limit

    @abstractmethod
    def end(self, status: str, reason: str = "") -> None:
        """Write the last status."""

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """What goes on while the programs run."""
        return []

    def save(self, **members: Any) -> None:
        """Write members of the description, and tell who waits for the job."""
        self.document.update(members, LastModifiedTime=datetime.now(UTC))
        self.runtime.store.put(self.kind.store, self.name, self.document)
        announce(self.runtime, self.kind, self.document)

    async def or_stop(self, work: Coroutine[Any, Any, Any]) -> Any:
        """The result of `work`, unless the job is asked to stop before, or must not wait any longer."""
        task, stop = asyncio.ensure_future(work), asyncio.ensure_future(self._stopping.wait())
        try:
            left = time_left(self.document)
            done, _ = await asyncio.wait({task, stop}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                self.exceed("MaxWaitTimeInSeconds")
            if not task.done():
                raise JobStopped
            return task.result()
        finally:
            stop.cancel()
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def _turn(self) -> Any:
        """At most so many jobs run at once; the others wait in the order in which they came."""
        await self.or_stop(self._turns.acquire())
        try:
            yield
        finally:
            self._turns.release()

    async def _execute(self) -> bool:
        """Run every host's program. All are ended when one of them fails, or the job has to end.

        Gives whether they were ended because the job's instances were taken away.
        """
        running = {asyncio.create_task(self._run_on(one)): one for one in self.hosts}
        beside = [asyncio.ensure_future(work) for work in (*self.background(), self._watch())]
        kills = out_of_memory_kills()
        over = asyncio.ensure_future(self._over(running))
        stop = asyncio.ensure_future(self._stopping.wait())
        lost = asyncio.ensure_future(self.capacity.lost())
        loop = asyncio.get_running_loop()
        begun, (limit, seconds) = loop.time(), self._limit()
        try:
            first = {over, stop, lost, *beside}  # those beside end only when they fail
            done, _ = await asyncio.wait(first, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                self.exceed(limit)
            if not done.intersection(beside) and self._signal(running, signal.SIGTERM):
                await asyncio.wait(running, timeout=self._grace)
            self._signal(running, signal.SIGKILL)
            await asyncio.gather(*running, *done.intersection(beside))
            is_lost = done == {lost}
        finally:
            self._ran += loop.time() - begun
            for task in (stop, lost, over, *running, *beside):
                task.cancel()
            await asyncio.gather(over, *running, *beside, return_exceptions=True)
        if self.failed and self.failed.code == _KILLED:
            self.is_out_of_memory = out_of_memory_kills() > kills
        await self._send_metrics()
        return is_lost

    def _limit(self) -> tuple[str, float | None]:
        """Which limit of time comes first, and in how many seconds."""
        runs = self.document.get("StoppingCondition", {}).get("MaxRuntimeInSeconds")
        waits = time_left(self.document)
        if runs is None or (waits is not None and waits < runs - self._ran):
            return "MaxWaitTimeInSeconds", waits
        return "MaxRuntimeInSeconds", max(0.0, runs - self._ran)

    async def _run_on(self, one: HostRun) -> int:
        one.usage.begin()
        ended = await self.processes.run(one.process, one.program, one.log)
        one.usage.end(ended)
        one.code = ended.code
        return one.code

    async def _watch(self) -> None:
        """Look at what the programs take, and send metrics. Raises JobFailed when a volume is full."""
        await asyncio.sleep(_FIRST_SAMPLE_SECONDS)
        sent = time.monotonic()
        while True:
            for one in self.hosts:
                if (pid := self.processes.pid(one.process)) is not None:
                    await asyncio.to_thread(one.usage.sample, pid, one.folder.path)
                if one.usage.is_full:
                    raise JobFailed(
                        "ClientError: No space left on device: the files of the job take "
                        f"{one.usage.gigabytes:.1f} GB, more than its VolumeSizeInGB."
                    )
            if time.monotonic() - sent > _METRICS_SECONDS:
                sent = time.monotonic()
                await self._send_metrics()
            await asyncio.sleep(_SAMPLE_SECONDS)

    async def _send_metrics(self) -> None:
        """What the logs and the samples have had since the last time, to CloudWatch."""
        data = [
            *(datum for one in self.hosts for datum in one.usage.take()),
            *(_datum(self.name, *metric) for one in self.hosts for metric in one.log.take_metrics()),
        ]
        for start in range(0, len(data), _METRICS_AT_ONCE):
            batch = {"Namespace": self.kind.log_group, "MetricData": data[start : start + _METRICS_AT_ONCE]}
            await self.aws("cloudwatch", "PutMetricData", batch)

    async def _over(self, running: Mapping[asyncio.Task[int], HostRun]) -> None:
        """Return when every program has ended, or one has failed."""
        for ended in asyncio.as_completed(running):
            if await ended:
                self.failed = next(one for one in self.hosts if one.code)
                return

    def _signal(self, running: Mapping[asyncio.Task[int], HostRun], number: int) -> bool:
        """Send it to the programs that still run; gives whether there are any."""
        alive = [one for task, one in running.items() if not task.done()]
        for one in alive:
            self.processes.signal(one.process, number)
        return bool(alive)


def _datum(job: str, name: str, value: float, at: datetime) -> Document:
    """A metric that a MetricDefinition found in a training job's log."""
    dimensions = [{"Name": "TrainingJobName", "Value": job}]
    return {"MetricName": name, "Value": value, "Timestamp": at, "Dimensions": dimensions}


def announce(runtime: Runtime, kind: Kind, document: Document) -> None:
    """As EventBridge has it: the description, its times in milliseconds."""
    detail = {name: _announced(value) for name, value in document.items() if name[0] != "_"}
    runtime.announce(
        Announcement(
            source="aws.sagemaker",
            detail_type=f"SageMaker {kind.words or kind.title} Job State Change",
            detail=detail,
            resources=(document[kind.arn],),
        )
    )


def _announced(value: Any) -> Any:
    if isinstance(value, datetime):
        return int(value.timestamp() * 1000)
    if isinstance(value, dict):
        return {name: _announced(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_announced(entry) for entry in value]
    return value


def _emptied(folder: Path, *, keep: tuple[str, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for entry in folder.iterdir():
        if entry.name not in keep:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
