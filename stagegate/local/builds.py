"""CodeBuild: builds that really build."""

import asyncio
import os
import shutil
from typing import Any

from stagegate.local import build_events
from stagegate.local.build_batch_run import Begun
from stagegate.local.build_batches import BuildBatches
from stagegate.local.build_pages import ordered, page, public
from stagegate.local.build_projects import PROJECT, Projects, find_project
from stagegate.local.build_report_groups import Reports
from stagegate.local.build_requests import new_build
from stagegate.local.build_run import BuildRun
from stagegate.local.processes import Processes
from stagegate.local.service import AWSError, Runtime

BUILD = "codebuild/build"

Document = dict[str, Any]


class CodeBuild(Projects, Reports, BuildBatches):
    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._processes = Processes()
        self._turn = asyncio.Semaphore(os.cpu_count() or 1)
        self._under_way: dict[str, BuildRun] = {}
        self._ends: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Builds that were under way run again: their processes went with the server."""
        await super().start()
        for build in self.runtime.store.list(BUILD):
            if not build["buildComplete"]:
                build["phases"] = build["phases"][:1]
                for what in ("exportedEnvironmentVariables", "reportArns"):
                    build.pop(what, None)
                self._begin(build)
        self.resume_batches()

    async def stop(self) -> None:
        await super().stop()
        await self._processes.stop()

    def start_build(self, *, projectName: str, idempotencyToken: str | None = None, **rest: Any) -> Document:
        project = find_project(self.runtime, projectName)
        if idempotencyToken:
            for earlier in self.runtime.store.list(BUILD, prefix=f"{project['name']}:"):
                if earlier.get("_token") == idempotencyToken:
                    return {"build": public(earlier)}
        fate = self.runtime.fate("codebuild", "StartBuild", {"projectName": projectName, **rest})
        build = self._new(project, rest, {"_token": idempotencyToken, **fate})
        return {"build": public(build)}

    def retry_build(self, *, id: str, idempotencyToken: str | None = None) -> Document:
        build = self._build(id)
        if not build["buildComplete"]:
            raise AWSError("InvalidInputException", f"Build {id} is in progress, and can't be retried")
        return self.start_build(
            projectName=build["projectName"], idempotencyToken=idempotencyToken, **build.get("_overrides", {})
        )

    def stop_build(self, *, id: str) -> Document:
        build = self._build(id)
        if run := self._under_way.get(build["id"]):
            run.request_stop()
        return {"build": public(build)}

    def batch_get_builds(self, *, ids: list[str]) -> Document:
        found = {name: self.runtime.store.get(BUILD, name.partition("build/")[2] or name) for name in ids}
        return {
            "builds": [public(build) for build in found.values() if build],
            "buildsNotFound": [name for name, build in found.items() if not build],
        }

    async def batch_delete_builds(self, *, ids: list[str]) -> Document:
        """Those that have ended, each with its folder."""
        deleted, kept = [], []
        for name in ids:
            build = self.runtime.store.get(BUILD, name.partition("build/")[2] or name)
            if build is None or not build["buildComplete"]:
                kept.append({"id": name, "statusCode": "BUILD_IN_PROGRESS" if build else "BUILD_NOT_FOUND"})
                continue
            self.runtime.store.delete(BUILD, build["id"])
            deleted.append(build["arn"])
            folder = self.runtime.data / "builds" / build["id"].replace(":", "-")
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return {"buildsDeleted": deleted, "buildsNotDeleted": kept}

    def list_builds(self, *, sortOrder: str = "DESCENDING", nextToken: str | None = None) -> Document:
        return page("ids", ordered(self._ids(), sortOrder), nextToken)

    def list_builds_for_project(
        self, *, projectName: str, sortOrder: str = "DESCENDING", nextToken: str | None = None
    ) -> Document:
        name = find_project(self.runtime, projectName)["name"]
        return page("ids", ordered(self._ids(f"{name}:"), sortOrder), nextToken)

    def begin_build_of_batch(self, batch: Document, group: Document) -> Begun:
        attempt = len(group.get("priorBuildSummaryList", []))
        token = f"{batch['id']}/{group['identifier']}/{attempt}"
        build = next(
            (
                build
                for build in self.runtime.store.list(BUILD, prefix=f"{batch['projectName']}:")
                if build.get("_token") == token
            ),
            None,
        )
        if build is None:
            project = find_project(self.runtime, batch["projectName"])
            given: list[Document] = batch["_overrides"].get("environmentVariablesOverride", [])
            overrides = {
                **batch["_overrides"],
                **group["_overrides"],
                "environmentVariablesOverride": [*given, *group["_variables"]],
            }
            members = {
                "buildBatchArn": batch["arn"],
                "_identifier": group["identifier"],
                "_token": token,
            }
            build = self._new(project, overrides, members)
        return build, self._end(build["id"])

    async def _end(self, build_id: str) -> Document:
        """The build as it is when it has ended."""
        if task := self._ends.get(build_id):
            await asyncio.wait({task})
        return self._build(build_id)

    def _new(self, project: Document, overrides: Document, members: Document) -> Document:
        """Write a new build down, and begin it."""
        limit = project.get("concurrentBuildLimit")
        active = [run for run in self._under_way.values() if run.build["projectName"] == project["name"]]
        if limit and len(active) >= limit:
            raise AWSError(
                "AccountLimitExceededException",
                f"Cannot have more than {limit} builds in queue for the project {project['name']}",
            )
        build = new_build(self.runtime, project, overrides) | members
        self._save(build)
        self._begin(build)
        return build

    def _begin(self, build: Document) -> None:
        role = self.runtime.as_role(
            build["serviceRole"], session=f"AWSCodeBuild-{build['id'].rpartition(':')[2]}"
        )
        run = BuildRun(role, build, processes=self._processes, save=self._save)
        self._under_way[build["id"]] = run

        async def whole() -> None:
            await self.runtime.store.committed()
            try:
                await run.run(self._turn)
            finally:
                del self._under_way[build["id"]]
                del self._ends[build["id"]]
            self._retry(run)

        self._ends[build["id"]] = self.spawn(whole(), name=f"build {build['id']}")

    def _retry(self, run: BuildRun) -> None:
        """Start a failed build again, as often as its project or its buildspec says ("Retry builds
        automatically")."""
        build = run.build
        limit = run.retries or build.get("_retries", 0)
        earlier = build.get("autoRetryConfig", {})
        number = earlier.get("autoRetryNumber", 0)
        if build["buildStatus"] != "FAILED" or number >= limit or "buildBatchArn" in build:
            return
        config = {"autoRetryLimit": limit, "autoRetryNumber": number + 1, "previousAutoRetry": build["arn"]}
        if (project := self.runtime.store.get(PROJECT, build["projectName"])) is None:
            return  # it has been deleted meanwhile
        again = self._new(project, build["_overrides"], {"autoRetryConfig": config})
        ours = {"autoRetryLimit": limit, "autoRetryNumber": number, **earlier, "nextAutoRetry": again["arn"]}
        build["autoRetryConfig"] = ours
        self._save(build)

    def _save(self, build: Document) -> None:
        """Write the build down, and announce what is new."""
        before = self.runtime.store.get(BUILD, build["id"])
        self.runtime.store.put(BUILD, build["id"], build)
        for announcement in build_events.announcements(before, build):
            self.runtime.announce(announcement)

    def _build(self, build_id: str) -> Document:
        build = self.runtime.store.get(BUILD, build_id.partition("build/")[2] or build_id)
        if build is None:
            raise AWSError("ResourceNotFoundException", f"Build {build_id} does not exist")
        return build

    def _ids(self, prefix: str = "") -> list[str]:
        builds = self.runtime.store.list(BUILD, prefix=prefix)
        return [build["id"] for build in sorted(builds, key=lambda build: build["startTime"])]
