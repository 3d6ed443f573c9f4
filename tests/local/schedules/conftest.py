"""The Scheduler in this process, and the clock that it goes by, which a test puts forward."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stagegate.local.clock import Clock
from stagegate.local.endpoint import Endpoint
from stagegate.local.events import EventBridge
from stagegate.local.schedule_groups import ScheduleGroups
from stagegate.local.schedules import Schedules
from stagegate.local.service import AWSError
from stagegate.local.states.service import StepFunctions

ROLE = "arn:aws:iam::111111111111:role/scheduler"
QUEUE = "arn:aws:sqs:us-east-1:111111111111:queue"
DEAD = "arn:aws:sqs:us-east-1:111111111111:dead"
MACHINE = "arn:aws:states:us-east-1:111111111111:stateMachine:machine"
PASS = json.dumps({"StartAt": "A", "States": {"A": {"Type": "Pass", "End": True}}})
OFF = {"Mode": "OFF"}
START = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)  # a Monday


class StandingClock(Clock):
    """Stands still until it is put forward."""

    def __init__(self) -> None:
        self.moment = START
        self.waiting: list[tuple[datetime, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self.moment

    async def until(self, moment: datetime) -> None:
        if moment <= self.moment:
            return
        waiter = (moment, asyncio.get_running_loop().create_future())
        self.waiting.append(waiter)
        try:
            await waiter[1]
        finally:
            self.waiting.remove(waiter)


async def true(condition: Callable[[], bool]) -> None:
    """Return when it is, as soon as the other tasks have seen to it."""
    deadline = asyncio.get_running_loop().time() + 30
    while not condition() and asyncio.get_running_loop().time() < deadline:
        await asyncio.wait([asyncio.ensure_future(asyncio.sleep(0.001))])
    assert condition()


class Scheduler:
    """The service as a client sees it, and the clock that it goes by."""

    def __init__(self, endpoint: Endpoint, clock: StandingClock) -> None:
        self.endpoint, self.clock = endpoint, clock
        self.service = endpoint.services["scheduler"][0]

    async def __call__(self, operation: str, service: str = "scheduler", **members: Any) -> dict[str, Any]:
        return await self.endpoint.aws(service, operation, members)

    async def create(self, name: str, expression: str, **members: Any) -> str:
        target = {"Arn": QUEUE, "RoleArn": ROLE, "Input": "due <aws.scheduler.scheduled-time>"}
        given = {
            "Target": {**target, **members.pop("Target", {})},
            "FlexibleTimeWindow": members.pop("FlexibleTimeWindow", OFF),
        }
        answer = await self("CreateSchedule", Name=name, ScheduleExpression=expression, **given, **members)
        await self.settled()
        return str(answer["ScheduleArn"])

    async def put_forward(self, **by: int) -> None:
        """Let the time go by, from each moment that is waited for to the next."""
        end = self.clock.moment + timedelta(**by)
        await self.settled()
        while due := sorted(moment for moment, _ in self.clock.waiting if moment <= end):
            self.clock.moment = max(self.clock.moment, due[0])
            for moment, waiter in self.clock.waiting:
                if moment <= self.clock.moment:
                    waiter.set_result(None)
            await asyncio.sleep(0)
            await self.settled()
        self.clock.moment = end

    async def settled(self) -> None:
        """Return when the service does nothing but wait for its clock."""
        await asyncio.sleep(0)
        await true(lambda: len(self.service._tasks) <= len(self.clock.waiting))

    async def messages(self, queue: str = "queue") -> list[str]:
        """What came into the queue since the last time."""
        return [it["Body"] for it in await self.received(queue)]

    async def received(self, queue: str = "queue") -> list[dict[str, Any]]:
        url = (await self("GetQueueUrl", "sqs", QueueName=queue))["QueueUrl"]
        found: list[dict[str, Any]] = []
        while answer := (
            await self(
                "ReceiveMessage", "sqs", QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
            )
        ).get("Messages"):
            found += answer
            for message in answer:
                await self("DeleteMessage", "sqs", QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return found

    async def names(self) -> list[str]:
        return [it["Name"] for it in (await self("ListSchedules"))["Schedules"]]

    async def executions(self) -> list[dict[str, Any]]:
        answer = await self("ListExecutions", "stepfunctions", stateMachineArn=MACHINE)
        return [
            await self("DescribeExecution", "stepfunctions", executionArn=it["executionArn"])
            for it in answer["executions"]
        ]

    async def refused(self, operation: str, **members: Any) -> tuple[str, str]:
        with pytest.raises(AWSError) as caught:
            await self(operation, **members)
        return caught.value.code, caught.value.message


Open = Callable[[], AbstractAsyncContextManager[Scheduler]]


@pytest.fixture
def open_scheduler(open_endpoint: Any) -> Open:
    """`async with open_scheduler() as scheduler`: opened again, it goes on with what it had."""
    clock = StandingClock()

    class Tested(Schedules):
        pass

    Tested.clock = clock

    @asynccontextmanager
    async def opened() -> AsyncIterator[Scheduler]:
        classes = {
            "scheduler": (Tested, ScheduleGroups),
            "events": (EventBridge,),
            "stepfunctions": (StepFunctions,),
        }
        async with open_endpoint(classes) as endpoint:
            await endpoint.start()
            yield Scheduler(endpoint, clock)

    return opened


@pytest.fixture
async def scheduler(open_scheduler: Open) -> AsyncIterator[Scheduler]:
    async with open_scheduler() as opened:
        await prepare(opened)
        yield opened


async def prepare(opened: Scheduler) -> None:
    """Two queues and a state machine."""
    await opened("CreateQueue", "sqs", QueueName="queue")
    await opened("CreateQueue", "sqs", QueueName="dead")
    await opened("CreateStateMachine", "stepfunctions", name="machine", definition=PASS, roleArn=ROLE)
