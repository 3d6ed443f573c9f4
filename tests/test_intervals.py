"""The console's intervals: those of the mail, and those of the evaluation's report."""

import pytest

from evaluation.metrics import interval as in_report
from stagegate.intervals import Interval, difference, interval
from tests.deploy.conftest import Functions
from tests.deploy.conftest import functions as functions  # a fixture

SHARES = [(0, 1), (1, 1), (0, 20), (15, 148), (81, 263), (546, 600), (999, 1000)]


def as_pair(found: Interval) -> tuple[float, float]:
    return found.low, found.high


def test_page_mail_and_report_have_the_same_intervals(functions: Functions) -> None:
    mail = functions.modules["approval_statistics"]

    for right, total in SHARES:
        assert as_pair(interval(right, total)) == pytest.approx(mail.interval(right, total))
        assert in_report(right, total) == pytest.approx(mail.interval(right, total))
        for before, before_total in [*SHARES, (0, 0)]:
            now = difference(right, total, before, before_total)
            assert as_pair(now) == pytest.approx(mail.difference(right, total, before, before_total))
    assert as_pair(interval(0, 0)) == mail.interval(0, 0)


def test_a_difference_is_more_than_chance_where_0_is_not_within() -> None:
    assert difference(546, 600, 462, 600).excludes_zero
    assert difference(462, 600, 546, 600).excludes_zero
    assert not difference(9, 10, 8, 10).excludes_zero
