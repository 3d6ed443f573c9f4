"""Builds of CodeBuild, as CodeBuild and CloudWatch Logs have them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from stagegate.aws import Services, error_code
from stagegate.errors import NotFound
from stagegate.job_logs import LogLine, end_of, line_of, without_log
from stagegate.jobs import JobSummary

KIND = "build"
_AT_ONCE = 100
"""How many builds and reports AWS describes in one call."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    name: str
    status: str
    """"" while it goes on."""
    started: datetime
    seconds: float | None
    said: str
    """Why it failed, where it did."""


@dataclass(frozen=True, kw_only=True)
class Variable:
    """`kind`: PLAINTEXT, PARAMETER_STORE or SECRETS_MANAGER; of the latter the value is a name."""

    name: str
    kind: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a test report comes to: how many cases ended how."""

    name: str
    status: str
    total: int
    counts: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Build:
    id: str
    arn: str
    project: str
    status: str
    phase: str
    """The one that goes on; "" once it is over."""
    started: datetime
    ended: datetime | None
    initiator: str
    source: str
    source_version: str
    image: str
    phases: tuple[Phase, ...]
    variables: tuple[Variable, ...]
    exported: dict[str, str]
    report_arns: tuple[str, ...]
    log_group: str
    """"" until there is a log."""
    log_stream: str

    @property
    def is_over(self) -> bool:
        return self.ended is not None

    @property
    def seconds(self) -> float:
        return ((self.ended or datetime.now(UTC)) - self.started).total_seconds()

    @property
    def failure_reason(self) -> str:
        return "; ".join(phase.said for phase in self.phases if phase.said)


def find_build(services: Services, build_id: str) -> Build:
    """Raises NotFound."""
    try:
        found = services("codebuild").batch_get_builds(ids=[build_id])["builds"]
    except ClientError as error:
        if error_code(error) != "InvalidInputException":
            raise
        found = []
    if not found:
        raise NotFound(f"There is no build '{build_id}'.")
    return _build(found[0])


def list_builds(services: Services, *, limit: int = 50) -> list[JobSummary]:
    """The latest, the newest first."""
    codebuild = services("codebuild")
    ids = codebuild.list_builds(sortOrder="DESCENDING")["ids"][: min(limit, _AT_ONCE)]
    builds = codebuild.batch_get_builds(ids=ids)["builds"] if ids else []
    return [
        JobSummary(
            kind=KIND,
            name=build["id"],
            status=build["buildStatus"],
            created=build["startTime"],
            ended=build.get("endTime"),
        )
        for build in builds
    ]


def reports_of(services: Services, build: Build) -> list[Report]:
    """The test reports that there are so far."""
    if not build.report_arns:
        return []
    found = services("codebuild").batch_get_reports(reportArns=list(build.report_arns[:_AT_ONCE]))["reports"]
    return [
        Report(
            name=report["name"],
            status=report["status"],
            total=report["testSummary"]["total"],
            counts={name: count for name, count in report["testSummary"]["statusCounts"].items() if count},
        )
        for report in found
        if "testSummary" in report
    ]


def build_log_tail(services: Services, build: Build, *, lines: int = 200) -> list[LogLine]:
    """Its last lines; none while there is no log."""
    with without_log():
        return end_of(services, build.log_group, build.log_stream, lines=lines) if build.log_stream else []
    return []


def build_log(services: Services, build: Build) -> Iterator[LogLine]:
    """All of its log, read as it is asked for."""
    if not build.log_stream:
        return
    pages = services("logs").get_paginator("filter_log_events")
    with without_log():
        for page in pages.paginate(logGroupName=build.log_group, logStreamNames=[build.log_stream]):
            yield from map(line_of, page["events"])


def _build(build: Mapping[str, Any]) -> Build:
    environment, source, logs = build["environment"], build["source"], build.get("logs", {})
    is_over = build.get("buildComplete", False)
    return Build(
        id=build["id"],
        arn=build["arn"],
        project=build["projectName"],
        status=build["buildStatus"],
        phase="" if is_over else build.get("currentPhase", ""),
        started=build["startTime"],
        ended=build.get("endTime") if is_over else None,
        initiator=build.get("initiator", ""),
        source=source.get("location", source["type"]),
        source_version=build.get("resolvedSourceVersion") or build.get("sourceVersion", ""),
        image=environment["image"],
        phases=tuple(_phase(phase) for phase in build.get("phases", ())),
        variables=tuple(
            Variable(name=it["name"], kind=it.get("type", "PLAINTEXT"), value=it["value"])
            for it in environment.get("environmentVariables", ())
        ),
        exported={it["name"]: it.get("value", "") for it in build.get("exportedEnvironmentVariables", ())},
        report_arns=tuple(build.get("reportArns", ())),
        log_group=logs.get("groupName", ""),
        log_stream=logs.get("streamName", ""),
    )


def _phase(phase: Mapping[str, Any]) -> Phase:
    status = phase.get("phaseStatus", "")
    said = [
        ": ".join(text for text in (context.get("statusCode"), context.get("message")) if text)
        for context in phase.get("contexts", ())
    ]
    return Phase(
        name=phase["phaseType"],
        status=status,
        started=phase["startTime"],
        seconds=phase.get("durationInSeconds"),
        said="" if status == "SUCCEEDED" else "; ".join(text for text in said if text),
    )
