"""Training, processing and transform jobs of SageMaker, as SageMaker, CloudWatch and its Logs have them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from stagegate.aws import Services, error_code
from stagegate.errors import NotFound
from stagegate.job_logs import logging_hosts
from stagegate.metrics import Query, read_closely

KINDS = {"training": "TrainingJobs", "processing": "ProcessingJobs", "transform": "TransformJobs"}
"""By the word in an address, the end of the name of the log group."""
USAGE = {
    "CPUUtilization": "CPU, % (100 for each core)",
    "MemoryUtilization": "Memory, %",
    "DiskUtilization": "Disk, %",
    "GPUUtilization": "GPU, % (100 for each)",
    "GPUMemoryUtilization": "GPU memory, % (100 for each)",
}
"""What SageMaker measures of an instance, and how it is called on a page."""
_HOSTS = 8
_ENDED = ("Completed", "Failed", "Stopped")
_METRICS = 60


@dataclass(frozen=True, kw_only=True)
class Job:
    """One of any kind."""

    kind: str
    name: str
    arn: str
    status: str
    secondary_status: str
    failure_reason: str
    created: datetime
    started: datetime | None
    ended: datetime | None
    image: str
    instances: str
    hosts: int
    parameters: dict[str, str]
    """A training job's hyperparameters, a processing job's arguments, a transform job's settings; and each
    one's environment."""
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    metric_names: tuple[str, ...]
    final_metrics: dict[str, float]
    tuning_job: str = ""
    """The name of the tuning job that launched it."""

    @property
    def is_over(self) -> bool:
        return self.status in _ENDED

    @property
    def seconds(self) -> float | None:
        """How long it has run; None before it has begun."""
        if self.started is None:
            return None
        return ((self.ended or datetime.now(UTC)) - self.started).total_seconds()


@dataclass(frozen=True, kw_only=True)
class JobSummary:
    kind: str
    name: str
    status: str
    created: datetime
    ended: datetime | None


def find_job(services: Services, kind: str, name: str) -> Job:
    """Raises NotFound, also for another kind than those of KINDS."""
    if kind not in KINDS:
        raise NotFound(f"'{kind}' is no kind of job: there are {', '.join(KINDS)}.")
    sagemaker = services("sagemaker")
    try:
        if kind == "training":
            return _training(sagemaker.describe_training_job(TrainingJobName=name))
        if kind == "processing":
            return _processing(sagemaker.describe_processing_job(ProcessingJobName=name))
        return _transform(sagemaker.describe_transform_job(TransformJobName=name))
    except ClientError as error:
        if error_code(error) not in ("ValidationException", "ResourceNotFound"):
            raise
        raise NotFound(f"There is no {kind} job '{name}'.") from error


def list_jobs(services: Services, *, limit: int = 50) -> list[JobSummary]:
    """The latest of all kinds, the tuning jobs among them (`tuning.py`), the newest first."""
    sagemaker = services("sagemaker")
    asked = {"MaxResults": limit, "SortBy": "CreationTime", "SortOrder": "Descending"}
    tuned = sagemaker.list_hyper_parameter_tuning_jobs(**asked)["HyperParameterTuningJobSummaries"]
    jobs = [
        *_summaries("training", "Training", sagemaker.list_training_jobs(**asked)["TrainingJobSummaries"]),
        *_summaries(
            "processing", "Processing", sagemaker.list_processing_jobs(**asked)["ProcessingJobSummaries"]
        ),
        *_summaries(
            "transform", "Transform", sagemaker.list_transform_jobs(**asked)["TransformJobSummaries"]
        ),
        *_summaries("tuning", "HyperParameterTuning", tuned),
    ]
    return sorted(jobs, key=lambda job: job.created, reverse=True)[:limit]


def _summaries(kind: str, title: str, summaries: Iterable[Mapping[str, Any]]) -> Iterator[JobSummary]:
    """`title`: how the names of SageMaker's members begin."""
    for summary in summaries:
        yield JobSummary(
            kind=kind,
            name=summary[f"{title}JobName"],
            status=summary[f"{title}JobStatus"],
            created=summary["CreationTime"],
            ended=summary.get(f"{title}EndTime"),
        )


def metrics_of(services: Services, job: Job) -> dict[str, list[tuple[float, float]]]:
    """By metric, points of seconds since 1970 and value; those that have any."""
    names = job.metric_names[:_METRICS]
    if not names:
        return {}
    queries = [
        Query(
            namespace=f"/aws/sagemaker/{KINDS[job.kind]}",
            name=name,
            dimensions=(("TrainingJobName", job.name),),
            statistic="Average",
        )
        for name in names
    ]
    found = _read(services, job, queries)
    return {name: points for name, points in zip(names, found, strict=True) if points}


def usage_of(services: Services, job: Job) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """What its instances took: by metric and host, points of seconds since 1970 and percent."""
    wanted = [(name, host) for name in USAGE for host in _host_names(services, job)]
    queries = [
        Query(
            namespace=f"/aws/sagemaker/{KINDS[job.kind]}",
            name=name,
            dimensions=(("Host", f"{job.name}/{host}"),),
            statistic="Average",
        )
        for name, host in wanted
    ]
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for (name, host), points in zip(wanted, _read(services, job, queries), strict=True):
        if points:
            found.setdefault(name, {})[host] = points
    return found


def _host_names(services: Services, job: Job) -> list[str]:
    """As its metrics have them. A transform job's are ids that AWS tells in the names of its logs alone."""
    if job.kind == "transform":
        return logging_hosts(services, KINDS[job.kind], job.name)[:_HOSTS]
    return [f"algo-{number}" for number in range(1, min(job.hosts, _HOSTS) + 1)]


def _read(services: Services, job: Job, queries: list[Query]) -> list[list[tuple[float, float]]]:
    """As long as it has run, and the minute after."""
    start, end = job.started or job.created, job.ended or datetime.now(UTC)
    return read_closely(
        services, queries, start=start - timedelta(seconds=1), end=end + timedelta(seconds=60)
    )


def _training(job: Mapping[str, Any]) -> Job:
    algorithm, resources = job["AlgorithmSpecification"], job["ResourceConfig"]
    artifacts = job.get("ModelArtifacts", {}).get("S3ModelArtifacts", "")
    outputs = {"Output": job["OutputDataConfig"]["S3OutputPath"], "Model": artifacts}
    if "CheckpointConfig" in job:
        outputs["Checkpoints"] = job["CheckpointConfig"]["S3Uri"]
    return Job(
        kind="training",
        name=job["TrainingJobName"],
        arn=job["TrainingJobArn"],
        status=job["TrainingJobStatus"],
        secondary_status=job["SecondaryStatus"],
        failure_reason=job.get("FailureReason", ""),
        created=job["CreationTime"],
        started=job.get("TrainingStartTime"),
        ended=job.get("TrainingEndTime"),
        image=algorithm.get("TrainingImage", algorithm.get("AlgorithmName", "")),
        instances=_instances(resources),
        hosts=_hosts(resources),
        parameters=dict(sorted((job.get("HyperParameters", {}) | job.get("Environment", {})).items())),
        inputs=tuple(
            (channel["ChannelName"], channel["DataSource"].get("S3DataSource", {}).get("S3Uri", ""))
            for channel in job.get("InputDataConfig", ())
        ),
        outputs=tuple((name, uri) for name, uri in outputs.items() if uri),
        metric_names=tuple(it["Name"] for it in algorithm.get("MetricDefinitions", ())),
        final_metrics={it["MetricName"]: it["Value"] for it in job.get("FinalMetricDataList", ())},
        tuning_job=job.get("TuningJobArn", "").rpartition("/")[2],
    )


def _processing(job: Mapping[str, Any]) -> Job:
    application = job["AppSpecification"]
    words = [*application.get("ContainerEntrypoint", ()), *application.get("ContainerArguments", ())]
    command = {"command": " ".join(words)} if words else {}
    return Job(
        kind="processing",
        name=job["ProcessingJobName"],
        arn=job["ProcessingJobArn"],
        status=job["ProcessingJobStatus"],
        secondary_status="",
        failure_reason=job.get("FailureReason", "") or job.get("ExitMessage", ""),
        created=job["CreationTime"],
        started=job.get("ProcessingStartTime"),
        ended=job.get("ProcessingEndTime"),
        image=application["ImageUri"],
        instances=_instances(job["ProcessingResources"]["ClusterConfig"]),
        hosts=_hosts(job["ProcessingResources"]["ClusterConfig"]),
        parameters=command | dict(sorted(job.get("Environment", {}).items())),
        inputs=tuple(
            (it["InputName"], it.get("S3Input", {}).get("S3Uri", ""))
            for it in job.get("ProcessingInputs", ())
        ),
        outputs=tuple(
            (it["OutputName"], it.get("S3Output", {}).get("S3Uri", ""))
            for it in job.get("ProcessingOutputConfig", {}).get("Outputs", ())
        ),
        metric_names=(),
        final_metrics={},
    )


def _transform(job: Mapping[str, Any]) -> Job:
    given, output, resources = job["TransformInput"], job["TransformOutput"], job["TransformResources"]
    members = ("ModelName", "BatchStrategy", "MaxConcurrentTransforms", "MaxPayloadInMB")
    settings = {
        **{member: job[member] for member in members if member in job},
        **{
            member: given[member]
            for member in ("ContentType", "SplitType", "CompressionType")
            if member in given
        },
        **{member: output[member] for member in ("Accept", "AssembleWith") if member in output},
        **job.get("DataProcessing", {}),
        **job.get("ModelClientConfig", {}),
    }
    source = given["DataSource"]["S3DataSource"]
    return Job(
        kind="transform",
        name=job["TransformJobName"],
        arn=job["TransformJobArn"],
        status=job["TransformJobStatus"],
        secondary_status="",
        failure_reason=job.get("FailureReason", ""),
        created=job["CreationTime"],
        started=job.get("TransformStartTime"),
        ended=job.get("TransformEndTime"),
        image="",
        instances=_instances(resources),
        hosts=_hosts(resources),
        parameters={name: str(value) for name, value in settings.items()}
        | dict(sorted(job.get("Environment", {}).items())),
        inputs=((source["S3DataType"], source["S3Uri"]),),
        outputs=(("Output", output["S3OutputPath"]),),
        metric_names=(),
        final_metrics={},
    )


def _instances(resources: Mapping[str, Any]) -> str:
    groups = resources.get("InstanceGroups") or [resources]
    return ", ".join(f"{group.get('InstanceCount', 1)} × {group.get('InstanceType', '')}" for group in groups)


def _hosts(resources: Mapping[str, Any]) -> int:
    return sum(group.get("InstanceCount", 1) for group in resources.get("InstanceGroups") or [resources])
