"""One batch build: the tasks of its buildspec, each a build of its own, in the order that they depend on."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from stagegate.local import build_sources, buildspec, buildspec_batch
from stagegate.local.build_sources import SourceError
from stagegate.local.buildspec import BuildspecError
from stagegate.local.service import AWSError, Runtime

_TIMEOUT_MINUTES = 480

Document = dict[str, Any]
Begun = tuple[Document, Awaitable[Document]]
"""A build, and what gives it again when it has ended."""


class BatchRun:
    """A batch under way. `begin` starts the build of a group, or finds it again; `stop` ends it by its id."""

    def __init__(
        self,
        runtime: Runtime,
        batch: Document,
        *,
        begin: Callable[[Document, Document], Begun],
        stop: Callable[[str], object],
        save: Callable[[Document], None],
    ) -> None:
        self._runtime = runtime
        self.batch = batch
        self._begin = begin
        self._stop = stop
        self._save = save
        self._stopping = asyncio.Event()
        self._running: dict[asyncio.Future[Document], Document] = {}

    def request_stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        """From DOWNLOAD_BATCHSPEC, or from the groups that there are, to the end."""
        try:
            if "buildGroups" not in self.batch:
                self._enter("DOWNLOAD_BATCHSPEC")
                await self._read()
            self._enter("IN_PROGRESS")
            status = await self._builds()
        except (BuildspecError, SourceError, AWSError) as error:
            self._leave("FAILED", message=error.message if isinstance(error, AWSError) else str(error))
            status = "FAILED"
            await self._end_builds()
        self._leave(status)
        self._enter("FAILED" if status == "TIMED_OUT" else status)
        self._leave(status)
        self.batch |= {"buildBatchStatus": status, "complete": True, "endTime": datetime.now(UTC)}
        self._save(self.batch)

    async def _read(self) -> None:
        """The groups, by the buildspec of the source."""
        folder = self._runtime.data / "builds" / self.batch["id"].replace(":", "-")
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        aws, source = self._runtime.aws, self.batch["source"]
        try:
            version = self.batch.get("sourceVersion")
            resolved = await build_sources.fetch(self._runtime, source, version, folder)
            text = await build_sources.buildspec_text(aws, source, folder)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        if resolved is not None:
            self.batch["resolvedSourceVersion"] = resolved
        spec = buildspec.parse(text)
        groups = buildspec_batch.groups(spec.batch)
        self._check(groups)
        self.batch |= {
            "buildGroups": groups,
            "_fast_fails": buildspec_batch.fast_fails(spec.batch or {}),
        }

    def _check(self, groups: list[Document]) -> None:
        restrictions = self.batch["buildBatchConfig"].get("restrictions") or {}
        most = restrictions.get("maximumBuildsAllowed")
        if most and len(groups) > most:
            raise BuildspecError(f"The batch has {len(groups)} builds, where {most} are allowed")
        allowed = restrictions.get("computeTypesAllowed")
        own = self.batch["environment"]["computeType"]
        for group in groups:
            wanted = group["_overrides"].get("computeTypeOverride", own)
            if allowed and wanted not in allowed:
                raise BuildspecError(f"The compute type {wanted} of {group['identifier']} is not allowed")

    async def _builds(self) -> str:
        stop: asyncio.Future[Any] = asyncio.ensure_future(self._stopping.wait())
        minutes = self.batch["buildBatchConfig"].get("timeoutInMins") or _TIMEOUT_MINUTES
        deadline = asyncio.get_running_loop().time() + minutes * 60
        try:
            while True:
                self._begin_ready()
                if not self._running:
                    failed = [group for group in self.batch["buildGroups"] if not _is_passed(group)]
                    return "FAILED" if failed else "SUCCEEDED"
                left = deadline - asyncio.get_running_loop().time()
                done, _ = await asyncio.wait(
                    {stop, *self._running}, timeout=left, return_when=asyncio.FIRST_COMPLETED
                )
                ended = [future for future in self._running if future in done]
                for future in ended:
                    self._ended(self._running.pop(future), future.result())
                if self._stopping.is_set() or not done:
                    await self._end_builds()
                    return "STOPPED" if self._stopping.is_set() else "TIMED_OUT"
                if self._is_failing() and self.batch.get("_fast_fails"):
                    await self._end_builds()
        finally:
            stop.cancel()

    def _begin_ready(self) -> None:
        """Those that wait for nothing any more; none where one that failed ends the others."""
        if self._is_failing() and self.batch.get("_fast_fails"):
            return
        passed = {group["identifier"] for group in self.batch["buildGroups"] if _is_passed(group)}
        under_way = [group["identifier"] for group in self._running.values()]
        for group in self.batch["buildGroups"]:
            summary = group.get("currentBuildSummary")
            is_new = summary is None or summary["buildStatus"] == "IN_PROGRESS"
            if is_new and group["identifier"] not in under_way and set(group["dependsOn"]) <= passed:
                build, ended = self._begin(self.batch, group)
                group["currentBuildSummary"] = _summary(build)
                self._running[asyncio.ensure_future(ended)] = group
                self._save(self.batch)

    def _ended(self, group: Document, build: Document) -> None:
        group["currentBuildSummary"] = _summary(build)
        reports = self.batch.setdefault("reportArns", [])
        reports += [arn for arn in build.get("reportArns", []) if arn not in reports]
        self._save(self.batch)

    async def _end_builds(self) -> None:
        for group in self._running.values():
            self._stop(group["currentBuildSummary"]["arn"].partition("build/")[2])
        for future in list(self._running):
            self._ended(self._running[future], await future)
        self._running.clear()

    def _is_failing(self) -> bool:
        return any(
            not _is_passed(group)
            for group in self.batch["buildGroups"]
            if group.get("currentBuildSummary", {}).get("buildStatus") not in (None, "IN_PROGRESS")
        )

    def _enter(self, phase: str) -> None:
        self._leave("SUCCEEDED")
        self.batch["phases"].append({"phaseType": phase, "startTime": datetime.now(UTC)})
        self.batch["currentPhase"] = phase
        self._save(self.batch)

    def _leave(self, status: str, *, message: str = "") -> None:
        phase, now = self.batch["phases"][-1], datetime.now(UTC)
        if "endTime" in phase:
            return
        phase |= {
            "phaseStatus": status,
            "endTime": now,
            "durationInSeconds": int((now - phase["startTime"]).total_seconds()),
            "contexts": [{"statusCode": "YAML_FILE_ERROR" if message else "", "message": message}],
        }


def _is_passed(group: Document) -> bool:
    """Whether what depends on it may run: it succeeded, or its failure does not count."""
    status = group.get("currentBuildSummary", {}).get("buildStatus", "IN_PROGRESS")
    return bool(status == "SUCCEEDED" or (status != "IN_PROGRESS" and group["ignoreFailure"]))


def _summary(build: Document) -> Document:
    def artifact(entry: Document) -> Document:
        identifier = entry.get("artifactIdentifier")
        return {
            "type": entry.get("type", "NO_ARTIFACTS"),
            "location": entry.get("location", ""),
            **({"identifier": identifier} if identifier else {}),
        }

    return {
        "arn": build["arn"],
        "requestedOn": build["startTime"],
        "buildStatus": build["buildStatus"],
        "primaryArtifact": artifact(build["artifacts"]),
        "secondaryArtifacts": [artifact(entry) for entry in build.get("secondaryArtifacts", [])],
    }
