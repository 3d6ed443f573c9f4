"""Start runs, list them, follow them state by state: through boto3 alone."""

import getpass
import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from stagegate.aws import Services
from stagegate.deployment import Platform, upload_code
from stagegate.errors import ConfigurationError, NotFound
from stagegate.git import current_author, current_commit

_POLL_SECONDS = {"local": 0.4, "aws": 2.0}


@dataclass(frozen=True, kw_only=True)
class Run:
    """An execution of one of the state machines."""

    name: str
    arn: str
    state_machine: str
    status: str
    started: datetime
    stopped: datetime | None

    @property
    def seconds(self) -> float:
        return ((self.stopped or datetime.now(UTC)) - self.started).total_seconds()


def upload_dataset(services: Services, platform: Platform, dataset: str) -> str:
    """The URI of a dataset: a local zip is uploaded below `uploads/`, an S3 URI is taken as it is.

    Not below `datasets/`: what comes there starts a run of its own.
    """
    if dataset.startswith("s3://"):
        return dataset
    path = Path(dataset)
    if not path.is_file():
        raise ConfigurationError(
            f"'{dataset}' is neither a file nor an s3:// URI; give a zip of class folders"
        )
    services("s3").upload_file(str(path), platform.data_bucket, f"uploads/{path.name}")
    return f"s3://{platform.data_bucket}/uploads/{path.name}"


def start_build(
    services: Services,
    platform: Platform,
    *,
    dataset: str,
    use_cache: bool = True,
    approval: Mapping[str, Any] | None = None,
) -> str:
    """Start model-build with the code and the settings as they are now; gives the execution's ARN.

    Without `use_cache` each job runs, also where one with the same code, data and parameters has run.
    `approval` has rules of this run alone: `Approvers`, `Required`, `FourEyes`, `TimeoutSeconds`,
    `ReminderSeconds`.
    """
    config = services.config
    run_id = new_run_id()
    execution = services("stepfunctions").start_execution(
        stateMachineArn=platform.model_build_arn,
        name=run_id,
        input=json.dumps(
            {
                "RunId": run_id,
                "DatasetUri": upload_dataset(services, platform, dataset),
                "CodeUri": upload_code(services),
                "Commit": current_commit(config.root),
                "StartedBy": started_by(services),
                "Trigger": "person",
                "Approval": dict(approval or {}),
                "AccuracyThreshold": config.accuracy_threshold,
                "HyperParameters": dict(config.hyperparameters),
                "Preprocess": dict(config.preprocess),
                "UseCache": use_cache,
            }
        ),
    )
    arn: str = execution["executionArn"]
    return arn


def started_by(services: Services) -> str:
    """Who starts a run: their mail address as git knows it, or their login, and who they are to AWS.

    Only letters, digits and `_.:/=+-@`: it becomes a property of the model package.
    """
    author = current_author(services.config.root) or getpass.getuser()
    return re.sub(r"[^\w.:/=+\-@ ]", "-", f"{author} {services.caller()}")[:256]


def start_deploy(
    services: Services,
    platform: Platform,
    model_package_arn: str,
    *,
    approval: Mapping[str, Any] | None = None,
) -> str:
    """Start model-deploy by hand for one approved model package; gives the execution's ARN."""
    execution = services("stepfunctions").start_execution(
        stateMachineArn=platform.model_deploy_arn,
        name=new_run_id().replace("r-", "d-", 1),
        input=json.dumps(
            {
                "ModelPackageArn": model_package_arn,
                "StartedBy": started_by(services),
                "Trigger": "person",
                "Approval": dict(approval or {}),
            }
        ),
    )
    arn: str = execution["executionArn"]
    return arn


def new_run_id() -> str:
    """`r-20261123-071500-1a2b`: sorts by time, and fits into a job's name."""
    return f"r-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def list_runs(services: Services, platform: Platform, *, limit: int = 20) -> list[Run]:
    """The latest executions of all state machines, newest first."""
    runs = []
    for machine in platform.state_machines:
        page = services("stepfunctions").list_executions(stateMachineArn=machine, maxResults=limit)
        runs += [
            Run(
                name=execution["name"],
                arn=execution["executionArn"],
                state_machine=machine.rsplit(":", 1)[-1],
                status=execution["status"],
                started=execution["startDate"],
                stopped=execution.get("stopDate"),
            )
            for execution in page["executions"]
        ]
    return sorted(runs, key=lambda run: run.started, reverse=True)[:limit]


def trigger_of(services: Services, run: Run) -> str:
    """What started it, as its input says: `commit 3f1c2d… of models/main`, `new data`, `person`."""
    given = json.loads(services("stepfunctions").describe_execution(executionArn=run.arn).get("input", "{}"))
    return str(given.get("Trigger", "")) if isinstance(given, dict) else ""


def find_run(services: Services, platform: Platform, name: str | None) -> Run:
    """The run of that name or execution ARN, or the one whose name begins so; the latest for None."""
    runs = list_runs(services, platform, limit=1000)
    for run in runs:
        if name is None or name in (run.name, run.arn):
            return run
    begin_so = [run for run in runs if run.name.startswith(name or "")]
    if len(begin_so) == 1:
        return begin_so[0]
    if begin_so:
        raise NotFound(f"{len(begin_so)} runs begin with '{name}': give more of the name.")
    raise NotFound(
        "There are no runs yet." if name is None else f"There is no run '{name}': see `stagegate runs`."
    )


@dataclass(frozen=True, kw_only=True)
class StateEntered:
    name: str
    time: datetime


@dataclass(frozen=True, kw_only=True)
class StateExited:
    """`outcome` is "caught" where a task failed and the state machine has an answer to it."""

    name: str
    seconds: float
    outcome: Literal["succeeded", "caught", "failed"]


@dataclass(frozen=True, kw_only=True)
class TaskStarted:
    """A state's task was handed to a service: the job's name where it has one."""

    state: str
    resource_type: str
    resource: str
    job_name: str


@dataclass(frozen=True, kw_only=True)
class RunEnded:
    status: str
    error: str
    cause: str
    seconds: float


Progress = StateEntered | StateExited | TaskStarted | RunEnded


class History:
    """Reads an execution's history as it grows and turns it into progress."""

    def __init__(self, services: Services, execution_arn: str) -> None:
        self._client = services("stepfunctions")
        self._arn = execution_arn
        self._seen = 0
        self._events: dict[int, dict[str, Any]] = {}
        self._entered: dict[str, datetime] = {}
        self._failed: set[str] = set()
        self.ended = False

    def advance(self) -> Iterator[Progress]:
        """What has happened since the last time."""
        pages = self._client.get_paginator("get_execution_history").paginate(executionArn=self._arn)
        for event in (event for page in pages for event in page["events"]):
            if event["id"] > self._seen:
                self._seen = event["id"]
                self._events[event["id"]] = event
                yield from self._progress(event)

    def _progress(self, event: dict[str, Any]) -> Iterator[Progress]:
        kind = event["type"]
        if kind.endswith("StateEntered"):
            name = event["stateEnteredEventDetails"]["name"]
            self._entered[name] = event["timestamp"]
            self._failed.discard(name)
            yield StateEntered(name=name, time=event["timestamp"])
        elif kind.endswith("StateExited"):
            name = event["stateExitedEventDetails"]["name"]
            yield self._exited(name, event["timestamp"])
        elif kind == "TaskScheduled":
            details = event["taskScheduledEventDetails"]
            parameters = json.loads(details["parameters"])
            yield TaskStarted(
                state=self._state_of(event),
                resource_type=details["resourceType"],
                resource=details["resource"],
                job_name=parameters.get("TrainingJobName") or parameters.get("ProcessingJobName") or "",
            )
        elif kind in (
            "TaskFailed",
            "TaskTimedOut",
            "TaskSubmitFailed",
            "TaskStartFailed",
            "LambdaFunctionFailed",
        ):
            self._failed.add(self._state_of(event))
        elif kind in ("ExecutionSucceeded", "ExecutionFailed", "ExecutionAborted", "ExecutionTimedOut"):
            yield from self._end(event)

    def _end(self, event: dict[str, Any]) -> Iterator[Progress]:
        self.ended = True
        for name in list(self._entered):
            yield self._exited(name, event["timestamp"], ended=True)
        status = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", event["type"].removeprefix("Execution")).upper()
        details = event.get(f"execution{event['type'].removeprefix('Execution')}EventDetails", {})
        yield RunEnded(
            status=status,
            error=details.get("error", ""),
            cause=details.get("cause", ""),
            seconds=(event["timestamp"] - self._events[1]["timestamp"]).total_seconds(),
        )

    def _exited(self, name: str, at: datetime, *, ended: bool = False) -> StateExited:
        seconds = (at - self._entered.pop(name, at)).total_seconds()
        outcome: Literal["succeeded", "caught", "failed"] = "succeeded"
        if ended:
            outcome = "failed"
        elif name in self._failed:
            outcome = "caught"
        return StateExited(name=name, seconds=seconds, outcome=outcome)

    def _state_of(self, event: dict[str, Any]) -> str:
        """The state that a task's event belongs to: the nearest one entered before it on its branch."""
        while not event["type"].endswith("StateEntered"):
            event = self._events[event["previousEventId"]]
        name: str = event["stateEnteredEventDetails"]["name"]
        return name


def follow(services: Services, execution_arn: str) -> Iterator[Progress | None]:
    """The progress of an execution until it has ended; None while nothing new has happened."""
    history = History(services, execution_arn)
    while not history.ended:
        advanced = False
        for progress in history.advance():
            advanced = True
            yield progress
        if not advanced:
            yield None
            time.sleep(_POLL_SECONDS["local" if services.config.is_local else "aws"])
