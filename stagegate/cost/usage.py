"""What a run and a month use, read from definitions, templates and the stages' files, or assumed."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from stagegate.cost.route import repeated, route
from stagegate.doctor.project import Machine, Project, State, text_of
from stagegate.errors import ConfigurationError

HOURS = 730
"""Of a month, as AWS counts."""
UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What no file says; the first six have flags. The `meaning` of each is printed with the estimate."""

    runs: int = field(default=20, metadata={"meaning": "runs a month"})
    staging_hours: float = field(default=HOURS, metadata={"meaning": "hours a month that staging stands"})
    training_minutes: float = field(
        default=60, metadata={"meaning": "minutes of a training job, where not measured"}
    )
    processing_minutes: float = field(
        default=10, metadata={"meaning": "minutes of a processing job, where not measured"}
    )
    test_minutes: float = field(
        default=5, metadata={"meaning": "minutes of the tests of an endpoint, where not measured"}
    )
    storage_gb: float = field(default=50, metadata={"meaning": "GB in S3"})
    deployment_minutes: float = field(default=8, metadata={"meaning": "minutes of the deployment of a stage"})
    function_seconds: float = field(default=5, metadata={"meaning": "seconds of a function's call"})
    puts: int = field(default=500, metadata={"meaning": "objects that a run writes"})
    gets: int = field(default=2000, metadata={"meaning": "objects that a run reads"})
    log_gb: float = field(default=0.05, metadata={"meaning": "GB of logs of a run"})
    approval_reads: int = field(default=10, metadata={"meaning": "reads of DynamoDB for an approval"})
    approval_writes: int = field(default=5, metadata={"meaning": "writes to DynamoDB for an approval"})


@dataclass(frozen=True, kw_only=True)
class Job:
    """A SageMaker job, or a build, of a run."""

    state: str
    kind: str
    """training, processing or codebuild."""
    machine: str
    """The instance type, or the build's compute type."""
    count: int
    volume_gb: int


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    stage: str
    instance_type: str
    instance_count: int
    alarms: int


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What the files of a project say."""

    jobs: tuple[Job, ...]
    transitions: int
    """Of all state machines, without the rounds of waiting."""
    waits: tuple[int, ...]
    """For each deployment that is waited for: the states of a round."""
    poll_seconds: float
    approvals: int
    calls: int
    """Of functions by state machines."""
    function_gb: Decimal
    reads: int
    writes: int
    endpoints: tuple[Endpoint, ...]
    alarms: int
    secrets: int
    keys: int


def read_usage(project: Project, *, root: Path) -> Usage:
    """Raises ConfigurationError for a stage's file that cannot be read."""
    machines = {machine.definition.file: machine for machine in project.machines}
    routes = [(machines.get(definition.file), route(definition)) for definition in project.definitions]
    tasks = [(machine, state) for machine, states in routes for state in states if state.kind == "Task"]
    apis = [_api(state) for _, state in tasks]
    alarms = {
        template.file: sum(1 for _ in template.of_type("AWS::CloudWatch::Alarm"))
        for template in project.templates
    }
    of_endpoints = {
        template.file for template in project.templates if any(template.of_type("AWS::SageMaker::Endpoint"))
    }
    return Usage(
        jobs=tuple(job for machine, state in tasks for job in _jobs(project, machine, state)),
        transitions=sum(len(states) for _, states in routes),
        waits=tuple(
            repeated(state)
            for _, states in routes
            for state in states
            if state.kind == "Wait" and repeated(state)
        ),
        poll_seconds=_poll_seconds(project),
        approvals=sum(api == "lambda:invoke.waitForTaskToken" for api in apis),
        calls=sum(api.startswith("lambda:invoke") for api in apis),
        function_gb=_function_gb(project),
        reads=apis.count("dynamodb:getItem"),
        writes=sum(api in ("dynamodb:putItem", "dynamodb:updateItem") for api in apis),
        endpoints=tuple(_endpoints(root, sum(alarms[file] for file in of_endpoints))),
        alarms=sum(number for file, number in alarms.items() if file not in of_endpoints),
        secrets=_count(project, "AWS::SecretsManager::Secret"),
        keys=_count(project, "AWS::KMS::Key"),
    )


def _api(state: State) -> str:
    return str(state.body.get("Resource", "")).rpartition(":states:::")[2]


def _jobs(project: Project, machine: Machine | None, state: State) -> Iterator[Job]:
    api, request = _api(state), state.request
    if api == "sagemaker:createTrainingJob.sync":
        yield _sagemaker_job(machine, state, "training", request.get("ResourceConfig"))
    elif api == "sagemaker:createProcessingJob.sync":
        cluster = _table(request.get("ProcessingResources")).get("ClusterConfig")
        yield _sagemaker_job(machine, state, "processing", cluster)
    elif api == "codebuild:startBuild.sync":
        compute = _compute_type(project, machine, request.get("ProjectName"))
        yield Job(state=state.name, kind="codebuild", machine=compute or UNKNOWN, count=1, volume_gb=0)


def _compute_type(project: Project, machine: Machine | None, name: Any) -> str | None:
    """Of the build project that a definition names by a substitution; of the only one where it does not."""
    given = _given(machine, name)
    projects = [resource for resource in project.resources if resource.type == "AWS::CodeBuild::Project"]
    # One that is called by its name may be in several templates: each account of a stage has one.
    named = [it for it in projects if given in ({"Ref": it.logical_id}, it.properties.get("Name"))]
    types = {text_of(_table(it.properties.get("Environment")).get("ComputeType")) for it in named or projects}
    return types.pop() if len(types) == 1 else None


def _sagemaker_job(machine: Machine | None, state: State, kind: str, cluster: Any) -> Job:
    cluster = _table(cluster)
    count, volume = cluster.get("InstanceCount"), cluster.get("VolumeSizeInGB")
    return Job(
        state=state.name,
        kind=kind,
        machine=_substituted(machine, cluster.get("InstanceType")) or UNKNOWN,
        count=count if isinstance(count, int) else 1,
        volume_gb=volume if isinstance(volume, int) else 0,
    )


def _substituted(machine: Machine | None, value: Any) -> str | None:
    """A text of a definition with the platform's default in place of its `${Substitution}`."""
    given = _given(machine, value)
    if machine is not None and isinstance(given, dict) and "Ref" in given:
        default = _table(machine.template.parameters.get(str(given["Ref"]))).get("Default")
        return None if default is None else str(default)
    return given if isinstance(given, str) and not given.startswith("{%") else None


def _given(machine: Machine | None, value: Any) -> Any:
    """A value of a definition, or what its template puts in place of its `${Substitution}`."""
    if not isinstance(value, str) or not (name := re.fullmatch(r"\$\{(\w+)\}", value)):
        return value
    if machine is None:
        return None
    return _table(machine.resource.properties.get("DefinitionSubstitutions")).get(name[1])


def _poll_seconds(project: Project) -> float:
    for template in project.templates:
        default = _table(template.parameters.get("PollSeconds")).get("Default")
        if isinstance(default, int | float) and default > 0:
            return float(default)
    return 15.0


def _function_gb(project: Project) -> Decimal:
    """The memory of the largest function."""
    sizes = [
        resource.properties.get("MemorySize", 128)
        for resource in project.resources
        if resource.type == "AWS::Lambda::Function"
    ]
    return Decimal(max((size for size in sizes if isinstance(size, int)), default=128)) / 1024


def _count(project: Project, kind: str) -> int:
    return sum(resource.type == kind for resource in project.resources)


def _endpoints(root: Path, alarms: int) -> Iterator[Endpoint]:
    """From deploy/*.json; scaling makes two alarms of its own."""
    for path in sorted(root.glob("deploy/*.json")):
        try:
            parameters = _table(_table(json.loads(path.read_text())).get("Parameters"))
            if "InstanceType" not in parameters:
                continue
            count = int(parameters["InstanceCount"])
            scales = int(parameters.get("MaxInstanceCount", count)) != count
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"{path} should have Parameters with InstanceType, InstanceCount, MaxInstanceCount: {error!r}"
            ) from error
        yield Endpoint(
            stage=str(parameters.get("Stage", path.stem)),
            instance_type=str(parameters["InstanceType"]),
            instance_count=count,
            alarms=alarms + (2 if scales else 0),
        )


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
