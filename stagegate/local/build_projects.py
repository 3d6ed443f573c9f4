"""CodeBuild: build projects."""

import shutil
from datetime import UTC, datetime
from typing import Any

from stagegate.local import build_sources
from stagegate.local.build_pages import ordered, page
from stagegate.local.service import AWSError, Runtime, Service

PROJECT = "codebuild/project"
_UNSUPPORTED = ("fileSystemLocations",)

Document = dict[str, Any]


def find_project(runtime: Runtime, name: str) -> Document:
    project = runtime.store.get(PROJECT, name.rsplit("/", 1)[-1])
    if project is None:
        raise AWSError("ResourceNotFoundException", f"Project cannot be found: {_arn(runtime, name)}")
    return project


def check(members: Document) -> None:
    """Refuse by name what no build of a project with these members could do."""
    for name in _UNSUPPORTED:
        if members.get(name):
            raise AWSError("InvalidInputException", f"{name} is not supported by the local runtime")
    if (members.get("logsConfig") or {}).get("s3Logs", {}).get("status") == "ENABLED":
        raise AWSError("InvalidInputException", "logsConfig.s3Logs is not supported by the local runtime")
    if "source" in members:
        build_sources.check(members["source"])
    for source in members.get("secondarySources") or []:
        build_sources.check({"buildspec": "-", **source})
        if not source.get("sourceIdentifier"):
            raise AWSError("InvalidInputException", "A secondary source wants a sourceIdentifier")
    for artifacts in members.get("secondaryArtifacts") or []:
        if not artifacts.get("artifactIdentifier"):
            raise AWSError("InvalidInputException", "Secondary artifacts want an artifactIdentifier")
    cache = members.get("cache") or {}
    if cache.get("type") == "S3" and not cache.get("location"):
        raise AWSError("InvalidInputException", "Invalid cache: location must be a valid S3 bucket")
    if "LOCAL_DOCKER_LAYER_CACHE" in cache.get("modes", []):
        raise AWSError(
            "InvalidInputException",
            "cache.modes: LOCAL_DOCKER_LAYER_CACHE is not supported by the local runtime",
        )


class Projects(Service):
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
        arn = _arn(self.runtime, name)
        if self.runtime.store.get(PROJECT, name) is not None:
            raise AWSError("ResourceAlreadyExistsException", f"Project already exists: {arn}")
        check({"source": source, **rest})
        now = datetime.now(UTC)
        project: Document = {
            "name": name,
            "arn": arn,
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
        check(rest)
        project = find_project(self.runtime, name) | rest | {"lastModified": datetime.now(UTC)}
        if project.get("concurrentBuildLimit") == -1:  # which takes the limit away
            del project["concurrentBuildLimit"]
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
        return page("projects", ordered([project["name"] for project in projects], sortOrder), nextToken)

    def invalidate_project_cache(self, *, projectName: str) -> Document:
        """The local one: what is in a bucket is the bucket's owner's to delete."""
        project = find_project(self.runtime, projectName)
        space = (project.get("cache") or {}).get("cacheNamespace") or project["name"]
        shutil.rmtree(self.runtime.data / "build-cache" / space, ignore_errors=True)
        return {}


def _arn(runtime: Runtime, project: str) -> str:
    return runtime.arn("codebuild", f"project/{project}")
