"""Faults that are injected on purpose: which calls, jobs and events they meet, how often, and what they do.

`fault_file.py` reads them. Calls pass through `Faults.call`, be they from outside or a task's; what becomes
of a job that was created says `fate`, of an event `event_fate`. How often a fault has met something is
counted since the start of the runtime.
"""

import asyncio
import contextlib
import json
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from stagegate.local import event_patterns, fault_errors
from stagegate.local.service import AnswerLost, AWSError, EventFate

log = logging.getLogger(__name__)

CLIENT = "client"
"""Who calls from outside, over HTTP: programs, functions, jobs, builds."""
CALLERS = (CLIENT, "stepfunctions", "events", "scheduler", "cloudformation")
"""Who else calls because a user's definition says so: tasks, targets of rules and schedules, stacks."""
USUAL_CALLERS = (CLIENT, "stepfunctions")

Members = Mapping[str, Any]
Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class Error:
    """The call is not made, and answered with this error."""

    code: str
    message: str | None = None
    status: int | None = None

    def __str__(self) -> str:
        return f"error {self.code}"


@dataclass(frozen=True, kw_only=True)
class Delay:
    """The call is made, or the event delivered, so much later."""

    seconds: float

    def __str__(self) -> str:
        return f"delay {self.seconds:g} s"


@dataclass(frozen=True, kw_only=True)
class Loss:
    """The request, the answer or the event gets lost."""

    what: str

    def __str__(self) -> str:
        return f"lose {self.what}"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What was started fails, for this reason, before it has run."""

    reason: str

    def __str__(self) -> str:
        return f"fail {self.reason}"


@dataclass(frozen=True, kw_only=True)
class Interruption:
    """A spot training job loses its instances, so long after it began to train."""

    after: float
    seconds: float
    """Until there are others."""

    def __str__(self) -> str:
        return f"interrupt after {self.after:g} s for {self.seconds:g} s"


@dataclass(frozen=True, kw_only=True)
class Duplicate:
    """Each target gets the event so many times more."""

    copies: int

    def __str__(self) -> str:
        return f"duplicate {self.copies}"


Effect = Error | Delay | Loss | Failure | Interruption | Duplicate


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One entry of the file: what it meets, when it fires, what it does then."""

    number: int
    effect: Effect
    operation: str = ""
    """`service:Operation`, either with wildcards; empty for a fault of events."""
    event: dict[str, Any] | None = None
    """A pattern as EventBridge reads them."""
    where: Mapping[str, str] = field(default_factory=dict)
    """Patterns of the call's members, by their names, with dots for members of members."""
    by: Sequence[str] = USUAL_CALLERS
    calls: frozenset[int] | None = None
    """By number, of those that it meets; None for any."""
    rate: float = 1.0
    times: int | None = None

    def meets_call(self, service: str, operation: str, members: Callable[[], Members]) -> bool:
        return (
            bool(self.operation)
            and fnmatchcase(f"{service}:{operation}", self.operation)
            and (not self.where or _agrees(self.where, members()))
        )

    def meets_event(self, event: dict[str, Any]) -> bool:
        return self.event is not None and event_patterns.matches(self.event, event)

    def __str__(self) -> str:
        return f"{self.operation or 'event'} {self.effect}"


class Tally:
    """How often a fault has met something, and fired."""

    def __init__(self, fault: Fault, *, seed: int) -> None:
        self.fault = fault
        self.met = 0
        self.fired = 0
        self._random = random.Random(f"{seed}/{fault.number}")

    def fires(self, what: str) -> bool:
        """Count one more, and say whether the fault fires this time."""
        self.met += 1
        fault = self.fault
        is_drawn = self._random.random() < fault.rate  # drawn each time: the same calls whatever `times` says
        is_due = is_drawn if fault.calls is None else self.met in fault.calls
        if not is_due or (fault.times is not None and self.fired >= fault.times):
            return False
        self.fired += 1
        log.warning("fault %d: %s, number %d: %s", fault.number, what, self.met, fault.effect)
        return True


class Faults:
    """All of a file."""

    def __init__(self, faults: Sequence[Fault], *, seed: int = 0) -> None:
        self.tallies = [Tally(fault, seed=seed) for fault in faults]

    async def call(
        self,
        caller: str,
        service: str,
        operation: str,
        members: Callable[[], Members],
        answer: Callable[[], Awaitable[Answer]],
    ) -> Answer:
        """`answer`, unless a fault comes in between. Raises AWSError, and AnswerLost."""
        effects = [
            tally.fault.effect
            for tally in self.tallies
            if isinstance(tally.fault.effect, Error | Delay | Loss)
            and caller in tally.fault.by
            and tally.fault.meets_call(service, operation, members)
            and tally.fires(f"{service}:{operation} by {caller}")
        ]
        for effect in effects:
            if isinstance(effect, Delay):
                await asyncio.sleep(effect.seconds)
        for effect in effects:
            if isinstance(effect, Error):
                raise fault_errors.error_of(
                    service, operation, effect.code, message=effect.message, status=effect.status
                )
            if isinstance(effect, Loss):
                if effect.what == "answer":
                    with contextlib.suppress(AWSError):  # lost too
                        await answer()
                raise AnswerLost
        return await answer()

    def fate(self, service: str, operation: str, members: Members) -> dict[str, Any]:
        """What is to become of what this call has started, as members of its document: `_Failure`, a reason,
        or `_Interruption`."""
        found: dict[str, Any] = {}
        for tally in self.tallies:
            effect = tally.fault.effect
            if isinstance(effect, Interruption) and not members.get("EnableManagedSpotTraining"):
                continue
            if (
                isinstance(effect, Failure | Interruption)
                and tally.fault.meets_call(service, operation, lambda: members)
                and tally.fires(f"{service}:{operation}")
            ):
                if isinstance(effect, Failure):
                    found.setdefault("_Failure", effect.reason)
                else:
                    found.setdefault("_Interruption", {"After": effect.after, "Seconds": effect.seconds})
        return found

    def event_fate(self, event: dict[str, Any]) -> EventFate:
        """What is to become of an event on its way to its targets."""
        copies, seconds, is_lost = 1, 0.0, False
        for tally in self.tallies:
            if tally.fault.meets_event(event) and tally.fires(f"event {event['detail-type']} {event['id']}"):
                match tally.fault.effect:
                    case Duplicate() as duplicate:
                        copies += duplicate.copies
                    case Delay() as delay:
                        seconds += delay.seconds
                    case _:
                        is_lost = True
        return EventFate(copies=copies, seconds=seconds, is_lost=is_lost)

    def counted(self) -> list[dict[str, Any]]:
        """How often each has met something, and fired."""
        return [
            {"Fault": tally.fault.number, "What": str(tally.fault), "Met": tally.met, "Fired": tally.fired}
            for tally in self.tallies
        ]

    def summary(self) -> str:
        """The same in lines to read."""
        lines = [
            f"  {one['Fault']}. {one['What']}: "
            + (f"fired {one['Fired']} of {one['Met']} times" if one["Met"] else "met nothing")
            for one in self.counted()
        ]
        return "\n".join(["Faults", *lines])


def _agrees(where: Mapping[str, str], members: Members) -> bool:
    for path, pattern in where.items():
        value: Any = members
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if value is None or not fnmatchcase(_text(value), pattern):
            return False
    return True


def _text(value: Any) -> str:
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode(errors="replace")
    return value if isinstance(value, str) else json.dumps(value, default=str)
