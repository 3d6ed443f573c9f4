"""The numbers of an evaluation, under the names of SageMaker Model Monitor's model quality reports."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLES = 2000  # of the bootstrap: standard deviations to about 2% of their value
Counts = NDArray[
    np.int64
]  # classes × classes, or samples × classes × classes: rows are true, columns predicted
Values = NDArray[np.float64]


def confusion_matrix(labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> Counts:
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def evaluation(counts: Counts, classes: Sequence[str]) -> dict[str, Any]:
    """The members of evaluation.json that follow from the confusion matrix."""
    overall = overall_metrics(counts)
    samples = overall_metrics(bootstrap(counts))
    support = counts.sum(axis=1)
    # The yardstick: always saying the most frequent class.
    constant = np.zeros_like(counts)
    constant[:, support.argmax()] = support
    metrics: dict[str, Any] = {
        "confusion_matrix": {
            true: {predicted: int(counts[i, j]) for j, predicted in enumerate(classes)}
            for i, true in enumerate(classes)
        }
    }
    for name, value in overall.items():
        metrics[name] = {"value": float(value), "standard_deviation": float(samples[name].std())}
    for name, value in overall_metrics(constant).items():
        metrics[f"{name}_best_constant_classifier"] = {"value": float(value), "standard_deviation": 0.0}
    precision, recall = _precision(counts), _recall(counts)
    f1 = f_score(precision, recall, 1)
    return {
        "multiclass_classification_metrics": metrics,
        "per_class": {
            name: {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "support": int(support[i]),
            }
            for i, name in enumerate(classes)
        },
        "classes": list(classes),
    }


def overall_metrics(counts: Counts) -> dict[str, Values]:
    """Accuracy, and the means over the classes, weighted by how many images each has."""
    support = counts.sum(axis=-1)
    weights = support / support.sum(axis=-1, keepdims=True)
    precision, recall = _precision(counts), _recall(counts)
    return {
        "accuracy": np.trace(counts, axis1=-2, axis2=-1) / counts.sum(axis=(-2, -1)),
        "weighted_recall": (weights * recall).sum(axis=-1),
        "weighted_precision": (weights * precision).sum(axis=-1),
        "weighted_f0_5": (weights * f_score(precision, recall, 0.5)).sum(axis=-1),
        "weighted_f1": (weights * f_score(precision, recall, 1)).sum(axis=-1),
        "weighted_f2": (weights * f_score(precision, recall, 2)).sum(axis=-1),
    }


def interval(right: int, total: int) -> tuple[float, float]:
    """Of a share, at 95 percent: Wilson's, which holds for few images and near 1 too."""
    z = 1.959964
    share, middle = right / total, right / total + z * z / (2 * total)
    spread = z * (share * (1 - share) / total + z * z / (4 * total * total)) ** 0.5
    scale = 1 + z * z / total
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def bootstrap(counts: Counts) -> Counts:
    """Confusion matrices of test sets of the same size, drawn with replacement from this one."""
    total = int(counts.sum())
    drawn = np.random.default_rng(0).multinomial(total, counts.ravel() / total, size=SAMPLES)
    return drawn.reshape(SAMPLES, *counts.shape)


def f_score(precision: Values, recall: Values, beta: float) -> Values:
    return _ratio((1 + beta**2) * precision * recall, beta**2 * precision + recall)


def _precision(counts: Counts) -> Values:
    return _ratio(np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-2))


def _recall(counts: Counts) -> Values:
    return _ratio(np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-1))


def _ratio(part: Any, whole: Any) -> Values:
    """0 where there is nothing to divide by: a class never predicted has no precision to speak of."""
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) > 0)
