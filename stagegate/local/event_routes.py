"""The way of an event from its bus to the targets of the rules that it matches, and into the archives."""

import json
import uuid
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

from stagegate.local import event_history, event_patterns, event_targets, targets
from stagegate.local.deliveries import Deliveries
from stagegate.local.event_buses import DEFAULT, find_bus
from stagegate.local.service import EventFate, Service

RULE = "events/rule"

Document = dict[str, Any]


class Routes:
    """Those of the events that one service sends; what it owes to targets is kept under a kind of its own."""

    def __init__(self, service: Service, kind: str) -> None:
        self._runtime = service.runtime
        self._deliveries = Deliveries(service, kind, call=self._call, letter=self._letter)

    def resume(self) -> None:
        """After a start: what had not arrived."""
        self._deliveries.resume()

    def match(
        self, event: Document, *, bus: str, only: Collection[str] = (), is_sent_on: bool = False
    ) -> None:
        """Write down a delivery for each target of each of the bus's rules that the event matches.

        Of all rules, or `only` those of these ARNs. An event that came from another bus is not sent on to a
        third: so none goes in circles.
        """
        fate = EventFate() if is_sent_on else self._runtime.event_fate(event)
        if fate.is_lost:
            return
        event_history.keep(self._runtime, event, bus=bus)
        for rule in self._runtime.store.list(RULE):
            if (
                rule["EventBusName"] == bus
                and rule["State"].startswith("ENABLED")
                and (not only or rule["Arn"] in only)
                and "EventPattern" in rule
                and event_patterns.matches(json.loads(rule["EventPattern"]), event)
            ):
                self.send(rule, event, to_buses=not is_sent_on, fate=fate)

    def send(
        self, rule: Document, event: Document, *, to_buses: bool = True, fate: EventFate = EventFate()
    ) -> None:
        for target in rule["Targets"]:
            if is_bus(target) and not to_buses:
                continue
            key = rule_key(rule["EventBusName"], rule["Name"])
            replay = f"{event['replay-name']}/" if "replay-name" in event else ""
            delivery = {
                "id": f"{event['id']}/{replay}{key}/{target['Id']}",
                "event_id": event["id"],
                "rule_arn": rule["Arn"],
                "target": target,
                "input": event_targets.input_of(target, event, rule_arn=rule["Arn"], rule_name=rule["Name"]),
                "since": datetime.now(UTC),
            }
            if fate.seconds:
                delivery["not_before"] = delivery["since"] + timedelta(seconds=fate.seconds)
            self._deliveries.send(delivery)
            for number in range(1, fate.copies):
                copy = {"id": f"{delivery['id']}/{number}", "copy_of": delivery["id"]}
                self._deliveries.send({**delivery, **copy})

    async def _call(self, delivery: Document, *, attempt: int) -> None:
        target = delivery["target"]
        if is_bus(target):
            bus = find_bus(self._runtime, target["Arn"])["Name"]
            self.match(json.loads(delivery["input"]), bus=bus, is_sent_on=True)
            return
        delivery_id: str = delivery.get("copy_of") or delivery["id"]
        name = f"{delivery['event_id']}_{uuid.uuid5(uuid.NAMESPACE_OID, delivery_id)}"
        await targets.call(self._runtime, "events", target, delivery["input"], name=name)

    def _letter(self, delivery: Document, *, attempt: int) -> tuple[str, dict[str, str]]:
        return delivery["input"], {"RULE_ARN": delivery.get("rule_arn", "")}  # unknown to those of before


def rule_key(bus: str, name: str) -> str:
    return name if bus == DEFAULT else f"{bus}/{name}"


def is_bus(target: Document) -> bool:
    return ":event-bus/" in target["Arn"]
