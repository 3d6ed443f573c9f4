"""How good a version is, how sure that is, and whether it differs from production's by more than chance."""

from dataclasses import dataclass

from stagegate.evaluations import Evaluation
from stagegate.intervals import Interval, difference, interval

_SMALL = 400
"""Images, from which on a share of 90 percent is sure to within 3 points."""


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Of all images."""

    share: float
    interval: Interval
    threshold: float | None
    """Of the gate that let it through."""

    @property
    def against_threshold(self) -> str:
        """What the images say of the threshold; empty where there is none."""
        if self.threshold is None:
            return ""
        if self.interval.low >= self.threshold:
            return "which all of the interval is above"
        if self.interval.high < self.threshold:
            return "which all of the interval is below"
        return "which lies within the interval: so few images do not say on which side the model is"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Of this version to the champion, in shares of all images."""

    points: float
    interval: Interval
    is_same_data: bool

    @property
    def is_more_than_chance(self) -> bool:
        return self.interval.excludes_zero


@dataclass(frozen=True, kw_only=True)
class Recall:
    """A class in the champion and in the challenger; None where one does not know it."""

    name: str
    before: float | None
    now: float | None
    interval: Interval | None
    """Of what it is now; None where there are enough images, or none."""
    difference_interval: Interval | None
    support: int

    @property
    def difference(self) -> float | None:
        return None if self.before is None or self.now is None else self.now - self.before

    @property
    def tone(self) -> str:
        """Better or worse by more than chance: the class `yes` or `no`, or none."""
        if self.difference_interval is None or not self.difference_interval.excludes_zero:
            return ""
        return "yes" if self.difference_interval.low > 0 else "no"


def accuracy_of(evaluation: Evaluation, threshold: str = "") -> Accuracy:
    """`threshold` as the model package's property has it."""
    return Accuracy(
        share=evaluation.accuracy,
        interval=interval(evaluation.right, evaluation.images),
        threshold=_number(threshold),
    )


def difference_of(evaluation: Evaluation, champion: Evaluation) -> Difference:
    return Difference(
        points=evaluation.accuracy - champion.accuracy,
        interval=difference(evaluation.right, evaluation.images, champion.right, champion.images),
        is_same_data=all(
            evaluation.dataset.get(fact) == champion.dataset.get(fact) for fact in ("sha256", "settings")
        ),
    )


def recalls(evaluation: Evaluation, champion: Evaluation | None = None) -> list[Recall]:
    """Of each class that one of them knows."""
    before = champion.per_class if champion else {}
    return [_recall(name, evaluation, champion) for name in dict.fromkeys([*evaluation.per_class, *before])]


def _recall(name: str, evaluation: Evaluation, champion: Evaluation | None) -> Recall:
    now = evaluation.per_class.get(name)
    then = champion.per_class.get(name) if champion else None
    right, total = evaluation.right_of(name)
    old, old_total = champion.right_of(name) if champion else (0, 0)
    return Recall(
        name=name,
        before=then.recall if then else None,
        now=now.recall if now else None,
        interval=interval(right, total) if 0 < total < _SMALL else None,
        difference_interval=difference(right, total, old, old_total) if total and old_total else None,
        support=now.support if now else 0,
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
