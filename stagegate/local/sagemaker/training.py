"""Training jobs: channels and code in, a model out."""

import asyncio
import contextlib
import io
import tarfile
from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stagegate.local import s3
from stagegate.local.archives import unpack
from stagegate.local.processes import MOUNT_AT, Program
from stagegate.local.sagemaker.container import (
    Folder,
    script,
    submit_directory,
    training_failure,
    training_program,
)
from stagegate.local.sagemaker.job_run import Document, JobFailed, JobRun, Kind, Mirror, install_requirements

TRAINING = Kind(title="Training", resource="training-job", log_group="/aws/sagemaker/TrainingJobs")
_METRICS_AT_ONCE = 500
_SAID = {  # what SageMaker says of each secondary status
    "Starting": "Launching requested ML instances",
    "Pending": "Waiting for capacity",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopping": "Stopping the training job",
    "Stopped": "Training job stopped",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
}


class TrainingRun(JobRun):
    kind = TRAINING
    _checkpoints: Mirror | None = None
    _installs = False

    def kept(self) -> tuple[str, ...]:
        if "Training" not in {entry["Status"] for entry in self.document["SecondaryStatusTransitions"]}:
            return ()  # interrupted while it got its files: they may be cut off
        return self._checkpoint_path().relative_to(MOUNT_AT).parts[:1]

    def _checkpoint_path(self) -> Path:
        return Path(self.document.get("CheckpointConfig", {}).get("LocalPath", f"{MOUNT_AT}/checkpoints"))

    def move(self, secondary: str, **members: Any) -> None:
        """Go on to a secondary status; the one before ends now."""
        self.save(**moved(self.document, secondary), **members)

    async def prepare(self, folder: Folder) -> Program:
        self.move("Downloading", TrainingStartTime=self.document.get("TrainingStartTime", datetime.now(UTC)))
        for channel in self.document.get("InputDataConfig", []):
            uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
            target = folder.path / "input/data" / channel["ChannelName"]
            target.mkdir(parents=True, exist_ok=True)
            await s3.download(self.aws, uri, target)
        if (config := self.document.get("CheckpointConfig")) is not None:
            local = folder.outside(str(self._checkpoint_path()))
            self._checkpoints = Mirror(self.aws, local, config["S3Uri"])
            await self._checkpoints.download()
        environment = self.runtime.environment()
        if script(self.document.get("HyperParameters", {})):
            environment |= await self._source(folder)
        program = training_program(folder, self.document, environment)
        return replace(program, forked=not self._installs)  # what is installed may replace what we imported

    async def _source(self, folder: Folder) -> dict[str, str]:
        """Unpack the source, and install what it asks for; gives the variables that make it be found."""
        code = folder.path / "code"
        code.mkdir()
        uri = submit_directory(self.document["HyperParameters"]) or ""
        archive = await s3.read(self.aws, uri)
        try:
            await asyncio.to_thread(unpack, archive, code)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise JobFailed(f"ClientError: {uri} is no gzip-compressed tar archive: {error}") from error
        cache = self.runtime.data / "cache" / "requirements"
        installed = await install_requirements(code / "requirements.txt", cache, self.log)
        self._installs = installed is not None
        return {"PYTHONPATH": str(installed)} if installed else {}

    def began(self) -> None:
        self.move("Training")

    def background(self, folder: Folder) -> list[Coroutine[Any, Any, None]]:
        return [self._checkpoints.keep()] if self._checkpoints else []

    async def finish(self, folder: Folder, program: Program, code: int) -> None:
        stopped = self.is_stopping or self.exceeded
        if self._checkpoints:
            await self._checkpoints.upload()
        await self._send_metrics()
        if code and not stopped:
            failure = folder.path / "output/failure"
            if failure.is_file():
                raise JobFailed(f"AlgorithmError: {failure.read_text(errors='replace')}"[:1024])
            raise JobFailed(training_failure(program.command, code, list(self.log.last)))
        self.move("Uploading")
        prefix = f"{self.document['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{self.name}/output"
        await self._upload(folder.path / "model", f"{prefix}/model.tar.gz")
        if any((folder.path / "output/data").iterdir()):
            await self._upload(folder.path / "output/data", f"{prefix}/output.tar.gz")
        self.document["ModelArtifacts"] = {"S3ModelArtifacts": f"{prefix}/model.tar.gz"}
        self.end("Stopped" if stopped else "Completed")

    def end(self, status: str, reason: str = "") -> None:
        now = datetime.now(UTC)
        seconds = int((now - self.document.get("TrainingStartTime", now)).total_seconds())
        latest = {name: (value, at) for name, value, at in self.log.metrics}
        members: Document = {
            "TrainingJobStatus": status,
            "TrainingEndTime": now,
            "TrainingTimeInSeconds": seconds,
            "BillableTimeInSeconds": seconds,
            "FinalMetricDataList": [
                {"MetricName": name, "Value": value, "Timestamp": at} for name, (value, at) in latest.items()
            ],
        }
        if reason:
            members["FailureReason"] = reason[:1024]
        self.move("MaxRuntimeExceeded" if self.exceeded and status == "Stopped" else status, **members)

    async def _upload(self, folder: Path, uri: str) -> None:
        await s3.write(self.aws, uri, await asyncio.to_thread(_packed, folder))

    async def _send_metrics(self) -> None:
        data = [
            {
                "MetricName": name,
                "Value": value,
                "Timestamp": at,
                "Dimensions": [{"Name": "TrainingJobName", "Value": self.name}],
            }
            for name, value, at in self.log.metrics
        ]
        for start in range(0, len(data), _METRICS_AT_ONCE):
            batch = data[start : start + _METRICS_AT_ONCE]
            await self.aws(
                "cloudwatch", "PutMetricData", {"Namespace": TRAINING.log_group, "MetricData": batch}
            )


def moved(document: Document, secondary: str) -> Document:
    """The members that change when a training job goes on to a secondary status."""
    now = datetime.now(UTC)
    transitions = [*document.get("SecondaryStatusTransitions", [])]
    if transitions:
        transitions[-1] = {"EndTime": now, **transitions[-1]}
    transition = {"Status": secondary, "StartTime": now, "StatusMessage": _SAID[secondary]}
    if secondary in ("Completed", "Failed", "Stopped", "MaxRuntimeExceeded"):
        transition["EndTime"] = now
    return {"SecondaryStatus": secondary, "SecondaryStatusTransitions": [*transitions, transition]}


def _packed(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with (
        tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive,
        contextlib.suppress(FileNotFoundError),  # the script has taken the folder away: an empty archive
    ):
        for path in sorted(folder.iterdir()):
            archive.add(path, arcname=path.name)
    return buffer.getvalue()
