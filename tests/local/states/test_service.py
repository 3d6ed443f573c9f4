"""The API: state machines, executions, paging, tags, and the codes of its errors."""

import json
from typing import Any

import pytest

from stagegate.local.service import AWSError
from tests.local.states.conftest import ROLE, Machines, only

PASS = only({"Type": "Pass"})
WAIT = only({"Type": "Wait", "Seconds": 60})


def refused(call: Any, **members: Any) -> tuple[str, str]:
    with pytest.raises(AWSError) as raised:
        call(**members)
    return raised.value.code, raised.value.message


async def test_a_state_machine_is_created_described_updated_and_deleted(machines: Machines) -> None:
    api = machines.api
    arn = machines.create(PASS, name="m")

    described = api.describe_state_machine(stateMachineArn=arn)
    updated = api.update_state_machine(stateMachineArn=arn, definition=json.dumps(WAIT))
    changed = api.describe_state_machine(stateMachineArn=arn)
    api.delete_state_machine(stateMachineArn=arn)

    assert described == {
        "stateMachineArn": "arn:aws:states:us-east-1:111111111111:stateMachine:m",
        "name": "m",
        "status": "ACTIVE",
        "type": "STANDARD",
        "definition": json.dumps(PASS),
        "roleArn": ROLE,
        "creationDate": described["creationDate"],
        "loggingConfiguration": {"level": "OFF", "includeExecutionData": False},
        "tracingConfiguration": {"enabled": False},
        "encryptionConfiguration": {"type": "AWS_OWNED_KEY"},
    }
    assert changed["definition"] == json.dumps(WAIT)
    assert changed["revisionId"] == updated["revisionId"]
    assert refused(api.describe_state_machine, stateMachineArn=arn) == (
        "StateMachineDoesNotExist",
        f"State Machine Does Not Exist: '{arn}'",
    )
    assert api.delete_state_machine(stateMachineArn=arn) == {}


async def test_creating_the_same_again_gives_the_same(machines: Machines) -> None:
    arn = machines.create(PASS, name="m")

    assert machines.create(PASS, name="m") == arn
    with pytest.raises(AWSError) as raised:
        machines.create(WAIT, name="m")
    assert raised.value.code == "StateMachineAlreadyExists"


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"name": "a b"}, "InvalidName"),
        ({"name": "x" * 81}, "InvalidName"),
        ({"roleArn": "role"}, "InvalidArn"),
        ({"versionDescription": "x"}, "ValidationException"),
        ({"loggingConfiguration": {"level": "ALL"}}, "InvalidLoggingConfiguration"),
    ],
)
async def test_what_can_not_be_created_is_refused(
    machines: Machines, settings: dict[str, Any], code: str
) -> None:
    with pytest.raises(AWSError) as raised:
        machines.create(PASS, **settings)

    assert raised.value.code == code


async def test_an_update_must_change_something(machines: Machines) -> None:
    arn = machines.create(PASS)

    assert refused(machines.api.update_state_machine, stateMachineArn=arn)[0] == "MissingRequiredParameter"


async def test_state_machines_are_listed_by_name_in_pages(machines: Machines) -> None:
    for name in ("b", "c", "a"):
        machines.create(PASS, name=name)

    first = machines.api.list_state_machines(maxResults=2)
    second = machines.api.list_state_machines(maxResults=2, nextToken=first["nextToken"])

    assert [machine["name"] for machine in first["stateMachines"] + second["stateMachines"]] == [
        "a",
        "b",
        "c",
    ]
    assert "nextToken" not in second


async def test_tags(machines: Machines) -> None:
    arn = machines.create(PASS, tags=[{"key": "team", "value": "vision"}])

    machines.api.tag_resource(resourceArn=arn, tags=[{"key": "stage", "value": "x"}])
    machines.api.untag_resource(resourceArn=arn, tagKeys=["team"])

    assert machines.api.list_tags_for_resource(resourceArn=arn) == {"tags": [{"key": "stage", "value": "x"}]}
    assert refused(machines.api.list_tags_for_resource, resourceArn=arn + "x")[0] == "ResourceNotFound"


async def test_starting_is_idempotent_for_name_and_input_while_it_runs(machines: Machines) -> None:
    arn = machines.create(WAIT)
    start = machines.api.start_execution

    first = start(stateMachineArn=arn, name="run", input="{}")
    again = start(stateMachineArn=arn, name="run", input="{}")

    assert again == first
    exists = ("ExecutionAlreadyExists", f"Execution Already Exists: '{first['executionArn']}'")
    assert refused(start, stateMachineArn=arn, name="run", input="[]") == exists
    machines.api.stop_execution(executionArn=first["executionArn"])
    assert refused(start, stateMachineArn=arn, name="run", input="{}") == exists


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "Invalid execution input."),
        (
            "yes",
            "Unrecognized token 'yes': was expecting "
            "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')",
        ),
        ("{'a': 1}", "Unexpected character (''' (code 39)): was expecting double-quote to start field name"),
    ],
)
async def test_an_input_that_is_no_json_is_refused(machines: Machines, text: str, problem: str) -> None:
    arn = machines.create(PASS)

    assert refused(machines.api.start_execution, stateMachineArn=arn, input=text) == (
        "InvalidExecutionInput",
        f"Invalid State Machine Execution Input: '{problem}'",
    )


async def test_an_execution_is_described(machines: Machines) -> None:
    ended = await machines.run(PASS, {"n": 1})

    described = machines.api.describe_execution(executionArn=ended.arn)

    assert described["startDate"] <= described["stopDate"]
    assert described == {
        "executionArn": "arn:aws:states:us-east-1:111111111111:execution:machine-1:run",
        "stateMachineArn": "arn:aws:states:us-east-1:111111111111:stateMachine:machine-1",
        "name": "run",
        "status": "SUCCEEDED",
        "startDate": described["startDate"],
        "stopDate": described["stopDate"],
        "input": '{"n": 1}',
        "inputDetails": {"included": True},
        "output": '{"n":1}',
        "outputDetails": {"included": True},
        "redriveCount": 0,
        "redriveStatus": "NOT_REDRIVABLE",
        "redriveStatusReason": "Execution is SUCCEEDED and cannot be redriven",
    }
    assert (
        refused(machines.api.describe_execution, executionArn=ended.arn + "x")[0] == "ExecutionDoesNotExist"
    )
    assert refused(machines.api.describe_execution, executionArn="run")[0] == "InvalidArn"


async def test_executions_are_listed_latest_first_by_status_and_in_pages(machines: Machines) -> None:
    arn = machines.create(PASS)
    machines.create(PASS, name="machine-10")
    waiting = machines.create(WAIT, name="waiting")
    for index in range(3):
        started = machines.api.start_execution(stateMachineArn=arn, name=f"run-{index}")
        await machines.end(started["executionArn"])
    machines.api.start_execution(stateMachineArn=waiting, name="long")

    def names(**members: Any) -> list[str]:
        return [execution["name"] for execution in machines.api.list_executions(**members)["executions"]]

    first = machines.api.list_executions(stateMachineArn=arn, maxResults=2)

    assert names(stateMachineArn=arn) == ["run-2", "run-1", "run-0"]
    assert names(stateMachineArn=arn, maxResults=2, nextToken=first["nextToken"]) == ["run-0"]
    assert names(stateMachineArn=arn, statusFilter="RUNNING") == []
    assert names(stateMachineArn=waiting, statusFilter="RUNNING") == ["long"]


async def test_the_history_in_pages_reversed_and_without_data(machines: Machines) -> None:
    ended = await machines.run(PASS, {"n": 1})
    history = machines.api.get_execution_history

    first = history(executionArn=ended.arn, maxResults=3)
    rest = history(executionArn=ended.arn, maxResults=3, nextToken=first["nextToken"])
    reverse = history(executionArn=ended.arn, reverseOrder=True)
    bare = history(executionArn=ended.arn, includeExecutionData=False)

    assert first["events"] + rest["events"] == ended.events
    assert reverse["events"] == ended.events[::-1]
    assert bare["events"][1]["stateEnteredEventDetails"] == {"name": "State"}


async def test_the_state_machine_of_an_execution_is_the_one_it_started_with(machines: Machines) -> None:
    ended = await machines.run(PASS)
    arn = machines.api.describe_execution(executionArn=ended.arn)["stateMachineArn"]
    machines.api.update_state_machine(stateMachineArn=arn, definition=json.dumps(WAIT))

    described = machines.api.describe_state_machine_for_execution(executionArn=ended.arn)

    assert (described["definition"], described["stateMachineArn"]) == (json.dumps(PASS), arn)


async def test_the_start_and_the_end_are_announced(machines: Machines) -> None:
    ended = await machines.run(only({"Type": "Fail", "Error": "Bad", "Cause": "why"}), {"n": 1})

    started, failed = machines.announced
    described = machines.api.describe_execution(executionArn=ended.arn)
    assert (started.source, started.detail_type) == ("aws.states", "Step Functions Execution Status Change")
    assert (started.detail["status"], started.detail["stopDate"]) == ("RUNNING", None)
    assert failed.resources == (ended.arn,)
    assert failed.detail == {
        "executionArn": ended.arn,
        "stateMachineArn": described["stateMachineArn"],
        "name": "run",
        "status": "FAILED",
        "startDate": round(described["startDate"].timestamp() * 1000),
        "stopDate": round(described["stopDate"].timestamp() * 1000),
        "input": '{"n": 1}',
        "inputDetails": {"included": True},
        "output": None,
        "outputDetails": None,
        "error": "Bad",
        "cause": "why",
        "stateMachineVersionArn": None,
        "stateMachineAliasArn": None,
        "redriveCount": 0,
        "redriveDate": None,
        "redriveStatus": "REDRIVABLE",
        "redriveStatusReason": None,
    }


async def test_an_express_workflow_runs_while_its_caller_waits(machines: Machines) -> None:
    arn = machines.create(PASS, name="express", type="EXPRESS")

    result = await machines.api.start_sync_execution(stateMachineArn=arn, name="now", input="[1]")

    assert (result["status"], result["output"], result["name"]) == ("SUCCEEDED", "[1]", "now")
    with pytest.raises(AWSError) as raised:
        await machines.api.start_sync_execution(stateMachineArn=machines.create(PASS))
    assert raised.value.code == "StateMachineTypeNotSupported"


async def test_stopping_what_has_ended_changes_nothing(machines: Machines) -> None:
    ended = await machines.run(PASS)

    answer = machines.api.stop_execution(executionArn=ended.arn)

    assert answer == {"stopDate": machines.api.describe_execution(executionArn=ended.arn)["stopDate"]}
    assert (await machines.end(ended.arn)).status == "SUCCEEDED"
