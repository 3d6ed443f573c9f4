"""When a schedule is due (EventBridge Scheduler User Guide, "Schedule types")."""

import random
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from stagegate.local import recurrence
from stagegate.local.service import AWSError

_AT = re.compile(r"at\((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\)")
_PRECISION = timedelta(minutes=1)  # the Scheduler's: a target is called within the minute
_START_MAY_BE_PAST = timedelta(minutes=5)
_MOMENT = timedelta(microseconds=1)

Document = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Times:
    """A schedule's due times: one, or those of a rate or a cron expression from a start to an end."""

    expression: str
    zone: tzinfo
    since: datetime
    """The start date, or where there is none the moment from which the expression counts."""
    end: datetime | None
    window: timedelta
    """How much later than due the target may be called."""

    @classmethod
    def of(cls, schedule: Document) -> "Times":
        """Raises ValidationException for an expression or a zone that is none."""
        expression = schedule["ScheduleExpression"]
        times = cls(
            expression=expression,
            zone=_zone(schedule["ScheduleExpressionTimezone"]),
            since=schedule.get("StartDate") or schedule["Since"],
            end=schedule.get("EndDate"),
            window=timedelta(minutes=schedule["FlexibleTimeWindow"].get("MaximumWindowInMinutes", 0)),
        )
        if not (times.once or times.rate or _is_cron(expression)):
            raise _invalid(f"Invalid Schedule Expression {expression}.")
        return times

    @property
    def once(self) -> datetime | None:
        """Of an at expression the one moment."""
        match = _AT.fullmatch(self.expression)
        try:
            local = datetime.fromisoformat(match.group(1)) if match else None
            return local.replace(tzinfo=self.zone).astimezone(UTC) if local else None
        except (ValueError, OverflowError):
            return None

    @property
    def rate(self) -> timedelta | None:
        return recurrence.rate(self.expression, is_strict=False)

    def check_new(self, *, start: datetime | None, now: datetime) -> None:
        """Refuse what a new schedule may not have: times that are past."""
        if self.once:
            if self.once < now - _PRECISION:
                raise _invalid(f"Invalid Schedule Expression {self.expression}. The time is in the past.")
            return
        if start and start < now - _START_MAY_BE_PAST:
            raise _invalid("The StartDate you specify cannot be earlier than 5 minutes ago.")
        if start and self.end and start >= self.end:
            raise _invalid("The StartDate you specify must be earlier than the EndDate.")

    def first(self, now: datetime) -> Document | None:
        """The next time from now on; a rate that counts from now is due at once."""
        if self.once:
            return self._next(self.once) if self.once >= now - _PRECISION else None
        return self._next(self._due_from(max(now, self.since)))

    def after(self, due: datetime, now: datetime) -> Document | None:
        """The next time after `due`; those that were slept through are left out."""
        if self.once:
            return None
        return self._next(self._due_from(max(due + _MOMENT, now - max(self.window, _PRECISION))))

    def _due_from(self, moment: datetime) -> datetime | None:
        """The first due time that is not before `moment`."""
        if rate := self.rate:
            try:
                return self.since + max(-((self.since - moment) // rate), 0) * rate
            except OverflowError:
                return None
        return recurrence.next_cron(self.expression, moment - _MOMENT, zone=self.zone)

    def _next(self, due: datetime | None) -> Document | None:
        if due is None or (self.end and due > self.end and not self.once):
            return None
        return {"Due": due, "Fires": due + self.window * random.random()}


def _is_cron(expression: str) -> bool:
    try:
        recurrence.next_cron(expression, datetime.now(UTC))
    except recurrence.NoRecurrence:
        return False
    return True


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # what ZoneInfo raises for names of no zone
        raise _invalid(
            f"Invalid ScheduleExpressionTimezone {name}; it should be a zone of the IANA's, as Europe/Berlin"
        ) from error


def _invalid(message: str) -> AWSError:
    return AWSError("ValidationException", message)
