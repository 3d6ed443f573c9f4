"""Whether an alarm is raised: a metric's datapoints, period by period, and what is made of gaps between them.

As in the CloudWatch User Guide, "Evaluating an alarm" and "Configuring how CloudWatch alarms treat missing
data". The periods end at the moment of the evaluation, where CloudWatch's begin at full minutes.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from stagegate.local.metric_statistics import Sample, statistic

OK, ALARM, INSUFFICIENT = "OK", "ALARM", "INSUFFICIENT_DATA"
FURTHER_PERIODS = 2
"""Looked at beyond EvaluationPeriods, for datapoints in place of those that are missing."""

_COMPARISONS: Mapping[str, tuple[str, Callable[[float, float], bool]]] = {
    "GreaterThanThreshold": ("greater than", lambda value, threshold: value > threshold),
    "GreaterThanOrEqualToThreshold": (
        "greater than or equal to",
        lambda value, threshold: value >= threshold,
    ),
    "LessThanThreshold": ("less than", lambda value, threshold: value < threshold),
    "LessThanOrEqualToThreshold": ("less than or equal to", lambda value, threshold: value <= threshold),
}

_TREATED = {
    "breaching": "Breaching",
    "notBreaching": "NonBreaching",
    "ignore": "Ignore",
    "missing": "Missing",
}


@dataclass
class Watched:
    """The latest samples of a metric that an alarm looks at."""

    kept_seconds: float
    samples: deque[Sample] = field(default_factory=deque)

    def add(self, sample: Sample) -> None:
        self.samples.append(sample)
        while self.samples and self.samples[0].time < sample.time - self.kept_seconds:
            self.samples.popleft()


@dataclass(frozen=True, kw_only=True)
class Datapoint:
    """A period's value."""

    start: float
    value: float
    count: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A state, and why."""

    state: str
    reason: str
    data: dict[str, Any]


def datapoints(alarm: Mapping[str, Any], samples: Iterable[Sample], *, now: float) -> list[Datapoint | None]:
    """The values of the periods that end now, the oldest first; None for one without data."""
    periods = alarm["EvaluationPeriods"] + FURTHER_PERIODS
    length = alarm["Period"]
    found: list[list[Sample]] = [[] for _ in range(periods)]
    for sample in samples:
        number = math.floor((now - sample.time) / length)
        if 0 <= number < periods and alarm.get("Unit") in (None, sample.unit):
            found[periods - 1 - number].append(sample)
    return [
        _datapoint(alarm, of_period, start=now - (periods - place) * length)
        for place, of_period in enumerate(found)
    ]


def evaluate(alarm: Mapping[str, Any], points: Sequence[Datapoint | None], *, now: float) -> Evaluation:
    """The alarm's state by these datapoints, the oldest first, `FURTHER_PERIODS` more than it evaluates."""
    needed = alarm["EvaluationPeriods"]
    to_alarm = alarm.get("DatapointsToAlarm") or needed
    places = [place for place, point in enumerate(points) if point is not None][-needed:]
    real = [point for place in places if (point := points[place]) is not None]
    breaching = sum(_is_breaching(alarm, point.value) for point in real)
    missing = needed - len(real)
    treatment = alarm.get("TreatMissingData") or "missing"
    if breaching >= to_alarm:
        state = ALARM
    elif missing <= 0:
        state = OK
    elif treatment == "missing":
        age = len(points) - places[0] if places else 0
        state = _state_of_the_few(alarm, breaching, len(real), is_old=age >= to_alarm)
    else:
        state = _state_with(alarm, breaching, missing, to_alarm, treatment)
    return Evaluation(
        state=state,
        reason=_reason(alarm, real, breaching, to_alarm, missing, treatment, state),
        data={
            "version": "1.0",
            "queryDate": moment(now),
            **({"startDate": moment(real[0].start)} if real else {}),
            **({"statistic": statistic_of(alarm)} if statistic_of(alarm) else {}),
            "period": alarm["Period"],
            "recentDatapoints": [point.value for point in real],
            "threshold": alarm["Threshold"],
            "evaluatedDatapoints": [
                {"timestamp": moment(point.start), "sampleCount": point.count, "value": point.value}
                for point in reversed(real)
            ],
        },
    )


def statistic_of(alarm: Mapping[str, Any]) -> str:
    """`Average`, or `p95`."""
    return str(alarm.get("ExtendedStatistic") or alarm.get("Statistic") or "")


def moment(seconds: float) -> str:
    """2026-11-24T09:00:00.000+0000, as CloudWatch writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + (
        f"{int(seconds * 1000) % 1000:03d}+0000"
    )


def _state_of_the_few(alarm: Mapping[str, Any], breaching: int, real: int, *, is_old: bool) -> str:
    """By the datapoints that there are. If all of them breach, the oldest has to be as old as it takes for an
    alarm: till then the state stays, for the next one may not."""
    if not real:
        return INSUFFICIENT
    if breaching < real:
        return OK
    return ALARM if is_old else str(alarm["StateValue"])


def _state_with(alarm: Mapping[str, Any], breaching: int, missing: int, to_alarm: int, treatment: str) -> str:
    """With the missing ones as they are treated; ignored, only what is so whatever they would have been."""
    could_be = breaching + missing >= to_alarm
    if treatment == "ignore" and could_be:
        return str(alarm["StateValue"])
    return ALARM if treatment == "breaching" and could_be else OK


def _is_breaching(alarm: Mapping[str, Any], value: float) -> bool:
    return _COMPARISONS[alarm["ComparisonOperator"]][1](value, alarm["Threshold"])


def _datapoint(alarm: Mapping[str, Any], samples: Sequence[Sample], *, start: float) -> Datapoint | None:
    count = sum(sample.count for sample in samples)
    if not count:
        return None
    if percentile := alarm.get("ExtendedStatistic"):
        share = float(percentile[1:]) / 100
        # Too few to say anything of a percentile: the Guide's 10 / (1 - p), or 10 / p below the median.
        too_few = count < 10 / min(share, 1 - share) if 0 < share < 1 else False
        if too_few and alarm.get("EvaluateLowSampleCountPercentile") == "ignore":
            return None
    value = statistic(statistic_of(alarm), samples)
    return None if value is None else Datapoint(start=start, value=value, count=count)


def _reason(
    alarm: Mapping[str, Any],
    real: Sequence[Datapoint],
    breaching: int,
    to_alarm: int,
    missing: int,
    treatment: str,
    state: str,
) -> str:
    """In CloudWatch's words."""
    if state == INSUFFICIENT:
        return f"Insufficient Data: {_counted(missing, 'datapoint')} {_was(missing)} unknown."
    filled = f"{_counted(missing, 'missing datapoint')} {_was(missing)} treated as [{_TREATED[treatment]}]"
    if not real:
        return (
            f"Threshold Crossed: no datapoints were received for {_counted(missing, 'period')} and {filled}."
        )
    told = breaching if state == ALARM else len(real) - breaching
    values = ", ".join(
        f"{point.value} ({datetime.fromtimestamp(point.start, UTC):%d/%m/%y %H:%M:%S})"
        for point in reversed(real)
    )
    words = _COMPARISONS[alarm["ComparisonOperator"]][0]
    turned = "OK -> ALARM" if state == ALARM else "ALARM -> OK"
    minimum = to_alarm if state == ALARM else alarm["EvaluationPeriods"] - to_alarm + 1
    return (
        f"Threshold Crossed: {told} out of the last {len(real)} datapoints [{values}] "
        f"{_was(told)} {'' if state == ALARM else 'not '}{words} the threshold ({alarm['Threshold']}) "
        f"(minimum {_counted(minimum, 'datapoint')} for {turned} transition)"
        + (f"; {filled}." if missing > 0 else ".")
    )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _was(number: int) -> str:
    return "was" if number == 1 else "were"
