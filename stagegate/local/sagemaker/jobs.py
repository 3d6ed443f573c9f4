"""SageMaker's training and processing jobs, as operations; `job_run.py` runs them."""

import asyncio
import os
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
from stagegate.local.sagemaker.job_run import Document, JobRun, Kind, announce
from stagegate.local.sagemaker.processing import PROCESSING, ProcessingRun
from stagegate.local.sagemaker.resources import (
    TAGS,
    TUNED,
    check_name,
    invalid,
    order,
    page,
    pick,
    put_tags,
    refuse,
    select,
    tags_of,
)
from stagegate.local.sagemaker.toolkit import check_distribution
from stagegate.local.sagemaker.training import TENSORBOARD, TRAINING, TrainingRun, moved
from stagegate.local.service import AWSError, Runtime, Service

_RUNS: dict[str, type[JobRun]] = {kind.kind.resource: kind for kind in (TrainingRun, ProcessingRun)}
_ENDED = ("Completed", "Failed", "Stopped")
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


class Jobs(Service):
    """Training and processing jobs, and the tags of every SageMaker resource."""

    grace_seconds = 120.0
    """From SIGTERM to SIGKILL when a job is stopped, as in SageMaker."""
    preloaded: tuple[str, ...] = ("numpy", "torch", "torchvision", "onnxscript", "torch.onnx")
    """What jobs would take seconds to import. Not onnxruntime: it starts a thread when imported, which a
    forked job lacks."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._processes = Processes(preload=self.preloaded if runtime.preload is None else runtime.preload)
        self._turns = asyncio.Semaphore(runtime.max_jobs or os.cpu_count() or 1)
        self._under_way: dict[tuple[str, str], JobRun] = {}

    async def start(self) -> None:
        """Jobs that were under way are run again: their processes went with the server."""
        await self._processes.start()
        for kind in (TRAINING, PROCESSING):
            for document in self.runtime.store.list(kind.store):
                if document[kind.status] not in _ENDED:
                    run = self._begin(kind, document[kind.name])
                    if document[kind.status] == "Stopping":
                        run.request_stop()

    async def stop(self) -> None:
        await super().stop()
        await self._processes.stop()

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
        return self._create(TRAINING, document, Tags)

    def describe_training_job(self, *, TrainingJobName: str) -> Document:
        return self._described(TRAINING, TrainingJobName)

    def stop_training_job(self, *, TrainingJobName: str) -> Document:
        return self._stop_job(TRAINING, TrainingJobName)

    def interrupt(self, name: str, *, seconds: float) -> None:
        """Take a managed spot training job's instances away, as AWS may at any time: no operation of AWS."""
        document = self._described(TRAINING, name)
        run = self._under_way.get((TRAINING.resource, name))
        if not document["EnableManagedSpotTraining"]:
            raise invalid(f"The training job {name} does not use managed spot training.")
        if run is None or document["SecondaryStatus"] != "Training":
            raise invalid(
                f"The training job {name} has no instances that could be taken away: its secondary status is "
                f"{document['SecondaryStatus']}, not Training."
            )
        run.capacity.take(seconds=seconds)

    def list_training_jobs(self, **filters: Any) -> Document:
        return self._list(TRAINING, _TRAINING_SUMMARY, **filters)

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
        return self._create(PROCESSING, document, Tags)

    def describe_processing_job(self, *, ProcessingJobName: str) -> Document:
        return self._described(PROCESSING, ProcessingJobName)

    def stop_processing_job(self, *, ProcessingJobName: str) -> Document:
        return self._stop_job(PROCESSING, ProcessingJobName)

    def list_processing_jobs(self, **filters: Any) -> Document:
        return self._list(PROCESSING, _PROCESSING_SUMMARY, **filters)

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

    def _list(
        self,
        kind: Kind,
        summary: tuple[str, ...],
        *,
        CreationTimeAfter: datetime | None = None,
        CreationTimeBefore: datetime | None = None,
        NameContains: str | None = None,
        StatusEquals: str | None = None,
        SortBy: str = "CreationTime",
        SortOrder: str = "Descending",
        NextToken: str | None = None,
        MaxResults: int | None = None,
        **rest: Any,
    ) -> Document:
        refuse(rest.items(), operation=f"List{kind.title}Jobs")
        found = select(
            self.runtime.store.list(kind.store),
            name=kind.name,
            contains=NameContains,
            created_after=CreationTimeAfter,
            created_before=CreationTimeBefore,
            equal={kind.status: StatusEquals},
        )
        members = {"Name": kind.name, "Status": kind.status}
        ordered = order(found, by=members.get(SortBy, SortBy), descending=SortOrder == "Descending")
        return page(
            [pick(document, summary) for document in ordered],
            member=f"{kind.title}JobSummaries",
            token=NextToken,
            size=MaxResults,
        )

    def _create(self, kind: Kind, document: Document, tags: list[dict[str, str]] | None) -> Document:
        name = document[kind.name]
        if self.runtime.store.get(kind.store, name) is not None:
            raise AWSError(
                "ResourceInUse",
                f"{kind.title} job names must be unique within an AWS account and region, and a "
                f"{kind.title.lower()} job with this name already exists ({document[kind.arn]})",
            )
        put_tags(self.runtime.store, document[kind.arn], tags)
        self.runtime.store.put(kind.store, name, document)
        announce(self.runtime, kind, document)
        self._begin(kind, name)
        return {kind.arn: document[kind.arn]}

    def _begin(self, kind: Kind, name: str) -> JobRun:
        run = _RUNS[kind.resource](
            self.runtime, name, processes=self._processes, turns=self._turns, grace=self.grace_seconds
        )
        self._under_way[kind.resource, name] = run

        async def whole() -> None:
            await self.runtime.store.committed()  # what was answered is known before it is acted upon
            try:
                await run.run()
            finally:
                del self._under_way[kind.resource, name]

        self.spawn(whole(), name=f"{kind.resource} {name}")
        return run

    def _described(self, kind: Kind, name: str) -> Document:
        document = self.runtime.store.get(kind.store, name)
        if document is None:
            raise invalid("Requested resource not found.")
        return document

    def _stop_job(self, kind: Kind, name: str) -> Document:
        document = self._described(kind, name)
        run = self._under_way.get((kind.resource, name))
        if document[kind.status] in _ENDED or run is None:
            raise invalid(
                f"The request was rejected because the {kind.title.lower()} job is in status "
                f"{document[kind.status]}."
            )
        if document[kind.status] != "Stopping":
            members = moved(run.document, "Stopping") if kind == TRAINING else {}
            run.save(**{kind.status: "Stopping"}, **members)
            run.request_stop()
        return {}


def _check_regex(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise invalid(f"Invalid regular expression '{pattern}' in MetricDefinitions: {error}") from error
