"""RedriveExecution: on from where it failed, with what had succeeded kept."""

from pathlib import Path
from typing import Any

import pytest

from stagegate.local.service import AWSError
from tests.local.states.conftest import Machines, only
from tests.local.states.test_branches import branch
from tests.local.states.test_task import FUNCTION, failing

WORK = {
    "StartAt": "Draw",
    "States": {
        "Draw": {"Type": "Pass", "Parameters": {"id.$": "States.UUID()"}, "Next": "Work"},
        "Work": {
            "Type": "Task",
            "Resource": FUNCTION,
            "Parameters": {"id.$": "$.id", "redrives.$": "$$.Execution.RedriveCount"},
            "End": True,
        },
    },
}


async def test_the_failed_state_is_tried_again(machines: Machines) -> None:
    machines.operations["lambda", "Invoke"] = failing("Bad", times=1)
    failed = await machines.run(WORK)
    assert (failed.status, failed.error) == ("FAILED", "Bad")

    answer = machines.api.redrive_execution(executionArn=failed.arn)
    ended = await machines.end(failed.arn)

    assert ended.status == "SUCCEEDED"
    assert ended.output["redrives"] == 1
    assert ended.events[: len(failed.events)] == failed.events
    assert ended.links[len(failed.events) :] == [
        (9, 8, "ExecutionRedriven"),
        (10, 4, "LambdaFunctionScheduled"),
        (11, 10, "LambdaFunctionStarted"),
        (12, 11, "LambdaFunctionSucceeded"),
        (13, 12, "TaskStateExited"),
        (14, 13, "ExecutionSucceeded"),
    ]
    described = machines.api.describe_execution(executionArn=failed.arn)
    assert (described["redriveCount"], described["redriveDate"]) == (1, answer["redriveDate"])


async def test_only_the_branches_that_failed_or_were_given_up_run_again(machines: Machines) -> None:
    calls = []

    def invoke(*, Payload: bytes, **_: Any) -> dict[str, Any]:
        calls.append(Payload)
        return failed_once(Payload=Payload) if Payload == b'"second"' else {"Payload": Payload}

    failed_once = failing("Bad", times=1)
    machines.operations["lambda", "Invoke"] = invoke
    task = {"Type": "Task", "Resource": FUNCTION}
    state = {
        "Type": "Parallel",
        "Branches": [
            branch({"Type": "Pass", "Result": "first"}, task),
            branch({"Type": "Wait", "Seconds": 1}, {"Type": "Pass", "Result": "second"}, task),
            branch({"Type": "Wait", "Seconds": 2}, {"Type": "Pass", "Result": "third"}),
        ],
    }
    failed = await machines.run(only(state))
    assert failed.status == "FAILED"

    machines.api.redrive_execution(executionArn=failed.arn)
    ended = await machines.end(failed.arn)

    assert ended.output == ["first", "second", "third"]
    assert calls == [b'"first"', b'"second"', b'"second"']


async def test_an_aborted_execution_goes_on(machines: Machines, tmp_path: Path) -> None:
    execution = machines.start(only({"Type": "Wait", "Seconds": 1}))
    await machines.reaches(execution, "WaitStateEntered")
    machines.api.stop_execution(executionArn=execution)

    machines.api.redrive_execution(executionArn=execution)
    machines.store.commit()
    again = await machines.killed(tmp_path / "again")
    ended = await again.end(execution)

    assert ended.types == [
        "ExecutionStarted",
        "WaitStateEntered",
        "ExecutionAborted",
        "ExecutionRedriven",
        "WaitStateExited",
        "ExecutionSucceeded",
    ]
    await again.close()


async def test_it_can_be_redriven_more_than_once(machines: Machines) -> None:
    machines.operations["lambda", "Invoke"] = failing("Bad", times=2)
    failed = await machines.run(WORK)

    machines.api.redrive_execution(executionArn=failed.arn)
    again = await machines.end(failed.arn)
    machines.api.redrive_execution(executionArn=failed.arn)
    ended = await machines.end(failed.arn)

    assert (again.status, ended.status) == ("FAILED", "SUCCEEDED")
    assert ended.output["redrives"] == 2


async def test_what_succeeded_or_runs_is_not_redriven(machines: Machines) -> None:
    ended = await machines.run(only({"Type": "Pass"}))

    with pytest.raises(AWSError) as raised:
        machines.api.redrive_execution(executionArn=ended.arn)

    assert (raised.value.code, raised.value.message) == (
        "ExecutionNotRedrivable",
        "Execution is SUCCEEDED and cannot be redriven",
    )
