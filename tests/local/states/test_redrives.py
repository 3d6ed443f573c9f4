"""When an execution can be redriven: AWS's reasons, and which requests are one and the same."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stagegate.local.service import AWSError
from stagegate.local.states.records import EXECUTION
from stagegate.local.states.redrives import redrive_status, redriven_by, with_token
from tests.local.states.conftest import Machines, only

NOW = datetime.now(UTC)
FAILED: dict[str, Any] = {
    "status": "FAILED",
    "startDate": NOW - timedelta(hours=2),
    "stopDate": NOW - timedelta(hours=1),
    "redriveCount": 0,
    "eventCount": 5,
}


@pytest.mark.parametrize("status", ["FAILED", "TIMED_OUT", "ABORTED"])
def test_what_did_not_succeed_can_be_redriven(status: str) -> None:
    assert redrive_status({**FAILED, "status": status}) == {"redriveStatus": "REDRIVABLE"}


def test_the_child_of_a_map_run_is_redriven_with_it() -> None:
    assert redrive_status({**FAILED, "mapRunArn": "arn"}) == {"redriveStatus": "REDRIVABLE_BY_MAP_RUN"}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"status": "RUNNING"}, "Execution is RUNNING and cannot be redriven"),
        ({"status": "SUCCEEDED"}, "Execution is SUCCEEDED and cannot be redriven"),
        ({"eventCount": 24_999}, "Execution history event limit exceeded"),
        ({"redriveCount": 1_000}, "Execution redrive limit exceeded"),
        ({"stopDate": NOW - timedelta(days=14)}, "Execution redrivable period exceeded"),
        ({"startDate": NOW - timedelta(days=365)}, "Execution has exceeded the max execution time"),
    ],
)
def test_what_can_not_be_redriven_says_why(document: dict[str, Any], reason: str) -> None:
    assert redrive_status({**FAILED, **document}) == {
        "redriveStatus": "NOT_REDRIVABLE",
        "redriveStatusReason": reason,
    }


async def test_a_redrive_that_is_refused_says_the_same(machines: Machines) -> None:
    ended = await machines.run(only({"Type": "Fail"}))
    document = machines.store.get(EXECUTION, ended.arn)
    assert document is not None
    machines.store.put(EXECUTION, ended.arn, {**document, "stopDate": NOW - timedelta(days=15)})

    with pytest.raises(AWSError) as raised:
        machines.api.redrive_execution(executionArn=ended.arn)

    assert (raised.value.code, raised.value.message) == (
        "ExecutionNotRedrivable",
        "Execution redrivable period exceeded",
    )


async def test_an_execution_of_a_state_machine_that_is_being_deleted_is_not_redriven(
    machines: Machines,
) -> None:
    arn = machines.create(only({"Type": "Wait", "Seconds": 60}))
    stopped = machines.api.start_execution(stateMachineArn=arn, name="stopped")["executionArn"]
    machines.api.stop_execution(executionArn=stopped)
    machines.api.start_execution(stateMachineArn=arn, name="running")

    machines.api.delete_state_machine(stateMachineArn=arn)

    described = machines.api.describe_execution(executionArn=stopped)
    assert described["redriveStatusReason"] == "State machine is in DELETING status"
    with pytest.raises(AWSError, match="ExecutionNotRedrivable"):
        machines.api.redrive_execution(executionArn=stopped)


def test_the_last_ten_client_tokens_are_known_for_a_quarter_of_an_hour() -> None:
    document: dict[str, Any] = {}
    for number in range(12):
        document["redriveTokens"] = with_token(document, str(number), NOW)
    old = {"redriveTokens": with_token({}, "old", NOW - timedelta(minutes=16))}

    assert redriven_by(document, "11") == redriven_by(document, "2") == NOW
    assert redriven_by(document, "1") is None
    assert redriven_by(old, "old") is None


async def test_another_client_token_is_another_redrive(machines: Machines) -> None:
    ended = await machines.run(only({"Type": "Fail"}))
    for token in ("a", "b", "a"):
        machines.api.redrive_execution(executionArn=ended.arn, clientToken=token)
        await machines.end(ended.arn)

    described = machines.api.describe_execution(executionArn=ended.arn)

    assert described["redriveCount"] == 2
    assert (await machines.end(ended.arn)).types.count("ExecutionRedriven") == 2
