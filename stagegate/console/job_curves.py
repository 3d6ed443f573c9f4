"""The curves of a job, or of two: what it says of itself in its log, and what it takes of its instances."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stagegate.aws import Services
from stagegate.console.plots import Plot, Point, Series, clock, clock_seconds, plot
from stagegate.display import duration
from stagegate.jobs import USAGE, Job, metrics_of, usage_of

_SIZE = (480, 220)
_LONG_SECONDS = 3600


@dataclass(frozen=True, kw_only=True)
class Curves:
    """A job with what CloudWatch has of it."""

    job: Job
    metrics: dict[str, list[Point]]
    """By the name that its MetricDefinitions give."""
    usage: dict[str, dict[str, list[Point]]]
    """By SageMaker's metric, then by host."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    metrics: list[Plot]
    usage: list[Plot]


def read_curves(services: Services, job: Job) -> Curves:
    return Curves(job=job, metrics=metrics_of(services, job), usage=usage_of(services, job))


def draw(curves: Sequence[Curves]) -> Drawn:
    """A picture for each quantity: `train:loss` and `validation:loss` are two curves in that of `loss`.

    One job's are drawn over the time of day, those of several over the time since each began. All pictures
    have the same axis of time.
    """
    metrics = _by_quantity(curves)
    usage = _by_resource(curves)
    moments = [x for series in (*metrics.values(), *usage.values()) for it in series for x, _ in it.points]
    times = (min(moments), max(moments)) if moments else (0.0, 0.0)
    is_one = len(curves) == 1
    is_short = all((of.job.seconds or 0) < _LONG_SECONDS for of in curves)
    x_text = (clock_seconds if is_short else clock) if is_one else duration
    return Drawn(
        metrics=[
            it
            for quantity, series in metrics.items()
            if (it := plot(quantity, series, x_text=x_text, y_text=number, x_range=times, size=_SIZE))
        ],
        usage=[
            it
            for title, series in usage.items()
            if (it := plot(title, series, x_text=x_text, y_text=number, x_range=times, size=_SIZE, low=0.0))
        ],
    )


def number(value: float) -> str:
    return f"{value:.4g}"


def _by_quantity(curves: Sequence[Curves]) -> dict[str, list[Series]]:
    by_quantity: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for of in curves for name in of.metrics):
        by_quantity.setdefault(name.rpartition(":")[2], []).append(name)
    return {
        quantity: _series(curves, {name: [of.metrics.get(name, []) for of in curves] for name in names})
        for quantity, names in by_quantity.items()
    }


def _by_resource(curves: Sequence[Curves]) -> dict[str, list[Series]]:
    found = {}
    for metric, title in USAGE.items():
        hosts = dict.fromkeys(host for of in curves for host in of.usage.get(metric, {}))
        points = {host: [of.usage.get(metric, {}).get(host, []) for of in curves] for host in hosts}
        found[title] = _series(curves, points)
    return found


def _series(curves: Sequence[Curves], points: Mapping[str, list[list[Point]]]) -> list[Series]:
    """By name what each job has; the same colour for the same name, and dashes for the second job."""
    if len(curves) == 1:
        return [Series(name=name, points=of[0]) for name, of in points.items()]
    return [
        Series(
            name=f"{name} of {curves[number].job.name}",
            points=_since(curves[number].job, of),
            colour=colour,
            is_dashed=number > 0,
        )
        for colour, (name, found) in enumerate(points.items())
        for number, of in enumerate(found)
        if of
    ]


def _since(job: Job, points: list[Point]) -> list[Point]:
    """Over the seconds since it began; what comes to the full second may be a moment before."""
    began = (job.started or job.created).timestamp()
    return [(max(0.0, at - began), value) for at, value in points]
