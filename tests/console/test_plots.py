"""Curves as SVG: coordinates that follow from numbers, whatever the numbers are."""

import math

import pytest

from stagegate.console.plots import Series, plot


def test_a_curve_lies_between_round_numbers() -> None:
    drawn = plot("loss", [Series(name="train", points=[(0, 1.5), (1, 0.75), (2, 0.5)])], size=(640, 220))

    assert drawn is not None
    assert [mark.label for mark in drawn.rows] == ["0.5", "0.75", "1", "1.25", "1.5"]
    assert [mark.label for mark in drawn.columns] == ["0", "1", "2"]
    assert drawn.curves[0].line == "52.0,10.0 340.0,148.0 628.0,194.0"
    assert drawn.summary == "loss: train from 1.5 to 0.5, between 0 and 2"


@pytest.mark.parametrize(
    "points",
    [
        [(0, 1)],
        [(0, 0), (0, 0)],
        [(1, 1e300), (2, -1e300)],
        [(1, 1e-300), (2, 2e-300)],
        [(1, 5), (2, 5)],
        [(1, math.nan), (2, math.inf), (3, 1)],
        [(1, 0.1 + 0.2), (2, 0.3)],
    ],
)
def test_every_number_has_a_place_in_the_picture(points: list[tuple[float, float]]) -> None:
    drawn = plot("any", [Series(name="any", points=points)])

    assert drawn is not None
    for place in drawn.curves[0].line.split():
        x, y = (float(value) for value in place.split(","))
        assert drawn.left <= x <= drawn.right
        assert drawn.top <= y <= drawn.bottom
    assert 2 <= len(drawn.rows) <= 8


def test_nothing_is_drawn_of_nothing() -> None:
    assert plot("any", []) is None
    assert plot("any", [Series(name="any", points=[(1, math.nan)])]) is None
