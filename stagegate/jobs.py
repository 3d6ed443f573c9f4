"""Training and processing jobs of SageMaker, as SageMaker, CloudWatch and its Logs have them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from stagegate.aws import Services, error_code
from stagegate.errors import NotFound
from stagegate.metrics import Query, read_closely

KINDS = {"training": "TrainingJobs", "processing": "ProcessingJobs"}
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
    """One of either kind."""

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
    """A training job's hyperparameters; a processing job's arguments and environment."""
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    metric_names: tuple[str, ...]
    final_metrics: dict[str, float]

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
    """Raises NotFound, also for another kind than `training` and `processing`."""
    if kind not in KINDS:
        raise NotFound(f"'{kind}' is no kind of job: there are {' and '.join(KINDS)}.")
    sagemaker = services("sagemaker")
    try:
        if kind == "training":
            return _training(sagemaker.describe_training_job(TrainingJobName=name))
        return _processing(sagemaker.describe_processing_job(ProcessingJobName=name))
    except ClientError as error:
        if error_code(error) not in ("ValidationException", "ResourceNotFound"):
            raise
        raise NotFound(f"There is no {kind} job '{name}'.") from error


def list_jobs(services: Services, *, limit: int = 50) -> list[JobSummary]:
    """The latest of both kinds, the newest first."""
    sagemaker, order = services("sagemaker"), {"SortBy": "CreationTime", "SortOrder": "Descending"}
    trained = sagemaker.list_training_jobs(MaxResults=limit, **order)["TrainingJobSummaries"]
    processed = sagemaker.list_processing_jobs(MaxResults=limit, **order)["ProcessingJobSummaries"]
    jobs = [
        JobSummary(
            kind=kind,
            name=summary[f"{kind.capitalize()}JobName"],
            status=summary[f"{kind.capitalize()}JobStatus"],
            created=summary["CreationTime"],
            ended=summary.get(f"{kind.capitalize()}EndTime"),
        )
        for kind, found in (("training", trained), ("processing", processed))
        for summary in found
    ]
    return sorted(jobs, key=lambda job: job.created, reverse=True)[:limit]


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
    hosts = [f"algo-{number}" for number in range(1, min(job.hosts, _HOSTS) + 1)]
    wanted = [(name, host) for name in USAGE for host in hosts]
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


def _instances(resources: Mapping[str, Any]) -> str:
    groups = resources.get("InstanceGroups") or [resources]
    return ", ".join(f"{group.get('InstanceCount', 1)} × {group.get('InstanceType', '')}" for group in groups)


def _hosts(resources: Mapping[str, Any]) -> int:
    return sum(group.get("InstanceCount", 1) for group in resources.get("InstanceGroups") or [resources])
