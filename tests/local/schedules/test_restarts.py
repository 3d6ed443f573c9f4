"""No due time is lost when the server ends, and none starts two executions."""

from datetime import timedelta
from typing import Any

import pytest

from stagegate.local.schedules import DELIVERY
from tests.conftest import Local
from tests.local.schedules.conftest import MACHINE, OFF, PASS, QUEUE, ROLE, START, Open, prepare


async def test_after_a_restart_a_one_time_schedule_fires_and_a_recurring_one_takes_its_next(
    open_scheduler: Open,
) -> None:
    async with open_scheduler() as scheduler:
        await prepare(scheduler)
        await scheduler.create("once", "at(2026-11-23T10:00:00)")
        await scheduler.create("hourly", "cron(0 * * * ? *)")
        await scheduler.create("rate", "rate(20 minutes)", StartDate=START + timedelta(minutes=20))
        scheduler.clock.moment += timedelta(hours=3, minutes=5)

    async with open_scheduler() as scheduler:
        await scheduler.settled()
        at_once = await scheduler.messages()
        await scheduler.put_forward(minutes=30)
        later = await scheduler.messages()

    assert at_once == ["due 2026-11-23T10:00:00Z"]
    assert later == ["due 2026-11-23T12:50:00Z", "due 2026-11-23T13:00:00Z"]


async def test_a_schedule_that_ended_while_the_server_was_down_goes_where_it_says_so(
    open_scheduler: Open,
) -> None:
    async with open_scheduler() as scheduler:
        end = START + timedelta(hours=2)
        bounds = {"StartDate": START + timedelta(hours=1), "EndDate": end}
        await scheduler.create("goes", "rate(1 hour)", ActionAfterCompletion="DELETE", **bounds)
        await scheduler.create("stays", "rate(1 hour)", **bounds)
        scheduler.clock.moment += timedelta(hours=3)

    async with open_scheduler() as scheduler:
        await scheduler.settled()
        names = await scheduler.names()

    assert names == ["stays"]


async def test_one_due_time_is_one_execution_however_often_it_is_delivered(open_scheduler: Open) -> None:
    async with open_scheduler() as scheduler:
        await prepare(scheduler)
        await scheduler.create("it", "at(2026-11-23T10:00:00)", Target={"Arn": MACHINE, "Input": "{}"})
        owed: list[dict[str, Any]] = []
        deliveries = scheduler.service._deliveries  # type: ignore[attr-defined]
        send, deliveries.send = deliveries.send, lambda delivery: (owed.append(delivery), send(delivery))
        await scheduler.put_forward(hours=1)
        before = await scheduler.executions()
        scheduler.endpoint.store.put(DELIVERY, owed[0]["id"], owed[0])  # as if it had been killed before

    async with open_scheduler() as scheduler:
        await scheduler.settled()
        after = await scheduler.executions()
        left = scheduler.endpoint.store.list(DELIVERY)

    assert len(owed) == 1
    assert [it["name"] for it in after] == [it["name"] for it in before]
    assert left == []


def test_a_killed_runtime_goes_on_with_its_schedules(local: Local) -> None:
    schedules, sqs, states = (local.client(it) for it in ("scheduler", "sqs", "stepfunctions"))
    url = sqs.create_queue(QueueName="queue")["QueueUrl"]
    states.create_state_machine(name="machine", definition=PASS, roleArn=ROLE)
    schedules.create_schedule_group(Name="models", Tags=[{"Key": "a", "Value": "1"}])
    target = {"Arn": QUEUE, "RoleArn": ROLE, "Input": "due"}
    for name, group in (("one", "models"), ("two", "default")):
        schedules.create_schedule(
            Name=name,
            GroupName=group,
            ScheduleExpression="rate(10 days)",
            FlexibleTimeWindow=OFF,
            Target=target,
        )

    local.restart()

    bodies: set[str] = set()
    found = 0
    while found < 2:
        messages = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20, MaxNumberOfMessages=10)["Messages"]
        found += len(messages)
        bodies |= {it["Body"] for it in messages}
    arn = schedules.get_schedule_group(Name="models")["Arn"]
    assert bodies == {"due"}
    assert schedules.list_tags_for_resource(ResourceArn=arn)["Tags"] == [{"Key": "a", "Value": "1"}]
    assert schedules.get_schedule(Name="one", GroupName="models")["ScheduleExpression"] == "rate(10 days)"
    listed = [it["Name"] for it in schedules.list_schedules(GroupName="models")["Schedules"]]
    assert listed == ["one"]
    with pytest.raises(schedules.exceptions.ConflictException, match="Schedule two already exists"):
        schedules.create_schedule(
            Name="two", ScheduleExpression="rate(1 day)", FlexibleTimeWindow=OFF, Target=target
        )
    schedules.delete_schedule(Name="one", GroupName="models")
    with pytest.raises(schedules.exceptions.ResourceNotFoundException):
        schedules.get_schedule(Name="one", GroupName="models")
