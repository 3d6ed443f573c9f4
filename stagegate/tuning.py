"""Tuning jobs of SageMaker, and the training jobs that they have launched."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from stagegate.aws import Services, error_code
from stagegate.errors import NotFound

_ENDED = ("Completed", "Failed", "Stopped")
_PAGE = 100
_LISTED = 200


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A training job of a tuning job."""

    name: str
    status: str
    failure_reason: str
    created: datetime
    started: datetime | None
    ended: datetime | None
    parameters: dict[str, str]
    """Those that are tuned."""
    objective: float | None
    """None before it is known, and where the job never gave it."""


@dataclass(frozen=True, kw_only=True)
class TuningJob:
    name: str
    arn: str
    status: str
    failure_reason: str
    created: datetime
    ended: datetime | None
    settings: dict[str, str]
    ranges: dict[str, str]
    """By hyperparameter, what is tried."""
    metric: str
    """The objective, by the name that MetricDefinitions give; of several definitions, each one's."""
    is_maximum: bool
    """Whether more is better."""
    counts: dict[str, int]
    """Training jobs by status, those that there are."""
    best: str
    """The name of the training job with the best objective, "" before there is one."""
    trials: tuple[Trial, ...]
    """The latest, the newest first."""

    @property
    def is_over(self) -> bool:
        return self.status in _ENDED

    @property
    def launched(self) -> int:
        return sum(self.counts.values())


def find_tuning_job(services: Services, name: str) -> TuningJob:
    """Raises NotFound."""
    sagemaker = services("sagemaker")
    try:
        job = sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        pages = sagemaker.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job").paginate(
            HyperParameterTuningJobName=name,
            SortBy="CreationTime",
            SortOrder="Descending",
            PaginationConfig={"PageSize": _PAGE, "MaxItems": _LISTED},
        )
        trials = tuple(
            map(_trial, itertools.chain.from_iterable(page["TrainingJobSummaries"] for page in pages))
        )
    except ClientError as error:
        if error_code(error) not in ("ValidationException", "ResourceNotFound"):
            raise
        raise NotFound(f"There is no tuning job '{name}'.") from error
    config = job["HyperParameterTuningJobConfig"]
    definitions = job.get("TrainingJobDefinitions") or [job.get("TrainingJobDefinition", {})]
    own = [it["TuningObjective"] for it in definitions if "TuningObjective" in it]
    objectives = own or [config["HyperParameterTuningJobObjective"]]
    return TuningJob(
        name=job["HyperParameterTuningJobName"],
        arn=job["HyperParameterTuningJobArn"],
        status=job["HyperParameterTuningJobStatus"],
        failure_reason=job.get("FailureReason", ""),
        created=job["CreationTime"],
        ended=job.get("HyperParameterTuningEndTime"),
        settings=_settings(config),
        ranges=_ranges(config.get("ParameterRanges", {}))
        | {
            name: text
            for it in definitions
            for name, text in _ranges(it.get("HyperParameterRanges", {})).items()
        },
        metric=" or ".join(dict.fromkeys(it["MetricName"] for it in objectives)),
        is_maximum=objectives[0]["Type"] == "Maximize",
        counts={status: count for status, count in job["TrainingJobStatusCounters"].items() if count},
        best=job.get("BestTrainingJob", {}).get("TrainingJobName", ""),
        trials=trials,
    )


def _trial(summary: Mapping[str, Any]) -> Trial:
    return Trial(
        name=summary["TrainingJobName"],
        status=summary["TrainingJobStatus"],
        failure_reason=summary.get("FailureReason", ""),
        created=summary["CreationTime"],
        started=summary.get("TrainingStartTime"),
        ended=summary.get("TrainingEndTime"),
        parameters=summary["TunedHyperParameters"],
        objective=summary.get("FinalHyperParameterTuningJobObjectiveMetric", {}).get("Value"),
    )


def _settings(config: Mapping[str, Any]) -> dict[str, str]:
    """Its strategy and its limits, by their names on AWS."""
    limits = config.get("ResourceLimits", {}) | config.get("TuningJobCompletionCriteria", {})
    given = {
        "Strategy": config["Strategy"],
        "TrainingJobEarlyStoppingType": config.get("TrainingJobEarlyStoppingType", "Off"),
        **limits,
    }
    return {name: str(value) for name, value in given.items()}


def _ranges(given: Mapping[str, Any]) -> dict[str, str]:
    numbers = {
        it["Name"]: f"{it['MinValue']} to {it['MaxValue']}, {it.get('ScalingType', 'Auto')}"
        for kind in ("Integer", "Continuous")
        for it in given.get(f"{kind}ParameterRanges", ())
    }
    choices = {it["Name"]: ", ".join(it["Values"]) for it in given.get("CategoricalParameterRanges", ())}
    return numbers | choices
