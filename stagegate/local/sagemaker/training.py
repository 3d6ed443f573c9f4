"""Training jobs: channels and code in, a model out."""

import asyncio
import contextlib
import io
import math
import tarfile
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import Any

from stagegate.local import s3
from stagegate.local.archives import unpack
from stagegate.local.processes import MOUNT_AT, Program
from stagegate.local.sagemaker.channels import Channel, training_channels
from stagegate.local.sagemaker.container import (
    beginning,
    holds,
    job_failure,
    script,
    submit_directory,
    training_failure,
    training_program,
)
from stagegate.local.sagemaker.hosts import Host
from stagegate.local.sagemaker.job_run import (
    Document,
    JobFailed,
    Kind,
)
from stagegate.local.sagemaker.mirror import Mirror
from stagegate.local.sagemaker.pipes import Pipe
from stagegate.local.sagemaker.program_run import ProgramHost, ProgramRun
from stagegate.local.sagemaker.requirements import NotInstalled, install_requirements
from stagegate.local.sagemaker.resources import OBJECTIVES
from stagegate.local.sagemaker.spot import billable_seconds

_OBJECTIVE_SECONDS = 0.5  # between two looks at what is printed of a tuning job's objective
TRAINING = Kind(title="Training", resource="training-job", log_group="/aws/sagemaker/TrainingJobs")
TENSORBOARD = f"{MOUNT_AT}/output/tensorboard"
_FAILURE = 980  # characters: with what is said around it, at most 1,024
_OUT_OF_MEMORY = (
    "Please use an instance type with more memory, or reduce the size of training data processed on an "
    "instance."
)
_SAID = {  # what SageMaker says of each secondary status
    "Starting": "Launching requested ML instances",
    "Pending": "Waiting for capacity",
    "Interrupted": "The job stopped because the managed spot training instances were interrupted",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopping": "Stopping the training job",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
    "MaxWaitTimeExceeded": "Training job wait time exceeded MaxWaitTimeInSeconds provided",
}
_EXCEEDED = {
    "MaxRuntimeInSeconds": "MaxRuntimeExceeded",
    "MaxWaitTimeInSeconds": "MaxWaitTimeExceeded",
}


class TrainingRun(ProgramRun):
    kind = TRAINING
    _checkpoints: tuple[Mirror, ...] = ()
    _boards: tuple[Mirror, ...] = ()
    _earlier_metrics: Sequence[tuple[str, float, datetime]] = ()
    _told = 0

    def kept(self) -> tuple[str, ...]:
        statuses = [entry["Status"] for entry in self.document["SecondaryStatusTransitions"]]
        if "Interrupted" in statuses:  # other instances have what S3 has
            statuses = statuses[len(statuses) - statuses[::-1].index("Interrupted") :]
        if "Training" not in statuses:
            return ()  # the server ended while the job got its files: they may be cut off
        return self._checkpoint_path().relative_to(MOUNT_AT).parts[:1]

    def _checkpoint_path(self) -> Path:
        return Path(self.document.get("CheckpointConfig", {}).get("LocalPath", f"{MOUNT_AT}/checkpoints"))

    def move(self, secondary: str, **members: Any) -> None:
        """Go on to a secondary status; the one before ends now."""
        self.save(**moved(self.document, secondary), **members)

    def stopping(self) -> Document:
        return moved(self.document, "Stopping")

    def resources(self) -> Document:
        given: Document = self.document["ResourceConfig"]
        return given

    async def prepare(self) -> None:
        self._pipes: list[Pipe] = []
        self.move("Downloading", TrainingStartTime=self.document.get("TrainingStartTime", datetime.now(UTC)))
        for channel in training_channels(self.document):
            await self._provide(channel)
        if (config := self.document.get("CheckpointConfig")) is not None:
            at = str(self._checkpoint_path())
            self._checkpoints = tuple(
                Mirror(self.aws, one.folder.outside(at), config["S3Uri"]) for one in self.hosts
            )
            for checkpoints in self._checkpoints:
                await checkpoints.download()
        if (board := self.document.get("TensorBoardOutputConfig")) is not None:
            target = f"{board['S3OutputPath'].rstrip('/')}/{self.name}/tensorboard-output"
            at = board.get("LocalPath", TENSORBOARD)
            self._boards = tuple(Mirror(self.aws, one.folder.outside(at), target) for one in self.hosts)
        if script(self.document.get("HyperParameters", {}), self.document["AlgorithmSpecification"]):
            uri = submit_directory(self.document["HyperParameters"]) or ""
            for one in self.hosts:
                source_code = await self._source_archive(one, uri)
                one.program = self._program(one, await self._source(one, uri, source_code))
        else:
            for one in self.hosts:
                one.program = self._program(one, None)

    async def _provide(self, channel: Channel) -> None:
        """A channel to every host: as files, or as pipes that are filled while the script reads them."""
        records = await channel.records(self.aws)
        for one in self.hosts:
            path = one.folder.path / "input/data" / channel.name
            if channel.mode == "FastFile":
                one.usage.apart += (path,)
            if channel.mode != "Pipe":
                await channel.download(self.aws, records, one.host, path)
                continue

            def epoch(number: int, host: Host = one.host) -> AsyncIterator[bytes]:
                return channel.stream(self.aws, channel.epoch(records, host, number))

            self._pipes.append(Pipe(path, epoch))

    def _program(self, one: ProgramHost, installed: Path | None) -> Program:
        """`installed` may replace what we have imported: then a fresh interpreter runs the script."""
        environment = self.runtime.environment() | ({"PYTHONPATH": str(installed)} if installed else {})
        program = training_program(one.folder, self.document, environment, one.host)
        return replace(program, forked=installed is None)

    async def _source_archive(self, one: ProgramHost, uri: str) -> bytes:
        """In network isolation the source comes by a channel, as the Python SDK sends it."""
        if not holds(uri):
            return await s3.read(self.aws, uri)
        try:
            return await asyncio.to_thread(one.folder.outside(uri).read_bytes)
        except OSError as error:
            raise JobFailed(f"ClientError: {uri}: {error.strerror}") from error

    async def _source(self, one: ProgramHost, uri: str, archive: bytes) -> Path | None:
        """Unpack the source, and install what it asks for; gives where that lies."""
        code = one.folder.path / "code"
        code.mkdir()
        try:
            await asyncio.to_thread(unpack, archive, code)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise JobFailed(f"ClientError: {uri} is no gzip-compressed tar archive: {error}") from error
        file = code / "requirements.txt"
        try:
            return await install_requirements(file, self.runtime.data, one.log)
        except NotInstalled as error:
            failure = job_failure(["pip", "install", "-r", file.name], error.status, list(one.log.last))
            raise JobFailed(f"AlgorithmError: InstallRequirementsError:\n{failure}"[:1024]) from error

    def began(self) -> None:
        self.move("Training")

    def background(self) -> list[Coroutine[Any, Any, None]]:
        return [
            *(mirror.keep() for mirror in (*self._checkpoints, *self._boards)),
            *(pipe.feed() for pipe in self._pipes),
            *([self._tell_objective()] if "TuningJobArn" in self.document else []),
            *([self._lose_instances()] if "_Interruption" in self.document else []),
        ]

    async def _lose_instances(self) -> None:
        interruption = self.document["_Interruption"]
        await asyncio.sleep(interruption["After"])
        self.capacity.take(seconds=interruption["Seconds"])
        await asyncio.Event().wait()  # what goes on beside the program ends with it

    async def _tell_objective(self) -> None:
        """To the tuning job that has launched this job."""
        while True:
            self._write_objective()
            await asyncio.sleep(_OBJECTIVE_SECONDS)

    def _write_objective(self) -> None:
        metric = self.document["HyperParameters"].get("_tuning_objective_metric")
        values = [value for name, value, _ in self._metrics() if name == metric and math.isfinite(value)]
        if len(values) > self._told:
            self._told = len(values)
            self.runtime.store.put(OBJECTIVES, self.name, {"Values": values})

    async def finish(self) -> None:
        stopped = self.is_stopping or self.exceeded
        for mirror in (*self._checkpoints, *self._boards):
            await mirror.upload()
        if self.failed and not stopped:
            failure = self.failed.folder.path / "output/failure"
            command, code = self.failed.program.command, self.failed.code or 0
            if failure.is_file():
                said = await asyncio.to_thread(beginning, failure, _FAILURE)
                raise JobFailed(f"AlgorithmError: {said}, exit code: {code}")
            if self.is_out_of_memory:
                raise JobFailed(f"AlgorithmError: {_OUT_OF_MEMORY}, exit code: {code}")
            raise JobFailed(training_failure(command, code, list(self.failed.log.last)))
        self.move("Uploading")
        prefix = f"{self.document['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{self.name}/output"
        await self._upload("model", f"{prefix}/model.tar.gz")
        if any(_has_files(one.folder.path / "output/data") for one in self.hosts):
            await self._upload("output/data", f"{prefix}/output.tar.gz")
        self.document["ModelArtifacts"] = {"S3ModelArtifacts": f"{prefix}/model.tar.gz"}
        self.end("Stopped" if stopped else "Completed")

    async def interrupted(self) -> None:
        for mirror in (*self._checkpoints, *self._boards):
            await mirror.upload()
        self._earlier_metrics = self._metrics()
        self.document.pop("_Interruption", None)
        self.move("Interrupted")

    def began_again(self) -> None:
        self.move("Starting")

    def exceed(self, limit: str) -> None:
        super().exceed(limit)
        self.move("Stopping", TrainingJobStatus="Stopping")

    def end(self, status: str, reason: str = "") -> None:
        if "TuningJobArn" in self.document:
            self._write_objective()
        now = datetime.now(UTC)
        seconds = _whole((now - self.document.get("TrainingStartTime", now)).total_seconds())
        billable = _whole(billable_seconds(self.document, now=now))
        latest = {name: (value, at) for name, value, at in self._metrics()}
        members: Document = {
            "TrainingJobStatus": status,
            "TrainingEndTime": now,
            "TrainingTimeInSeconds": seconds,
            "BillableTimeInSeconds": min(seconds, billable),
            "FinalMetricDataList": [
                {"MetricName": name, "Value": value, "Timestamp": at} for name, (value, at) in latest.items()
            ],
        }
        if "WarmPoolStatus" in self.document:  # nothing is kept: the next job starts as fast without
            pool = {"Status": "Terminated", "ResourceRetainedBillableTimeInSeconds": 0}
            members["WarmPoolStatus"] = pool
        if reason:
            members["FailureReason"] = reason[:1024]
        self.move(_EXCEEDED[self.exceeded] if self.exceeded and status == "Stopped" else status, **members)

    def _metrics(self) -> list[tuple[str, float, datetime]]:
        """Of all hosts, in the order in which they came."""
        found = [metric for one in self.hosts for metric in one.log.metrics]
        return sorted([*self._earlier_metrics, *found], key=itemgetter(2))

    async def _upload(self, relative: str, uri: str) -> None:
        """The folder of all hosts as one archive."""
        folders = [one.folder.path / relative for one in self.hosts]
        await s3.write(self.aws, uri, await asyncio.to_thread(_packed, folders))


def moved(document: Document, secondary: str) -> Document:
    """The members that change when a training job goes on to a secondary status."""
    now = datetime.now(UTC)
    transitions = [*document.get("SecondaryStatusTransitions", [])]
    if transitions:
        transitions[-1] = {"EndTime": now, **transitions[-1]}
    transition = {"Status": secondary, "StartTime": now, "StatusMessage": _SAID[secondary]}
    if secondary in ("Completed", "Failed", "Stopped", *_EXCEEDED.values()):
        transition["EndTime"] = now
    return {"SecondaryStatus": secondary, "SecondaryStatusTransitions": [*transitions, transition]}


def _whole(seconds: float) -> int:
    """At least 1, as in the API: clients divide by it."""
    return max(1, math.ceil(seconds))


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _packed(folders: Sequence[Path]) -> bytes:
    """One archive; of files with the same name the one from the first folder."""
    taken: set[str] = set()

    def is_new(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if entry.name in taken and not entry.isdir():
            return None
        taken.add(entry.name)
        return entry

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for folder in folders:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # the script has taken it away
                for path in sorted(folder.iterdir()):
                    archive.add(path, arcname=path.name, filter=is_new)
    return buffer.getvalue()
