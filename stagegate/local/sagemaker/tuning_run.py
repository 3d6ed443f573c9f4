"""A tuning job under way: launches training jobs, looks at what came of them, and ends.

All it knows is in the store, so that after a restart it goes on where it was: a training job is written
down under its name before it is created, and created again only when its creation was never announced.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

from stagegate.local.sagemaker import tuning_search as search
from stagegate.local.sagemaker.job_run import INTERNAL, announce
from stagegate.local.sagemaker.resources import OBJECTIVES, TUNED, Document
from stagegate.local.sagemaker.tuning_definitions import Definition, definitions_of, number_of_jobs
from stagegate.local.sagemaker.tuning_records import (
    TUNING,
    best,
    described,
    is_under_way,
    not_improving,
    objective,
    training_jobs,
)
from stagegate.local.service import AWSError, Runtime

_LOGGER = logging.getLogger(__name__)
_ATTEMPTS = 5  # without one that succeeds, after which SageMaker gives up
_REASON = 1024
_LOOK_SECONDS = 0.5  # between two looks at what the training jobs print, where they may be stopped early


class TuningRun:
    """`run` ends when the tuning job has; where it is cancelled, it goes on with the next server."""

    def __init__(self, runtime: Runtime, name: str) -> None:
        self.runtime, self.name = runtime, name
        self._store = runtime.store
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Something has changed: a training job, or what is asked of the tuning job."""
        self._news.set()

    async def run(self) -> None:
        await self._store.committed()
        while not await self._step_or_fail():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._seconds_left()):
                    await self._news.wait()
            self._news.clear()

    async def _step_or_fail(self) -> bool:
        try:
            return await self._step()
        except Exception as error:
            if "_Ending" in self._document():
                raise  # it can't even end: the next server tries again
            _LOGGER.exception("%s %s failed", TUNING.resource, self.name)
            reason = f"{INTERNAL} ({type(error).__name__}: {error})"
            self._save(_Ending={"Status": "Failed", "Reason": reason})
            return await self._step()

    async def _step(self) -> bool:
        """Do what is to be done now; whether the tuning job has ended."""
        document, records = self._document(), training_jobs(self._store, self.name)
        ending = _ending(document, records)
        if ending is None:
            await self._stop_early(document, records)
            ending = await self._launch(document, records)
        if ending is None:
            return False
        if "_Ending" not in document:
            self._save(_Ending=ending)
        for record in training_jobs(self._store, self.name):
            if "TrainingJobStatus" not in record:  # never created
                self._store.delete(TUNED, record["TrainingJobName"])
            elif record["TrainingJobStatus"] == "InProgress":
                await self._stop(record)
        if any(is_under_way(record) for record in training_jobs(self._store, self.name)):
            return False
        self._end(ending)
        return True

    async def _launch(self, document: Document, records: Sequence[Document]) -> Document | None:
        """As many training jobs as may run; gives how the tuning job ends where one can't be created."""
        definitions = definitions_of(document)
        parallel = document["HyperParameterTuningJobConfig"]["ResourceLimits"]["MaxParallelTrainingJobs"]
        planned = [record for record in records if "TrainingJobStatus" not in record]
        room = parallel - sum(is_under_way(record) for record in records)
        for number in range(len(records), min(len(records) + room, number_of_jobs(document))):
            planned.append(await self._plan(document, definitions, number))
        await self._store.committed()
        for record in planned:
            definition = definitions[record["_Definition"]]
            request = definition.request(
                record["TrainingJobName"], record["TunedHyperParameters"], document["_Tags"]
            )
            try:
                await self.runtime.aws("sagemaker", "CreateTrainingJob", request)
            except AWSError as error:
                self._store.delete(TUNED, record["TrainingJobName"])
                return {"Status": "Failed", "Reason": error.message}
        return None

    async def _plan(self, document: Document, definitions: Sequence[Definition], number: int) -> Document:
        """Write down which training job comes next."""
        records = training_jobs(self._store, self.name)
        which, values = await asyncio.to_thread(_next, document, definitions, records, number)
        definition = definitions[which]
        record: Document = {
            "TrainingJobName": f"{self.name}-{number + 1:03d}-{secrets.token_hex(4)}",
            "TuningJobName": self.name,
            "TuningJobArn": document[TUNING.arn],
            "TunedHyperParameters": values,
            **({"TrainingJobDefinitionName": definition.name} if definition.name else {}),
            "_Definition": which,
            "_Objective": {
                "Type": "Maximize" if definition.maximize else "Minimize",
                "MetricName": definition.metric,
            },
        }
        self._store.put(TUNED, record["TrainingJobName"], record)
        return record

    async def _stop_early(self, document: Document, records: Sequence[Document]) -> None:
        """Stop the training jobs that promise nothing, by those of the same definition that have ended."""
        if not _stops_early(document):
            return
        for record in records:
            if record.get("TrainingJobStatus") == "InProgress":
                earlier = [
                    self._objectives(other)
                    for other in records
                    if not is_under_way(other) and other["_Definition"] == record["_Definition"]
                ]
                maximize = record["_Objective"]["Type"] == "Maximize"
                if search.is_hopeless(self._objectives(record), earlier, maximize=maximize):
                    await self._stop(record)

    def _objectives(self, record: Document) -> list[float]:
        found = self._store.get(OBJECTIVES, record["TrainingJobName"]) or {"Values": []}
        return list(found["Values"])

    async def _stop(self, record: Document) -> None:
        name = record["TrainingJobName"]
        try:
            await self.runtime.aws("sagemaker", "StopTrainingJob", {"TrainingJobName": name})
        except AWSError:
            now = self._store.get(TUNED, name)
            if now is not None and now["TrainingJobStatus"] == "InProgress":
                raise  # it has not ended meanwhile

    def _seconds_left(self) -> float | None:
        document = self._document()
        if "_Ending" in document or document[TUNING.status] == "Stopping":
            return None
        if _stops_early(document):
            return _LOOK_SECONDS
        limit = _most_seconds(document)
        return None if limit is None else max(0.0, limit - _age(document))

    def _end(self, ending: Document) -> None:
        members = {TUNING.status: ending["Status"], "HyperParameterTuningEndTime": datetime.now(UTC)}
        if ending.get("Reason"):
            members["FailureReason"] = ending["Reason"][:_REASON]
        document = self._save(**members)
        for record in training_jobs(self._store, self.name):
            self._store.delete(OBJECTIVES, record["TrainingJobName"])
        announce(self.runtime, TUNING, described(document, training_jobs(self._store, self.name)))

    def _save(self, **members: Any) -> Document:
        document = {**self._document(), **members, "LastModifiedTime": datetime.now(UTC)}
        self._store.put(TUNING.store, self.name, document)
        return document

    def _document(self) -> Document:
        document = self._store.get(TUNING.store, self.name)
        assert document is not None
        return document


def _ending(document: Document, records: Sequence[Document]) -> Document | None:
    """How the tuning job ends, if it does now."""
    if document[TUNING.status] == "Stopping":
        return {"Status": "Stopped"}
    if "_Ending" in document:
        return dict(document["_Ending"])
    if (reason := _hopeless(document, records)) is not None:
        return {"Status": "Failed", "Reason": reason}
    return {"Status": "Completed"} if _is_complete(document, records) else None


def _hopeless(document: Document, records: Sequence[Document]) -> str | None:
    ended = [record for record in records if not is_under_way(record)]
    if best(ended) is not None or len(ended) < min(_ATTEMPTS, number_of_jobs(document)):
        return None
    if any(record["TrainingJobStatus"] != "Failed" for record in ended):
        return (
            f"No objective metrics found after running {len(ended)} training jobs. Please ensure that the "
            "custom algorithm is emitting the objective metric as defined by the regular expression provided."
        )
    return (
        f"No training job succeeded after {len(ended)} attempts. Please take a look at the training job "
        "failures to get more details."
    )


def _is_complete(document: Document, records: Sequence[Document]) -> bool:
    config = document["HyperParameterTuningJobConfig"]
    criteria = config.get("TuningJobCompletionCriteria") or {}
    under_way = any(is_under_way(record) for record in records)
    if len(records) == number_of_jobs(document) and not under_way:
        return True
    winner = best(records)
    if winner is not None and (target := criteria.get("TargetObjectiveMetricValue")) is not None:
        is_maximum = winner["_Objective"]["Type"] == "Maximize"
        value = objective(winner)
        assert value is not None
        if value >= target if is_maximum else value <= target:
            return True
    patience = (criteria.get("BestObjectiveNotImproving") or {}).get("MaxNumberOfTrainingJobsNotImproving")
    if patience is not None and not_improving(records) >= patience:
        return True
    limit = _most_seconds(document)
    return limit is not None and _age(document) >= limit


def _next(
    document: Document, definitions: Sequence[Definition], records: Sequence[Document], number: int
) -> tuple[int, dict[str, str]]:
    """The definition, by its place, and the hyperparameters of the training job of this number."""
    strategy, seed = document["HyperParameterTuningJobConfig"]["Strategy"], document["_Seed"]
    if strategy == "Grid":
        sizes = [int(search.combinations(one.ranges)) for one in definitions]
        which = next(place for place, until in enumerate(accumulate(sizes)) if number < until)
        return which, search.grid(definitions[which].ranges, number - sum(sizes[:which]))
    which = _turn(definitions, records, number)
    ranges = definitions[which].ranges
    trials = [
        search.Trial(
            values=record["TunedHyperParameters"],
            objective=objective(record),
            is_under_way=is_under_way(record),
        )
        for record in records
        if record["_Definition"] == which
    ]
    if strategy == "Random":
        return which, search.at_random(ranges, trials, seed=seed, number=number)
    maximize = definitions[which].maximize
    return which, search.bayesian(ranges, trials, seed=seed, number=number, maximize=maximize)


def _turn(definitions: Sequence[Definition], records: Sequence[Document], number: int) -> int:
    """They take turns, but for one of which all combinations were tried."""
    for step in range(len(definitions)):
        which = (number + step) % len(definitions)
        tried = sum(record["_Definition"] == which for record in records)
        if tried < search.combinations(definitions[which].ranges):
            return which
    return number % len(definitions)


def _stops_early(document: Document) -> bool:
    return bool(document["HyperParameterTuningJobConfig"].get("TrainingJobEarlyStoppingType") == "Auto")


def _most_seconds(document: Document) -> int | None:
    limits: Document = document["HyperParameterTuningJobConfig"]["ResourceLimits"]
    return limits.get("MaxRuntimeInSeconds")


def _age(document: Document) -> float:
    return float((datetime.now(UTC) - document["CreationTime"]).total_seconds())
