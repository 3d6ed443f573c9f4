"""SageMaker's hyperparameter tuning jobs, as operations; `tuning_run.py` runs them, by training jobs.

https://docs.aws.amazon.com/sagemaker/latest/dg/automatic-model-tuning.html
"""

import secrets
from datetime import UTC, datetime
from typing import Any

from stagegate.local.sagemaker.job_run import announce
from stagegate.local.sagemaker.resources import (
    TUNED,
    Document,
    check_name,
    invalid,
    order,
    page,
    pick,
    put_tags,
    select,
)
from stagegate.local.sagemaker.tuning_definitions import check
from stagegate.local.sagemaker.tuning_records import (
    ENDED,
    TUNING,
    described,
    heard,
    objective,
    summary,
    training_jobs,
)
from stagegate.local.sagemaker.tuning_run import TuningRun
from stagegate.local.service import Announcement, AWSError, Runtime, Service

_NAME = r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,31}"
_SUMMARY = (
    *(TUNING.name, TUNING.arn, TUNING.status, "Strategy", "CreationTime", "HyperParameterTuningEndTime"),
    *("LastModifiedTime", "TrainingJobStatusCounters", "ObjectiveStatusCounters", "ResourceLimits"),
)


class TuningJobs(Service):
    """Hyperparameter tuning jobs."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._under_way: dict[str, TuningRun] = {}
        runtime.listeners.append(self._hear)

    async def start(self) -> None:
        """Those that were under way go on: their training jobs do too."""
        for document in self.runtime.store.list(TUNING.store):
            if document[TUNING.status] not in ENDED:
                self._begin(document[TUNING.name])

    def create_hyper_parameter_tuning_job(
        self,
        *,
        HyperParameterTuningJobName: str,
        HyperParameterTuningJobConfig: Document,
        Tags: list[dict[str, str]] | None = None,
        **given: Any,
    ) -> Document:
        name, store = HyperParameterTuningJobName, self.runtime.store
        check_name(name, member="hyperParameterTuningJobName", pattern=_NAME)
        check({"HyperParameterTuningJobConfig": HyperParameterTuningJobConfig, **given})
        arn = self.runtime.arn("sagemaker", f"{TUNING.resource}/{name}")
        if store.get(TUNING.store, name) is not None:
            raise AWSError(
                "ResourceInUse",
                "Hyper parameter tuning job names must be unique within an AWS account and region, and a "
                f"hyper parameter tuning job with this name already exists ({arn})",
            )
        now = datetime.now(UTC)
        seed = HyperParameterTuningJobConfig.get("RandomSeed")
        document: Document = {
            TUNING.name: name,
            TUNING.arn: arn,
            "HyperParameterTuningJobConfig": HyperParameterTuningJobConfig,
            **pick(given, ("TrainingJobDefinition", "TrainingJobDefinitions")),
            TUNING.status: "InProgress",
            "CreationTime": now,
            "LastModifiedTime": now,
            "_Seed": secrets.randbits(31) if seed is None else seed,
            "_Tags": Tags or [],
        }
        put_tags(store, arn, Tags)
        store.put(TUNING.store, name, document)
        announce(self.runtime, TUNING, described(document, []))
        self._begin(name)
        return {TUNING.arn: arn}

    def describe_hyper_parameter_tuning_job(self, *, HyperParameterTuningJobName: str) -> Document:
        return self._described(self._document(HyperParameterTuningJobName))

    def list_hyper_parameter_tuning_jobs(
        self,
        *,
        CreationTimeAfter: datetime | None = None,
        CreationTimeBefore: datetime | None = None,
        LastModifiedTimeAfter: datetime | None = None,
        LastModifiedTimeBefore: datetime | None = None,
        NameContains: str | None = None,
        StatusEquals: str | None = None,
        SortBy: str = "Name",
        SortOrder: str = "Ascending",
        NextToken: str | None = None,
        MaxResults: int | None = None,
    ) -> Document:
        found = select(
            self.runtime.store.list(TUNING.store),
            name=TUNING.name,
            contains=NameContains,
            created_after=CreationTimeAfter,
            created_before=CreationTimeBefore,
            modified_after=LastModifiedTimeAfter,
            modified_before=LastModifiedTimeBefore,
            equal={TUNING.status: StatusEquals},
        )
        by = {"Name": TUNING.name, "Status": TUNING.status}.get(SortBy, SortBy)
        answer = page(
            order(found, by=by, descending=SortOrder == "Descending"),
            member="HyperParameterTuningJobSummaries",
            token=NextToken,
            size=MaxResults,
        )
        member = "HyperParameterTuningJobSummaries"
        return {**answer, member: [self._summary(document) for document in answer[member]]}

    def list_training_jobs_for_hyper_parameter_tuning_job(
        self,
        *,
        HyperParameterTuningJobName: str,
        StatusEquals: str | None = None,
        SortBy: str = "Name",
        SortOrder: str = "Ascending",
        NextToken: str | None = None,
        MaxResults: int | None = None,
    ) -> Document:
        self._document(HyperParameterTuningJobName)
        found = [
            record
            for record in training_jobs(self.runtime.store, HyperParameterTuningJobName)
            if "TrainingJobStatus" in record
            and (StatusEquals is None or record["TrainingJobStatus"] == StatusEquals)
        ]
        if SortBy == "FinalObjectiveMetricValue":  # those without are not listed, says AWS
            found = [
                {**record, SortBy: objective(record)} for record in found if objective(record) is not None
            ]
        by = {"Name": "TrainingJobName", "Status": "TrainingJobStatus"}.get(SortBy, SortBy)
        ordered = order(found, by=by, descending=SortOrder == "Descending")
        return page(
            [summary(record) for record in ordered],
            member="TrainingJobSummaries",
            token=NextToken,
            size=MaxResults,
        )

    def stop_hyper_parameter_tuning_job(self, *, HyperParameterTuningJobName: str) -> Document:
        """The tuning job and the training jobs that it has launched."""
        document = self._document(HyperParameterTuningJobName)
        if document[TUNING.status] in ENDED:
            raise _in_status(document)
        if document[TUNING.status] != "Stopping":
            document |= {TUNING.status: "Stopping", "LastModifiedTime": datetime.now(UTC)}
            self.runtime.store.put(TUNING.store, HyperParameterTuningJobName, document)
            announce(self.runtime, TUNING, self._described(document))
            self._wake(HyperParameterTuningJobName)
        return {}

    def delete_hyper_parameter_tuning_job(self, *, HyperParameterTuningJobName: str) -> Document:
        """Only the entry: its training jobs stay."""
        document = self._document(HyperParameterTuningJobName)
        if document[TUNING.status] not in ENDED:
            raise _in_status(document)
        store = self.runtime.store
        for record in training_jobs(store, HyperParameterTuningJobName):
            store.delete(TUNED, record["TrainingJobName"])
        store.delete(TUNING.store, HyperParameterTuningJobName)
        put_tags(store, document[TUNING.arn], None)
        return {}

    def _hear(self, announcement: Announcement) -> None:
        if announcement.detail_type != "SageMaker Training Job State Change":
            return
        name = announcement.detail["TrainingJobName"]
        if (record := self.runtime.store.get(TUNED, name)) is not None:
            self.runtime.store.put(TUNED, name, heard(record, announcement.detail))
            self._wake(record["TuningJobName"])

    def _wake(self, name: str) -> None:
        if (run := self._under_way.get(name)) is not None:
            run.wake()

    def _begin(self, name: str) -> None:
        run = self._under_way[name] = TuningRun(self.runtime, name)

        async def whole() -> None:
            try:
                await run.run()
            finally:
                del self._under_way[name]

        self.spawn(whole(), name=f"{TUNING.resource} {name}")

    def _described(self, document: Document) -> Document:
        return described(document, training_jobs(self.runtime.store, document[TUNING.name]))

    def _summary(self, document: Document) -> Document:
        config = document["HyperParameterTuningJobConfig"]
        return pick({**self._described(document), **pick(config, ("Strategy", "ResourceLimits"))}, _SUMMARY)

    def _document(self, name: str) -> Document:
        document = self.runtime.store.get(TUNING.store, name)
        if document is None:
            raise AWSError("ResourceNotFound", "Requested resource not found.")
        return document


def _in_status(document: Document) -> AWSError:
    status = document[TUNING.status]
    return invalid(f"The request was rejected because the hyperparameter tuning job is in status {status}.")
