"""What a tuning job is asked to do: its definitions of training jobs, checked in SageMaker's words."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stagegate.local.sagemaker.resources import Document, invalid, refuse
from stagegate.local.sagemaker.tuning_search import Range, combinations, has_bayesian
from stagegate.local.service import AWSError

_OPERATION = "CreateHyperParameterTuningJob"
_MOST_JOBS = {"Bayesian": 750, "Random": 10_000, "Grid": 10_000}
_MOST_PARALLEL = 100
OBJECTIVE = "_tuning_objective_metric"


@dataclass(frozen=True, kw_only=True)
class Definition:
    """One kind of training job: what it is given besides the hyperparameters that are tuned."""

    name: str | None
    metric: str
    maximize: bool
    ranges: tuple[Range, ...]
    given: Document

    def request(self, name: str, values: Mapping[str, str], tags: Sequence[Document]) -> Document:
        """What CreateTrainingJob is called with."""
        own = (
            *("DefinitionName", "TuningObjective", "HyperParameterRanges", "StaticHyperParameters"),
            *("HyperParameterTuningResourceConfig", "CheckpointConfig"),
        )
        request: Document = {
            **{member: value for member, value in self.given.items() if member not in own},
            "TrainingJobName": name,
            "ResourceConfig": self._resources(),
            "HyperParameters": {
                **self.given.get("StaticHyperParameters", {}),
                **values,
                OBJECTIVE: self.metric,
            },
        }
        if (checkpoints := self.given.get("CheckpointConfig")) is not None:
            # Of one job each: what one has saved, no other must go on from.
            uri = f"{checkpoints['S3Uri'].rstrip('/')}/{name}"
            request["CheckpointConfig"] = {**checkpoints, "S3Uri": uri}
        return {**request, **({"Tags": list(tags)} if tags else {})}

    def _resources(self) -> Document:
        """Of the instances to choose from the first are there: they are in the order of preference."""
        if (given := self.given.get("HyperParameterTuningResourceConfig")) is None:
            return dict(self.given["ResourceConfig"])
        first = (given.get("InstanceConfigs") or [{}])[0]
        chosen = ("InstanceConfigs", "AllocationStrategy")
        return {**{name: value for name, value in given.items() if name not in chosen}, **first}


def definitions_of(document: Document) -> tuple[Definition, ...]:
    """The definitions of a tuning job, each with its objective and its ranges."""
    config = document["HyperParameterTuningJobConfig"]
    one = document.get("TrainingJobDefinition")
    return tuple(
        _definition(
            given,
            given.get("TuningObjective") or config.get("HyperParameterTuningJobObjective"),
            given.get("HyperParameterRanges") or config.get("ParameterRanges") or {},
        )
        for given in ([one] if one else document.get("TrainingJobDefinitions", []))
    )


def number_of_jobs(document: Document) -> int:
    """How many training jobs there will be at most."""
    config = document["HyperParameterTuningJobConfig"]
    if config["Strategy"] == "Grid":
        return int(sum(combinations(one.ranges) for one in definitions_of(document)))
    limit = config["ResourceLimits"].get("MaxNumberOfTrainingJobs")
    return int(limit or _MOST_JOBS[config["Strategy"]])


def check(document: Document) -> None:
    """Refuse what SageMaker refuses, and what this runtime does not do."""
    config = document["HyperParameterTuningJobConfig"]
    _check_supported(document, config)
    several = document.get("TrainingJobDefinitions")
    if bool(document.get("TrainingJobDefinition")) == bool(several):
        raise invalid("Provide either TrainingJobDefinition or TrainingJobDefinitions, and not both.")
    if several:
        _check_several(several, config)
    elif not config.get("HyperParameterTuningJobObjective"):
        raise invalid("A HyperParameterTuningJobObjective is required for this hyperparameter tuning job.")
    definitions = definitions_of(document)
    for one in definitions:
        _check_definition(one)
    if len({one.maximize for one in definitions}) > 1:
        raise invalid("The Type of the TuningObjective must be the same in all TrainingJobDefinitions.")
    _check_limits(config, definitions)


def _definition(given: Document, objective: Document | None, ranges: Document) -> Definition:
    if objective is None:
        raise invalid("A TuningObjective is required for each of the TrainingJobDefinitions.")
    return Definition(
        name=given.get("DefinitionName"),
        metric=objective["MetricName"],
        maximize=objective["Type"] == "Maximize",
        ranges=tuple(_ranges(ranges)),
        given=given,
    )


def _ranges(given: Document) -> Iterator[Range]:
    for kind in ("Integer", "Continuous"):
        for one in given.get(f"{kind}ParameterRanges", []):
            try:
                number = int if kind == "Integer" else float
                low, high = number(one["MinValue"]), number(one["MaxValue"])
            except ValueError as error:
                raise invalid(
                    f"The range of the hyperparameter {one['Name']} must have {kind.lower()} values: "
                    f"[{one['MinValue']}, {one['MaxValue']}]"
                ) from error
            yield Range(
                name=one["Name"],
                low=low,
                high=high,
                is_integer=kind == "Integer",
                scaling=one.get("ScalingType", "Auto"),
            )
    for one in given.get("CategoricalParameterRanges", []):
        yield Range(name=one["Name"], values=tuple(dict.fromkeys(one["Values"])))


def _check_supported(document: Document, config: Document) -> None:
    strategy = config["Strategy"]
    criteria = config.get("TuningJobCompletionCriteria") or {}
    convergence = criteria.get("ConvergenceDetected") or {}
    refuse(
        [
            ("WarmStartConfig", document.get("WarmStartConfig")),
            ("Autotune", document.get("Autotune")),
            ("Strategy Hyperband", strategy == "Hyperband"),
            ("StrategyConfig", config.get("StrategyConfig")),
            ("ConvergenceDetected", convergence.get("CompleteOnConvergence") == "Enabled"),
            ("AutoParameters", (config.get("ParameterRanges") or {}).get("AutoParameters")),
        ],
        operation=_OPERATION,
    )
    one = document.get("TrainingJobDefinition")
    for given in [one] if one else document.get("TrainingJobDefinitions") or []:
        refuse(
            [
                ("AutoParameters", (given.get("HyperParameterRanges") or {}).get("AutoParameters")),
                ("AlgorithmName", given["AlgorithmSpecification"].get("AlgorithmName")),
            ],
            operation=_OPERATION,
        )
        if ("ResourceConfig" in given) == ("HyperParameterTuningResourceConfig" in given):
            raise invalid(
                "Provide either ResourceConfig or HyperParameterTuningResourceConfig for the training jobs "
                "of a tuning job, and not both."
            )
    if strategy == "Bayesian" and not has_bayesian():
        raise invalid(
            "The strategy Bayesian needs Optuna, which is not installed where the local runtime runs: "
            "pip install 'stagegate[tuning]'"
        )


def _check_several(several: Sequence[Document], config: Document) -> None:
    names = [given.get("DefinitionName") for given in several]
    if None in names or len(set(names)) < len(names):
        raise invalid("Each of the TrainingJobDefinitions must have a DefinitionName of its own.")
    for member in ("HyperParameterTuningJobObjective", "ParameterRanges"):
        if config.get(member):
            raise invalid(
                f"{member} must not be in HyperParameterTuningJobConfig when TrainingJobDefinitions is used: "
                "give each of the TrainingJobDefinitions its TuningObjective and HyperParameterRanges."
            )


def _check_definition(one: Definition) -> None:
    metrics = one.given["AlgorithmSpecification"].get("MetricDefinitions", [])
    if one.metric not in [metric["Name"] for metric in metrics]:
        raise invalid(
            "A metric is required for this hyperparameter tuning job objective. Provide a metric in the "
            "metric definitions."
        )
    for metric in metrics:
        try:
            re.compile(metric["Regex"])
        except re.error as error:
            raise invalid(
                f"Invalid regular expression '{metric['Regex']}' in MetricDefinitions: {error}"
            ) from error
    if not one.ranges:
        raise invalid("At least one hyperparameter range is required for a hyperparameter tuning job.")
    names = [given.name for given in one.ranges]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise invalid(f"The hyperparameter {twice[0]} has more than one range.")
    if both := sorted(set(names) & set(one.given.get("StaticHyperParameters", {}))):
        raise invalid(f"The hyperparameter {both[0]} is both static and tuned: {both}")
    for given in one.ranges:
        _check_range(given)


def _check_range(given: Range) -> None:
    if given.values:
        return
    ends = f"[{given.low}, {given.high}]"
    if not given.low <= given.high:
        raise invalid(
            f"The MinValue of the hyperparameter {given.name} must not be above its MaxValue: {ends}"
        )
    if given.scaling == "Logarithmic" and given.low <= 0:
        raise invalid(
            f"The ScalingType Logarithmic of the hyperparameter {given.name} needs values above 0: {ends}"
        )
    if given.scaling == "ReverseLogarithmic" and (given.is_integer or given.low < 0 or given.high >= 1):
        raise invalid(
            f"The ScalingType ReverseLogarithmic of the hyperparameter {given.name} needs a continuous range "
            f"within 0 <= x < 1.0: {ends}"
        )


def _check_limits(config: Document, definitions: Sequence[Definition]) -> None:
    limits, strategy = config["ResourceLimits"], config["Strategy"]
    jobs, parallel = limits.get("MaxNumberOfTrainingJobs"), limits["MaxParallelTrainingJobs"]
    possible = sum(combinations(one.ranges) for one in definitions)
    if strategy == "Grid":
        if not all(given.values for one in definitions for given in one.ranges):
            raise invalid("The strategy Grid supports categorical hyperparameter ranges only.")
        if jobs is not None and jobs != possible:
            raise invalid(
                f"MaxNumberOfTrainingJobs [{jobs}] must be equal to the number of combinations of the "
                f"categorical hyperparameters [{possible}] with the strategy Grid. Leave it out."
            )
    elif jobs is not None and possible < jobs:
        raise invalid(
            "You don't have enough combinations of hyperparameter ranges. The total number of hyperparameter "
            f"combinations for the provided ranges [{float(possible)}] must be equal or greater than the "
            f"value of MaxNumberOfJobs, [{jobs}]. Provide additional ranges."
        )
    elif jobs is None and not _ends_otherwise(config):
        raise invalid("MaxNumberOfTrainingJobs is required where no other limit ends the tuning job.")
    for limit, asked, most in (
        ("training jobs per hyperparameter tuning job", jobs or 0, _MOST_JOBS[strategy]),
        ("concurrent training jobs per hyperparameter tuning job", parallel, _MOST_PARALLEL),
    ):
        if asked > most:
            raise AWSError(
                "ResourceLimitExceeded",
                f"The account-level service limit 'Number of {limit}' is {most}, with a request of {asked}.",
            )


def _ends_otherwise(config: Mapping[str, Any]) -> bool:
    return bool(
        config["ResourceLimits"].get("MaxRuntimeInSeconds") or config.get("TuningJobCompletionCriteria")
    )
