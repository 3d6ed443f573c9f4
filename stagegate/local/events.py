"""EventBridge: rules that hear what the services announce, and deliver it to their targets, at least once.

A delivery is written down in the same step as the status that it follows from.
"""

import asyncio
import json
import re
import uuid
from datetime import UTC, datetime
from typing import Any

from stagegate.local import event_patterns, recurrence, targets
from stagegate.local.event_buses import BUS, DEFAULT, find_bus
from stagegate.local.event_buses import invalid as _invalid
from stagegate.local.event_history import ARCHIVE, event_time
from stagegate.local.event_routes import RULE, Routes, is_bus, rule_key
from stagegate.local.pages import page
from stagegate.local.service import Announcement, AWSError, Runtime, Service

DELIVERY = "events/delivery"

_NAME = re.compile(r"[.\-_A-Za-z0-9]{1,64}")
_MAX_TARGETS = 5
_OF_EVERY_EVENT = ("id", "account", "source", "time", "region", "resources", "detail-type")

Document = dict[str, Any]


class EventBridge(Service):
    """Rules, on every bus, and the events that come to a bus."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._clocks: dict[str, asyncio.Task[Any]] = {}
        self._routes = Routes(self, DELIVERY)
        runtime.listeners.append(self._hear)

    async def start(self) -> None:
        self._routes.resume()
        for rule in self.runtime.store.list(RULE):
            self._set_clock(rule)

    def put_rule(
        self,
        *,
        Name: str,
        ScheduleExpression: str | None = None,
        EventPattern: str | None = None,
        State: str = "ENABLED",
        Description: str | None = None,
        RoleArn: str | None = None,
        Tags: list[dict[str, str]] | None = None,
        EventBusName: str | None = None,
    ) -> Document:
        bus = self._bus(EventBusName)
        if _NAME.fullmatch(Name) is None:
            raise _invalid(f"Rule name '{Name}' should have 1 to 64 of A-Z a-z 0-9 . - _")
        if not ScheduleExpression and not EventPattern:
            raise _invalid("Parameter(s) EventPattern or ScheduleExpression must be specified.")
        if EventPattern:
            event_patterns.check(_json(EventPattern))
        if ScheduleExpression and _next_time(ScheduleExpression, datetime.now(UTC)) is None:
            raise _invalid("Parameter ScheduleExpression is not valid.")
        if ScheduleExpression and bus != DEFAULT:
            raise _invalid("ScheduleExpression is supported only on the default event bus.")
        before = self.runtime.store.get(RULE, rule_key(bus, Name)) or {"Targets": []}
        given = {
            "EventPattern": EventPattern,
            "ScheduleExpression": ScheduleExpression,
            "Description": Description,
            "RoleArn": RoleArn,
        }
        rule: Document = {
            "Name": Name,
            "Arn": self._arn(bus, Name),
            "State": State,
            "EventBusName": bus,
            **{member: value for member, value in given.items() if value is not None},
            "Tags": before.get("Tags", []) if Tags is None else Tags,
            "Targets": before["Targets"],
        }
        self._put(rule)
        self._set_clock(rule)
        return {"RuleArn": rule["Arn"]}

    def describe_rule(self, *, Name: str, EventBusName: str | None = None) -> Document:
        return _described(self._rule(Name, EventBusName))

    def list_rules(
        self,
        *,
        NamePrefix: str = "",
        EventBusName: str | None = None,
        NextToken: str | None = None,
        Limit: int = 100,
    ) -> Document:
        rules = [
            _described(rule) for rule in self._rules(EventBusName) if rule["Name"].startswith(NamePrefix)
        ]
        return page(
            "Rules",
            sorted(rules, key=lambda rule: rule["Name"]),
            NextToken,
            Limit,
            invalid="ValidationException",
        )

    def delete_rule(self, *, Name: str, EventBusName: str | None = None, Force: bool = False) -> Document:
        key = rule_key(self._bus(EventBusName), Name)
        rule = self.runtime.store.get(RULE, key)
        if rule and rule["Targets"]:
            raise _invalid("Rule can't be deleted since it has targets.")
        self.runtime.store.delete(RULE, key)
        if clock := self._clocks.pop(key, None):
            clock.cancel()
        return {}

    def enable_rule(self, *, Name: str, EventBusName: str | None = None) -> Document:
        return self._set_state(Name, EventBusName, "ENABLED")

    def disable_rule(self, *, Name: str, EventBusName: str | None = None) -> Document:
        return self._set_state(Name, EventBusName, "DISABLED")

    def put_targets(self, *, Rule: str, Targets: list[Document], EventBusName: str | None = None) -> Document:
        rule = self._rule(Rule, EventBusName)
        for target in Targets:
            self._check_target(rule, target)
        kept = {target["Id"]: target for target in [*rule["Targets"], *Targets]}
        if len(kept) > _MAX_TARGETS:
            raise AWSError(
                "LimitExceededException", "The requested resource exceeds the maximum number allowed."
            )
        self._put(rule | {"Targets": list(kept.values())})
        return {"FailedEntryCount": 0, "FailedEntries": []}

    def remove_targets(
        self, *, Rule: str, Ids: list[str], EventBusName: str | None = None, Force: bool = False
    ) -> Document:
        rule = self._rule(Rule, EventBusName)
        left = [target for target in rule["Targets"] if target["Id"] not in Ids]
        self._put(rule | {"Targets": left})
        return {"FailedEntryCount": 0, "FailedEntries": []}

    def list_targets_by_rule(
        self,
        *,
        Rule: str,
        EventBusName: str | None = None,
        NextToken: str | None = None,
        Limit: int = 100,
    ) -> Document:
        return page(
            "Targets",
            self._rule(Rule, EventBusName)["Targets"],
            NextToken,
            Limit,
            invalid="ValidationException",
        )

    def list_rule_names_by_target(
        self,
        *,
        TargetArn: str,
        EventBusName: str | None = None,
        NextToken: str | None = None,
        Limit: int = 100,
    ) -> Document:
        names = [
            rule["Name"]
            for rule in self._rules(EventBusName)
            if TargetArn in (target["Arn"] for target in rule["Targets"])
        ]
        return page("RuleNames", names, NextToken, Limit)

    def put_events(self, *, Entries: list[Document], EndpointId: str | None = None) -> Document:
        answers: list[Document] = []
        for entry in Entries:
            error = _entry_error(entry) or self._bus_error(entry)
            if error is not None:
                answers.append({"ErrorCode": error[0], "ErrorMessage": error[1]})
                continue
            event = self._event(
                source=entry["Source"],
                detail_type=entry["DetailType"],
                detail=json.loads(entry["Detail"]),
                resources=entry.get("Resources", []),
                time=entry.get("Time", datetime.now(UTC)),
            )
            self._routes.match(event, bus=self._bus(entry.get("EventBusName")))
            answers.append({"EventId": event["id"]})
        failed = sum("ErrorCode" in answer for answer in answers)
        return {"FailedEntryCount": failed, "Entries": answers}

    def test_event_pattern(self, *, EventPattern: str, Event: str) -> Document:
        pattern = _json(EventPattern)
        event_patterns.check(pattern)
        try:
            event = json.loads(Event)
        except ValueError as error:
            raise _invalid(f"Parameter Event is not valid. Reason: {error}") from error
        missing = [name for name in _OF_EVERY_EVENT if name not in event]
        if missing:
            raise _invalid(f"Parameter Event is not valid. Reason: {', '.join(missing)} missing")
        return {"Result": event_patterns.matches(pattern, event)}

    def delete_event_bus(self, *, Name: str) -> Document:
        if Name == DEFAULT:
            raise _invalid("Cannot delete event bus default.")
        bus = self.runtime.store.get(BUS, Name.rpartition("/")[2])
        # An archive is a rule too, one of AWS's own
        archived = bus and any(it["bus"] == bus["Name"] for it in self.runtime.store.list(ARCHIVE))
        if bus and (archived or self._rules(Name)):
            raise _invalid("Event bus can't be deleted since it has rules.")
        if bus:
            self.runtime.store.delete(BUS, bus["Name"])
        return {}

    def list_tags_for_resource(self, *, ResourceARN: str) -> Document:
        return {"Tags": self._tagged(ResourceARN)[2]["Tags"]}

    def tag_resource(self, *, ResourceARN: str, Tags: list[dict[str, str]]) -> Document:
        kind, key, resource = self._tagged(ResourceARN)
        tags = {tag["Key"]: tag for tag in [*resource["Tags"], *Tags]}
        self.runtime.store.put(kind, key, resource | {"Tags": list(tags.values())})
        return {}

    def untag_resource(self, *, ResourceARN: str, TagKeys: list[str]) -> Document:
        kind, key, resource = self._tagged(ResourceARN)
        left = [tag for tag in resource["Tags"] if tag["Key"] not in TagKeys]
        self.runtime.store.put(kind, key, resource | {"Tags": left})
        return {}

    def _tagged(self, arn: str) -> tuple[str, str, Document]:
        """The kind, the key and the document of a rule or a bus."""
        kind, _, name = arn.rpartition(":")[2].partition("/")
        if kind == "event-bus":
            return BUS, name, find_bus(self.runtime, name)
        bus, _, rule = name.rpartition("/")
        return RULE, rule_key(bus or DEFAULT, rule), self._rule(rule, bus or None)

    def _hear(self, announcement: Announcement) -> None:
        self._routes.match(
            self._event(
                source=announcement.source,
                detail_type=announcement.detail_type,
                detail=dict(announcement.detail),
                resources=list(announcement.resources),
                time=announcement.time,
            ),
            bus=DEFAULT,
        )

    def _event(
        self, *, source: str, detail_type: str, detail: Document, resources: list[str], time: datetime
    ) -> Document:
        return {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": detail_type,
            "source": source,
            "account": self.runtime.account_id,
            "time": event_time(time),
            "region": self.runtime.region,
            "resources": resources,
            "detail": json.loads(json.dumps(detail, default=_plain)),
        }

    def _set_state(self, name: str, bus: str | None, state: str) -> Document:
        rule = self._rule(name, bus) | {"State": state}
        self._put(rule)
        self._set_clock(rule)
        return {}

    def _set_clock(self, rule: Document) -> None:
        key = rule_key(rule["EventBusName"], rule["Name"])
        if clock := self._clocks.pop(key, None):
            clock.cancel()
        if "ScheduleExpression" in rule and rule["State"] == "ENABLED":
            self._clocks[key] = self.spawn(self._tick(key), name=f"clock {key}")

    async def _tick(self, name: str) -> None:
        """Fire a scheduled rule at its times."""
        last = datetime.now(UTC)
        while rule := self.runtime.store.get(RULE, name):
            due = _next_time(rule["ScheduleExpression"], last)
            if due is None:
                return
            last = due
            await asyncio.sleep(max(0.0, (last - datetime.now(UTC)).total_seconds()))
            rule = self.runtime.store.get(RULE, name)
            if rule is not None:
                self._routes.send(
                    rule,
                    self._event(
                        source="aws.events",
                        detail_type="Scheduled Event",
                        detail={},
                        resources=[rule["Arn"]],
                        time=last,
                    ),
                )

    def _rule(self, name: str, bus: str | None) -> Document:
        bus = self._bus(bus)
        rule = self.runtime.store.get(RULE, rule_key(bus, name))
        if rule is None:
            raise AWSError("ResourceNotFoundException", f"Rule {name} does not exist on EventBus {bus}.")
        return rule

    def _rules(self, bus: str | None) -> list[Document]:
        name = self._bus(bus)
        return [rule for rule in self.runtime.store.list(RULE) if rule["EventBusName"] == name]

    def _put(self, rule: Document) -> None:
        self.runtime.store.put(RULE, rule_key(rule["EventBusName"], rule["Name"]), rule)

    def _bus(self, name_or_arn: str | None) -> str:
        name: str = find_bus(self.runtime, name_or_arn)["Name"]
        return name

    def _bus_error(self, entry: Document) -> tuple[str, str] | None:
        try:
            self._bus(entry.get("EventBusName"))
        except AWSError:
            return "InvalidArgument", f"EventBusName {entry['EventBusName']} does not exist."
        return None

    def _check_target(self, rule: Document, target: Document) -> None:
        if is_bus(target):
            if self._bus(target["Arn"]) == rule["EventBusName"]:
                raise _invalid(f"Target {target['Id']}: the event bus of a rule can't be its target.")
            if given := {"Input", "InputPath", "InputTransformer"} & target.keys():
                raise _invalid(f"Target {target['Id']}: an event bus takes no {', '.join(sorted(given))}.")
        elif not targets.is_supported(target["Arn"]) and not targets.is_log_group(target["Arn"]):
            raise _invalid(
                f"Target {target['Id']}: {target['Arn']} is not supported by the local runtime; state "
                "machines, functions, topics, queues, event buses, build projects and log groups are"
            )

    def _arn(self, bus: str, name: str) -> str:
        return self.runtime.arn("events", f"rule/{rule_key(bus, name)}")


def _next_time(expression: str, after: datetime) -> datetime | None:
    """When a schedule is due next, None for never; raises ValidationException for what is no schedule."""
    if between := recurrence.rate(expression):
        return after + between
    try:
        return recurrence.next_cron(expression, after)
    except recurrence.NoRecurrence as error:
        raise _invalid("Parameter ScheduleExpression is not valid.") from error


def _entry_error(entry: Document) -> tuple[str, str] | None:
    for member in ("Source", "DetailType", "Detail"):
        if not entry.get(member):
            return (
                "InvalidArgument",
                f"Parameter {member} is not valid. Reason: {member} is a required argument.",
            )
    if entry["Source"].startswith("aws."):
        return "NotAuthorizedForSourceException", "Not authorized for the source."
    try:
        detail = json.loads(entry["Detail"])
    except ValueError:
        return "MalformedDetail", "Detail is malformed."
    return None if isinstance(detail, dict) else ("MalformedDetail", "Detail is malformed.")


def _described(rule: Document) -> Document:
    return {member: value for member, value in rule.items() if member not in ("Targets", "Tags")}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise AWSError(
            "InvalidEventPatternException", f"Event pattern is not valid. Reason: {error}"
        ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return int(value.timestamp() * 1000)
    raise TypeError(f"{type(value).__name__} cannot stand in an event")
