"""What a schedule calls, with what, and what becomes of it where the target refuses."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.session import get_session

from stagegate.local import apis
from stagegate.local.schedule_targets import _READING, _universal
from stagegate.local.service import AWSError
from tests.local.schedules.conftest import (
    DEAD,
    MACHINE,
    OFF,
    PASS,
    QUEUE,
    ROLE,
    Scheduler,
    true,
)


async def test_a_state_machine_is_started_with_the_context_in_its_input(scheduler: Scheduler) -> None:
    given = {
        "arn": "<aws.scheduler.schedule-arn>",
        "at": "<aws.scheduler.scheduled-time>",
        "id": "<aws.scheduler.execution-id>",
        "attempt": "<aws.scheduler.attempt-number>",
        "other": "<aws.events.rule-arn>",
    }
    target = {"Arn": MACHINE, "Input": json.dumps(given)}
    arn = await scheduler.create("it", "at(2026-11-23T10:00:00)", Target=target)

    await scheduler.put_forward(hours=1)

    (execution,) = await scheduler.executions()
    found = json.loads(execution["input"])
    execution_id = found.pop("id")
    assert execution["name"] == f"it_{execution_id}"
    assert found == {
        "arn": arn,
        "at": "2026-11-23T10:00:00Z",
        "attempt": "1",
        "other": "<aws.events.rule-arn>",
    }


async def test_without_an_input_the_target_gets_a_notification(scheduler: Scheduler) -> None:
    arn = (
        await scheduler(
            "CreateSchedule",
            Name="it",
            ScheduleExpression="at(2026-11-23T10:00:00)",
            FlexibleTimeWindow=OFF,
            Target={"Arn": MACHINE, "RoleArn": ROLE},
        )
    )["ScheduleArn"]

    await scheduler.put_forward(hours=1)

    (execution,) = await scheduler.executions()
    event = json.loads(execution["input"])
    assert event.pop("id")
    assert event == {
        "version": "0",
        "detail-type": "Scheduled Event",
        "source": "aws.scheduler",
        "account": "111111111111",
        "time": "2026-11-23T10:00:00Z",
        "region": "us-east-1",
        "resources": [arn],
        "detail": "{}",
    }


async def test_an_event_bus_gets_an_event_of_the_schedule(scheduler: Scheduler) -> None:
    pattern = json.dumps({"source": ["retraining"]})
    await scheduler("PutRule", "events", Name="heard", EventPattern=pattern)
    path = {"Id": "queue", "Arn": QUEUE, "InputPath": "$.detail"}
    await scheduler("PutTargets", "events", Rule="heard", Targets=[path])
    target = {
        "Arn": "arn:aws:events:us-east-1:111111111111:event-bus/default",
        "Input": '{"n": 1}',
        "EventBridgeParameters": {"Source": "retraining", "DetailType": "due"},
    }
    await scheduler.create("it", "at(2026-11-23T10:00:00)", Target=target)

    await scheduler.put_forward(hours=1)
    await true(lambda: not scheduler.endpoint.store.list("events/delivery"))

    assert await scheduler.messages() == ['{"n": 1}']


@pytest.mark.parametrize("letter", [str.upper, str.lower])
async def test_a_universal_target_is_any_operation(
    scheduler: Scheduler, letter: Callable[[str], str]
) -> None:
    members = {"QueueUrl": (await scheduler("GetQueueUrl", "sqs", QueueName="queue"))["QueueUrl"]}
    members["MessageBody"] = "<aws.scheduler.schedule-arn>"
    given = {letter(name[0]) + name[1:]: value for name, value in members.items()}
    target = {"Arn": "arn:aws:scheduler:::aws-sdk:sqs:sendMessage", "Input": json.dumps(given)}
    arn = await scheduler.create("it", "at(2026-11-23T10:00:00)", Target=target)

    await scheduler.put_forward(hours=1)

    assert await scheduler.messages() == [arn]


async def test_a_universal_target_takes_bytes_as_texts(scheduler: Scheduler) -> None:
    given = {"name": "machine_of_schedule", "definition": PASS, "roleArn": ROLE}
    arn = "arn:aws:scheduler:::aws-sdk:sfn:createStateMachine"
    await scheduler.create(
        "machine", "at(2026-11-23T10:00:00)", Target={"Arn": arn, "Input": json.dumps(given)}
    )
    item = {"TableName": "table", "Item": {"id": {"B": "bytes"}}}
    await scheduler(
        "CreateTable",
        "dynamodb",
        TableName="table",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "B"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    arn = "arn:aws:scheduler:::aws-sdk:dynamodb:putItem"
    await scheduler.create("item", "at(2026-11-23T10:00:00)", Target={"Arn": arn, "Input": json.dumps(item)})

    await scheduler.put_forward(hours=1)

    machines = (await scheduler("ListStateMachines", "stepfunctions"))["stateMachines"]
    assert [it["name"] for it in machines] == ["machine", "machine_of_schedule"]
    items = (await scheduler("Scan", "dynamodb", TableName="table"))["Items"]
    assert items == [{"id": {"B": b"bytes"}}]


def test_a_service_is_named_as_the_sdk_names_it() -> None:
    session = get_session()
    for service in sorted(apis.APIS):
        model = session.get_service_model(service)
        name = str(model.service_id).lower().replace(" ", "")
        actions = [it[0].lower() + it[1:] for it in model.operation_names]
        for action in [it for it in actions if not _READING.fullmatch(it)][:1]:
            assert _universal(f"arn:aws:scheduler:::aws-sdk:{name}:{action}")[0] == service


async def test_what_no_target_takes_goes_to_the_dead_letter_queue(scheduler: Scheduler) -> None:
    target = {
        "Arn": f"{MACHINE}-absent",
        "Input": '{"attempt": <aws.scheduler.attempt-number>}',
        "DeadLetterConfig": {"Arn": DEAD},
    }
    arn = await scheduler.create(
        "it", "at(2026-11-23T10:00:00)", Target=target, ActionAfterCompletion="DELETE"
    )

    await scheduler.put_forward(hours=1)

    (message,) = await scheduler.received("dead")
    attributes = {name: it["StringValue"] for name, it in message["MessageAttributes"].items()}
    assert json.loads(message["Body"]) == {"attempt": 1}
    assert attributes.pop("ERROR_MESSAGE")
    assert len(attributes.pop("EXECUTION_ID")) == 16
    assert attributes == {
        "ERROR_CODE": "StateMachineDoesNotExist",
        "TARGET_ARN": target["Arn"],
        "RETRY_ATTEMPTS": "0",
        "SCHEDULE_ARN": arn,
        "SCHEDULED_TIME": "2026-11-23T10:00:00Z",
        "IS_PAYLOAD_TRUNCATED": "false",
    }
    assert await scheduler.names() == []


async def test_a_target_that_is_throttled_is_tried_again_as_often_as_the_policy_says(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def throttled(delivery: dict[str, Any], *, attempt: int) -> None:
        asked.append(f"{scheduler.clock.moment:%H:%M:%S}")
        raise AWSError("ThrottlingException", "Slowly.")

    monkeypatch.setattr(scheduler.service._deliveries, "_call", throttled)  # type: ignore[attr-defined]
    target = {
        "Input": "<aws.scheduler.attempt-number>",
        "RetryPolicy": {"MaximumRetryAttempts": 3},
        "DeadLetterConfig": {"Arn": DEAD},
    }
    await scheduler.create("it", "at(2026-11-23T10:00:00)", Target=target)

    await scheduler.put_forward(hours=1)

    (message,) = await scheduler.received("dead")
    attributes = {name: it["StringValue"] for name, it in message["MessageAttributes"].items()}
    assert asked == ["10:00:00", "10:00:00", "10:00:00", "10:00:01"]
    assert message["Body"] == "4"
    assert attributes["EXHAUSTED_RETRY_CONDITION"] == "MaximumRetryAttempts"
    assert attributes["RETRY_ATTEMPTS"] == "3"
