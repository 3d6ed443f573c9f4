"""The endpoint answers as the model did in the evaluation, by which it was approved."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from endpoint import Sample, download
from findings import Measured
from numpy.typing import NDArray

AGREEMENT = 0.99
"""Of the sample, at least this share has the class that it had offline."""
TOLERANCE = 0.01
"""A probability may differ by this: processors round differently, another model is off by far more."""


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory, sample: Sample) -> NDArray[np.float64]:
    """The evaluation's probabilities for the sample, a column for each of its classes."""
    uri = os.environ.get("PREDICTIONS_URI")
    if not uri:
        pytest.skip("PREDICTIONS_URI is not given: the evaluation of this package kept no predictions")
    path: Path = tmp_path_factory.mktemp("offline") / "predictions.npz"
    download(uri, path)
    with np.load(path, allow_pickle=False) as kept:
        probabilities, labels = kept["probabilities"], kept["labels"]
        names = [str(name) for name in kept["classes"]]
    assert sorted(names) == sorted(sample.classes), f"the evaluation had the classes {', '.join(names)}"
    is_same_set = len(labels) > sample.rows[-1] and (
        tuple(names[label] for label in labels[sample.rows]) == sample.labels
    )
    assert is_same_set, f"{uri} is of another test set than TEST_DATA_URI"
    columns = [names.index(name) for name in sample.classes]
    chosen: NDArray[np.float64] = probabilities[sample.rows][:, columns].astype(np.float64)
    return chosen


def test_the_classes_are_those_of_the_evaluation(
    answers: list[dict[str, Any]], offline: NDArray[np.float64], sample: Sample, measured: Measured
) -> None:
    same = [
        answer["class"] == sample.classes[best]
        for answer, best in zip(answers, offline.argmax(axis=1), strict=True)
    ]

    measured.at_least("offline_agreement", sum(same) / len(same), AGREEMENT)


def test_the_probabilities_are_those_of_the_evaluation(
    answers: list[dict[str, Any]], offline: NDArray[np.float64], sample: Sample, measured: Measured
) -> None:
    online = np.array([[answer["probabilities"][name] for name in sample.classes] for answer in answers])

    measured.at_most("offline_difference", float(np.abs(online - offline).max()), TOLERANCE)
