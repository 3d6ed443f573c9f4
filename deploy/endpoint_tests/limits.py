"""The limits of a stage: what its file, beside this folder, has below "Tests"."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent


class WrongLimits(Exception):
    """A stage's file has no limits, or one that cannot be right."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the endpoint has to keep to, and the load under which it has to."""

    LatencyP50Milliseconds: float
    LatencyP95Milliseconds: float
    LatencyP99Milliseconds: float
    ThroughputPerSecond: float
    LoadRequestsPerSecond: float
    LoadSeconds: float
    CaptureWaitSeconds: float

    @property
    def load_requests(self) -> int:
        return round(self.LoadRequestsPerSecond * self.LoadSeconds)


def read_limits(stage: str, folder: Path = FOLDER) -> Limits:
    """The limits of `stage`. Raises WrongLimits, which says in which file what should be what."""
    path = folder / f"{stage}.json"
    if not stage or not path.is_file():
        raise WrongLimits(
            f"STAGE is {stage!r}, and there is no deploy/{stage}.json; name a stage that has one"
        )
    file = f"deploy/{stage}.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WrongLimits(f"{file} is no JSON: {error}") from None
    given = content.get("Tests") if isinstance(content, dict) else None
    if not isinstance(given, dict):
        raise WrongLimits(f'{file} has no object "Tests"; it has to give {", ".join(_members())}')
    limits = Limits(**{name: _number(file, name, given) for name in _members()})
    unknown = sorted(set(given) - set(_members()))
    if unknown:
        raise WrongLimits(f"{file}: Tests.{unknown[0]} is unknown; there are {', '.join(_members())}")
    _fit_together(file, limits)
    return limits


def _members() -> list[str]:
    return list(Limits.__dataclass_fields__)


def _number(file: str, name: str, given: dict[str, Any]) -> float:
    if name not in given:
        raise WrongLimits(f"{file}: Tests.{name} is missing; it has to be a number above 0")
    value = given[name]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value <= 0:
        raise WrongLimits(f"{file}: Tests.{name} is {json.dumps(value)}; it has to be a number above 0")
    return float(value)


def _fit_together(file: str, limits: Limits) -> None:
    for low, high in (
        ("LatencyP50Milliseconds", "LatencyP95Milliseconds"),
        ("LatencyP95Milliseconds", "LatencyP99Milliseconds"),
        ("ThroughputPerSecond", "LoadRequestsPerSecond"),
    ):
        if getattr(limits, low) > getattr(limits, high):
            raise WrongLimits(
                f"{file}: Tests.{low} is {getattr(limits, low):g}; "
                f"it has to be at most Tests.{high}, which is {getattr(limits, high):g}"
            )
    if limits.load_requests < 1:
        raise WrongLimits(
            f"{file}: Tests.LoadSeconds is {limits.LoadSeconds:g}; it has to be so long that, with "
            "Tests.LoadRequestsPerSecond, there is at least one request"
        )
