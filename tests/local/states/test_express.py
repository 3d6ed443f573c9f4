"""Express workflows: quick, not asked about afterwards, and nothing of them is kept."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from stagegate.local.service import AWSError
from stagegate.local.states.execution import stream_of
from stagegate.local.states.records import EXECUTION, RUNNING
from tests.local.states.conftest import Ended, Machines, only

PASS = only({"Type": "Pass", "Result": 1})
WAIT = only({"Type": "Wait", "Seconds": 60})


async def ended(machines: Machines, execution: str) -> dict[str, Any]:
    """What a running execution comes to, of which the API tells nothing."""
    running = machines.api.engine.running[execution]
    assert running.task is not None
    await asyncio.wait([running.task], timeout=20)
    return running.document


def kept(machines: Machines) -> list[Any]:
    return [*machines.store.list(EXECUTION), *machines.store.list(RUNNING)]


async def test_nothing_is_kept_of_what_has_ended(machines: Machines) -> None:
    arn = machines.create(PASS, name="m", type="EXPRESS")

    started = machines.api.start_execution(stateMachineArn=arn, name="run")
    was_kept = kept(machines)
    document = await ended(machines, started["executionArn"])
    await machines.api.start_sync_execution(stateMachineArn=arn)

    assert len(was_kept) == 2
    assert (document["status"], document["output"]) == ("SUCCEEDED", "1")
    assert kept(machines) == []
    assert list(machines.store.read(stream_of(started["executionArn"]))) == []
    assert machines.announced == []


async def test_the_same_name_is_another_execution(machines: Machines) -> None:
    arn = machines.create(WAIT, name="m", type="EXPRESS")

    first, second = (
        machines.api.start_execution(stateMachineArn=arn, name="run")["executionArn"] for _ in range(2)
    )

    assert first != second
    assert first.startswith("arn:aws:states:us-east-1:111111111111:express:m:run:")


@pytest.mark.parametrize(
    "operation",
    [
        "describe_execution",
        "describe_state_machine_for_execution",
        "get_execution_history",
        "stop_execution",
        "redrive_execution",
    ],
)
async def test_operations_on_executions_are_those_of_standard_ones(
    machines: Machines, operation: str
) -> None:
    arn = machines.create(WAIT, type="EXPRESS")
    execution = machines.api.start_execution(stateMachineArn=arn)["executionArn"]

    with pytest.raises(AWSError) as raised:
        getattr(machines.api, operation)(executionArn=execution)

    assert (raised.value.code, raised.value.message) == (
        "InvalidArn",
        "Invalid Arn: 'Resource type not valid in this context: express'",
    )


async def test_executions_are_not_listed(machines: Machines) -> None:
    arn = machines.create(PASS, type="EXPRESS")

    with pytest.raises(AWSError) as raised:
        machines.api.list_executions(stateMachineArn=arn)

    assert (raised.value.code, raised.value.message) == (
        "StateMachineTypeNotSupported",
        "This operation is not supported by this type of state machine",
    )


async def test_an_execution_takes_five_minutes_at_most(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stagegate.local.states.execution._EXPRESS_SECONDS", 0.05)
    arn = machines.create(WAIT | {"TimeoutSeconds": 600}, type="EXPRESS")

    result = await machines.api.start_sync_execution(stateMachineArn=arn, name="run")

    assert result["status"] == "TIMED_OUT"
    assert "output" not in result


async def test_a_failure_is_an_answer(machines: Machines) -> None:
    arn = machines.create(only({"Type": "Fail", "Error": "Bad", "Cause": "why"}), name="m", type="EXPRESS")

    result = await machines.api.start_sync_execution(
        stateMachineArn=arn, name="run", input='{"a": 1}', traceHeader="Root=1"
    )

    assert result == {
        "executionArn": result["executionArn"],
        "stateMachineArn": arn,
        "name": "run",
        "startDate": result["startDate"],
        "stopDate": result["stopDate"],
        "status": "FAILED",
        "error": "Bad",
        "cause": "why",
        "input": '{"a": 1}',
        "inputDetails": {"included": True},
        "traceHeader": "Root=1",
        "billingDetails": {"billedMemoryUsedInMB": 64, "billedDurationInMilliseconds": 100},
    }


async def test_the_answer_can_do_without_data(machines: Machines) -> None:
    arn = machines.create(PASS, type="EXPRESS")

    result = await machines.api.start_sync_execution(stateMachineArn=arn, includedData="METADATA_ONLY")

    assert result["status"] == "SUCCEEDED"
    assert not {"input", "output", "inputDetails", "outputDetails"} & set(result)


async def test_an_asynchronous_execution_goes_on_after_a_restart(machines: Machines, tmp_path: Path) -> None:
    slow = {
        "StartAt": "Wait",
        "States": {
            "Wait": {"Type": "Wait", "Seconds": 1, "Next": "Say"},
            "Say": {"Type": "Pass", "Result": "done", "End": True},
        },
    }
    arn = machines.create(slow, type="EXPRESS")
    execution = machines.api.start_execution(stateMachineArn=arn)["executionArn"]
    machines.store.commit()

    again = await machines.killed(tmp_path / "again")
    again.api.engine.find_running(execution)

    assert (await ended(again, execution))["output"] == '"done"'
    assert kept(again) == []
    await again.close()


async def test_a_synchronous_execution_ends_with_the_server(machines: Machines, tmp_path: Path) -> None:
    """Who waited for it is told that the connection broke, and starts another one."""
    arn = machines.create(WAIT, type="EXPRESS")
    waiting = asyncio.create_task(machines.api.start_sync_execution(stateMachineArn=arn))
    await asyncio.sleep(0)
    assert len(kept(machines)) == 2
    machines.store.commit()

    again = await machines.killed(tmp_path / "again")
    await asyncio.sleep(0)

    assert kept(again) == []
    waiting.cancel()
    await again.close()


async def test_a_task_runs_an_express_workflow_and_has_its_output(machines: Machines) -> None:
    arn = machines.create(PASS, name="inner", type="EXPRESS")
    outer = only(
        {
            "Type": "Task",
            "Resource": "arn:aws:states:::aws-sdk:sfn:startSyncExecution",
            "Parameters": {"StateMachineArn": arn, "Input": "{}"},
        }
    )

    result: Ended = await machines.run(outer)

    assert (result.output["Status"], json.loads(result.output["Output"])) == ("SUCCEEDED", 1)
