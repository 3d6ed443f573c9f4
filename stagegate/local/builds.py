"""CodeBuild: projects, builds that really build, and the reports that they leave."""

import asyncio
import os
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from stagegate.local.build_reports import REPORT
from stagegate.local.build_run import BuildRun
from stagegate.local.processes import Processes
from stagegate.local.service import Announcement, AWSError, Runtime, Service

PROJECT = "codebuild/project"
BUILD = "codebuild/build"

_UNSUPPORTED = (
    *("secondarySources", "secondaryArtifacts", "cache", "fileSystemLocations", "buildBatchConfig"),
    *("secondarySourcesOverride", "secondaryArtifactsOverride", "cacheOverride", "buildStatusConfigOverride"),
    *("sourceAuthOverride", "gitCloneDepthOverride", "gitSubmodulesConfigOverride", "debugSessionEnabled"),
)
_PAGE = 100

Document = dict[str, Any]


class CodeBuild(Service):
    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._processes = Processes()
        self._turn = asyncio.Semaphore(os.cpu_count() or 1)
        self._under_way: dict[str, BuildRun] = {}

    async def start(self) -> None:
        """Builds that were under way run again: their processes went with the server."""
        for build in self.runtime.store.list(BUILD):
            if not build["buildComplete"]:
                build["phases"] = build["phases"][:1]
                self._begin(build)

    async def stop(self) -> None:
        await super().stop()
        await self._processes.stop()

    def create_project(
        self,
        *,
        name: str,
        source: Document,
        artifacts: Document,
        environment: Document,
        serviceRole: str,
        **rest: Any,
    ) -> Document:
        if self.runtime.store.get(PROJECT, name) is not None:
            raise AWSError("ResourceAlreadyExistsException", f"Project already exists: {self._arn(name)}")
        _refuse(rest)
        _check_source(source)
        now = datetime.now(UTC)
        project: Document = {
            "name": name,
            "arn": self._arn(name),
            "source": source,
            "artifacts": artifacts,
            "environment": {"environmentVariables": [], **environment},
            "serviceRole": serviceRole,
            "timeoutInMinutes": 60,
            "queuedTimeoutInMinutes": 480,
            "tags": [],
            **rest,
            "created": now,
            "lastModified": now,
        }
        self.runtime.store.put(PROJECT, name, project)
        return {"project": project}

    def update_project(self, *, name: str, **rest: Any) -> Document:
        _refuse(rest)
        if "source" in rest:
            _check_source(rest["source"])
        project = self._project(name) | rest | {"lastModified": datetime.now(UTC)}
        self.runtime.store.put(PROJECT, name, project)
        return {"project": project}

    def delete_project(self, *, name: str) -> Document:
        self.runtime.store.delete(PROJECT, name)
        return {}

    def batch_get_projects(self, *, names: list[str]) -> Document:
        wanted = [name.rsplit("/", 1)[-1] for name in names]
        found = {name: self.runtime.store.get(PROJECT, name) for name in wanted}
        return {
            "projects": [project for project in found.values() if project],
            "projectsNotFound": [name for name, project in found.items() if not project],
        }

    def list_projects(
        self, *, sortBy: str = "NAME", sortOrder: str = "ASCENDING", nextToken: str | None = None
    ) -> Document:
        member = {"NAME": "name", "CREATED_TIME": "created", "LAST_MODIFIED_TIME": "lastModified"}[sortBy]
        projects = sorted(self.runtime.store.list(PROJECT), key=lambda project: project[member])
        return _page("projects", _ordered([project["name"] for project in projects], sortOrder), nextToken)

    def start_build(
        self,
        *,
        projectName: str,
        environmentVariablesOverride: list[Document] | None = None,
        sourceTypeOverride: str | None = None,
        sourceLocationOverride: str | None = None,
        sourceVersion: str | None = None,
        buildspecOverride: str | None = None,
        artifactsOverride: Document | None = None,
        timeoutInMinutesOverride: int | None = None,
        queuedTimeoutInMinutesOverride: int | None = None,
        imageOverride: str | None = None,
        computeTypeOverride: str | None = None,
        environmentTypeOverride: str | None = None,
        privilegedModeOverride: bool | None = None,
        serviceRoleOverride: str | None = None,
        idempotencyToken: str | None = None,
        **rest: Any,
    ) -> Document:
        project = self._project(projectName)
        _refuse(rest, everything=True)
        if idempotencyToken:
            for earlier in self.runtime.store.list(BUILD, prefix=f"{project['name']}:"):
                if earlier.get("_token") == idempotencyToken:
                    return {"build": _public(earlier)}
        source = {
            **project["source"],
            **_given(type=sourceTypeOverride, location=sourceLocationOverride, buildspec=buildspecOverride),
        }
        _check_source(source)
        variables = {
            variable["name"]: variable
            for variable in [
                *project["environment"].get("environmentVariables", []),
                *(environmentVariablesOverride or []),
            ]
        }
        build_id = f"{project['name']}:{uuid.uuid4()}"
        now = datetime.now(UTC)
        build: Document = {
            "id": build_id,
            "arn": self.runtime.arn("codebuild", f"build/{build_id}"),
            "buildNumber": self.runtime.store.next_number(f"codebuild/{project['name']}"),
            "startTime": now,
            "currentPhase": "SUBMITTED",
            "buildStatus": "IN_PROGRESS",
            **_given(sourceVersion=sourceVersion),
            "projectName": project["name"],
            "phases": [{"phaseType": "SUBMITTED", "startTime": now}],
            "source": source,
            "artifacts": self._artifacts(
                artifactsOverride or project["artifacts"], project["name"], build_id
            ),
            "environment": {
                **project["environment"],
                **_given(
                    image=imageOverride,
                    computeType=computeTypeOverride,
                    type=environmentTypeOverride,
                    privilegedMode=privilegedModeOverride,
                ),
                "environmentVariables": list(variables.values()),
            },
            "serviceRole": serviceRoleOverride or project["serviceRole"],
            "logs": self._logs(project, build_id),
            "timeoutInMinutes": timeoutInMinutesOverride or project["timeoutInMinutes"],
            "queuedTimeoutInMinutes": queuedTimeoutInMinutesOverride or project["queuedTimeoutInMinutes"],
            "buildComplete": False,
            "initiator": "stagegate",
            "_token": idempotencyToken,
        }
        self._save(build)
        self._begin(build)
        return {"build": _public(build)}

    def stop_build(self, *, id: str) -> Document:
        build = self._build(id)
        if run := self._under_way.get(build["id"]):
            run.request_stop()
        return {"build": _public(build)}

    def batch_get_builds(self, *, ids: list[str]) -> Document:
        found = {name: self.runtime.store.get(BUILD, name.partition("build/")[2] or name) for name in ids}
        return {
            "builds": [_public(build) for build in found.values() if build],
            "buildsNotFound": [name for name, build in found.items() if not build],
        }

    def list_builds(self, *, sortOrder: str = "DESCENDING", nextToken: str | None = None) -> Document:
        return _page("ids", _ordered(self._ids(), sortOrder), nextToken)

    def list_builds_for_project(
        self, *, projectName: str, sortOrder: str = "DESCENDING", nextToken: str | None = None
    ) -> Document:
        name = self._project(projectName)["name"]
        return _page("ids", _ordered(self._ids(f"{name}:"), sortOrder), nextToken)

    def batch_get_reports(self, *, reportArns: list[str]) -> Document:
        found = {arn: self.runtime.store.get(REPORT, arn) for arn in reportArns}
        return {
            "reports": [_public(report) for report in found.values() if report],
            "reportsNotFound": [arn for arn, report in found.items() if not report],
        }

    def list_reports_for_report_group(
        self,
        *,
        reportGroupArn: str,
        sortOrder: str = "DESCENDING",
        nextToken: str | None = None,
        maxResults: int = _PAGE,
        filter: Document | None = None,
    ) -> Document:
        arns = [
            report["arn"]
            for report in self.runtime.store.list(REPORT)
            if report["reportGroupArn"] == reportGroupArn
            and (filter or {}).get("status", report["status"]) == report["status"]
        ]
        return _page("reports", _ordered(arns, sortOrder), nextToken, maxResults)

    def describe_test_cases(
        self,
        *,
        reportArn: str,
        nextToken: str | None = None,
        maxResults: int = _PAGE,
        filter: Document | None = None,
    ) -> Document:
        report = self.runtime.store.get(REPORT, reportArn)
        if report is None:
            raise AWSError("ResourceNotFoundException", f"Report {reportArn} not found")
        status = (filter or {}).get("status")
        cases = [case for case in report["_cases"] if status in (None, case["status"])]
        return _page("testCases", cases, nextToken, maxResults)

    def _begin(self, build: Document) -> None:
        run = BuildRun(self.runtime, build, processes=self._processes, save=self._save)
        self._under_way[build["id"]] = run

        async def whole() -> None:
            await self.runtime.store.committed()
            try:
                await run.run(self._turn)
            finally:
                del self._under_way[build["id"]]

        self.spawn(whole(), name=f"build {build['id']}")

    def _save(self, build: Document) -> None:
        """Write the build down, and announce a status that is new."""
        before = self.runtime.store.get(BUILD, build["id"])
        self.runtime.store.put(BUILD, build["id"], build)
        if before is not None and before["buildStatus"] == build["buildStatus"]:
            return
        information = {
            "artifact": {
                name: value for name, value in build["artifacts"].items() if name in ("location", "md5sum")
            },
            "build-complete": build["buildComplete"],
            "build-number": build["buildNumber"],
            "build-start-time": build["startTime"].strftime("%b %d, %Y %I:%M:%S %p"),
            "environment": build["environment"],
            "initiator": build["initiator"],
            "logs": {
                "group-name": build["logs"]["groupName"],
                "stream-name": build["logs"]["streamName"],
                "deep-link": build["logs"]["deepLink"],
            },
            "phases": [_announced(phase) for phase in build["phases"]],
            "source": build["source"],
            "timeout-in-minutes": build["timeoutInMinutes"],
        }
        self.runtime.announce(
            Announcement(
                source="aws.codebuild",
                detail_type="CodeBuild Build State Change",
                detail={
                    "build-status": build["buildStatus"],
                    "project-name": build["projectName"],
                    "build-id": build["arn"],
                    "current-phase": build["currentPhase"],
                    "current-phase-context": "[]",
                    "version": "1",
                    "additional-information": information,
                },
                resources=(build["arn"],),
            )
        )

    def _artifacts(self, artifacts: Document, project: str, build_id: str) -> Document:
        """Where the artifacts go: `location` is what the API gives, `_uri` where they are written."""
        if artifacts.get("type", "NO_ARTIFACTS") != "S3":
            return {"location": "", **artifacts}
        bucket, name = artifacts["location"], artifacts.get("name") or project
        middle = build_id.partition(":")[2] if artifacts.get("namespaceType") == "BUILD_ID" else ""
        parts = [part.strip("/") for part in (artifacts.get("path", ""), middle, name)]
        key = "/".join(part for part in parts if part)
        return {**artifacts, "location": f"arn:aws:s3:::{bucket}/{key}", "_uri": f"s3://{bucket}/{key}"}

    def _logs(self, project: Document, build_id: str) -> Document:
        given = project.get("logsConfig", {}).get("cloudWatchLogs", {})
        group = given.get("groupName") or f"/aws/codebuild/{project['name']}"
        prefix, stream = given.get("streamName"), build_id.partition(":")[2]
        stream = f"{prefix}/{stream}" if prefix else stream
        return {
            "groupName": group,
            "streamName": stream,
            "deepLink": f"{self.runtime.endpoint_url}/_stagegate/logs{group}/{stream}",
            "cloudWatchLogs": {"status": "ENABLED"},
            "cloudWatchLogsArn": self.runtime.arn("logs", f"log-group:{group}:log-stream:{stream}"),
        }

    def _project(self, name: str) -> Document:
        project = self.runtime.store.get(PROJECT, name.rsplit("/", 1)[-1])
        if project is None:
            raise AWSError("ResourceNotFoundException", f"Project cannot be found: {self._arn(name)}")
        return project

    def _build(self, build_id: str) -> Document:
        build = self.runtime.store.get(BUILD, build_id.partition("build/")[2] or build_id)
        if build is None:
            raise AWSError("ResourceNotFoundException", f"Build {build_id} does not exist")
        return build

    def _ids(self, prefix: str = "") -> list[str]:
        return [build["id"] for build in self.runtime.store.list(BUILD, prefix=prefix)]

    def _arn(self, project: str) -> str:
        return self.runtime.arn("codebuild", f"project/{project}")


def _refuse(members: Document, *, everything: bool = False) -> None:
    for name, value in members.items():
        if value and (everything or name in _UNSUPPORTED):
            if name == "cache" and value.get("type") == "NO_CACHE":
                continue
            raise AWSError("InvalidInputException", f"{name} is not supported by the local runtime")


def _check_source(source: Document) -> None:
    if source["type"] not in ("S3", "NO_SOURCE"):
        raise AWSError(
            "InvalidInputException",
            f"Source type {source['type']} is not supported by the local runtime; S3 and NO_SOURCE are",
        )
    if source["type"] == "NO_SOURCE" and not source.get("buildspec"):
        raise AWSError("InvalidInputException", "Source type NO_SOURCE wants a buildspec")
    if source["type"] == "S3" and "/" not in source.get("location", ""):
        raise AWSError("InvalidInputException", "Invalid project source: location must be a valid S3 source")


def _given(**members: Any) -> Document:
    return {name: value for name, value in members.items() if value is not None}


def _announced(phase: Document) -> Document:
    names = {
        "phaseType": "phase-type",
        "phaseStatus": "phase-status",
        "durationInSeconds": "duration-in-seconds",
    }
    return {words: phase[name] for name, words in names.items() if name in phase}


def _public(document: Document) -> Document:
    """Without what is only for us."""
    return {
        name: {inner: entry for inner, entry in value.items() if inner[0] != "_"}
        if isinstance(value, dict)
        else value
        for name, value in document.items()
        if name[0] != "_"
    }


def _ordered(values: Iterable[Any], order: str) -> list[Any]:
    return list(values) if order == "ASCENDING" else list(values)[::-1]


def _page(member: str, values: list[Any], token: str | None, size: int = _PAGE) -> Document:
    start = int(token) if token else 0
    answer: Document = {member: values[start : start + size]}
    if start + size < len(values):
        answer["nextToken"] = str(start + size)
    return answer
