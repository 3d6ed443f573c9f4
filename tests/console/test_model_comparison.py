"""How sure an accuracy is, and what is more than chance."""

import pytest

from stagegate.console.model_comparison import accuracy_of, difference_of, recalls
from stagegate.evaluations import ClassMetrics, Evaluation


def evaluation(right: dict[str, int], *, of: int = 100, sha256: str = "ab") -> Evaluation:
    """Of so many images of each class so many were told right, the others taken for `other`."""
    return Evaluation(
        folder="s3://data/evaluation",
        matrix={name: {name: count, "other": of - count} for name, count in right.items()},
        metrics={},
        per_class={
            name: ClassMetrics(precision=None, recall=count / of, f1=None, support=of)
            for name, count in right.items()
        },
        dataset={"sha256": sha256},
        model={},
    )


@pytest.mark.parametrize(
    ("threshold", "said"),
    [
        ("0.7", "which all of the interval is above"),
        ("0.9", "which lies within the interval: so few images do not say on which side the model is"),
        ("0.99", "which all of the interval is below"),
        ("", ""),
        ("high", ""),
    ],
)
def test_the_threshold_is_told_against_the_interval(threshold: str, said: str) -> None:
    assert accuracy_of(evaluation({"sea": 91}), threshold).against_threshold == said


def test_a_small_difference_may_be_chance() -> None:
    small = difference_of(evaluation({"sea": 91}), evaluation({"sea": 88}, sha256="cd"))
    large = difference_of(evaluation({"sea": 910}, of=1000), evaluation({"sea": 850}, of=1000))

    assert (small.is_more_than_chance, small.is_same_data) == (False, False)
    assert (large.is_more_than_chance, large.is_same_data) == (True, True)


def test_recalls_have_an_interval_where_there_are_few_images() -> None:
    few, many = evaluation({"sea": 90, "new": 50}), evaluation({"sea": 3600, "gone": 1}, of=4000)

    sea, new, gone = recalls(few, many)

    assert sea.interval is not None
    assert (sea.before, sea.now, sea.difference, sea.tone) == (0.9, 0.9, 0.0, "")
    assert (new.before, new.difference, new.difference_interval, new.tone) == (None, None, None, "")
    assert (gone.now, gone.interval, gone.support) == (None, None, 0)
    assert recalls(many)[0].interval is None
    assert recalls(evaluation({"sea": 70}), few)[0].tone == "no"
