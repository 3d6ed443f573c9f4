"""The numbers of an evaluation, against scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, fbeta_score, precision_recall_fscore_support

from evaluation.metrics import confusion_matrix, evaluation

CLASSES = ("bird", "cat", "dog")


def test_the_metrics_are_what_scikit_learn_computes() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 500)
    predicted = np.where(random.random(500) < 0.7, labels, random.integers(0, 3, 500))

    result = evaluation(confusion_matrix(labels, predicted, 3), CLASSES)

    metrics = result["multiclass_classification_metrics"]
    precision, recall, f1, support = precision_recall_fscore_support(labels, predicted)
    weighted = precision_recall_fscore_support(labels, predicted, average="weighted")
    expected = {
        "accuracy": accuracy_score(labels, predicted),
        "weighted_precision": weighted[0],
        "weighted_recall": weighted[1],
        "weighted_f1": weighted[2],
        "weighted_f0_5": fbeta_score(labels, predicted, beta=0.5, average="weighted"),
        "weighted_f2": fbeta_score(labels, predicted, beta=2, average="weighted"),
    }
    assert {name: metrics[name]["value"] for name in expected} == pytest.approx(expected)
    assert result["per_class"] == {
        name: pytest.approx(
            {"precision": precision[i], "recall": recall[i], "f1": f1[i], "support": support[i]}
        )
        for i, name in enumerate(CLASSES)
    }
    assert result["classes"] == list(CLASSES)


def test_the_confusion_matrix_names_the_true_class_first() -> None:
    counts = confusion_matrix(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1]), 3)

    metrics = evaluation(counts, CLASSES)["multiclass_classification_metrics"]

    assert metrics["confusion_matrix"] == {
        "bird": {"bird": 1, "cat": 1, "dog": 0},
        "cat": {"bird": 0, "cat": 1, "dog": 0},
        "dog": {"bird": 0, "cat": 1, "dog": 0},
    }
    assert metrics["accuracy_best_constant_classifier"] == {"value": 0.5, "standard_deviation": 0.0}


def test_a_class_that_is_never_predicted_has_no_precision() -> None:
    counts = confusion_matrix(np.array([0, 0, 1]), np.array([0, 0, 0]), 2)

    assert evaluation(counts, ("a", "b"))["per_class"]["b"] == {
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
        "support": 1,
    }


def test_the_standard_deviation_of_the_accuracy_is_the_binomial_one() -> None:
    counts = np.array([[80, 20], [20, 80]])

    accuracy = evaluation(counts, ("a", "b"))["multiclass_classification_metrics"]["accuracy"]

    assert accuracy["value"] == 0.8
    assert accuracy["standard_deviation"] == pytest.approx((0.8 * 0.2 / 200) ** 0.5, rel=0.1)
