"""Schedules and their groups in stacks: made, changed, moved, taken away."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from stagegate.local.schedule_groups import ScheduleGroups
from stagegate.local.schedules import Schedules
from tests.local.stacks.conftest import Stacks, resource, template

ROLE = "arn:aws:iam::111111111111:role/scheduler"


def schedule(**members: Any) -> dict[str, Any]:
    return resource(
        "AWS::Scheduler::Schedule",
        **{
            "ScheduleExpression": "cron(0 3 ? * MON *)",
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "Target": {"Arn": {"Fn::GetAtt": ["Queue", "Arn"]}, "RoleArn": ROLE, "Input": "retrain"},
            **members,
        },
    )


GROUP = resource("AWS::Scheduler::ScheduleGroup", Tags=[{"Key": "a", "Value": "1"}])
QUEUE = resource("AWS::SQS::Queue", QueueName="queue")
OUTPUTS = {
    "Arn": {"Value": {"Fn::GetAtt": ["It", "Arn"]}},
    "Group": {"Value": {"Fn::GetAtt": ["Group", "Arn"]}},
    "State": {"Value": {"Fn::GetAtt": ["Group", "State"]}},
}


def outputs(stack: dict[str, Any]) -> dict[str, str]:
    return {it["OutputKey"]: it["OutputValue"] for it in stack["Outputs"]}


@pytest.fixture
async def stacks(open_stacks: Any) -> AsyncIterator[Stacks]:
    async with open_stacks(scheduler=(Schedules, ScheduleGroups)) as opened:
        yield opened


async def test_a_schedule_in_a_group_is_made_changed_and_taken_away(stacks: Stacks) -> None:
    whole = template(Queue=QUEUE, Group=GROUP, It=schedule(GroupName={"Ref": "Group"}, Description="weekly"))
    created = await stacks.create("s", {**whole, "Outputs": OUTPUTS})
    physical = await stacks.physical("s")
    changed = template(
        Queue=QUEUE,
        Group=resource("AWS::Scheduler::ScheduleGroup", Tags=[{"Key": "b", "Value": "2"}]),
        It=schedule(GroupName={"Ref": "Group"}, State="DISABLED", StartDate="2200-12-01T00:00:00Z"),
    )
    updated = await stacks.update("s", changed)
    seen = await stacks.call("GetSchedule", "scheduler", Name=physical["It"], GroupName=physical["Group"])
    said = outputs(created)
    tags = await stacks.call("ListTagsForResource", "scheduler", ResourceArn=said["Group"])
    deleted = await stacks.delete("s")

    assert (created["StackStatus"], updated["StackStatus"]) == ("CREATE_COMPLETE", "UPDATE_COMPLETE")
    prefix = "arn:aws:scheduler:us-east-1:111111111111"
    assert said == {
        "Arn": f"{prefix}:schedule/{physical['Group']}/{physical['It']}",
        "Group": f"{prefix}:schedule-group/{physical['Group']}",
        "State": "ACTIVE",
    }
    assert "Description" not in seen
    assert (seen["State"], seen["StartDate"]) == ("DISABLED", datetime(2200, 12, 1, tzinfo=UTC))
    assert seen["Target"]["Arn"] == "arn:aws:sqs:us-east-1:111111111111:queue"
    assert tags["Tags"] == [{"Key": "b", "Value": "2"}]
    assert deleted["StackStatus"] == "DELETE_COMPLETE"
    assert (await stacks.call("ListSchedules", "scheduler"))["Schedules"] == []
    groups = (await stacks.call("ListScheduleGroups", "scheduler"))["ScheduleGroups"]
    assert [it["Name"] for it in groups] == ["default"]


async def test_a_schedule_moves_to_another_group(stacks: Stacks) -> None:
    await stacks.create("s", template(Queue=QUEUE, Group=GROUP, It=schedule(Name="it")))

    moved = template(Queue=QUEUE, Group=GROUP, It=schedule(Name="it", GroupName={"Ref": "Group"}))
    updated = await stacks.update("s", {**moved, "Outputs": OUTPUTS})

    group = (await stacks.physical("s"))["Group"]
    listed = (await stacks.call("ListSchedules", "scheduler"))["Schedules"]
    assert [(it["GroupName"], it["Name"]) for it in listed] == [(group, "it")]
    assert outputs(updated)["Arn"] == listed[0]["Arn"]


async def test_what_the_service_refuses_rolls_the_stack_back(stacks: Stacks) -> None:
    await stacks.create("s", template(Queue=QUEUE, It=schedule(Name="it")))
    before = await stacks.call("GetSchedule", "scheduler", Name="it")

    wrong = template(Queue=QUEUE, It=schedule(Name="it", ScheduleExpression="weekly"))
    updated = await stacks.update("s", wrong)

    failures = [it for it in await stacks.events("s") if it[1] == "UPDATE_FAILED"]
    after = await stacks.call("GetSchedule", "scheduler", Name="it")
    assert updated["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert "Invalid Schedule Expression weekly." in failures[0][2]
    assert {**after, "LastModificationDate": None} == {**before, "LastModificationDate": None}


async def test_a_date_that_is_none_is_refused(stacks: Stacks) -> None:
    created = await stacks.create("s", template(Queue=QUEUE, It=schedule(StartDate="tomorrow")))

    failures = [it for it in await stacks.events("s") if it[1] == "CREATE_FAILED"]
    assert created["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "StartDate is tomorrow; it should be a time" in failures[0][2]


async def test_a_schedule_of_a_stack_calls_its_target(stacks: Stacks) -> None:
    target = {"Arn": {"Fn::GetAtt": ["Queue", "Arn"]}, "RoleArn": ROLE, "Input": json.dumps({"n": 1})}
    it = schedule(ScheduleExpression="rate(1 day)", Target=target)

    await stacks.create("s", template(Queue=QUEUE, It=it))

    url = (await stacks.call("GetQueueUrl", "sqs", QueueName="queue"))["QueueUrl"]
    answer = await stacks.call("ReceiveMessage", "sqs", QueueUrl=url, WaitTimeSeconds=10)
    assert [message["Body"] for message in answer["Messages"]] == ['{"n": 1}']
