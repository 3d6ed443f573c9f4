"""Processing jobs: inputs from S3 in, whatever the program leaves in its output folders out."""

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

from stagegate.local.sagemaker.channels import processing_inputs, processing_outputs
from stagegate.local.sagemaker.container import beginning, error_message, processing_program
from stagegate.local.sagemaker.job_run import Document, JobFailed, Kind
from stagegate.local.sagemaker.mirror import Mirror
from stagegate.local.sagemaker.program_run import ProgramRun

PROCESSING = Kind(title="Processing", resource="processing-job", log_group="/aws/sagemaker/ProcessingJobs")
_MESSAGE = 1024
_OUT_OF_MEMORY = (
    "Please use an instance type with more memory, or reduce the size of job data processed on an instance."
)


class ProcessingRun(ProgramRun):
    kind = PROCESSING

    def resources(self) -> Document:
        given: Document = self.document["ProcessingResources"]["ClusterConfig"]
        return given

    async def prepare(self) -> None:
        self._outputs = [
            (
                output["S3UploadMode"],
                Mirror(self.aws, one.folder.outside(output["LocalPath"]), output["S3Uri"]),
            )
            for output in processing_outputs(self.document)
            for one in self.hosts
        ]
        for source in processing_inputs(self.document):
            records = await source.records(self.aws)
            for one in self.hosts:
                target = one.folder.outside(source.source["LocalPath"])
                await source.download(self.aws, records, one.host, target)
        for one in self.hosts:
            for output in processing_outputs(self.document):
                one.folder.outside(output["LocalPath"]).mkdir(parents=True, exist_ok=True)
            one.program = processing_program(one.folder, self.document, self.runtime.environment(), one.host)

    def began(self) -> None:
        self.save(ProcessingStartTime=datetime.now(UTC))

    def background(self) -> list[Coroutine[Any, Any, None]]:
        return [mirror.keep() for mode, mirror in self._outputs if mode == "Continuous"]

    async def finish(self) -> None:
        stopped = self.is_stopping or self.exceeded
        code = next((one.code for one in self.hosts if one.code), 0)
        leader = self.failed or self.hosts[0]
        message = leader.folder.path / "output/message"
        if message.is_file():
            self.document["ExitMessage"] = await asyncio.to_thread(beginning, message, _MESSAGE)
        elif code and not stopped:
            self.document["ExitMessage"] = error_message(list(leader.log.last))[:_MESSAGE]
        for mode, mirror in self._outputs:
            if mode == "Continuous" or not code:
                await mirror.upload()
        if self.failed and self.is_out_of_memory and not stopped:
            raise JobFailed(f"ClientError: {_OUT_OF_MEMORY}, exit code: {self.failed.code}")
        if self.failed and not stopped:
            said = self.document["ExitMessage"][:900]
            raise JobFailed(f"AlgorithmError: {said}, exit code: {self.failed.code}")
        self.end("Stopped" if stopped else "Completed")

    def end(self, status: str, reason: str = "") -> None:
        if self.exceeded and status == "Stopped":
            self.document["ExitMessage"] = "The job ran longer than its MaxRuntimeInSeconds."
        if reason:
            self.document["FailureReason"] = reason[:_MESSAGE]
        self.save(ProcessingJobStatus=status, ProcessingEndTime=datetime.now(UTC))
