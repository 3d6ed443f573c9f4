"""Processing jobs: inputs from S3 in, whatever the program leaves in its output folders out."""

from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

from stagegate.local import s3
from stagegate.local.processes import Program
from stagegate.local.sagemaker.container import Folder, error_message, processing_program
from stagegate.local.sagemaker.job_run import JobFailed, JobRun, Kind, Mirror

PROCESSING = Kind(title="Processing", resource="processing-job", log_group="/aws/sagemaker/ProcessingJobs")
_MESSAGE = 1024


class ProcessingRun(JobRun):
    kind = PROCESSING

    async def prepare(self, folder: Folder) -> Program:
        self._outputs = [
            (
                output["S3Output"]["S3UploadMode"],
                Mirror(
                    self.aws, folder.outside(output["S3Output"]["LocalPath"]), output["S3Output"]["S3Uri"]
                ),
            )
            for output in self.document.get("ProcessingOutputConfig", {}).get("Outputs", [])
        ]
        for source in self.document.get("ProcessingInputs", []):
            target = folder.outside(source["S3Input"]["LocalPath"])
            target.mkdir(parents=True, exist_ok=True)
            await s3.download(self.aws, source["S3Input"]["S3Uri"], target)
        return processing_program(folder, self.document, self.runtime.environment())

    def began(self) -> None:
        self.save(ProcessingStartTime=datetime.now(UTC))

    def background(self, folder: Folder) -> list[Coroutine[Any, Any, None]]:
        return [mirror.keep() for mode, mirror in self._outputs if mode == "Continuous"]

    async def finish(self, folder: Folder, program: Program, code: int) -> None:
        stopped = self.is_stopping or self.exceeded
        message = folder.path / "output/message"
        if message.is_file():
            self.document["ExitMessage"] = message.read_text(errors="replace")[:_MESSAGE]
        elif code and not stopped:
            self.document["ExitMessage"] = error_message(list(self.log.last))[:_MESSAGE]
        for mode, mirror in self._outputs:
            if mode == "Continuous" or not code:
                await mirror.upload()
        if code and not stopped:
            raise JobFailed(f"AlgorithmError: {self.document['ExitMessage'][:900]}, exit code: {code}")
        self.end("Stopped" if stopped else "Completed")

    def end(self, status: str, reason: str = "") -> None:
        if self.exceeded and status == "Stopped":
            self.document["ExitMessage"] = "The job ran longer than its MaxRuntimeInSeconds."
        if reason:
            self.document["FailureReason"] = reason[:_MESSAGE]
        self.save(ProcessingJobStatus=status, ProcessingEndTime=datetime.now(UTC))
