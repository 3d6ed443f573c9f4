"""The intervals, beside those in the papers that they come from."""

import pytest

from tests.deploy.conftest import Functions


def test_the_interval_of_a_share_is_wilsons(functions: Functions) -> None:
    interval = functions.modules["approval_statistics"].interval

    # Newcombe, Two-sided confidence intervals for the single proportion, 1998, table I, method 3.
    assert interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)
    assert interval(0, 0) == (0.0, 1.0)


def test_the_interval_of_a_difference_is_newcombes(functions: Functions) -> None:
    difference = functions.modules["approval_statistics"].difference

    # Newcombe, Interval estimation for the difference between independent proportions, 1998, method 10.
    assert difference(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert difference(9, 10, 3, 10) == pytest.approx((0.1705, 0.8090), abs=5e-5)
    assert difference(1, 2, 0, 0) == (-1.0, 1.0)
