import io
import json

import pytest
from rich.console import Console

from stagegate.display import (
    confusion_table,
    duration,
    metrics_of,
    predictions_table,
    short_name,
    short_trigger,
)
from stagegate.models import Prediction


def printed(renderable):
    console = Console(file=io.StringIO(), width=100, force_terminal=False)
    console.print(renderable)
    return [line.split() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (42, "42 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations_read_as_people_say_them(seconds, text):
    assert duration(seconds) == text


def test_the_confusion_matrix_has_a_row_for_each_true_class():
    matrix = {"sea": {"sea": 9, "mountain": 1}, "mountain": {"mountain": 10}}
    evaluation = json.dumps({"multiclass_classification_metrics": {"confusion_matrix": matrix}})

    assert printed(confusion_table(evaluation))[1:] == [
        ["sea", "mountain"],
        ["sea", "9", "1"],
        ["mountain", "·", "10"],
    ]


def test_predictions_are_marked_right_or_wrong_and_names_are_not_markup():
    right = Prediction(image="[red]a.jpg", predicted="sea", probabilities={"sea": 0.9, "mountain": 0.1})
    wrong = Prediction(image="b.jpg", predicted="sea", probabilities={"sea": 0.6, "mountain": 0.4})

    assert printed(predictions_table("", [(right, "sea"), (wrong, "mountain"), (wrong, None)]))[-3:] == [
        ["✔", "[red]a.jpg", "sea", "sea", "90.0%", "mountain", "10.0%"],
        ["✘", "b.jpg", "sea", "sea", "60.0%", "mountain", "40.0%"],
        ["b.jpg", "sea", "sea", "60.0%", "mountain", "40.0%"],
    ]


def test_what_is_long_and_says_little_is_shortened():
    assert short_name("r-20261123-071500-1a2b") == "r-20261123-071500-1a2b"
    assert short_name("84636ade-0989-4ab7-a5a2-240d535bb58e_9ffe9af5-7070-577f-ab94") == "84636ade-0989…"
    assert short_trigger(f"commit {'c' * 40} of models/main") == "commit cccccccccccc"
    assert short_trigger("alarm stagegate-retrain-of-x") == "alarm stagegate-retrain-of-x"


def test_an_epochs_line_fits_into_a_terminal():
    losses = "train:loss=0.5123 train:accuracy=0.81 validation:loss=0.4 validation:accuracy=0.85"
    line = f"epoch=3/5 {losses} seconds=9"

    assert metrics_of(line) == "train 0.512 / 0.810  validation 0.400 / 0.850  (loss / accuracy)"
    assert metrics_of("epoch=3/5 batch=10/40 batch:loss=0.61") == "batch 0.610  (loss)"
    assert metrics_of("resumed at epoch=2 batch=0") == ""
