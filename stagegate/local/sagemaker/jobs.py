"""SageMaker's training and processing jobs, as operations; `job_run.py` runs them."""

import re
from datetime import UTC, datetime
from typing import Any

from stagegate.local.processes import MOUNT_AT, Processes
from stagegate.local.sagemaker.channels import (
    check_channels,
    check_exists,
    check_input,
    check_local_path,
    check_output,
)
from stagegate.local.sagemaker.container import holds, script, submit_directory
from stagegate.local.sagemaker.experiments import check_experiment
from stagegate.local.sagemaker.job_run import Document, Kind
from stagegate.local.sagemaker.job_service import JobService
from stagegate.local.sagemaker.processing import PROCESSING, ProcessingRun
from stagegate.local.sagemaker.program_run import ProgramRun
from stagegate.local.sagemaker.resources import (
    TAGS,
    TUNED,
    check_name,
    invalid,
    page,
    pick,
    put_tags,
    refuse,
    tags_of,
)
from stagegate.local.sagemaker.toolkit import check_distribution
from stagegate.local.sagemaker.training import TENSORBOARD, TRAINING, TrainingRun, moved
from stagegate.local.service import Runtime

_TRAINING_SUMMARY = (
    *("TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingEndTime", "LastModifiedTime"),
    *("TrainingJobStatus", "SecondaryStatus"),
)
_PROCESSING_SUMMARY = (
    *("ProcessingJobName", "ProcessingJobArn", "CreationTime", "ProcessingEndTime", "LastModifiedTime"),
    *("ProcessingJobStatus", "FailureReason", "ExitMessage"),
)
_RECORDED = (  # taken and given back; they change nothing where there is one machine
    *("RoleArn", "ResourceConfig", "VpcConfig", "StoppingCondition", "EnableNetworkIsolation"),
    *("EnableInterContainerTrafficEncryption", "EnableManagedSpotTraining", "CheckpointConfig"),
    *("Environment", "ExperimentConfig", "RetryStrategy", "HyperParameters", "AlgorithmSpecification"),
    *("InputDataConfig", "OutputDataConfig", "ProfilerConfig", "DebugHookConfig"),
    "TensorBoardOutputConfig",
)


class Jobs(JobService):
    """Training and processing jobs, and the tags of every SageMaker resource."""

    kinds = (TRAINING, PROCESSING)

    grace_seconds = 120.0
    """From SIGTERM to SIGKILL when a job is stopped, as in SageMaker."""
    preloaded: tuple[str, ...] = ("numpy", "torch", "torchvision", "onnxscript", "torch.onnx")
    """What jobs would take seconds to import. Not onnxruntime: it starts a thread when imported, which a
    forked job lacks."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._processes = Processes(preload=self.preloaded if runtime.preload is None else runtime.preload)

    async def start(self) -> None:
        await self._processes.start()
        await super().start()

    async def stop(self) -> None:
        await super().stop()
        await self._processes.stop()

    def new_run(self, kind: Kind, name: str) -> ProgramRun:
        run = TrainingRun if kind == TRAINING else ProcessingRun
        return run(self.runtime, name, processes=self._processes, turns=self.turns, grace=self.grace_seconds)

    async def create_training_job(
        self,
        *,
        TrainingJobName: str,
        RoleArn: str,
        OutputDataConfig: Document,
        ResourceConfig: Document,
        AlgorithmSpecification: Document | None = None,
        HyperParameters: dict[str, str] | None = None,
        InputDataConfig: list[Document] | None = None,
        StoppingCondition: Document | None = None,
        CheckpointConfig: Document | None = None,
        EnableManagedSpotTraining: bool = False,
        Environment: dict[str, str] | None = None,
        Tags: list[dict[str, str]] | None = None,
        **rest: Any,
    ) -> Document:
        check_name(TrainingJobName, member="trainingJobName")
        algorithm, condition = (
            AlgorithmSpecification or {},
            StoppingCondition or {"MaxRuntimeInSeconds": 86_400},
        )
        hyperparameters = HyperParameters or {}
        refuse(
            [(name, value) for name, value in rest.items() if name not in _RECORDED],
            operation="CreateTrainingJob",
        )
        refuse([("AlgorithmName", algorithm.get("AlgorithmName"))], operation="CreateTrainingJob")
        refuse(
            [("InstancePreferences", ResourceConfig.get("InstancePreferences"))],
            operation="CreateTrainingJob",
        )
        for metric in algorithm.get("MetricDefinitions", []):
            _check_regex(metric["Regex"])
        if not script(hyperparameters, algorithm) and "ContainerEntrypoint" not in algorithm:
            raise invalid(
                "No image is pulled by the local runtime: give the script by the hyperparameters "
                "sagemaker_program and sagemaker_submit_directory, or a ContainerEntrypoint"
            )
        if EnableManagedSpotTraining:
            waits = condition.get("MaxWaitTimeInSeconds")
            if waits is None or waits < condition.get("MaxRuntimeInSeconds", 86_400):
                raise invalid(
                    "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to "
                    "MaxRuntimeInSeconds"
                )
            if ResourceConfig.get("KeepAlivePeriodInSeconds"):
                raise invalid("KeepAlivePeriodInSeconds cannot be used with managed spot training")
        if CheckpointConfig:
            check_local_path(
                CheckpointConfig.get("LocalPath", f"{MOUNT_AT}/checkpoints"), "CheckpointConfig.LocalPath"
            )
        if board := rest.get("TensorBoardOutputConfig"):
            check_local_path(board.get("LocalPath", TENSORBOARD), "TensorBoardOutputConfig.LocalPath")
        await check_experiment(self.runtime.aws, rest.get("ExperimentConfig"))
        await check_channels(self.runtime.aws, InputDataConfig or [], algorithm, ResourceConfig)
        if script(hyperparameters, algorithm):
            check_distribution(hyperparameters)
            source = submit_directory(hyperparameters)
            if source is None:
                raise invalid(
                    "The hyperparameter sagemaker_submit_directory is missing: an s3:// URI of a tar.gz, "
                    "or its path in a channel"
                )
            if not holds(source):  # in network isolation it comes by a channel
                await check_exists(self.runtime.aws, source)
        now = datetime.now(UTC)
        document: Document = {
            "TrainingJobName": TrainingJobName,
            "TrainingJobArn": self.runtime.arn("sagemaker", f"training-job/{TrainingJobName}"),
            "TrainingJobStatus": "InProgress",
            "HyperParameters": hyperparameters,
            "AlgorithmSpecification": algorithm,
            "RoleArn": RoleArn,
            "InputDataConfig": InputDataConfig or [],
            "OutputDataConfig": {"KmsKeyId": "", **OutputDataConfig},
            "ResourceConfig": ResourceConfig,
            "StoppingCondition": condition,
            "EnableManagedSpotTraining": EnableManagedSpotTraining,
            **(
                {"WarmPoolStatus": {"Status": "InUse"}}
                if ResourceConfig.get("KeepAlivePeriodInSeconds")
                else {}
            ),
            **({"CheckpointConfig": CheckpointConfig} if CheckpointConfig else {}),
            **({"Environment": Environment} if Environment else {}),
            **rest,
            **pick(self.runtime.store.get(TUNED, TrainingJobName) or {}, ("TuningJobArn",)),
            "CreationTime": now,
            "LastModifiedTime": now,
        }
        document |= moved(document, "Starting")
        return self.created(TRAINING, document, Tags)

    def describe_training_job(self, *, TrainingJobName: str) -> Document:
        return self.described(TRAINING, TrainingJobName)

    def stop_training_job(self, *, TrainingJobName: str) -> Document:
        return self.stopped(TRAINING, TrainingJobName)

    def interrupt(self, name: str, *, seconds: float) -> None:
        """Take a managed spot training job's instances away, as AWS may at any time: no operation of AWS."""
        document = self.described(TRAINING, name)
        run = self.under_way.get((TRAINING.resource, name))
        if not document["EnableManagedSpotTraining"]:
            raise invalid(f"The training job {name} does not use managed spot training.")
        if not isinstance(run, TrainingRun) or document["SecondaryStatus"] != "Training":
            raise invalid(
                f"The training job {name} has no instances that could be taken away: its secondary status is "
                f"{document['SecondaryStatus']}, not Training."
            )
        run.capacity.take(seconds=seconds)

    def list_training_jobs(self, **filters: Any) -> Document:
        return self.listed(TRAINING, _TRAINING_SUMMARY, **filters)

    async def create_processing_job(
        self,
        *,
        ProcessingJobName: str,
        ProcessingResources: Document,
        AppSpecification: Document,
        RoleArn: str,
        ProcessingInputs: list[Document] | None = None,
        ProcessingOutputConfig: Document | None = None,
        StoppingCondition: Document | None = None,
        Environment: dict[str, str] | None = None,
        NetworkConfig: Document | None = None,
        ExperimentConfig: Document | None = None,
        Tags: list[dict[str, str]] | None = None,
    ) -> Document:
        check_name(ProcessingJobName, member="processingJobName")
        if "ContainerEntrypoint" not in AppSpecification:
            raise invalid(
                "No image is pulled by the local runtime: give AppSpecification's ContainerEntrypoint"
            )
        await check_experiment(self.runtime.aws, ExperimentConfig)
        for source in ProcessingInputs or []:
            await check_input(self.runtime.aws, source)
        for output in (ProcessingOutputConfig or {}).get("Outputs", []):
            check_output(output)
        now = datetime.now(UTC)
        given = {
            "ProcessingInputs": ProcessingInputs,
            "ProcessingOutputConfig": ProcessingOutputConfig,
            "StoppingCondition": StoppingCondition or {"MaxRuntimeInSeconds": 86_400},
            "Environment": Environment,
            "NetworkConfig": NetworkConfig,
            "ExperimentConfig": ExperimentConfig,
        }
        document: Document = {
            "ProcessingJobName": ProcessingJobName,
            "ProcessingJobArn": self.runtime.arn("sagemaker", f"processing-job/{ProcessingJobName}"),
            "ProcessingJobStatus": "InProgress",
            "ProcessingResources": ProcessingResources,
            "AppSpecification": AppSpecification,
            "RoleArn": RoleArn,
            **{name: value for name, value in given.items() if value is not None},
            "CreationTime": now,
            "LastModifiedTime": now,
        }
        return self.created(PROCESSING, document, Tags)

    def describe_processing_job(self, *, ProcessingJobName: str) -> Document:
        return self.described(PROCESSING, ProcessingJobName)

    def stop_processing_job(self, *, ProcessingJobName: str) -> Document:
        return self.stopped(PROCESSING, ProcessingJobName)

    def list_processing_jobs(self, **filters: Any) -> Document:
        return self.listed(PROCESSING, _PROCESSING_SUMMARY, **filters)

    def add_tags(self, *, ResourceArn: str, Tags: list[dict[str, str]]) -> Document:
        tags = tags_of(self.runtime.store, ResourceArn) | {tag["Key"]: tag["Value"] for tag in Tags}
        listed = [{"Key": key, "Value": value} for key, value in tags.items()]
        put_tags(self.runtime.store, ResourceArn, listed)
        return {"Tags": listed}

    def delete_tags(self, *, ResourceArn: str, TagKeys: list[str]) -> Document:
        tags = tags_of(self.runtime.store, ResourceArn)
        put_tags(
            self.runtime.store,
            ResourceArn,
            [{"Key": key, "Value": value} for key, value in tags.items() if key not in TagKeys],
        )
        return {}

    def list_tags(
        self, *, ResourceArn: str, NextToken: str | None = None, MaxResults: int | None = None
    ) -> Document:
        tags = (self.runtime.store.get(TAGS, ResourceArn) or {"Tags": []})["Tags"]
        return page(tags, member="Tags", token=NextToken, size=MaxResults, default=50)


def _check_regex(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise invalid(f"Invalid regular expression '{pattern}' in MetricDefinitions: {error}") from error
