"""CloudWatch alarms, which moto keeps and nobody evaluates there: they follow their metrics, and act.

An alarm's state is a document in the store, changed in one place, announced to EventBridge. The samples that
it is evaluated by are in memory: after a restart it has those that come in from then on.
"""

import asyncio
import json
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from stagegate.local import alarm_actions
from stagegate.local.alarm_evaluation import (
    FURTHER_PERIODS,
    INSUFFICIENT,
    Watched,
    datapoints,
    evaluate,
)
from stagegate.local.alarm_requests import as_alarm, check_alarm
from stagegate.local.metric_points import Metric, metric_of, put
from stagegate.local.metric_requests import check_data
from stagegate.local.pages import page
from stagegate.local.service import Announcement, AWSError, Runtime, Service

ALARM = "cloudwatch/alarm"
HISTORY = "cloudwatch/alarm-history"
ACTION = "cloudwatch/alarm-action"

_EVALUATION_SECONDS = 1.0
_HELD_SECONDS = 5.0
"""How long a state that was set by hand stays before the metric is looked at again."""
_KEPT_HISTORY = 100  # of one alarm
_PAGE = 50

Document = dict[str, Any]


class Alarms(Service):
    """Metric alarms, and the metrics as they come in."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._watched: dict[Metric, Watched] = {}
        self._set_by_hand: dict[str, float] = {}
        self._evaluating: asyncio.Task[Any] | None = None

    async def start(self) -> None:
        for action in self.runtime.store.list(ACTION):
            self.spawn(self._act(action), name=f"alarm action {action['id']}")
        self._watch()

    def put_metric_data(
        self,
        *,
        Namespace: str,
        MetricData: list[Document] | None = None,
        EntityMetricData: list[Document] | None = None,
        StrictEntityValidation: bool = False,
    ) -> Document:
        data = [*(MetricData or ()), *(datum for of in EntityMetricData or () for datum in of["MetricData"])]
        check_data(data)
        for metric, sample in put(self.runtime.store, Namespace, data):
            if watched := self._watched.get(metric):
                watched.add(sample)
        return {}

    def put_metric_alarm(
        self, *, AlarmName: str, Tags: list[dict[str, str]] | None = None, **given: Any
    ) -> Document:
        check_alarm(given)
        before = self.runtime.store.get(ALARM, AlarmName)
        now = datetime.now(UTC)
        state = (
            {name: before[name] for name in before if name.startswith("State")}
            if before
            else {
                "StateValue": INSUFFICIENT,
                "StateReason": "Unchecked: Initial alarm creation",
                "StateUpdatedTimestamp": now,
                "StateTransitionedTimestamp": now,
            }
        )
        alarm = {
            "AlarmName": AlarmName,
            "AlarmArn": self.runtime.arn("cloudwatch", f"alarm:{AlarmName}"),
            "AlarmConfigurationUpdatedTimestamp": now,
            **as_alarm(given),
            **state,
            # As on AWS, tags are those of the creation; TagResource changes them.
            "Tags": before["Tags"] if before else (Tags or []),
        }
        self.runtime.store.put(ALARM, AlarmName, alarm)
        done = "Update" if before else "Create"
        summary = f'Alarm "{AlarmName}" {done.lower()}d'
        self._remember(alarm, "ConfigurationUpdate", summary, {"version": "1.0", "type": done})
        self._watch()
        return {}

    def put_composite_alarm(self, **given: Any) -> Document:
        raise AWSError("ValidationError", "Composite alarms are not supported by the local runtime.")

    def describe_alarms(
        self,
        *,
        AlarmNames: list[str] | None = None,
        AlarmNamePrefix: str | None = None,
        AlarmTypes: list[str] | None = None,
        ActionPrefix: str | None = None,
        StateValue: str | None = None,
        MaxRecords: int = _PAGE,
        NextToken: str | None = None,
        **rest: Any,
    ) -> Document:
        if AlarmNames and AlarmNamePrefix:
            raise AWSError(
                "InvalidParameterCombination", "AlarmNamePrefix and AlarmNames are mutually exclusive."
            )
        if AlarmTypes and "MetricAlarm" not in AlarmTypes:
            return {"MetricAlarms": [], "CompositeAlarms": []}
        found = [
            alarm
            for alarm in self.runtime.store.list(ALARM, prefix=AlarmNamePrefix or "")
            if (not AlarmNames or alarm["AlarmName"] in AlarmNames)
            and StateValue in (None, alarm["StateValue"])
            and (ActionPrefix is None or any(arn.startswith(ActionPrefix) for arn in _all_actions(alarm)))
        ]
        found.sort(key=lambda alarm: str(alarm["AlarmName"]))
        answer: Document = {"CompositeAlarms": []}
        shown = [_shown(alarm) for alarm in found]
        return answer | page("MetricAlarms", shown, NextToken, MaxRecords, invalid="InvalidNextToken")

    def describe_alarms_for_metric(
        self, *, MetricName: str, Namespace: str, Dimensions: list[dict[str, str]] | None = None, **rest: Any
    ) -> Document:
        wanted = metric_of(Namespace, {"MetricName": MetricName, "Dimensions": Dimensions})
        narrower = {name: value for name, value in rest.items() if value is not None}
        return {
            "MetricAlarms": [
                _shown(alarm)
                for alarm in self.runtime.store.list(ALARM)
                if metric_of(alarm["Namespace"], alarm) == wanted
                and all(alarm.get(name) == value for name, value in narrower.items())
            ]
        }

    def delete_alarms(self, *, AlarmNames: list[str]) -> Document:
        for name in AlarmNames:
            self._alarm(name)
        for name in AlarmNames:
            self.runtime.store.delete(ALARM, name)
            self.runtime.store.delete_stream(f"{HISTORY}/{name}")
        return {}

    def set_alarm_state(
        self, *, AlarmName: str, StateValue: str, StateReason: str, StateReasonData: str | None = None
    ) -> Document:
        alarm = self._alarm(AlarmName)
        if StateReasonData is not None:
            try:
                json.loads(StateReasonData)
            except ValueError as error:
                raise AWSError("InvalidFormat", "StateReasonData is not valid JSON") from error
        self._set_by_hand[AlarmName] = time.monotonic()
        self._change(alarm, StateValue, StateReason, StateReasonData)
        return {}

    def enable_alarm_actions(self, *, AlarmNames: list[str]) -> Document:
        return self._enable(AlarmNames, is_enabled=True)

    def disable_alarm_actions(self, *, AlarmNames: list[str]) -> Document:
        return self._enable(AlarmNames, is_enabled=False)

    def describe_alarm_history(
        self,
        *,
        AlarmName: str | None = None,
        HistoryItemType: str | None = None,
        StartDate: datetime | None = None,
        EndDate: datetime | None = None,
        ScanBy: str = "TimestampDescending",
        MaxRecords: int = _PAGE,
        NextToken: str | None = None,
        **rest: Any,
    ) -> Document:
        names = [AlarmName] if AlarmName else [alarm["AlarmName"] for alarm in self.runtime.store.list(ALARM)]
        items = [
            item
            for name in names
            for item in self.runtime.store.read(f"{HISTORY}/{name}")
            if HistoryItemType in (None, item["HistoryItemType"])
            and (StartDate is None or item["Timestamp"] >= StartDate)
            and (EndDate is None or item["Timestamp"] <= EndDate)
        ]
        items.sort(key=lambda item: item["Timestamp"], reverse=ScanBy == "TimestampDescending")
        return page("AlarmHistoryItems", items, NextToken, MaxRecords, invalid="InvalidNextToken")

    async def list_tags_for_resource(self, *, ResourceARN: str) -> Document:
        if alarm := self._tagged(ResourceARN):
            return {"Tags": alarm["Tags"]}
        return await self.runtime.beneath("cloudwatch", "ListTagsForResource", {"ResourceARN": ResourceARN})

    async def tag_resource(self, *, ResourceARN: str, Tags: list[dict[str, str]]) -> Document:
        if alarm := self._tagged(ResourceARN):
            tags = {tag["Key"]: tag["Value"] for tag in [*alarm["Tags"], *Tags]}
            alarm["Tags"] = [{"Key": key, "Value": value} for key, value in tags.items()]
            self.runtime.store.put(ALARM, alarm["AlarmName"], alarm)
            return {}
        return await self.runtime.beneath(
            "cloudwatch", "TagResource", {"ResourceARN": ResourceARN, "Tags": Tags}
        )

    async def untag_resource(self, *, ResourceARN: str, TagKeys: list[str]) -> Document:
        if alarm := self._tagged(ResourceARN):
            alarm["Tags"] = [tag for tag in alarm["Tags"] if tag["Key"] not in TagKeys]
            self.runtime.store.put(ALARM, alarm["AlarmName"], alarm)
            return {}
        return await self.runtime.beneath(
            "cloudwatch", "UntagResource", {"ResourceARN": ResourceARN, "TagKeys": TagKeys}
        )

    def _tagged(self, arn: str) -> Document | None:
        name = arn.partition(":alarm:")[2]
        if not name:
            return None
        alarm = self.runtime.store.get(ALARM, name)
        if alarm is None:
            raise AWSError("ResourceNotFoundException", f"Unknown resource {arn}", status=404)
        return alarm

    def _alarm(self, name: str) -> Document:
        alarm = self.runtime.store.get(ALARM, name)
        if alarm is None:
            raise AWSError("ResourceNotFound", f"Alarm {name} does not exist", status=404)
        return alarm

    def _enable(self, names: list[str], *, is_enabled: bool) -> Document:
        for name in names:
            if alarm := self.runtime.store.get(ALARM, name):
                self.runtime.store.put(ALARM, name, alarm | {"ActionsEnabled": is_enabled})
        return {}

    def _watch(self) -> None:
        """Keep the samples of the metrics that alarms look at, and look, as long as there is an alarm."""
        wanted: dict[Metric, float] = {}
        for alarm in self.runtime.store.list(ALARM):
            metric = metric_of(alarm["Namespace"], alarm)
            seconds = alarm["Period"] * (alarm["EvaluationPeriods"] + FURTHER_PERIODS)
            wanted[metric] = max(wanted.get(metric, 0.0), seconds)
        self._watched = {of: self._watched.get(of) or Watched(seconds) for of, seconds in wanted.items()}
        for metric, seconds in wanted.items():
            self._watched[metric].kept_seconds = seconds
        if wanted and (self._evaluating is None or self._evaluating.done()):
            self._evaluating = self.spawn(self._evaluate_always(), name="alarms")

    async def _evaluate_always(self) -> None:
        while alarms := self.runtime.store.list(ALARM):
            for alarm in alarms:
                self._evaluate(alarm)
            await asyncio.sleep(_EVALUATION_SECONDS)
        self._watched.clear()

    def _evaluate(self, alarm: Document) -> None:
        name = alarm["AlarmName"]
        if time.monotonic() - self._set_by_hand.get(name, -_HELD_SECONDS) < _HELD_SECONDS:
            return
        now = time.time()
        watched = self._watched[metric_of(alarm["Namespace"], alarm)]
        found = evaluate(alarm, datapoints(alarm, watched.samples, now=now), now=now)
        if found.state != alarm["StateValue"]:
            self._change(alarm, found.state, found.reason, json.dumps(found.data))

    def _change(self, alarm: Document, value: str, reason: str, data: str | None) -> None:
        """The one place where an alarm gets its state; what follows is written down in the same step."""
        now = datetime.now(UTC)
        is_transition = value != alarm["StateValue"]
        changed = alarm | {
            "StateValue": value,
            "StateReason": reason,
            "StateUpdatedTimestamp": now,
            **({"StateTransitionedTimestamp": now} if is_transition else {}),
        }
        changed.pop("StateReasonData", None)
        if data is not None:
            changed["StateReasonData"] = data
        self.runtime.store.put(ALARM, alarm["AlarmName"], changed)
        if not is_transition:
            return
        self._remember(
            changed,
            "StateUpdate",
            f"Alarm updated from {alarm['StateValue']} to {value}",
            {
                "version": "1.0",
                "oldState": {"stateValue": alarm["StateValue"], "stateReason": alarm["StateReason"]},
                "newState": {"stateValue": value, "stateReason": reason},
            },
        )
        self.runtime.announce(
            Announcement(
                source="aws.cloudwatch",
                detail_type="CloudWatch Alarm State Change",
                detail=alarm_actions.event_detail(changed, before=alarm),
                resources=(alarm["AlarmArn"],),
            )
        )
        if changed["ActionsEnabled"]:
            for target in alarm_actions.of_state(changed):
                action_id = str(uuid.uuid4())
                action = {"id": action_id, "target": target, "alarm": changed, "before": alarm}
                self.runtime.store.put(ACTION, action_id, action)
                self.spawn(self._act(action), name=f"alarm action {action_id}")

    async def _act(self, action: Document) -> None:
        """Once, as CloudWatch does; what came of it is in the alarm's history."""
        alarm, target = action["alarm"], action["target"]
        try:
            await alarm_actions.perform(self.runtime, target, alarm=alarm, before=action["before"])
            said, error = "Successfully executed action", None
        except AWSError as failure:
            said, error = "Failed to execute action", str(failure)
        self.runtime.store.delete(ACTION, action["id"])
        self._remember(
            alarm,
            "Action",
            f"{said} {target}",
            {
                "actionState": "Failed" if error else "Succeeded",
                "error": error,
                "notificationResource": target,
            },
        )

    def _remember(self, alarm: Document, kind: str, summary: str, data: Document) -> None:
        stream = f"{HISTORY}/{alarm['AlarmName']}"
        number = self.runtime.store.append(
            stream,
            {
                "AlarmName": alarm["AlarmName"],
                "AlarmType": "MetricAlarm",
                "Timestamp": datetime.now(UTC),
                "HistoryItemType": kind,
                "HistorySummary": summary,
                "HistoryData": json.dumps(data),
            },
        )
        if number > _KEPT_HISTORY:
            self.runtime.store.delete_entry(stream, number - _KEPT_HISTORY)


def _shown(alarm: Document) -> Document:
    return {name: value for name, value in alarm.items() if name != "Tags"}


def _all_actions(alarm: Document) -> list[str]:
    return [*alarm["AlarmActions"], *alarm["OKActions"], *alarm["InsufficientDataActions"]]
