"""Activities: workers fetch tasks and answer them, in time or not, also across a restart."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from stagegate.local.service import AWSError
from stagegate.local.states.activity_tasks import ActivityTasks, ScheduledTask
from tests.conftest import Local
from tests.local.states.conftest import ROLE, Machines, only


def activity(machines: Machines) -> str:
    return str(machines.api.create_activity(name="work")["activityArn"])


def task(arn: str, **fields: Any) -> dict[str, Any]:
    return only({"Type": "Task", "Resource": arn, **fields})


async def test_a_worker_fetches_a_task_and_answers_it(machines: Machines) -> None:
    arn = activity(machines)
    execution = machines.start(task(arn, TimeoutSeconds=60, HeartbeatSeconds=30), {"n": 1})

    fetched = await machines.api.get_activity_task(activityArn=arn, workerName="ann")
    machines.api.send_task_heartbeat(taskToken=fetched["taskToken"])
    machines.api.send_task_success(taskToken=fetched["taskToken"], output='"done"')
    ended = await machines.end(execution)

    assert json.loads(fetched["input"]) == {"n": 1}
    assert ended.output == "done"
    assert ended.links[2:6] == [
        (3, 2, "ActivityScheduled"),
        (4, 3, "ActivityStarted"),
        (5, 4, "ActivitySucceeded"),
        (6, 5, "TaskStateExited"),
    ]
    assert ended.details("ActivityScheduled") == [
        {
            "resource": arn,
            "input": '{"n":1}',
            "inputDetails": {"truncated": False},
            "timeoutInSeconds": 60,
            "heartbeatInSeconds": 30,
        }
    ]
    assert ended.details("ActivityStarted") == [{"workerName": "ann"}]


async def test_a_worker_that_waits_gets_the_task_when_it_comes(machines: Machines) -> None:
    arn = activity(machines)
    waiting = asyncio.create_task(machines.api.get_activity_task(activityArn=arn))
    await asyncio.sleep(0)

    execution = machines.start(task(arn))
    fetched = await waiting
    machines.api.send_task_failure(taskToken=fetched["taskToken"], error="Broken", cause="it broke")

    ended = await machines.end(execution)
    assert (ended.status, ended.error, ended.cause) == ("FAILED", "Broken", "it broke")
    assert ended.details("ActivityFailed") == [{"error": "Broken", "cause": "it broke"}]


async def test_tasks_are_given_in_their_order_each_to_one_worker(machines: Machines) -> None:
    arn = activity(machines)
    definition = task(arn)
    machine = machines.create(definition)
    workers = [asyncio.create_task(machines.api.get_activity_task(activityArn=arn)) for _ in range(2)]
    for number in range(3):
        machines.api.start_execution(stateMachineArn=machine, input=str(number))

    fetched = [await worker for worker in workers] + [await machines.api.get_activity_task(activityArn=arn)]

    assert [task["input"] for task in fetched] == ["0", "1", "2"]


async def test_without_a_task_the_answer_is_empty_after_a_while(machines: Machines) -> None:
    arn = activity(machines)
    machines.api.poll_seconds = 0.01

    assert await machines.api.get_activity_task(activityArn=arn) == {}


async def test_a_worker_that_goes_away_takes_no_task_along(machines: Machines) -> None:
    arn = activity(machines)
    gone = asyncio.create_task(machines.api.get_activity_task(activityArn=arn))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])

    machines.start(task(arn), 7)

    assert (await machines.api.get_activity_task(activityArn=arn))["input"] == "7"


@pytest.mark.parametrize(
    ("fields", "is_fetched"), [({"TimeoutSeconds": 1}, False), ({"HeartbeatSeconds": 1}, True)]
)
async def test_a_task_that_is_not_answered_in_time_times_out(
    machines: Machines, fields: dict[str, Any], is_fetched: bool
) -> None:
    arn = activity(machines)
    execution = machines.start(task(arn, **fields))
    if is_fetched:
        await machines.api.get_activity_task(activityArn=arn)

    ended = await machines.end(execution)

    assert (ended.status, ended.error) == ("FAILED", "States.Timeout")
    assert ended.types[-2] == "ActivityTimedOut"


async def test_a_task_whose_time_is_over_is_given_to_nobody(machines: Machines) -> None:
    arn = activity(machines)
    await machines.end(machines.start(task(arn, TimeoutSeconds=1)))
    machines.api.poll_seconds = 0.01

    assert await machines.api.get_activity_task(activityArn=arn) == {}


async def test_the_task_of_an_execution_that_was_stopped_is_given_to_nobody(machines: Machines) -> None:
    arn = activity(machines)
    stopped = machines.start(task(arn), 1)
    await machines.reaches(stopped, "ActivityScheduled")
    waiting = asyncio.create_task(machines.api.get_activity_task(activityArn=arn))

    machines.api.stop_execution(executionArn=stopped)  # before the worker has its turn
    machines.start(task(arn), 2, name="next")

    assert (await waiting)["input"] == "2"
    assert (await machines.end(stopped)).types[-2:] == ["ActivityScheduled", "ExecutionAborted"]


async def test_an_activity_that_is_not_there_fails_the_task(machines: Machines) -> None:
    arn = activity(machines)
    definition = task(arn)
    machines.api.delete_activity(activityArn=arn)

    ended = await machines.run(definition)

    assert (ended.error, ended.cause) == ("States.Runtime", f"The activity '{arn}' does not exist.")
    assert ended.types[2:4] == ["ActivityScheduled", "ActivityScheduleFailed"]


async def test_a_task_that_nobody_has_fetched_is_there_after_a_restart(
    machines: Machines, tmp_path: Path
) -> None:
    arn = activity(machines)
    execution = machines.start(task(arn), 1)
    await machines.reaches(execution, "ActivityScheduled")

    again = await machines.killed(tmp_path / "again")
    fetched = await again.api.get_activity_task(activityArn=arn)
    again.api.send_task_success(taskToken=fetched["taskToken"], output="2")

    assert (await again.end(execution)).output == 2
    await again.close()


async def test_a_task_that_was_fetched_before_a_restart_is_answered_after_it(
    machines: Machines, tmp_path: Path
) -> None:
    arn = activity(machines)
    execution = machines.start(task(arn), 1)
    fetched = await machines.api.get_activity_task(activityArn=arn, workerName="ann")
    machines.store.commit()  # as the server does before it answers the worker

    again = await machines.killed(tmp_path / "again")
    again.api.poll_seconds = 0.01
    assert await again.api.get_activity_task(activityArn=arn) == {}
    again.api.send_task_success(taskToken=fetched["taskToken"], output="2")
    ended = await again.end(execution)
    await again.close()

    assert ended.output == 2
    assert ended.details("ActivityStarted") == [{"workerName": "ann"}]


async def test_a_task_outlives_its_activity_and_a_restart(machines: Machines, tmp_path: Path) -> None:
    arn = activity(machines)
    execution = machines.start(task(arn, TimeoutSeconds=1))
    await machines.reaches(execution, "ActivityScheduled")
    machines.api.delete_activity(activityArn=arn)
    machines.store.commit()

    again = await machines.killed(tmp_path / "again")
    ended = await again.end(execution)

    assert (ended.error, ended.types[2:4]) == ("States.Timeout", ["ActivityScheduled", "ActivityTimedOut"])
    await again.close()


async def test_activities_are_created_listed_tagged_and_deleted(machines: Machines) -> None:
    api = machines.api
    created = api.create_activity(name="b", tags=[{"key": "team", "value": "x"}])
    api.create_activity(name="a")

    assert api.create_activity(name="b") == created
    assert api.describe_activity(activityArn=created["activityArn"]) == {
        **created,
        "name": "b",
        "encryptionConfiguration": {"type": "AWS_OWNED_KEY"},
    }
    assert [entry["name"] for entry in api.list_activities()["activities"]] == ["b", "a"]
    assert api.list_tags_for_resource(resourceArn=created["activityArn"]) == {
        "tags": [{"key": "team", "value": "x"}]
    }
    api.delete_activity(activityArn=created["activityArn"])
    with pytest.raises(AWSError, match="ActivityDoesNotExist: Activity Does Not Exist: "):
        api.describe_activity(activityArn=created["activityArn"])
    with pytest.raises(AWSError, match="InvalidName"):
        api.create_activity(name="a b")


@pytest.mark.parametrize("is_first_to_leave", [True, False])
async def test_the_task_of_a_worker_that_leaves_when_it_comes_is_the_next_ones(
    *, is_first_to_leave: bool
) -> None:
    tasks = ActivityTasks()
    leaving, staying = (asyncio.create_task(tasks.take("work", seconds=5)) for _ in range(2))
    await asyncio.sleep(0)
    scheduled = ScheduledTask(activity_arn="work", token="t", input="7")

    if is_first_to_leave:
        leaving.cancel()
    tasks.schedule(scheduled)
    if not is_first_to_leave:
        leaving.cancel()

    assert await staying is scheduled
    with pytest.raises(asyncio.CancelledError):
        await leaving


async def test_a_thousand_workers_wait_at_most(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stagegate.local.states.activity_tasks._MAXIMUM_WORKERS", 1)
    arn = activity(machines)
    waiting = asyncio.create_task(machines.api.get_activity_task(activityArn=arn))
    await asyncio.sleep(0)

    with pytest.raises(AWSError, match="ActivityWorkerLimitExceeded"):
        await machines.api.get_activity_task(activityArn=arn)

    waiting.cancel()


async def test_a_worker_that_hangs_up_takes_no_task_along(local: Local) -> None:
    """Over HTTP: the server notices that nobody reads the answer any more."""
    states = local.client("stepfunctions", read_timeout=1)
    arn = states.create_activity(name="work")["activityArn"]
    machine = states.create_state_machine(name="m", definition=json.dumps(task(arn)), roleArn=ROLE)

    with pytest.raises(ReadTimeoutError):
        states.get_activity_task(activityArn=arn)
    states.start_execution(stateMachineArn=machine["stateMachineArn"], input="7")

    assert states.get_activity_task(activityArn=arn)["input"] == "7"


async def test_workers_that_wait_are_sent_away_when_the_server_stops(local: Local) -> None:
    states = local.client("stepfunctions")
    arn = states.create_activity(name="work")["activityArn"]
    polling = asyncio.create_task(asyncio.to_thread(states.get_activity_task, activityArn=arn))
    await asyncio.sleep(0.5)

    stopping = asyncio.create_task(asyncio.to_thread(local.stop))
    async with asyncio.timeout(3):
        answer = await polling

    assert "taskToken" not in answer
    assert await stopping == 0
