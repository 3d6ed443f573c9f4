"""When a rate or cron expression of EventBridge is due, for the rules and for the schedules."""

import re
from datetime import UTC, datetime, timedelta, tzinfo

from croniter import croniter

_RATE = re.compile(r"rate\((\d+) (minute|hour|day)(s?)\)")
_CRON = re.compile(r"cron\(([^)]+)\)")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_DAY = re.compile(rf"\d+|{'|'.join(_WEEKDAYS)}")
_LAST_WEEKDAY = re.compile(r"(\d)L")


class NoRecurrence(ValueError):
    """The expression is neither a rate nor a cron expression."""


def rate(expression: str, *, is_strict: bool = True) -> timedelta | None:
    """The time between two moments of a rate; None for what is none.

    Where it is strict, one is singular and all else plural, as rules want it.
    """
    match = _RATE.fullmatch(expression)
    if match is None or not (count := int(match.group(1))):
        return None
    if is_strict and (count == 1) != (match.group(3) == ""):
        return None
    try:
        return timedelta(**{f"{match.group(2)}s": count})
    except OverflowError:
        return None


def next_cron(expression: str, after: datetime, *, zone: tzinfo = UTC) -> datetime | None:
    """The first moment after `after`, in UTC; None where there is no more. Raises NoRecurrence.

    A time that the clock of the zone leaves out is left out, and one that it shows twice counts once
    (EventBridge Scheduler User Guide, "Daylight savings time").
    """
    fields = _croniter_fields(expression)
    local = after.astimezone(zone).replace(tzinfo=None)
    try:
        times = croniter(fields, local)
    except (ValueError, KeyError) as error:
        raise NoRecurrence(expression) from error
    while True:
        try:
            due: datetime = times.get_next(datetime)
        except (ValueError, KeyError):  # croniter's word for a year that is past
            return None
        moment = due.replace(tzinfo=zone).astimezone(UTC)
        if moment > after and moment.astimezone(zone).replace(tzinfo=None) == due:
            return moment


def _croniter_fields(expression: str) -> str:
    match = _CRON.fullmatch(expression)
    fields = match.group(1).upper().split() if match else []
    if len(fields) != 6 or "?" not in (fields[2], fields[4]):
        raise NoRecurrence(expression)
    minute, hour, day, month, weekday, year = (field.replace("?", "*") for field in fields)
    return f"{minute} {hour} {day} {month} {_weekday(weekday)} 0 {year}"


def _weekday(field: str) -> str:
    """AWS counts from 1, Sunday; croniter from 0, and writes the last Friday of a month as L5."""
    parts = []
    for part in field.split(","):
        days, sign, further = part.partition("#" if "#" in part else "/")
        days = _DAY.sub(_counted_from_0, "7" if days == "L" else days)
        parts.append(_LAST_WEEKDAY.sub(r"L\1", days) + sign + further)
    return ",".join(parts)


def _counted_from_0(day: re.Match[str]) -> str:
    if not day.group().isdecimal():
        return str(_WEEKDAYS.index(day.group()))
    if not 1 <= int(day.group()) <= len(_WEEKDAYS):
        raise NoRecurrence(f"{day.group()} is no day of the week; they are 1 to 7, and 1 is Sunday")
    return str(int(day.group()) - 1)
