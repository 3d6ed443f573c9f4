"""What is kept of a tuning job's training jobs, and what a tuning job's description says of them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from stagegate.local.sagemaker.job_run import Kind
from stagegate.local.sagemaker.resources import TUNED, Document, pick
from stagegate.local.store import Store

TUNING = Kind(
    title="HyperParameterTuning",
    words="HyperParameter Tuning",
    resource="hyper-parameter-tuning-job",
    log_group="",
)
ENDED = ("Completed", "Failed", "Stopped")
_IMPROVES = 0.01
_SUMMARY = (
    *("TrainingJobDefinitionName", "TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingStartTime"),
    *("TrainingEndTime", "TrainingJobStatus", "TunedHyperParameters", "FailureReason"),
    *("FinalHyperParameterTuningJobObjectiveMetric", "ObjectiveStatus"),
)


def training_jobs(store: Store, tuning_job: str) -> list[Document]:
    """In the order in which they were launched; one that is yet to be created has no status."""
    found = store.list(TUNED, prefix=f"{tuning_job}-")
    return [record for record in found if record["TuningJobName"] == tuning_job]


def heard(record: Document, detail: Mapping[str, Any]) -> Document:
    """The record, once its training job has announced its status."""
    status = detail["TrainingJobStatus"]
    times = {
        name: datetime.fromtimestamp(detail[name] / 1000, UTC)
        for name in ("CreationTime", "TrainingStartTime", "TrainingEndTime")
        if name in detail
    }
    members = pick(dict(detail), ("TrainingJobArn", "FailureReason", "TrainingJobStatus"))
    now = {**record, **members, **times}
    if status not in ENDED:
        return {**now, "ObjectiveStatus": "Pending"}
    wanted = record["_Objective"]
    values = [
        metric["Value"]
        for metric in detail.get("FinalMetricDataList", [])
        if metric["MetricName"] == wanted["MetricName"]
    ]
    if status == "Failed" or not values or not math.isfinite(values[-1]):
        return {**now, "ObjectiveStatus": "Failed"}
    final = {**wanted, "Value": values[-1]}
    return {**now, "ObjectiveStatus": "Succeeded", "FinalHyperParameterTuningJobObjectiveMetric": final}


def is_under_way(record: Document) -> bool:
    return record.get("TrainingJobStatus") not in ENDED


def objective(record: Document) -> float | None:
    """The value that the search goes by."""
    final = record.get("FinalHyperParameterTuningJobObjectiveMetric")
    return None if final is None else float(final["Value"])


def best(records: Iterable[Document]) -> Document | None:
    """The first of those with the best objective."""
    found = [record for record in records if objective(record) is not None]
    return min(found, key=_badness, default=None)


def not_improving(records: Iterable[Document]) -> int:
    """How many of the last that ended were at most 1% better than the best before them."""
    found = [record for record in records if objective(record) is not None]
    count, least = 0, math.inf
    for record in sorted(found, key=lambda record: record["TrainingEndTime"]):
        bad = _badness(record)
        count = 0 if least == math.inf or least - bad > _IMPROVES * abs(least) else count + 1
        least = min(least, bad)
    return count


def _badness(record: Document) -> float:
    value = objective(record) or 0.0
    is_maximum = record["FinalHyperParameterTuningJobObjectiveMetric"]["Type"] == "Maximize"
    return -value if is_maximum else value


def summary(record: Document) -> Document:
    return pick(record, _SUMMARY)


def described(document: Document, records: Sequence[Document]) -> Document:
    """The description of a tuning job with these training jobs."""
    created = [record for record in records if "TrainingJobStatus" in record]
    winner = best(created)
    until = document.get("HyperParameterTuningEndTime", datetime.now(UTC))
    return {
        **{name: value for name, value in document.items() if name[0] != "_"},
        "TrainingJobStatusCounters": _statuses(created),
        "ObjectiveStatusCounters": {
            status: sum(record["ObjectiveStatus"] == status for record in created)
            for status in ("Succeeded", "Pending", "Failed")
        },
        **({"BestTrainingJob": summary(winner)} if winner else {}),
        "TuningJobCompletionDetails": {"NumberOfTrainingJobsObjectiveNotImproving": not_improving(created)},
        "ConsumedResources": {"RuntimeInSeconds": int((until - document["CreationTime"]).total_seconds())},
    }


def _statuses(records: Sequence[Document]) -> Document:
    failed = [record for record in records if record["TrainingJobStatus"] == "Failed"]
    retryable = sum(record.get("FailureReason", "").startswith("InternalServerError") for record in failed)
    return {
        "Completed": sum(record["TrainingJobStatus"] == "Completed" for record in records),
        "InProgress": sum(is_under_way(record) for record in records),
        "RetryableError": retryable,
        "NonRetryableError": len(failed) - retryable,
        "Stopped": sum(record["TrainingJobStatus"] == "Stopped" for record in records),
    }
