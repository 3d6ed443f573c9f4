"""One job from its first status to its last: waits for its turn, gets its files, runs, gives what it made.

What runs programs is in `program_run.py`, and what differs between training and processing in `training.py`
and `processing.py`; `transform_run.py` runs model servers.
"""

import asyncio
import contextlib
import logging
import re
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from stagegate.local.log_stream import LogStream
from stagegate.local.processes import LauncherLost
from stagegate.local.sagemaker.hosts import Host, hosts_of
from stagegate.local.sagemaker.resources import SESSION
from stagegate.local.sagemaker.spot import time_left
from stagegate.local.sagemaker.usage import Usage
from stagegate.local.service import Announcement, Aws, AWSError, Runtime

_LOGGER = logging.getLogger(__name__)
_KEPT_LINES = 100
_FIRST_SAMPLE_SECONDS, _SAMPLE_SECONDS = 0.5, 2.0
_METRICS_SECONDS = 10.0  # between two PutMetricData; SageMaker's own metrics come once a minute
_METRICS_AT_ONCE = 500
_VOLUME = 30  # GB, where a job does not say
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


class HostRun(ABC):
    """One of the job's hosts: its folder, its log, and what it takes of the machine."""

    def __init__(self, host: Host, *, home: Path, log: JobLog, usage: Usage) -> None:
        self.host, self.home, self.log, self.usage = host, home, log, usage

    @property
    @abstractmethod
    def pid(self) -> int | None:
        """The process that has all others of the host below it, while it runs."""

    @property
    def volume(self) -> Path:
        """What counts as its volume."""
        return self.home


AHost = TypeVar("AHost", bound=HostRun)


class JobRun(ABC, Generic[AHost]):
    """A job under way. `run` ends when the job has; where it is cancelled, the job is run again later."""

    kind: Kind

    def __init__(self, runtime: Runtime, name: str, *, turns: asyncio.Semaphore) -> None:
        self.name = name
        self._turns = turns
        self._stopping = asyncio.Event()
        self.exceeded: str | None = None
        """The limit of time that the job ran into."""
        document = runtime.store.get(self.kind.store, name)
        assert document is not None
        self.document: Document = document
        self.runtime = runtime.as_role(document.get("RoleArn") or document.get("_RoleArn"), session=SESSION)
        """By its role the job reads, writes and logs, and so do its programs."""
        self.aws = self.runtime.aws
        self.home = runtime.data / "jobs" / self.kind.resource / name
        self.hosts = self.new_hosts()

    def new_hosts(self) -> list[AHost]:
        """As many as it has instances, with nothing done yet."""
        hosts = []
        for host in hosts_of(self.resources()):
            log = JobLog(
                self.aws,
                group=self.kind.log_group,
                stream=f"{self.name}/{host.name}-{int(datetime.now(UTC).timestamp())}",
                definitions=self.document.get("AlgorithmSpecification", {}).get("MetricDefinitions", []),
            )
            home = self.home if host.rank == 0 else self.home / host.name
            volume = self.resources().get("VolumeSizeInGB", _VOLUME)
            usage = Usage({"Host": f"{self.name}/{host.name}"}, volume=volume)
            hosts.append(self.host(host, home=home, log=log, usage=usage))
        return hosts

    @abstractmethod
    def host(self, host: Host, *, home: Path, log: JobLog, usage: Usage) -> AHost:
        """One of the hosts."""

    @abstractmethod
    def resources(self) -> Document:
        """What the job was given to run on."""

    @abstractmethod
    async def work(self) -> None:
        """Wait for a turn, do the job, and end it. Raises JobFailed and JobStopped."""

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def request_stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        try:
            if failure := self.document.get("_Failure"):
                raise JobFailed(failure)
            await self.work()
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

    def stopping(self) -> Document:
        """What changes in the description, besides the status, when the job is asked to stop."""
        return {}

    def exceed(self, limit: str) -> None:
        """The time is up that a member of StoppingCondition allows."""
        self.exceeded = limit

    @abstractmethod
    def end(self, status: str, reason: str = "") -> None:
        """Write the last status."""

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
    async def turn(self) -> Any:
        """At most so many jobs run at once; the others wait in the order in which they came."""
        await self.or_stop(self._turns.acquire())
        try:
            yield
        finally:
            self._turns.release()

    async def watch(self) -> None:
        """Look at what the programs take, and send metrics. Raises JobFailed when a volume is full."""
        await asyncio.sleep(_FIRST_SAMPLE_SECONDS)
        sent = -_METRICS_SECONDS  # the first sample at once
        while True:
            for one in self.hosts:
                if (pid := one.pid) is not None:
                    await asyncio.to_thread(one.usage.sample, pid, folder=one.volume)
                if one.usage.is_full:
                    raise JobFailed(
                        "ClientError: No space left on device: the files of the job take "
                        f"{one.usage.gigabytes:.1f} GB, more than its VolumeSizeInGB."
                    )
            if time.monotonic() - sent > _METRICS_SECONDS:
                sent = time.monotonic()
                await self.send_metrics()
            await asyncio.sleep(_SAMPLE_SECONDS)

    async def send_metrics(self) -> None:
        """What the logs and the samples have had since the last time, to CloudWatch."""
        data = [
            *(datum for one in self.hosts for datum in one.usage.take()),
            *(_datum(self.name, *metric) for one in self.hosts for metric in one.log.take_metrics()),
        ]
        for start in range(0, len(data), _METRICS_AT_ONCE):
            batch = {"Namespace": self.kind.log_group, "MetricData": data[start : start + _METRICS_AT_ONCE]}
            await self.aws("cloudwatch", "PutMetricData", batch)


def _datum(job: str, name: str, value: float, at: datetime) -> Document:
    """A metric that a MetricDefinition found in a training job's log."""
    dimensions = [{"Name": "TrainingJobName", "Value": job}]
    return {
        "MetricName": name,
        "Value": value,
        "Timestamp": at,
        "Dimensions": dimensions,
        "StorageResolution": 1,
    }


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
