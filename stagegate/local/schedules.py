"""EventBridge Scheduler: schedules that call their targets when they are due, at least once.

A schedule is kept with the time at which it is due next. When that has come, what is to be delivered and
the time after it are written in one step, so that no due time is lost, and none has two deliveries. After a
start, a one-time schedule that became due meanwhile is delivered; a recurring one goes on with its next time.
"""

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import Any

from stagegate.local import schedule_targets
from stagegate.local.clock import Clock
from stagegate.local.deliveries import Deliveries
from stagegate.local.pages import page
from stagegate.local.schedule_groups import DEFAULT, SCHEDULE, group
from stagegate.local.schedule_times import Times
from stagegate.local.service import AWSError, Runtime, Service

DELIVERY = "scheduler/delivery"

_RETRY_POLICY = {"MaximumEventAgeInSeconds": 86400, "MaximumRetryAttempts": 185}
_TIMING = (
    "ScheduleExpression",
    "ScheduleExpressionTimezone",
    "StartDate",
    "EndDate",
    "FlexibleTimeWindow",
    "State",
)
_SUMMARY = ("Arn", "Name", "GroupName", "State", "CreationDate", "LastModificationDate")
_OURS = ("Since", "Next", "ClientToken")
_PAGE = 100

Document = dict[str, Any]


class Schedules(Service):
    """Each has a clock of its own: a task that waits for its next due time."""

    clock = Clock()

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._waiting: dict[str, asyncio.Task[Any]] = {}
        self._deliveries = Deliveries(
            self, DELIVERY, call=self._call, letter=self._letter, ended=self._completed, clock=self.clock
        )

    async def start(self) -> None:
        self._deliveries.resume()
        now = self.clock.now()
        for schedule in self.runtime.store.list(SCHEDULE):
            times = Times.of(schedule)
            if schedule["Next"] and schedule["Next"]["Fires"] < now and not times.once:
                schedule |= {"Next": times.first(now)}
                self.runtime.store.put(SCHEDULE, _key(schedule), schedule)
                self._delete_completed(_key(schedule))
            self._wait(schedule)

    def create_schedule(
        self, *, Name: str, GroupName: str = DEFAULT, ClientToken: str | None = None, **members: Any
    ) -> Document:
        group(self.runtime.store, GroupName)
        before = self.runtime.store.get(SCHEDULE, f"{GroupName}/{Name}")
        if before is not None:
            if ClientToken is None or before["ClientToken"] != ClientToken:
                raise AWSError("ConflictException", f"Schedule {Name} already exists.", status=409)
            return {"ScheduleArn": before["Arn"]}
        now = self.clock.now()
        schedule = {
            "Arn": self.runtime.arn("scheduler", f"schedule/{GroupName}/{Name}"),
            "GroupName": GroupName,
            "Name": Name,
            "CreationDate": now,
            "LastModificationDate": now,
            "Since": now,
            "ClientToken": ClientToken,
            **_checked(**members),
        }
        times = Times.of(schedule)
        times.check_new(start=schedule.get("StartDate"), now=now)
        return self._keep(schedule | {"Next": times.first(now) if _is_enabled(schedule) else None})

    def get_schedule(self, *, Name: str, GroupName: str = DEFAULT) -> Document:
        schedule = self._schedule(Name, GroupName)
        return {member: value for member, value in schedule.items() if member not in _OURS}

    def update_schedule(
        self, *, Name: str, GroupName: str = DEFAULT, ClientToken: str | None = None, **members: Any
    ) -> Document:
        """What is not given is as if it had not been given when it was created (its API page says so)."""
        before = self._schedule(Name, GroupName)
        now = self.clock.now()
        kept = {part: before[part] for part in ("Arn", "GroupName", "Name", "CreationDate", "ClientToken")}
        schedule = {**kept, "LastModificationDate": now, "Since": now, **_checked(**members)}
        changed = {part for part in _TIMING if schedule.get(part) != before.get(part)}
        if not changed & {"ScheduleExpression", "StartDate"}:
            schedule["Since"] = before["Since"]
        times = Times.of(schedule)
        if changed & {"ScheduleExpression", "ScheduleExpressionTimezone", "StartDate", "EndDate"}:
            start = schedule.get("StartDate") if "StartDate" in changed else None
            times.check_new(start=start, now=now)
        if not changed:
            return self._keep(schedule | {"Next": before["Next"]})
        return self._keep(schedule | {"Next": times.first(now) if _is_enabled(schedule) else None})

    def delete_schedule(
        self, *, Name: str, GroupName: str = DEFAULT, ClientToken: str | None = None
    ) -> Document:
        schedule = self._schedule(Name, GroupName)
        self.runtime.store.delete(SCHEDULE, _key(schedule))
        self._wait(schedule | {"Next": None})
        return {}

    def list_schedules(
        self,
        *,
        GroupName: str | None = None,
        NamePrefix: str = "",
        State: str | None = None,
        MaxResults: int = _PAGE,
        NextToken: str | None = None,
    ) -> Document:
        if GroupName is not None:
            group(self.runtime.store, GroupName)
        found = [
            {part: schedule[part] for part in _SUMMARY} | {"Target": {"Arn": schedule["Target"]["Arn"]}}
            for schedule in self.runtime.store.list(SCHEDULE)
            if GroupName in (None, schedule["GroupName"])
            and schedule["Name"].startswith(NamePrefix)
            and State in (None, schedule["State"])
        ]
        found.sort(key=lambda it: (it["GroupName"], it["Name"]))
        return page("Schedules", found, NextToken, MaxResults)

    def _schedule(self, name: str, group_name: str) -> Document:
        found = self.runtime.store.get(SCHEDULE, f"{group_name}/{name}")
        if found is None:
            group(self.runtime.store, group_name)
            raise AWSError("ResourceNotFoundException", f"Schedule {name} does not exist.", status=404)
        return found

    def _keep(self, schedule: Document) -> Document:
        self.runtime.store.put(SCHEDULE, _key(schedule), schedule)
        self._wait(schedule)
        return {"ScheduleArn": schedule["Arn"]}

    def _wait(self, schedule: Document) -> None:
        """Set its clock anew; where it is not due again, it has none."""
        key = _key(schedule)
        if waiting := self._waiting.pop(key, None):
            waiting.cancel()
        if schedule["Next"]:
            waiting = self.spawn(self._follow(key), name=f"schedule {key}")
            self._waiting[key] = waiting

    async def _follow(self, key: str) -> None:
        """Fire a schedule at its times, until it has no more, or is there no more."""
        while (schedule := self.runtime.store.get(SCHEDULE, key)) and schedule["Next"]:
            await self.clock.until(schedule["Next"]["Fires"])
            if self.runtime.store.get(SCHEDULE, key) == schedule:
                self._fire(schedule)

    def _fire(self, schedule: Document) -> None:
        due, now = schedule["Next"]["Due"], self.clock.now()
        schedule = schedule | {"Next": Times.of(schedule).after(due, now)}
        self.runtime.store.put(SCHEDULE, _key(schedule), schedule)
        execution_id = _execution_id(schedule, due)
        self._deliveries.send(
            {
                "id": f"{_key(schedule)}/{execution_id}",
                "schedule": _key(schedule),
                "schedule_arn": schedule["Arn"],
                "schedule_name": schedule["Name"],
                "execution_id": execution_id,
                "target": schedule["Target"],
                "due": due,
                "since": now,
            }
        )

    async def _call(self, delivery: Document, *, attempt: int) -> None:
        await schedule_targets.call(self.runtime, delivery, attempt=attempt)

    def _letter(self, delivery: Document, *, attempt: int) -> tuple[str, dict[str, str]]:
        text = schedule_targets.text(delivery, attempt=attempt)
        return text, schedule_targets.attributes(delivery)

    def _completed(self, delivery: Document) -> None:
        self._delete_completed(delivery["schedule"])

    def _delete_completed(self, key: str) -> None:
        """After its last delivery, a schedule that is to go after its completion goes."""
        schedule = self.runtime.store.get(SCHEDULE, key)
        if (
            schedule is not None
            and schedule["ActionAfterCompletion"] == "DELETE"
            and schedule["Next"] is None
            and _is_enabled(schedule)
            and not self.runtime.store.list(DELIVERY, prefix=f"{key}/")
        ):
            self.runtime.store.delete(SCHEDULE, key)


def _checked(
    *,
    ScheduleExpression: str,
    Target: Document,
    FlexibleTimeWindow: Document,
    ScheduleExpressionTimezone: str = "UTC",
    StartDate: datetime | None = None,
    EndDate: datetime | None = None,
    State: str = "ENABLED",
    ActionAfterCompletion: str = "NONE",
    Description: str | None = None,
    KmsKeyArn: str | None = None,
) -> Document:
    """The members that say what a schedule does, with the defaults of those that are not given."""
    schedule_targets.check(Target)
    _check_window(FlexibleTimeWindow)
    given = {
        "StartDate": StartDate and StartDate.astimezone(UTC),
        "EndDate": EndDate and EndDate.astimezone(UTC),
        "Description": Description,
        "KmsKeyArn": KmsKeyArn,
    }
    return {
        "ScheduleExpression": ScheduleExpression,
        "ScheduleExpressionTimezone": ScheduleExpressionTimezone,
        "FlexibleTimeWindow": FlexibleTimeWindow,
        "State": State,
        "ActionAfterCompletion": ActionAfterCompletion,
        "Target": {**Target, "RetryPolicy": {**_RETRY_POLICY, **Target.get("RetryPolicy", {})}},
        **{member: value for member, value in given.items() if value is not None},
    }


def _check_window(window: Document) -> None:
    if (window["Mode"] == "FLEXIBLE") != ("MaximumWindowInMinutes" in window):
        raise AWSError(
            "ValidationException",
            "FlexibleTimeWindow has MaximumWindowInMinutes where its Mode is FLEXIBLE, and only there.",
        )


def _execution_id(schedule: Document, due: datetime) -> str:
    """The same for the same due time of the same schedule, however often it is delivered."""
    parts = (schedule["Arn"], schedule["CreationDate"].isoformat(), due.isoformat())
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def _is_enabled(schedule: Document) -> bool:
    return bool(schedule["State"] == "ENABLED")


def _key(schedule: Document) -> str:
    return f"{schedule['GroupName']}/{schedule['Name']}"
