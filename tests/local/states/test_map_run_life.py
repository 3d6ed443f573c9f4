"""A Map Run that is killed, stopped, given up, redriven, or changed on its way."""

import asyncio
import json
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stagegate.local.service import AWSError
from tests.local.states.conftest import Machines, only
from tests.local.states.distributed_maps import (
    CALL,
    PASS,
    Bucket,
    Queue,
    distributed,
    failing_on,
    map_run_of,
)


async def test_after_a_kill_the_run_goes_on_with_what_had_not_ended(
    machines: Machines, tmp_path: Path
) -> None:
    bucket = Bucket(machines, {"items.jsonl": b"1\n2\n3\n4\n"})
    queue = Queue(machines, takes=2)
    reader = {
        "Resource": "arn:aws:states:::s3:getObject",
        "ReaderConfig": {"InputType": "JSONL"},
        "Parameters": {"Bucket": "b", "Key": "items.jsonl"},
    }
    execution = machines.start(only(distributed(CALL, ItemReader=reader, MaxConcurrency=1)))
    await asyncio.wait_for(queue.is_full.wait(), 20)
    await machines.store.committed()

    bucket.objects.clear()  # the items are not read again
    again = await machines.killed(tmp_path / "again")
    queue.may_go_on.set()
    ended = await again.end(execution)
    await again.close()

    assert (ended.status, ended.output) == ("SUCCEEDED", [1, 2, 3, 4])
    assert queue.sent == [1, 2, 3, 4]
    assert ended.types.count("MapRunStarted") == 1


async def test_stopping_the_parent_stops_its_children(machines: Machines) -> None:
    queue = Queue(machines, takes=0)
    execution = machines.start(only(distributed(CALL)), [1, 2])
    await asyncio.wait_for(queue.is_full.wait(), 20)

    machines.api.stop_execution(executionArn=execution, cause="enough")
    ended = await machines.end(execution)

    run = map_run_of(machines, ended)
    assert (ended.status, run["status"]) == ("ABORTED", "ABORTED")
    assert run["executionCounts"]["aborted"] == 2
    assert machines.api.engine.running == {}
    children = machines.api.list_executions(mapRunArn=run["mapRunArn"], statusFilter="ABORTED")["executions"]
    assert len(children) == 2


async def test_a_run_that_was_not_come_to_again_after_a_kill_is_aborted_all_the_same(
    machines: Machines, tmp_path: Path
) -> None:
    queue = Queue(machines, takes=0)
    execution = machines.start(only(distributed(CALL)), [1, 2])
    await asyncio.wait_for(queue.is_full.wait(), 20)
    await machines.store.committed()
    stopped = await machines.killed(tmp_path / "stopped", is_started=False)
    (run,) = stopped.api.list_map_runs(executionArn=execution)["mapRuns"]
    before = stopped.api.describe_map_run(mapRunArn=run["mapRunArn"])

    stopped.api.stop_execution(executionArn=execution)

    described = stopped.api.describe_map_run(mapRunArn=run["mapRunArn"])
    children = stopped.api.list_executions(mapRunArn=run["mapRunArn"])["executions"]
    await stopped.close()
    assert (before["executionCounts"]["running"], before["itemCounts"]["running"]) == (2, 2)
    assert described["status"] == "ABORTED"
    assert [child["status"] for child in children] == ["ABORTED", "ABORTED"]
    assert queue.sent == []


@pytest.mark.parametrize(
    "fields",
    [
        {"ItemSelector": {"id.$": "States.UUID()"}},
        {
            "QueryLanguage": "JSONata",
            "ItemSelector": "{% {'id': $uuid(), 'at': $millis()} %}",
            "ItemBatcher": {"MaxItemsPerBatch": 2, "BatchInput": {"id": "{% $uuid() %}"}},
        },
    ],
)
async def test_what_is_random_in_a_run_that_has_ended_does_not_disturb_its_replay(
    machines: Machines, tmp_path: Path, fields: dict[str, Any]
) -> None:
    definition = {
        "StartAt": "Map",
        "States": {
            "Map": {**distributed(PASS, **fields), "Next": "Wait"},
            "Wait": {"Type": "Wait", "Seconds": 1, "End": True},
        },
    }
    execution = machines.start(definition, [1, 2, 3])
    await machines.reaches(execution, "WaitStateEntered")
    entered = machines.history(execution)[-1]["stateEnteredEventDetails"]["input"]

    again = await machines.killed(tmp_path / "again")
    ended = await again.end(execution)
    await again.close()

    assert (ended.status, ended.output) == ("SUCCEEDED", json.loads(entered))
    assert ended.types.count("MapRunStarted") == 1


async def test_a_child_that_somebody_stops_has_not_failed(machines: Machines) -> None:
    queue = Queue(machines, takes=0)
    execution = machines.start(only(distributed(CALL)), [1, 2])
    await asyncio.wait_for(queue.is_full.wait(), 20)
    (run,) = machines.api.list_map_runs(executionArn=execution)["mapRuns"]
    second, _ = machines.api.list_executions(mapRunArn=run["mapRunArn"])["executions"]

    machines.api.stop_execution(executionArn=second["executionArn"], cause="not this one")
    queue.may_go_on.set()
    ended = await machines.end(execution)

    counts = map_run_of(machines, ended)["executionCounts"]
    assert (ended.status, counts["succeeded"], counts["aborted"]) == ("SUCCEEDED", 1, 1)
    assert [part if part == 1 else part["Cause"] for part in ended.output] == [1, "not this one"]


async def test_a_redrive_runs_only_the_children_that_failed(machines: Machines) -> None:
    asked: list[int] = []
    breaks = True

    def send(*, QueueUrl: str, MessageBody: str) -> dict[str, Any]:
        asked.append(json.loads(MessageBody))
        if breaks and asked[-1] == 2:
            raise AWSError("InternalError", "broken", status=500)
        return {"MessageId": "m", "MD5OfMessageBody": "x"}

    machines.operations["sqs", "SendMessage"] = send
    execution = machines.start(only(distributed(CALL, MaxConcurrency=1)), [1, 2, 3])
    assert (await machines.end(execution)).status == "FAILED"

    breaks = False
    machines.api.redrive_execution(executionArn=execution)
    ended = await machines.end(execution)

    assert (ended.status, ended.output) == ("SUCCEEDED", [1, 2, 3])
    assert asked == [1, 2, 2, 3]
    assert ended.types[-6:] == [
        "ExecutionRedriven",
        "MapRunRedriven",
        "MapRunSucceeded",
        "MapStateSucceeded",
        "MapStateExited",
        "ExecutionSucceeded",
    ]
    assert map_run_of(machines, ended)["redriveCount"] == 1


async def test_the_limits_of_a_run_can_be_changed_while_it_runs(machines: Machines) -> None:
    queue = Queue(machines, takes=0)
    execution = machines.start(only(distributed(CALL, MaxConcurrency=1)), [1, 2, 3])
    await asyncio.wait_for(queue.is_full.wait(), 20)
    (run,) = machines.api.list_map_runs(executionArn=execution)["mapRuns"]
    arn = run["mapRunArn"]
    assert machines.api.describe_map_run(mapRunArn=arn)["itemCounts"]["running"] == 1

    machines.api.update_map_run(mapRunArn=arn, maxConcurrency=3)
    while machines.api.describe_map_run(mapRunArn=arn)["itemCounts"]["running"] < 3:  # noqa: ASYNC110
        await asyncio.sleep(0)
    queue.may_go_on.set()

    assert (await machines.end(execution)).output == [1, 2, 3]
    with pytest.raises(AWSError, match="ValidationException: Map Run is not running"):
        machines.api.update_map_run(mapRunArn=arn, maxConcurrency=1)


async def test_a_run_killed_again_and_again_does_each_item_once(machines: Machines, tmp_path: Path) -> None:
    done: Counter[int] = Counter()
    passed = asyncio.Event()

    def send(*, QueueUrl: str, MessageBody: str) -> dict[str, Any]:
        done[json.loads(MessageBody)] += 1
        if done.total() % 15 == 0:
            passed.set()
        return {"MessageId": "m", "MD5OfMessageBody": "x"}

    machines.operations["sqs", "SendMessage"] = send
    before_the_call = {"Pause": {"Type": "Wait", "Seconds": 0, "Next": "Call"}, **CALL}
    execution = machines.start(only(distributed(before_the_call, MaxConcurrency=7)), list(range(60)))
    running = machines
    for number in range(3):
        await asyncio.wait_for(passed.wait(), 20)
        passed.clear()
        await running.store.committed()
        running = await running.killed(tmp_path / str(number))

    ended = await running.end(execution)

    run = map_run_of(running, ended)
    histories = [
        [event["id"] for event in running.history(child["executionArn"])]
        for child in running.api.list_executions(mapRunArn=run["mapRunArn"], maxResults=100)["executions"]
    ]
    await running.close()
    assert (ended.status, ended.output) == ("SUCCEEDED", list(range(60)))
    assert ended.types.count("MapRunStarted") == 1
    assert run["executionCounts"]["succeeded"] == 60
    assert all(history == list(range(1, len(history) + 1)) for history in histories)
    # A call whose answer was not on disk yet is made again, no other.
    assert set(done) == set(range(60)) and done.total() <= 60 + 3 * 7


async def test_a_redrive_that_is_killed_goes_on_where_it_was(machines: Machines, tmp_path: Path) -> None:
    asked: list[int] = []
    is_broken = True
    is_waiting, fixed = asyncio.Event(), asyncio.Event()

    async def send(*, QueueUrl: str, MessageBody: str) -> dict[str, Any]:
        asked.append(json.loads(MessageBody))
        if is_broken and asked[-1] in (2, 4):
            raise AWSError("InternalError", "broken", status=500)
        if not is_broken and asked[-1] == 4:
            is_waiting.set()
            await fixed.wait()
        return {"MessageId": "m", "MD5OfMessageBody": "x"}

    machines.operations["sqs", "SendMessage"] = send
    state = distributed(CALL, MaxConcurrency=1, ToleratedFailureCount=1)
    execution = machines.start(only(state), [1, 2, 3, 4, 5])
    assert (await machines.end(execution)).status == "FAILED"
    is_broken = False
    machines.api.redrive_execution(executionArn=execution)
    (run,) = machines.api.list_map_runs(executionArn=execution)["mapRuns"]
    arn = run["mapRunArn"]
    await asyncio.wait_for(is_waiting.wait(), 20)
    waiting = machines.api.describe_map_run(mapRunArn=arn)["executionCounts"]
    redriven = machines.api.list_executions(mapRunArn=arn, redriveFilter="REDRIVEN")["executions"]
    await machines.store.committed()

    again = await machines.killed(tmp_path / "again")
    fixed.set()
    ended = await again.end(execution)
    described = map_run_of(again, ended)
    await again.close()

    assert (waiting["succeeded"], waiting["running"], waiting["pending"]) == (3, 1, 1)
    assert [child["redriveCount"] for child in redriven] == [1, 1]
    assert (ended.status, ended.output) == ("SUCCEEDED", [1, 2, 3, 4, 5])
    assert asked == [1, 2, 3, 4, 2, 4, 4, 5]
    assert described["redriveCount"] == 1
    assert ended.details("MapRunRedriven") == [{"mapRunArn": arn, "redriveCount": 1}]


async def test_children_that_wait_for_their_redrive_are_counted_and_listed_so(machines: Machines) -> None:
    queue = Queue(machines, takes=0)
    processor = {**failing_on([1, 2]), "Fine": CALL["Call"]}
    state = distributed(processor, MaxConcurrency=1, ToleratedFailureCount=1)
    execution = machines.start(only(state), [1, 2, 3])
    assert (await machines.end(execution)).status == "FAILED"
    (run,) = machines.api.list_map_runs(executionArn=execution)["mapRuns"]
    arn = run["mapRunArn"]
    broken = processor["First"]["Choices"]
    assert len(broken) == 2

    machines.api.redrive_execution(executionArn=execution)
    async with asyncio.timeout(20):
        while machines.api.describe_map_run(mapRunArn=arn)["redriveCount"] == 0:  # noqa: ASYNC110
            await asyncio.sleep(0)
    counts = machines.api.describe_map_run(mapRunArn=arn)["executionCounts"]
    listed = machines.api.list_executions(mapRunArn=arn, statusFilter="PENDING_REDRIVE")["executions"]

    assert (counts["pendingRedrive"], counts["failed"], counts["total"]) == (1, 0, 3)
    assert len(listed) == 1
    assert queue.sent == []


async def test_of_express_children_nothing_is_known_but_what_describes_them(machines: Machines) -> None:
    state = distributed({"Only": {"Type": "Pass", "End": True}})
    state["ItemProcessor"]["ProcessorConfig"]["ExecutionType"] = "EXPRESS"
    ended = await machines.run(only(state), ["a"])
    (run,) = machines.api.list_map_runs(executionArn=ended.arn)["mapRuns"]
    (child,) = machines.api.list_executions(mapRunArn=run["mapRunArn"])["executions"]

    described = machines.api.describe_execution(executionArn=child["executionArn"])

    assert (described["status"], described["output"]) == ("SUCCEEDED", '"a"')
    for refused in (
        machines.api.get_execution_history,
        machines.api.describe_state_machine_for_execution,
        machines.api.stop_execution,
        machines.api.redrive_execution,
    ):
        with pytest.raises(AWSError) as error:
            refused(executionArn=child["executionArn"])
        assert error.value.code == "InvalidArn"


async def test_express_children_are_started_anew_by_a_redrive(machines: Machines) -> None:
    is_broken = True

    def send(*, QueueUrl: str, MessageBody: str) -> dict[str, Any]:
        if is_broken:
            raise AWSError("InternalError", "broken", status=500)
        return {"MessageId": "m", "MD5OfMessageBody": "x"}

    machines.operations["sqs", "SendMessage"] = send
    state = distributed(CALL)
    state["ItemProcessor"]["ProcessorConfig"]["ExecutionType"] = "EXPRESS"
    execution = machines.start(only(state), ["a"])
    assert (await machines.end(execution)).status == "FAILED"
    (run,) = machines.api.list_map_runs(executionArn=execution)["mapRuns"]
    (first,) = machines.api.list_executions(mapRunArn=run["mapRunArn"])["executions"]

    is_broken = False
    machines.api.redrive_execution(executionArn=execution)
    ended = await machines.end(execution)

    assert ended.output == ["a"]
    (second,) = machines.api.list_executions(mapRunArn=run["mapRunArn"])["executions"]
    prefix = f"{execution.rpartition(':')[0]}/Items:".replace(":execution:", ":express:")
    assert first["executionArn"] == f"{prefix}{first['name']}"
    name, _, id = first["name"].partition(":")
    assert second["executionArn"].startswith(f"{prefix}{name}:") and id not in second["executionArn"]
    assert (second["status"], second["redriveCount"]) == ("SUCCEEDED", 0)


async def test_a_map_beside_a_branch_that_fails_is_given_up(machines: Machines) -> None:
    queue = Queue(machines, takes=0)
    fails = {
        "StartAt": "Until",
        "States": {
            "Until": {"Type": "Wait", "Seconds": 1, "Next": "Broken"},
            "Broken": {"Type": "Fail", "Error": "Broken"},
        },
    }
    both = {"Type": "Parallel", "Branches": [only(distributed(CALL)), fails], "End": True}

    ended = await machines.run({"StartAt": "Both", "States": {"Both": both}}, [1, 2])

    run = map_run_of(machines, ended)
    assert (ended.status, ended.error, run["status"]) == ("FAILED", "Broken", "ABORTED")
    assert queue.is_full.is_set()
    assert [event for event in ended.types if "Aborted" in event] == ["MapRunAborted", "MapStateAborted"]
    assert run["executionCounts"]["aborted"] == 2
    assert machines.api.engine.running == {}


@pytest.mark.slow
async def test_ten_thousand_items_take_little_memory(machines: Machines) -> None:
    state = distributed({"Pause": {"Type": "Wait", "Seconds": 1, "End": True}}, ResultPath=None)
    execution = machines.start(only(state), list(range(10_000)))
    await machines.reaches(execution, "MapRunStarted")

    tracemalloc.start()
    task = machines.api.engine.running[execution].task
    assert task is not None
    await asyncio.wait([task], timeout=120)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    ended = await machines.end(execution)

    counts = map_run_of(machines, ended)["executionCounts"]
    assert (ended.status, counts["succeeded"], counts["total"]) == ("SUCCEEDED", 10_000, 10_000)
    assert most < 100_000_000
