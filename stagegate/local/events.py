"""EventBridge: rules that hear what the services announce, and deliver it to their targets, at least once.

A delivery is written down in the same step as the status that it follows from, and deleted when its target
has taken it: what had not arrived when the server ended is delivered after the next start.
"""

import asyncio
import json
import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from croniter import croniter

from stagegate.local import event_patterns, event_targets
from stagegate.local.service import Announcement, AWSError, Runtime, Service

RULE = "events/rule"
DELIVERY = "events/delivery"

_NAME = re.compile(r"[.\-_A-Za-z0-9]{1,64}")
_RATE = re.compile(r"rate\((\d+) (minute|minutes|hour|hours|day|days)\)")
_CRON = re.compile(r"cron\(([^)]+)\)")
_MAX_TARGETS = 5
_RETRIES = 185  # EventBridge's default: as many, within 24 hours
_MAX_AGE = 24 * 3600
_MAX_WAIT = 60.0

Document = dict[str, Any]


class EventBridge(Service):
    """Rules on the default bus."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._clocks: dict[str, asyncio.Task[Any]] = {}
        runtime.listeners.append(self._hear)

    async def start(self) -> None:
        for delivery in self.runtime.store.list(DELIVERY):
            self.spawn(self._deliver(delivery), name=f"delivery {delivery['id']}")
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
        _check_bus(EventBusName)
        if _NAME.fullmatch(Name) is None:
            raise _invalid(f"Rule name '{Name}' should have 1 to 64 of A-Z a-z 0-9 . - _")
        if not ScheduleExpression and not EventPattern:
            raise _invalid("Parameter(s) EventPattern or ScheduleExpression must be specified.")
        if EventPattern:
            event_patterns.check(_json(EventPattern))
        if ScheduleExpression:
            _next_time(ScheduleExpression, datetime.now(UTC))
        before = self.runtime.store.get(RULE, Name) or {"Targets": []}
        given = {
            "EventPattern": EventPattern,
            "ScheduleExpression": ScheduleExpression,
            "Description": Description,
            "RoleArn": RoleArn,
        }
        rule: Document = {
            "Name": Name,
            "Arn": self._arn(Name),
            "State": State,
            "EventBusName": "default",
            **{member: value for member, value in given.items() if value is not None},
            "Tags": before.get("Tags", []) if Tags is None else Tags,
            "Targets": before["Targets"],
        }
        self.runtime.store.put(RULE, Name, rule)
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
        _check_bus(EventBusName)
        rules = [_described(rule) for rule in self.runtime.store.list(RULE, prefix=NamePrefix)]
        return _page("Rules", sorted(rules, key=lambda rule: rule["Name"]), NextToken, Limit)

    def delete_rule(self, *, Name: str, EventBusName: str | None = None, Force: bool = False) -> Document:
        _check_bus(EventBusName)
        rule = self.runtime.store.get(RULE, Name)
        if rule and rule["Targets"]:
            raise _invalid("Rule can't be deleted since it has targets.")
        self.runtime.store.delete(RULE, Name)
        if clock := self._clocks.pop(Name, None):
            clock.cancel()
        return {}

    def enable_rule(self, *, Name: str, EventBusName: str | None = None) -> Document:
        return self._set_state(Name, EventBusName, "ENABLED")

    def disable_rule(self, *, Name: str, EventBusName: str | None = None) -> Document:
        return self._set_state(Name, EventBusName, "DISABLED")

    def put_targets(self, *, Rule: str, Targets: list[Document], EventBusName: str | None = None) -> Document:
        rule = self._rule(Rule, EventBusName)
        for target in Targets:
            if not event_targets.is_supported(target["Arn"]):
                raise _invalid(
                    f"Target {target['Id']}: {target['Arn']} is not supported by the local runtime; state "
                    "machines, functions, topics, queues and build projects are"
                )
        targets = {target["Id"]: target for target in [*rule["Targets"], *Targets]}
        if len(targets) > _MAX_TARGETS:
            raise AWSError(
                "LimitExceededException", "The requested resource exceeds the maximum number allowed."
            )
        self.runtime.store.put(RULE, Rule, rule | {"Targets": list(targets.values())})
        return {"FailedEntryCount": 0, "FailedEntries": []}

    def remove_targets(
        self, *, Rule: str, Ids: list[str], EventBusName: str | None = None, Force: bool = False
    ) -> Document:
        rule = self._rule(Rule, EventBusName)
        left = [target for target in rule["Targets"] if target["Id"] not in Ids]
        self.runtime.store.put(RULE, Rule, rule | {"Targets": left})
        return {"FailedEntryCount": 0, "FailedEntries": []}

    def list_targets_by_rule(
        self,
        *,
        Rule: str,
        EventBusName: str | None = None,
        NextToken: str | None = None,
        Limit: int = 100,
    ) -> Document:
        return _page("Targets", self._rule(Rule, EventBusName)["Targets"], NextToken, Limit)

    def list_rule_names_by_target(
        self,
        *,
        TargetArn: str,
        EventBusName: str | None = None,
        NextToken: str | None = None,
        Limit: int = 100,
    ) -> Document:
        _check_bus(EventBusName)
        names = [
            rule["Name"]
            for rule in self.runtime.store.list(RULE)
            if TargetArn in (target["Arn"] for target in rule["Targets"])
        ]
        return _page("RuleNames", names, NextToken, Limit)

    def put_events(self, *, Entries: list[Document], EndpointId: str | None = None) -> Document:
        answers: list[Document] = []
        for entry in Entries:
            error = _entry_error(entry)
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
            self._match(event)
            answers.append({"EventId": event["id"]})
        failed = sum("ErrorCode" in answer for answer in answers)
        return {"FailedEntryCount": failed, "Entries": answers}

    def test_event_pattern(self, *, EventPattern: str, Event: str) -> Document:
        pattern, event = _json(EventPattern), json.loads(Event)
        event_patterns.check(pattern)
        missing = [
            name for name in ("id", "account", "source", "time", "region", "detail-type") if name not in event
        ]
        if missing:
            raise _invalid(f"Parameter Event is not valid. Reason: {', '.join(missing)} missing")
        return {"Result": event_patterns.matches(pattern, event)}

    def describe_event_bus(self, *, Name: str | None = None) -> Document:
        _check_bus(Name)
        return {"Name": "default", "Arn": self.runtime.arn("events", "event-bus/default")}

    def list_event_buses(
        self, *, NamePrefix: str = "", NextToken: str | None = None, Limit: int = 100
    ) -> Document:
        buses = [self.describe_event_bus()] if "default".startswith(NamePrefix) else []
        return {"EventBuses": buses}

    def list_tags_for_resource(self, *, ResourceARN: str) -> Document:
        return {"Tags": self._rule(ResourceARN.rsplit("/", 1)[-1], None)["Tags"]}

    def tag_resource(self, *, ResourceARN: str, Tags: list[dict[str, str]]) -> Document:
        rule = self._rule(ResourceARN.rsplit("/", 1)[-1], None)
        tags = {tag["Key"]: tag for tag in [*rule["Tags"], *Tags]}
        self.runtime.store.put(RULE, rule["Name"], rule | {"Tags": list(tags.values())})
        return {}

    def untag_resource(self, *, ResourceARN: str, TagKeys: list[str]) -> Document:
        rule = self._rule(ResourceARN.rsplit("/", 1)[-1], None)
        left = [tag for tag in rule["Tags"] if tag["Key"] not in TagKeys]
        self.runtime.store.put(RULE, rule["Name"], rule | {"Tags": left})
        return {}

    def _hear(self, announcement: Announcement) -> None:
        self._match(
            self._event(
                source=announcement.source,
                detail_type=announcement.detail_type,
                detail=dict(announcement.detail),
                resources=list(announcement.resources),
                time=announcement.time,
            )
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
            "time": time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": self.runtime.region,
            "resources": resources,
            "detail": json.loads(json.dumps(detail, default=_plain)),
        }

    def _match(self, event: Document) -> None:
        """Write down a delivery for each target of each rule that the event matches."""
        for rule in self.runtime.store.list(RULE):
            if (
                rule["State"].startswith("ENABLED")
                and "EventPattern" in rule
                and event_patterns.matches(json.loads(rule["EventPattern"]), event)
            ):
                self._send(rule, event)

    def _send(self, rule: Document, event: Document) -> None:
        for target in rule["Targets"]:
            delivery = {
                "id": f"{event['id']}/{rule['Name']}/{target['Id']}",
                "event_id": event["id"],
                "rule": rule["Name"],
                "target": target,
                "input": event_targets.input_of(target, event, rule_arn=rule["Arn"], rule_name=rule["Name"]),
                "since": datetime.now(UTC),
            }
            self.runtime.store.put(DELIVERY, delivery["id"], delivery)
            self.spawn(self._deliver(delivery), name=f"delivery {delivery['id']}")

    async def _deliver(self, delivery: Document) -> None:
        """Until the target has taken it, or its retry policy ends; then it goes to the dead-letter queue."""
        await self.runtime.store.committed()
        target, policy = delivery["target"], delivery["target"].get("RetryPolicy", {})
        age = timedelta(seconds=policy.get("MaximumEventAgeInSeconds", _MAX_AGE))
        tries = policy.get("MaximumRetryAttempts", _RETRIES)
        for attempt in range(tries + 1):
            try:
                await event_targets.call(
                    self.runtime.aws,
                    target,
                    delivery["input"],
                    event_id=delivery["event_id"],
                    rule_name=delivery["rule"],
                )
                break
            except AWSError as error:
                late = datetime.now(UTC) - delivery["since"] > age
                if late or attempt == tries or not _is_passing(error):
                    await self._give_up(delivery, error)
                    break
            await asyncio.sleep(min(0.2 * 2**attempt, _MAX_WAIT))
        self.runtime.store.delete(DELIVERY, delivery["id"])

    async def _give_up(self, delivery: Document, error: AWSError) -> None:
        queue = delivery["target"].get("DeadLetterConfig", {}).get("Arn")
        if queue is None:
            return
        attributes = {
            "ERROR_CODE": error.code,
            "ERROR_MESSAGE": error.message,
            "RULE_ARN": self._arn(delivery["rule"]),
            "TARGET_ARN": delivery["target"]["Arn"],
        }
        url = (await self.runtime.aws("sqs", "GetQueueUrl", {"QueueName": queue.rsplit(":", 1)[-1]}))[
            "QueueUrl"
        ]
        await self.runtime.aws(
            "sqs",
            "SendMessage",
            {
                "QueueUrl": url,
                "MessageBody": delivery["input"],
                "MessageAttributes": {
                    name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
                },
            },
        )

    def _set_state(self, name: str, bus: str | None, state: str) -> Document:
        rule = self._rule(name, bus) | {"State": state}
        self.runtime.store.put(RULE, name, rule)
        self._set_clock(rule)
        return {}

    def _set_clock(self, rule: Document) -> None:
        if clock := self._clocks.pop(rule["Name"], None):
            clock.cancel()
        if "ScheduleExpression" in rule and rule["State"] == "ENABLED":
            self._clocks[rule["Name"]] = self.spawn(self._tick(rule["Name"]), name=f"clock {rule['Name']}")

    async def _tick(self, name: str) -> None:
        """Fire a scheduled rule at its times."""
        last = datetime.now(UTC)
        while rule := self.runtime.store.get(RULE, name):
            last = _next_time(rule["ScheduleExpression"], last)
            await asyncio.sleep(max(0.0, (last - datetime.now(UTC)).total_seconds()))
            rule = self.runtime.store.get(RULE, name)
            if rule is not None:
                self._send(
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
        _check_bus(bus)
        rule = self.runtime.store.get(RULE, name)
        if rule is None:
            raise AWSError("ResourceNotFoundException", f"Rule {name} does not exist on EventBus default.")
        return rule

    def _arn(self, name: str) -> str:
        return self.runtime.arn("events", f"rule/{name}")


def _next_time(expression: str, after: datetime) -> datetime:
    """When a schedule is due next; raises ValidationException for what is no schedule."""
    if match := _RATE.fullmatch(expression):
        count, unit = int(match.group(1)), match.group(2).rstrip("s") + "s"
        if count and (count == 1) == (match.group(2)[-1] != "s"):
            return after + timedelta(**{unit: count})
    if match := _CRON.fullmatch(expression):
        fields = match.group(1).split()
        if len(fields) == 6 and "?" in (fields[2], fields[4]):
            minute, hour, day, month, weekday, year = (field.replace("?", "*") for field in fields)
            weekday = re.sub(r"\d", lambda digit: str(int(digit.group()) - 1), weekday)  # AWS: Sunday is 1
            try:
                times = croniter(f"{minute} {hour} {day} {month} {weekday} 0 {year}", after)
                due: datetime = times.get_next(datetime)
            except (ValueError, KeyError) as error:
                raise _invalid("Parameter ScheduleExpression is not valid.") from error
            return due
    raise _invalid("Parameter ScheduleExpression is not valid.")


def _entry_error(entry: Document) -> tuple[str, str] | None:
    for member in ("Source", "DetailType", "Detail"):
        if not entry.get(member):
            return (
                "InvalidArgument",
                f"Parameter {member} is not valid. Reason: {member} is a required argument.",
            )
    if entry["Source"].startswith("aws."):
        return "NotAuthorizedForSourceException", "Not authorized for the source."
    if entry.get("EventBusName", "default").rsplit("/", 1)[-1] != "default":
        return "InvalidArgument", f"EventBusName {entry['EventBusName']} does not exist."
    try:
        detail = json.loads(entry["Detail"])
    except ValueError:
        return "MalformedDetail", "Detail is malformed."
    return None if isinstance(detail, dict) else ("MalformedDetail", "Detail is malformed.")


def _is_passing(error: AWSError) -> bool:
    """EventBridge tries again where the target was throttled or not there for a moment."""
    return error.status >= 500 or error.status == 429 or "Throttl" in error.code or "TooMany" in error.code


def _described(rule: Document) -> Document:
    return {member: value for member, value in rule.items() if member not in ("Targets", "Tags")}


def _page(member: str, values: list[Any], token: str | None, limit: int) -> Document:
    start = int(token) if token else 0
    answer: Document = {member: values[start : start + limit]}
    if start + limit < len(values):
        answer["NextToken"] = str(start + limit)
    return answer


def _check_bus(name: str | None) -> None:
    if name is not None and name.rsplit("/", 1)[-1] != "default":
        raise AWSError("ResourceNotFoundException", f"Event bus {name} does not exist.")


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


def _invalid(message: str) -> AWSError:
    return AWSError("ValidationException", message)
