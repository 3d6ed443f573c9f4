"""CodeBuild: batch builds."""

import uuid
from abc import abstractmethod
from datetime import UTC, datetime
from typing import Any

from stagegate.local.build_batch_run import BatchRun, Begun
from stagegate.local.build_pages import PAGE, ordered, page, public
from stagegate.local.build_projects import find_project
from stagegate.local.build_requests import effective
from stagegate.local.service import AWSError, Runtime, Service

BATCH = "codebuild/build-batch"
_NO_RETRY = "Only batch builds that have failed can be retried"

Document = dict[str, Any]


class BuildBatches(Service):
    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._batches_under_way: dict[str, BatchRun] = {}

    @abstractmethod
    def begin_build_of_batch(self, batch: Document, group: Document) -> Begun:
        """Start the build of a group, or find it again where a restart came between."""

    @abstractmethod
    def stop_build(self, *, id: str) -> Document: ...

    def resume_batches(self) -> None:
        for batch in self.runtime.store.list(BATCH):
            if not batch["complete"]:
                self._begin_batch(batch)

    def start_build_batch(
        self,
        *,
        projectName: str,
        buildBatchConfigOverride: Document | None = None,
        buildTimeoutInMinutesOverride: int | None = None,
        idempotencyToken: str | None = None,
        **rest: Any,
    ) -> Document:
        project = find_project(self.runtime, projectName)
        for earlier in self.runtime.store.list(BATCH, prefix=f"{project['name']}:"):
            if idempotencyToken and earlier["_token"] == idempotencyToken:
                return {"buildBatch": public(earlier)}
        config = {**project.get("buildBatchConfig", {}), **(buildBatchConfigOverride or {})}
        if not config.get("serviceRole"):
            raise AWSError(
                "InvalidInputException", "A batch build wants a buildBatchConfig with a serviceRole"
            )
        if config.get("combineArtifacts"):
            raise AWSError("InvalidInputException", "combineArtifacts is not supported by the local runtime")
        if buildTimeoutInMinutesOverride is not None:
            rest["timeoutInMinutesOverride"] = buildTimeoutInMinutesOverride
        wanted = effective(project, rest)
        batch_id, now = f"{project['name']}:{uuid.uuid4()}", datetime.now(UTC)
        members = ("sourceVersion", "secondarySources", "secondarySourceVersions", "cache", "encryptionKey")
        batch: Document = {
            "id": batch_id,
            "arn": self.runtime.arn("codebuild", f"build-batch/{batch_id}"),
            "startTime": now,
            "currentPhase": "SUBMITTED",
            "buildBatchStatus": "IN_PROGRESS",
            **{name: wanted[name] for name in members if wanted.get(name)},
            "projectName": project["name"],
            "phases": [{"phaseType": "SUBMITTED", "startTime": now}],
            "source": wanted["source"],
            "artifacts": {"location": ""},
            "environment": wanted["environment"],
            "serviceRole": wanted["serviceRole"],
            "buildTimeoutInMinutes": wanted["timeoutInMinutes"],
            "queuedTimeoutInMinutes": wanted["queuedTimeoutInMinutes"],
            "complete": False,
            "initiator": "stagegate",
            "buildBatchNumber": self.runtime.store.next_number(f"codebuild-batch/{project['name']}"),
            "buildBatchConfig": config,
            "_overrides": rest,
            "_token": idempotencyToken,
        }
        self._save_batch(batch)
        self._begin_batch(batch)
        return {"buildBatch": public(batch)}

    def retry_build_batch(
        self, *, id: str, retryType: str = "RETRY_FAILED_BUILDS", idempotencyToken: str | None = None
    ) -> Document:
        """In the same batch: what was built is what was built before."""
        batch = self._batch(id)
        if batch["buildBatchStatus"] not in ("FAILED", "FAULT", "TIMED_OUT", "STOPPED"):
            raise AWSError("InvalidInputException", f"{_NO_RETRY}: {id} is {batch['buildBatchStatus']}")
        for group in batch.get("buildGroups", []):
            summary = group.get("currentBuildSummary")
            if summary and (retryType == "RETRY_ALL_BUILDS" or summary["buildStatus"] != "SUCCEEDED"):
                group.setdefault("priorBuildSummaryList", []).append(group.pop("currentBuildSummary"))
        batch |= {"buildBatchStatus": "IN_PROGRESS", "complete": False, "currentPhase": "SUBMITTED"}
        batch["phases"] = [{"phaseType": "SUBMITTED", "startTime": datetime.now(UTC)}]
        batch.pop("endTime", None)
        self._save_batch(batch)
        self._begin_batch(batch)
        return {"buildBatch": public(batch)}

    def stop_build_batch(self, *, id: str) -> Document:
        batch = self._batch(id)
        if run := self._batches_under_way.get(batch["id"]):
            run.request_stop()
        return {"buildBatch": public(batch)}

    async def delete_build_batch(self, *, id: str) -> Document:
        """With its builds."""
        batch = self._batch(id)
        if not batch["complete"]:
            raise AWSError("InvalidInputException", f"Build batch {id} is in progress, and can't be deleted")
        summaries = [
            summary
            for group in batch.get("buildGroups", [])
            for summary in [*group.get("priorBuildSummaryList", []), group.get("currentBuildSummary")]
            if summary
        ]
        answer: Document = {"buildsDeleted": [], "buildsNotDeleted": []}
        if summaries:
            ids = [summary["arn"] for summary in summaries]
            answer = await self.runtime.aws("codebuild", "BatchDeleteBuilds", {"ids": ids})
        self.runtime.store.delete(BATCH, batch["id"])
        return {"statusCode": "SUCCESS", **answer}

    def batch_get_build_batches(self, *, ids: list[str]) -> Document:
        found = {name: self.runtime.store.get(BATCH, _id(name)) for name in ids}
        return {
            "buildBatches": [public(batch) for batch in found.values() if batch],
            "buildBatchesNotFound": [name for name, batch in found.items() if not batch],
        }

    def list_build_batches(
        self,
        *,
        filter: Document | None = None,
        maxResults: int = PAGE,
        sortOrder: str = "DESCENDING",
        nextToken: str | None = None,
    ) -> Document:
        return page("ids", ordered(self._batch_ids("", filter), sortOrder), nextToken, maxResults)

    def list_build_batches_for_project(
        self,
        *,
        projectName: str,
        filter: Document | None = None,
        maxResults: int = PAGE,
        sortOrder: str = "DESCENDING",
        nextToken: str | None = None,
    ) -> Document:
        prefix = f"{find_project(self.runtime, projectName)['name']}:"
        return page("ids", ordered(self._batch_ids(prefix, filter), sortOrder), nextToken, maxResults)

    def _begin_batch(self, batch: Document) -> None:
        run = BatchRun(
            self.runtime.as_role(
                batch["serviceRole"], session=f"AWSCodeBuild-{batch['id'].rpartition(':')[2]}"
            ),
            batch,
            begin=self.begin_build_of_batch,
            stop=lambda build_id: self.stop_build(id=build_id),
            save=self._save_batch,
        )
        self._batches_under_way[batch["id"]] = run

        async def whole() -> None:
            await self.runtime.store.committed()
            try:
                await run.run()
            finally:
                del self._batches_under_way[batch["id"]]

        self.spawn(whole(), name=f"build batch {batch['id']}")

    def _save_batch(self, batch: Document) -> None:
        self.runtime.store.put(BATCH, batch["id"], batch)

    def _batch(self, batch_id: str) -> Document:
        batch = self.runtime.store.get(BATCH, _id(batch_id))
        if batch is None:
            raise AWSError("ResourceNotFoundException", f"Build batch {batch_id} does not exist")
        return batch

    def _batch_ids(self, prefix: str, filter: Document | None) -> list[str]:
        status = (filter or {}).get("status")
        batches = [
            batch
            for batch in self.runtime.store.list(BATCH, prefix=prefix)
            if status in (None, batch["buildBatchStatus"])
        ]
        return [batch["id"] for batch in sorted(batches, key=lambda batch: batch["startTime"])]


def _id(name: str) -> str:
    return name.partition("build-batch/")[2] or name
