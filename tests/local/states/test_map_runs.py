"""The API of Map Runs: DescribeMapRun, ListMapRuns, UpdateMapRun, and their child executions."""

import asyncio
import json
from datetime import datetime
from typing import Any

import pytest

from stagegate.local.service import AWSError
from tests.local.states.conftest import Machines, only
from tests.local.states.distributed_maps import distributed

WAIT = {"Wait": {"Type": "Wait", "Seconds": 1000, "End": True}}
ECHO = {"Echo": {"Type": "Pass", "Parameters": {"item.$": "$", "context.$": "$$"}, "End": True}}


async def under_way(machines: Machines, *, running: int, **fields: Any) -> tuple[str, str]:
    """An execution whose children wait, and its Map Run, when so many of four children run."""
    execution = machines.start(only(distributed(WAIT, **fields)), [1, 2, 3, 4])
    await machines.reaches(execution, "MapRunStarted")
    (run,) = machines.api.list_map_runs(executionArn=execution)["mapRuns"]
    arn = run["mapRunArn"]
    async with asyncio.timeout(20):
        while machines.api.describe_map_run(mapRunArn=arn)["executionCounts"]["running"] < running:  # noqa: ASYNC110
            await asyncio.sleep(0)
    return execution, arn


def counts(**counted: int) -> dict[str, int]:
    names = ("pending", "running", "succeeded", "failed", "timedOut", "aborted")
    others = ("resultsWritten", "failuresNotRedrivable", "pendingRedrive")
    return {**dict.fromkeys((*names, "total", *others), 0), **counted}


async def test_a_map_run_that_is_under_way_is_described(machines: Machines) -> None:
    execution, arn = await under_way(
        machines, running=1, MaxConcurrency=1, ItemBatcher={"MaxItemsPerBatch": 2}
    )

    described = machines.api.describe_map_run(mapRunArn=arn)

    assert isinstance(described.pop("startDate"), datetime)
    assert described == {
        "mapRunArn": arn,
        "executionArn": execution,
        "status": "RUNNING",
        "maxConcurrency": 1,
        "toleratedFailureCount": 0,
        "toleratedFailurePercentage": 0.0,
        "redriveCount": 0,
        "itemCounts": counts(pending=2, running=2, total=4),
        "executionCounts": counts(pending=1, running=1, total=2),
    }


async def test_the_map_runs_of_an_execution_are_listed_the_latest_first(machines: Machines) -> None:
    definition = {
        "StartAt": "First",
        "States": {
            "First": {**distributed(ECHO, Label="One"), "ResultPath": None, "Next": "Second"},
            "Second": {
                **distributed({"Other": ECHO["Echo"]}, Label="Two"),
                "ResultPath": None,
                "End": True,
            },
        },
    }

    ended = await machines.run(definition, [1])

    listed = machines.api.list_map_runs(executionArn=ended.arn)["mapRuns"]
    machine = ended.arn.replace(":execution:", ":stateMachine:").rpartition(":")[0]
    assert [run["stateMachineArn"] for run in listed] == [f"{machine}/Two", f"{machine}/One"]
    assert [sorted(run) for run in listed] == 2 * [
        ["executionArn", "mapRunArn", "startDate", "stateMachineArn", "stopDate"]
    ]
    first = machines.api.list_map_runs(executionArn=ended.arn, maxResults=1)
    token = first["nextToken"]
    second = machines.api.list_map_runs(executionArn=ended.arn, maxResults=1, nextToken=token)
    assert first["mapRuns"] + second["mapRuns"] == listed


async def test_children_are_listed_and_described(machines: Machines) -> None:
    ended = await machines.run(only(distributed(ECHO, MaxConcurrency=1)), ["a", "b"])

    (run,) = machines.api.list_map_runs(executionArn=ended.arn)["mapRuns"]
    children = machines.api.list_executions(mapRunArn=run["mapRunArn"])["executions"]
    child = children[-1]
    machine = f"{ended.arn.rpartition(':')[0]}/Items".replace(":execution:", ":stateMachine:")
    assert {child.pop(name).__class__ for name in ("startDate", "stopDate")} == {datetime}
    assert child == {
        "executionArn": f"{ended.arn.rpartition(':')[0]}/Items:{child['name']}",
        "stateMachineArn": machine,
        "name": child["name"],
        "status": "SUCCEEDED",
        "redriveCount": 0,
        "mapRunArn": run["mapRunArn"],
        "itemCount": 1,
    }
    described = machines.api.describe_execution(executionArn=child["executionArn"])
    assert described["mapRunArn"] == run["mapRunArn"]
    output = json.loads(described["output"])
    assert output["item"] == "a"
    assert sorted(output["context"]) == ["Execution", "State", "StateMachine"]
    assert output["context"]["Execution"]["Id"] == child["executionArn"]
    assert output["context"]["Execution"]["Input"] == "a"
    assert output["context"]["StateMachine"] == {"Id": machine, "Name": "machine-1"}


async def test_the_state_machine_of_a_child_is_the_item_processor(machines: Machines) -> None:
    inside = {"Both": {"Type": "Parallel", "Branches": [only(distributed(ECHO))], "End": True}}
    ended = await machines.run({"StartAt": "Both", "States": inside}, [1])

    (run,) = machines.api.list_map_runs(executionArn=ended.arn)["mapRuns"]
    (child,) = machines.api.list_executions(mapRunArn=run["mapRunArn"])["executions"]
    described = machines.api.describe_state_machine_for_execution(executionArn=child["executionArn"])

    assert json.loads(described["definition"]) == {"StartAt": "Echo", "States": ECHO}
    assert described["label"] == "Items"
    assert described["mapRunArn"] == run["mapRunArn"]
    assert described["stateMachineArn"] == run["stateMachineArn"]
    assert described["name"] == "machine-1"


async def test_children_are_not_among_the_executions_of_their_state_machine(machines: Machines) -> None:
    ended = await machines.run(only(distributed(ECHO)), [1, 2])

    machine = ended.arn.replace(":execution:", ":stateMachine:").rpartition(":")[0]
    listed = machines.api.list_executions(stateMachineArn=machine)["executions"]
    assert [execution["executionArn"] for execution in listed] == [ended.arn]


async def test_children_of_a_stopped_execution_say_why_they_were_aborted(machines: Machines) -> None:
    execution, arn = await under_way(machines, running=2, MaxConcurrency=2)

    machines.api.stop_execution(executionArn=execution)

    run = machines.api.describe_map_run(mapRunArn=arn)
    assert (run["status"], run["executionCounts"]) == ("ABORTED", counts(pending=2, aborted=2, total=4))
    (first, _) = machines.api.list_executions(mapRunArn=arn)["executions"]
    described = machines.api.describe_execution(executionArn=first["executionArn"])
    cause = f"The map run execution [{arn}] which was managing this resource was aborted"
    assert (described["status"], described["cause"]) == ("ABORTED", cause)
    assert "error" not in described
    assert described["redriveStatus"] == "REDRIVABLE_BY_MAP_RUN"
    with pytest.raises(AWSError) as refused:
        machines.api.redrive_execution(executionArn=first["executionArn"])
    assert refused.value.code == "ExecutionNotRedrivable"


async def test_what_a_map_run_is_not_is_refused(machines: Machines) -> None:
    execution, arn = await under_way(machines, running=1, MaxConcurrency=1)
    missing = arn.replace("Items", "Others")

    refusals = {
        "ResourceNotFound": [
            lambda: machines.api.describe_map_run(mapRunArn=missing),
            lambda: machines.api.update_map_run(mapRunArn=missing, maxConcurrency=1),
            lambda: machines.api.list_executions(mapRunArn=missing),
        ],
        "InvalidArn": [lambda: machines.api.describe_map_run(mapRunArn="no-arn")],
        "ExecutionDoesNotExist": [lambda: machines.api.list_map_runs(executionArn=f"{execution}x")],
        "ValidationException": [lambda: machines.api.update_map_run(mapRunArn=arn)],
    }

    for code, calls in refusals.items():
        for call in calls:
            with pytest.raises(AWSError) as refused:
                call()
            assert refused.value.code == code


async def test_tolerated_failures_can_be_lowered_while_a_run_goes_on(machines: Machines) -> None:
    fails_first = {
        "First": {
            "Type": "Choice",
            "Choices": [{"Variable": "$", "NumericEquals": 1, "Next": "Broken"}],
            "Default": "Wait",
        },
        "Broken": {"Type": "Fail", "Error": "Broken"},
        **WAIT,
    }
    state = distributed(fails_first, ToleratedFailureCount=2)
    execution = machines.start(only(state), [1, 2, 3])
    await machines.reaches(execution, "MapRunStarted")
    (run,) = machines.api.list_map_runs(executionArn=execution)["mapRuns"]
    arn = run["mapRunArn"]
    async with asyncio.timeout(20):
        while machines.api.describe_map_run(mapRunArn=arn)["executionCounts"]["failed"] < 1:  # noqa: ASYNC110
            await asyncio.sleep(0)

    machines.api.update_map_run(mapRunArn=arn, toleratedFailureCount=0)
    ended = await machines.end(execution)

    assert (ended.status, ended.error) == ("FAILED", "States.ExceedToleratedFailureThreshold")
    run = machines.api.describe_map_run(mapRunArn=arn)
    assert run["toleratedFailureCount"] == 0
    assert run["executionCounts"] == counts(failed=1, aborted=2, total=3, resultsWritten=3)
