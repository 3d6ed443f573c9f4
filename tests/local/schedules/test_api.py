"""Schedules and groups as the API has them, and what it refuses."""

from datetime import timedelta
from typing import Any

import pytest

from stagegate.local.service import AWSError
from tests.local.schedules.conftest import MACHINE, OFF, QUEUE, ROLE, START, Scheduler


async def test_a_schedule_is_created_described_listed_and_deleted(scheduler: Scheduler) -> None:
    arn = await scheduler.create(
        "nightly",
        "cron(0 3 * * ? *)",
        Description="every night",
        ScheduleExpressionTimezone="Europe/Berlin",
        StartDate=START + timedelta(days=1),
    )

    described = await scheduler("GetSchedule", Name="nightly")
    listed = await scheduler("ListSchedules", NamePrefix="night")
    await scheduler("DeleteSchedule", Name="nightly")

    assert arn == "arn:aws:scheduler:us-east-1:111111111111:schedule/default/nightly"
    assert described == {
        "Arn": arn,
        "Name": "nightly",
        "GroupName": "default",
        "Description": "every night",
        "ScheduleExpression": "cron(0 3 * * ? *)",
        "ScheduleExpressionTimezone": "Europe/Berlin",
        "StartDate": START + timedelta(days=1),
        "State": "ENABLED",
        "ActionAfterCompletion": "NONE",
        "FlexibleTimeWindow": OFF,
        "CreationDate": START,
        "LastModificationDate": START,
        "Target": {
            "Arn": QUEUE,
            "RoleArn": ROLE,
            "Input": "due <aws.scheduler.scheduled-time>",
            "RetryPolicy": {"MaximumEventAgeInSeconds": 86400, "MaximumRetryAttempts": 185},
        },
    }
    assert listed == {
        "Schedules": [
            {
                "Arn": arn,
                "Name": "nightly",
                "GroupName": "default",
                "State": "ENABLED",
                "CreationDate": START,
                "LastModificationDate": START,
                "Target": {"Arn": QUEUE},
            }
        ]
    }
    assert await scheduler.refused("GetSchedule", Name="nightly") == (
        "ResourceNotFoundException",
        "Schedule nightly does not exist.",
    )
    assert (await scheduler.refused("DeleteSchedule", Name="nightly"))[0] == "ResourceNotFoundException"


async def test_an_update_takes_back_what_it_does_not_say(scheduler: Scheduler) -> None:
    await scheduler.create("it", "cron(0 3 * * ? *)", Description="old", State="DISABLED")
    scheduler.clock.moment += timedelta(hours=1)

    await scheduler(
        "UpdateSchedule",
        Name="it",
        ScheduleExpression="rate(1 hour)",
        FlexibleTimeWindow=OFF,
        Target={"Arn": QUEUE, "RoleArn": ROLE},
    )
    described = await scheduler("GetSchedule", Name="it")

    assert "Description" not in described
    assert (described["State"], described["ScheduleExpression"]) == ("ENABLED", "rate(1 hour)")
    assert (described["CreationDate"], described["LastModificationDate"]) == (START, scheduler.clock.moment)


async def test_schedules_are_listed_by_group_state_and_page(scheduler: Scheduler) -> None:
    await scheduler("CreateScheduleGroup", Name="models")
    for name, group, state in (
        ("a", "models", "ENABLED"),
        ("b", "default", "DISABLED"),
        ("c", "models", "DISABLED"),
    ):
        await scheduler.create(name, "cron(0 3 * * ? *)", GroupName=group, State=state)

    first = await scheduler("ListSchedules", MaxResults=2)
    second = await scheduler("ListSchedules", MaxResults=2, NextToken=first["NextToken"])
    of_group = await scheduler("ListSchedules", GroupName="models", State="DISABLED")

    assert [it["Name"] for it in first["Schedules"]] == ["b", "a"]
    assert [it["Name"] for it in second["Schedules"]] == ["c"]
    assert "NextToken" not in second
    assert [it["Name"] for it in of_group["Schedules"]] == ["c"]


async def test_groups_have_tags_and_take_their_schedules_along(scheduler: Scheduler) -> None:
    arn = (await scheduler("CreateScheduleGroup", Name="models", Tags=[{"Key": "a", "Value": "1"}]))[
        "ScheduleGroupArn"
    ]
    await scheduler.create("it", "cron(0 3 * * ? *)", GroupName="models")

    await scheduler("TagResource", ResourceArn=arn, Tags=[{"Key": "b", "Value": "2"}])
    await scheduler("UntagResource", ResourceArn=arn, TagKeys=["a"])
    tags = (await scheduler("ListTagsForResource", ResourceArn=arn))["Tags"]
    groups = (await scheduler("ListScheduleGroups"))["ScheduleGroups"]
    again = await scheduler.refused("CreateScheduleGroup", Name="models")
    await scheduler("DeleteScheduleGroup", Name="models")

    assert arn == "arn:aws:scheduler:us-east-1:111111111111:schedule-group/models"
    assert tags == [{"Key": "b", "Value": "2"}]
    assert [(it["Name"], it["State"]) for it in groups] == [("default", "ACTIVE"), ("models", "ACTIVE")]
    assert again == ("ConflictException", "Schedule group models already exists.")
    assert await scheduler.names() == []
    assert (await scheduler.refused("GetSchedule", Name="it", GroupName="models")) == (
        "ResourceNotFoundException",
        "Schedule group models does not exist.",
    )
    assert (await scheduler.refused("DeleteScheduleGroup", Name="default"))[0] == "ValidationException"


async def test_the_same_token_creates_once(scheduler: Scheduler) -> None:
    first = await scheduler.create("it", "cron(0 3 * * ? *)", ClientToken="one")
    second = await scheduler.create("it", "cron(0 3 * * ? *)", ClientToken="one")

    assert first == second
    with pytest.raises(AWSError, match="Schedule it already exists"):
        await scheduler.create("it", "cron(0 3 * * ? *)", ClientToken="two")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"ScheduleExpression": "every day"}, "Invalid Schedule Expression every day."),
        ({"ScheduleExpression": "at(2026-13-01T00:00:00)"}, "Invalid Schedule Expression"),
        ({"ScheduleExpression": "at(2026-11-23T09:20:00)"}, "in the past"),
        ({"ScheduleExpression": "rate(0 minutes)"}, "Invalid Schedule Expression"),
        ({"ScheduleExpression": "cron(* * * * * *)"}, "Invalid Schedule Expression"),
        ({"ScheduleExpressionTimezone": "Mars/Base"}, "Invalid ScheduleExpressionTimezone Mars/Base"),
        ({"StartDate": START - timedelta(minutes=6)}, "earlier than 5 minutes ago"),
        ({"StartDate": START, "EndDate": START}, "must be earlier than the EndDate"),
        ({"FlexibleTimeWindow": {"Mode": "FLEXIBLE"}}, "MaximumWindowInMinutes"),
        ({"FlexibleTimeWindow": {"Mode": "OFF", "MaximumWindowInMinutes": 5}}, "MaximumWindowInMinutes"),
        ({"FlexibleTimeWindow": {"Mode": "SOMETIMES"}}, "enum value set"),
        ({"Target": {"Arn": "arn:aws:kinesis:us-east-1:111111111111:stream/it"}}, "is not supported"),
        ({"Target": {"KinesisParameters": {"PartitionKey": "x"}}}, "KinesisParameters is not supported"),
        ({"Target": {"Arn": MACHINE, "Input": "no json"}}, "Target.Input is no JSON"),
        ({"Target": {"Arn": MACHINE, "Input": "<aws.scheduler.schedule-arn>"}}, "Target.Input is no JSON"),
        ({"Target": {"Arn": MACHINE, "SqsParameters": {"MessageGroupId": "x"}}}, "does not go with"),
        ({"Target": {"Arn": f"{QUEUE}.fifo"}}, "MessageGroupId must be provided"),
        (
            {"Target": {"Arn": "arn:aws:events:us-east-1:111111111111:event-bus/default"}},
            "EventBridgeParameters must be provided",
        ),
        ({"Target": {"Arn": "arn:aws:scheduler:::aws-sdk:sqs:receiveMessage"}}, "only reads"),
        ({"Target": {"Arn": "arn:aws:scheduler:::aws-sdk:sqs:sendPost"}}, "is no operation of sqs"),
        ({"Target": {"Arn": "arn:aws:scheduler:::aws-sdk:ecs:runTask"}}, "the service ecs is not supported"),
    ],
)
async def test_what_cannot_be_is_refused(scheduler: Scheduler, members: dict[str, Any], message: str) -> None:
    expression = members.get("ScheduleExpression", "rate(1 hour)")
    others = {name: value for name, value in members.items() if name != "ScheduleExpression"}

    with pytest.raises(AWSError, match=message) as caught:
        await scheduler.create("it", expression, **others)

    assert caught.value.code == "ValidationException"
    assert await scheduler.names() == []


async def test_a_schedule_needs_a_group_that_is_there(scheduler: Scheduler) -> None:
    with pytest.raises(AWSError, match="Schedule group none does not exist"):
        await scheduler.create("it", "rate(1 hour)", GroupName="none")
