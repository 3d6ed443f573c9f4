"""Curves as SVG: numbers in, coordinates out. plots.html writes them; nothing of it needs a script."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

Point = tuple[float, float]

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 26
COLOURS = 6
_DOTS = 40
"""Of more points only the line is drawn."""


@dataclass(frozen=True, kw_only=True)
class Series:
    name: str
    points: Sequence[Point]
    colour: int | None = None
    """By its number; each has one of its own where none is asked for."""
    is_dashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A series in the picture's coordinates."""

    name: str
    colour: int
    is_dashed: bool
    line: str
    """As a `points` attribute has it."""
    dots: tuple[tuple[float, float, str], ...]
    """x, y and what a pointer on it is told; only of few."""
    last: str


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A line of the grid, and its label."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Plot:
    title: str
    summary: str
    """What the picture shows, for who does not see it."""
    width: int
    height: int
    left: int
    right: float
    top: int
    bottom: float
    curves: tuple[Curve, ...]
    rows: tuple[Mark, ...]
    columns: tuple[Mark, ...]
    diagonal: str


def plot(
    title: str,
    series: Sequence[Series],
    *,
    x_text: Callable[[float], str] = lambda value: f"{value:g}",
    y_text: Callable[[float], str] = lambda value: f"{value:g}",
    low: float | None = None,
    high: float | None = None,
    x_range: Point | None = None,
    size: tuple[int, int] = (640, 220),
    has_diagonal: bool = False,
) -> Plot | None:
    """Curves over one axis; None where no series has a finite point."""
    kept = [(it, _finite(it.points)) for it in series]
    kept = [(it, points) for it, points in kept if points]
    if not kept:
        return None
    width, height = size
    ys = [y for _, points in kept for _, y in points]
    xs = [x for _, points in kept for x, _ in points]
    y_low, y_high, y_marks = _scale(min(ys) if low is None else low, max(ys) if high is None else high)
    x_low, x_high = x_range or (min(xs), max(xs))
    right, bottom = width - _RIGHT, height - _BOTTOM

    def x_at(value: float) -> float:
        return round(_LEFT + (right - _LEFT) * _share(value, x_low, x_high), 1)

    def y_at(value: float) -> float:
        return round(bottom - (bottom - _TOP) * _share(value, y_low, y_high), 1)

    curves = tuple(
        Curve(
            name=it.name,
            colour=(number if it.colour is None else it.colour) % COLOURS,
            is_dashed=it.is_dashed,
            line=" ".join(f"{x_at(x)},{y_at(y)}" for x, y in points),
            dots=tuple((x_at(x), y_at(y), f"{it.name}: {y_text(y)} ({x_text(x)})") for x, y in points)
            if len(points) <= _DOTS
            else (),
            last=y_text(points[-1][1]),
        )
        for number, (it, points) in enumerate(kept)
    )
    column_values = [x_low, (x_low + x_high) / 2, x_high] if x_high > x_low else [x_low]
    said = ", ".join(
        f"{it.name} from {y_text(points[0][1])} to {y_text(points[-1][1])}" for it, points in kept
    )
    return Plot(
        title=title,
        summary=f"{title}: {said}, between {x_text(x_low)} and {x_text(x_high)}",
        width=width,
        height=height,
        left=_LEFT,
        right=right,
        top=_TOP,
        bottom=bottom,
        curves=curves,
        rows=tuple(Mark(at=y_at(value), label=y_text(value)) for value in y_marks),
        columns=tuple(Mark(at=x_at(value), label=x_text(value)) for value in column_values),
        diagonal=f"{x_at(x_low)},{y_at(x_low)} {x_at(x_high)},{y_at(x_high)}" if has_diagonal else "",
    )


def clock(seconds: float) -> str:
    """A moment on an axis, in the time of whoever runs the console."""
    return f"{datetime.fromtimestamp(seconds, UTC).astimezone():%H:%M}"


def clock_seconds(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC).astimezone():%H:%M:%S}"


def _finite(points: Sequence[Point]) -> list[Point]:
    return sorted((x, y) for x, y in points if math.isfinite(x) and math.isfinite(y))


def _share(value: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.5


def _scale(low: float, high: float) -> tuple[float, float, list[float]]:
    """Ends that are round numbers, and three to six round numbers from one to the other."""
    if high <= low:
        low, high = (low - 0.5, low + 0.5) if low else (0.0, 1.0)
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    marks = [round(number * step, 12) for number in range(first, last + 1)]
    return marks[0], marks[-1], marks
