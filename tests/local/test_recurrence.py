"""When rates and cron expressions are due, in UTC and by the clocks of zones."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from stagegate.local.recurrence import NoRecurrence, next_cron, rate

AT = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)  # a Monday
NEW_YORK = ZoneInfo("America/New_York")


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("expression", "due"),
    [
        ("cron(0 12 * * ? *)", utc(2026, 11, 23, 12)),
        ("cron(0/15 * * * ? *)", utc(2026, 11, 23, 9, 45)),
        ("cron(30 9 * * ? *)", utc(2026, 11, 24, 9, 30)),
        ("cron(0 8 1 JAN ? *)", utc(2027, 1, 1, 8)),
        ("cron(0 8 L * ? *)", utc(2026, 11, 30, 8)),
        ("cron(0 8 15W * ? *)", utc(2026, 12, 15, 8)),
        ("cron(0 0 1 1 ? 2030)", utc(2030, 1, 1)),
        ("cron(0 8 ? * 2 *)", utc(2026, 11, 30, 8)),
        ("cron(0 8 ? * MON-FRI *)", utc(2026, 11, 24, 8)),
        ("cron(0 8 ? * sun,1 *)", utc(2026, 11, 29, 8)),
        ("cron(0 8 ? * 2#1 *)", utc(2026, 12, 7, 8)),
        ("cron(0 8 ? * TUE#1 *)", utc(2026, 12, 1, 8)),
        ("cron(0 8 ? * 6L *)", utc(2026, 11, 27, 8)),
        ("cron(0 8 ? * FRIL *)", utc(2026, 11, 27, 8)),
        ("cron(0 8 ? * L *)", utc(2026, 11, 28, 8)),
        ("cron(0 8 ? * 3/2 *)", utc(2026, 11, 24, 8)),
    ],
)
def test_a_cron_expression_is_due(expression: str, due: datetime) -> None:
    assert next_cron(expression, AT) == due


def test_a_step_through_the_week_keeps_its_length() -> None:
    found = [AT]
    for _ in range(4):
        due = next_cron("cron(0 8 ? * 3-7/2 *)", found[-1])
        assert due is not None
        found.append(due)

    assert [due.strftime("%a") for due in found[1:]] == ["Tue", "Thu", "Sat", "Tue"]


@pytest.mark.parametrize("expression", ["cron(0 8 1 1 ? 2020)", "cron(0 0 30 2 ? *)"])
def test_what_is_past_or_in_no_calendar_is_never_due(expression: str) -> None:
    assert next_cron(expression, AT) is None


@pytest.mark.parametrize(
    "expression",
    [
        "cron(* * * * * *)",
        "cron(99 * * * ? *)",
        "cron(0 8 ? * 0 *)",
        "cron(0 8 ? * 8 *)",
        "cron(0 8 ? * MOON *)",
        "cron(0 8 * * ?)",
        "cron()",
        "rate(5 minutes)",
        "at(2026-01-01T00:00:00)",
        "x",
    ],
)
def test_what_is_no_cron_expression_is_refused(expression: str) -> None:
    with pytest.raises(NoRecurrence):
        next_cron(expression, AT)


def test_a_time_is_the_zones() -> None:
    assert next_cron("cron(0 8 * * ? *)", AT, zone=NEW_YORK) == utc(2026, 11, 23, 13)
    assert next_cron("cron(0 8 * * ? *)", utc(2026, 7, 1), zone=NEW_YORK) == utc(2026, 7, 1, 12)


def test_a_time_that_the_clock_leaves_out_is_left_out() -> None:
    before = utc(2026, 3, 7, 12)  # on the 8th, 02:00 becomes 03:00

    assert next_cron("cron(30 2 * * ? *)", before, zone=NEW_YORK) == utc(2026, 3, 9, 6, 30)


def test_a_time_that_the_clock_shows_twice_counts_once() -> None:
    found = [utc(2026, 10, 31, 12)]  # on the 1st, 02:00 becomes 01:00
    for _ in range(3):
        due = next_cron("cron(30 1 * * ? *)", found[-1], zone=NEW_YORK)
        assert due is not None
        found.append(due)

    assert [due.day for due in found[1:]] == [1, 2, 3]
    assert [after - before for before, after in pairwise(found[1:])] == [
        timedelta(hours=25),
        timedelta(hours=24),
    ]


@pytest.mark.parametrize(
    ("expression", "between"),
    [
        ("rate(1 minute)", timedelta(minutes=1)),
        ("rate(5 minutes)", timedelta(minutes=5)),
        ("rate(12 hours)", timedelta(hours=12)),
        ("rate(7 days)", timedelta(days=7)),
        ("rate(1 minutes)", None),
        ("rate(2 hour)", None),
        ("rate(0 minutes)", None),
        ("rate(1 second)", None),
        ("rate(99999999999 days)", None),
        ("cron(0 8 * * ? *)", None),
    ],
)
def test_a_rate_of_a_rule(expression: str, between: timedelta | None) -> None:
    assert rate(expression) == between


def test_a_rate_that_is_not_strict_takes_either_number() -> None:
    assert rate("rate(1 minutes)", is_strict=False) == timedelta(minutes=1)
    assert rate("rate(2 hour)", is_strict=False) == timedelta(hours=2)
