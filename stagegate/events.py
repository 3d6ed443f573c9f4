"""What starts things: EventBridge's rules and schedules, their targets, and the runs that came of them."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from stagegate.aws import Services

_LOOKED_AT = 30
"""Of each state machine, so many of the latest executions: each takes a request."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """An execution that an event or a schedule has started."""

    execution_arn: str
    status: str
    at: datetime
    trigger: str


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where an event goes."""

    arn: str
    trigger: str
    """What its input says of why it starts, as in deploy/platform.yaml; "" where it does not say."""
    last: Started | None

    @property
    def name(self) -> str:
        """`stateMachine stagegate-model-build`, `function mail`."""
        parts = self.arn.split(":")
        return " ".join(parts[5:7]) if len(parts) > 6 else parts[-1]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule of an event bus, or a schedule."""

    name: str
    bus: str
    """"" for a schedule."""
    state: str
    description: str
    pattern: str
    schedule: str
    targets: tuple[Target, ...]


def list_rules(services: Services) -> list[Rule]:
    """The rules of all buses, then the schedules."""
    runs = _Runs(services)
    return [*_rules(services, runs), *_schedules(services, runs)]


def _rules(services: Services, runs: "_Runs") -> Iterator[Rule]:
    events = services("events")
    for bus in events.list_event_buses()["EventBuses"]:
        for page in events.get_paginator("list_rules").paginate(EventBusName=bus["Name"]):
            for rule in page["Rules"]:
                targets = events.list_targets_by_rule(Rule=rule["Name"], EventBusName=bus["Name"])["Targets"]
                yield Rule(
                    name=rule["Name"],
                    bus=bus["Name"],
                    state=rule["State"],
                    description=rule.get("Description", ""),
                    pattern=rule.get("EventPattern", ""),
                    schedule=rule.get("ScheduleExpression", ""),
                    targets=tuple(_target(target, runs) for target in targets),
                )


def _schedules(services: Services, runs: "_Runs") -> Iterator[Rule]:
    scheduler = services("scheduler")
    for page in scheduler.get_paginator("list_schedules").paginate():
        for summary in page["Schedules"]:
            found = scheduler.get_schedule(Name=summary["Name"], GroupName=summary["GroupName"])
            zone = found.get("ScheduleExpressionTimezone", "")
            yield Rule(
                name=found["Name"],
                bus="",
                state=found["State"],
                description=found.get("Description", ""),
                pattern="",
                schedule=f"{found['ScheduleExpression']} {zone}".strip(),
                targets=(_target(found["Target"], runs),),
            )


def _target(target: dict[str, Any], runs: "_Runs") -> Target:
    template = target.get("InputTransformer", {}).get("InputTemplate", "") or target.get("Input", "")
    found = re.search(r'"Trigger":\s*"([^"]*)"', template)
    trigger = found[1] if found else ""
    return Target(arn=target["Arn"], trigger=trigger, last=runs.last(target["Arn"], trigger))


class _Runs:
    """The latest executions of the state machines that are targets, each read once."""

    def __init__(self, services: Services) -> None:
        self._client = services("stepfunctions")
        self._of: dict[str, list[Started]] = {}

    def last(self, target: str, trigger: str) -> Started | None:
        """The latest of the target's executions whose input tells of this trigger."""
        if ":stateMachine:" not in target or not trigger:
            return None
        words = [re.escape(part) for part in re.split(r"<[^<>]*>", trigger)]
        machine = ":".join(target.split(":")[:7])  # without a version or an alias
        pattern = re.compile(".*".join(words))
        return next((run for run in self._runs(machine) if pattern.fullmatch(run.trigger)), None)

    def _runs(self, machine: str) -> list[Started]:
        if machine not in self._of:
            page = self._client.list_executions(stateMachineArn=machine, maxResults=_LOOKED_AT)
            self._of[machine] = [self._started(execution) for execution in page["executions"]]
        return self._of[machine]

    def _started(self, execution: dict[str, Any]) -> Started:
        arn = execution["executionArn"]
        given = json.loads(self._client.describe_execution(executionArn=arn).get("input") or "{}")
        trigger = given.get("Trigger", "") if isinstance(given, dict) else ""
        return Started(
            execution_arn=arn, status=execution["status"], at=execution["startDate"], trigger=str(trigger)
        )
