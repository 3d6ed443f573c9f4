"""What an evaluation left is read, and what cannot be read is said to be so."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.metrics import confusion_matrix, evaluation
from evaluation.report import write_report
from stagegate.aws import Services
from stagegate.config import Config
from stagegate.errors import NotFound
from stagegate.evaluations import (
    Bin,
    calibration_error,
    overconfidence,
    read_calibration,
    read_evaluation,
    read_mistakes,
)
from tests.conftest import ROOT, Local
from training.dataset import ImageSet


@pytest.fixture(scope="module")
def services(shared_local: Local) -> Iterator[Services]:
    services = Services(Config(root=ROOT, endpoint_url=shared_local.endpoint_url, data=shared_local.data))
    services("s3").create_bucket(Bucket="data")
    yield services


def put(services: Services, name: str, content: bytes) -> None:
    services("s3").put_object(Bucket="data", Key=f"evaluation/{name}", Body=content)


def test_numbers_follow_from_the_confusion_matrix(services: Services) -> None:
    matrix = {"sea": {"sea": 3, "street": 1}, "street": {"sea": 2, "street": 4}}
    put(
        services,
        "evaluation.json",
        json.dumps({"multiclass_classification_metrics": {"confusion_matrix": matrix}}).encode(),
    )

    found = read_evaluation(services, "s3://data/evaluation")

    assert (found.right, found.images, found.accuracy) == (7, 10, 0.7)
    assert found.confusions() == [("street", "sea", 2, 6), ("sea", "street", 1, 4)]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b"{}",
        *(
            json.dumps({"multiclass_classification_metrics": {"confusion_matrix": matrix}}).encode()
            for matrix in (
                7,
                {"sea": 7},
                {"sea": {"sea": "many"}},
                {"sea": {"sea": float("inf")}},
                {"sea": {"sea": -1}},
            )
        ),
    ],
)
def test_what_is_no_evaluation_is_said_to_be_none(services: Services, content: bytes) -> None:
    put(services, "evaluation.json", content)

    with pytest.raises(NotFound, match=r"evaluation\.json is no evaluation"):
        read_evaluation(services, "s3://data/evaluation")


@pytest.mark.parametrize("folder", ["s3://data/none", "s3://none/none", "data"])
def test_what_is_not_there_is_said_to_be_missing(services: Services, folder: str) -> None:
    for read in (read_evaluation, read_calibration, read_mistakes):
        found: Any = read
        with pytest.raises(NotFound, match=r"cannot be read|names no object"):
            found(services, folder)


def test_what_our_own_evaluation_writes_is_read(services: Services, tmp_path: Path) -> None:
    classes = ("sea", "street & <b>road</b>")
    probabilities = np.array([[0.95, 0.05], [0.85, 0.15], [0.25, 0.75]])
    images = np.full((3, 8, 8, 3), 128, dtype=np.uint8)
    labels = np.array([0, 1, 1])
    data = ImageSet(images=images, labels=labels, classes=classes, files=("1.jpg", "2.jpg", "3.jpg"))
    counts = confusion_matrix(labels, probabilities.argmax(axis=1), 2)
    result = evaluation(counts, classes) | {
        "dataset": {"item_count": 3, "evaluation_time": "2026-11-26T17:00:00Z", "sha256": "ab"},
        "model": {"arch": "resnet18"},
    }
    write_report(tmp_path / "report.html", result, data, probabilities)
    np.savez_compressed(tmp_path / "predictions.npz", probabilities=probabilities, labels=labels)
    for name in ("report.html", "predictions.npz"):
        put(services, name, (tmp_path / name).read_bytes())
    put(services, "evaluation.json", json.dumps(result).encode())

    (mistake,) = read_mistakes(services, "s3://data/evaluation")
    found = read_evaluation(services, "s3://data/evaluation")

    assert (mistake.actual, mistake.said, mistake.file) == ("street & <b>road</b>", "sea 85%", "2.jpg")
    assert mistake.picture.startswith("data:image/jpeg;base64,")
    assert found.metrics["accuracy"][0] == found.accuracy == pytest.approx(2 / 3)
    assert found.per_class["sea"].precision == 0.5
    assert read_calibration(services, "s3://data/evaluation") == [
        Bin(confidence=0.75, right=1, images=1),
        Bin(confidence=0.85, right=0, images=1),
        Bin(confidence=0.95, right=1, images=1),
    ]


def test_calibration_weighs_by_images() -> None:
    bins = [Bin(confidence=0.9, right=2, images=4), Bin(confidence=0.5, right=1, images=1)]

    assert calibration_error(bins) == pytest.approx((4 * 0.4 + 0.5) / 5)
    assert overconfidence(bins) == pytest.approx((4 * 0.4 - 0.5) / 5)
    assert calibration_error([]) == overconfidence([]) == 0
