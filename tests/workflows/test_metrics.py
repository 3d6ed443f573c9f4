"""The metric definitions find what training prints, and nothing else."""

import re

import pytest
import torch

from training.train import report_epoch
from workflows.config import metric_definitions


def test_the_metrics_of_an_epoch_are_found_in_the_line_that_training_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    training, validation = torch.tensor([5.0, 8, 10]), torch.tensor([12.5, 7, 10])

    report_epoch(1, 3, training, validation, 12.3)

    line = capsys.readouterr().out
    found = {metric["Name"]: re.findall(metric["Regex"], line) for metric in metric_definitions()}
    assert found == {
        "train:loss": ["0.5000"],
        "train:accuracy": ["0.8000"],
        "validation:loss": ["1.2500"],
        "validation:accuracy": ["0.7000"],
    }


def test_a_line_of_progress_is_no_metric() -> None:
    line = "epoch=3/5 batch=10/40 batch:loss=0.61"

    assert not any(re.findall(metric["Regex"], line) for metric in metric_definitions())


def test_numbers_with_an_exponent_are_taken_whole() -> None:
    (loss,) = (metric for metric in metric_definitions() if metric["Name"] == "train:loss")

    assert re.findall(loss["Regex"], "epoch=1/1 train:loss=1.5e-05 seconds=1") == ["1.5e-05"]
