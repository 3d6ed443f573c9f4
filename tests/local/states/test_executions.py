"""Executions through the API: pages that stay as they are, Express workflows, state machines that go away."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stagegate.local.service import AWSError
from stagegate.local.states.records import EXECUTION
from tests.local.states.conftest import Machines, only

PASS = only({"Type": "Pass"})


def pages(operation: Any, member: str, **request: Any) -> list[list[Any]]:
    """What `operation` gives, page by page."""
    found, token = [], None
    while True:
        answer = operation(**request, **({"nextToken": token} if token else {}))
        found.append(answer[member])
        if (token := answer.get("nextToken")) is None:
            return found


async def test_a_history_is_given_in_pages_in_both_directions(machines: Machines) -> None:
    ended = await machines.run(
        {"StartAt": "A", "States": {"A": {"Type": "Pass", "Next": "B"}, "B": {"Type": "Pass", "End": True}}}
    )
    history = machines.api.get_execution_history

    forwards = pages(history, "events", executionArn=ended.arn, maxResults=4)
    backwards = pages(history, "events", executionArn=ended.arn, maxResults=5, reverseOrder=True)

    assert [[event["id"] for event in page] for page in forwards] == [[1, 2, 3, 4], [5, 6]]
    assert [[event["id"] for event in page] for page in backwards] == [[6, 5, 4, 3, 2], [1]]


async def test_the_next_page_of_a_history_follows_upon_the_one_before_also_when_more_happens(
    machines: Machines,
) -> None:
    definition = {
        "StartAt": "Wait",
        "States": {"Wait": {"Type": "Wait", "Seconds": 1, "Next": "A"}, "A": {"Type": "Pass", "End": True}},
    }
    execution = machines.start(definition)
    await machines.reaches(execution, "WaitStateEntered")
    page = machines.api.get_execution_history(executionArn=execution, maxResults=1, reverseOrder=True)
    await machines.end(execution)

    rest = machines.api.get_execution_history(
        executionArn=execution, reverseOrder=True, nextToken=page["nextToken"]
    )

    assert [event["id"] for event in (*page["events"], *rest["events"])] == [2, 1]


async def test_executions_are_listed_latest_first_in_pages(machines: Machines) -> None:
    arn = machines.create(PASS)
    for number in range(5):
        await machines.end(
            machines.api.start_execution(stateMachineArn=arn, name=f"run-{number}")["executionArn"]
        )
    first = machines.api.list_executions(stateMachineArn=arn, maxResults=2)
    await machines.end(machines.api.start_execution(stateMachineArn=arn, name="later")["executionArn"])

    rest = machines.api.list_executions(stateMachineArn=arn, nextToken=first["nextToken"])

    assert [execution["name"] for execution in first["executions"]] == ["run-4", "run-3"]
    assert [execution["name"] for execution in rest["executions"]] == ["run-2", "run-1", "run-0"]
    assert pages(machines.api.list_executions, "executions", stateMachineArn=arn, statusFilter="FAILED") == [
        []
    ]
    with pytest.raises(AWSError, match="InvalidToken"):
        machines.api.list_executions(stateMachineArn=arn, nextToken="%")


async def test_the_same_input_written_otherwise_is_the_same(machines: Machines) -> None:
    arn = machines.create(only({"Type": "Wait", "Seconds": 60}))
    start = machines.api.start_execution

    first = start(stateMachineArn=arn, name="run", input='{"a": 1}')

    assert start(stateMachineArn=arn, name="run", input='{"a":1}') == first
    with pytest.raises(AWSError, match="ExecutionAlreadyExists"):
        start(stateMachineArn=arn, name="run", input='{"a":2}')
    with pytest.raises(AWSError, match="ExecutionAlreadyExists"):
        start(stateMachineArn=arn, name="run", input='{"a":true}')


async def test_a_name_is_free_again_after_ninety_days(machines: Machines) -> None:
    arn = machines.create(PASS)
    start = machines.api.start_execution

    def age(days: int) -> None:
        document = machines.store.get(EXECUTION, first["executionArn"])
        assert document is not None
        stopped = datetime.now(UTC) - timedelta(days=days)
        machines.store.put(EXECUTION, first["executionArn"], {**document, "stopDate": stopped})

    first = start(stateMachineArn=arn, name="run", input="1")
    await machines.end(first["executionArn"])
    age(89)
    with pytest.raises(AWSError, match="ExecutionAlreadyExists"):
        start(stateMachineArn=arn, name="run", input="2")
    age(91)
    second = start(stateMachineArn=arn, name="run", input="2")

    ended = await machines.end(second["executionArn"])
    assert (second["executionArn"], ended.output) == (first["executionArn"], 2)
    assert [event["id"] for event in ended.events] == [1, 2, 3, 4]
    assert len(machines.api.list_executions(stateMachineArn=arn)["executions"]) == 1


async def test_a_redrive_that_is_repeated_is_one(machines: Machines) -> None:
    ended = await machines.run(only({"Type": "Fail"}))

    first = machines.api.redrive_execution(executionArn=ended.arn, clientToken="t")
    await machines.end(ended.arn)

    assert machines.api.redrive_execution(executionArn=ended.arn, clientToken="t") == first
    assert machines.api.describe_execution(executionArn=ended.arn)["redriveCount"] == 1


async def test_a_synchronous_express_execution_gives_what_it_comes_to(machines: Machines) -> None:
    arn = machines.create(only({"Type": "Pass", "Result": 1}), type="EXPRESS")

    answer = await machines.api.start_sync_execution(stateMachineArn=arn, name="run", input="{}")

    assert answer["executionArn"].startswith(arn.replace(":stateMachine:", ":express:") + ":run:")
    assert {member: answer[member] for member in ("status", "output", "name", "billingDetails")} == {
        "status": "SUCCEEDED",
        "output": "1",
        "name": "run",
        "billingDetails": {"billedMemoryUsedInMB": 64, "billedDurationInMilliseconds": 100},
    }
    assert machines.store.list("stepfunctions/execution") == []
    with pytest.raises(AWSError, match=r"InvalidArn: .*Resource type not valid in this context: express"):
        machines.api.describe_execution(executionArn=answer["executionArn"])


async def test_an_asynchronous_express_execution_is_known_by_its_log_alone(machines: Machines) -> None:
    logged = Logs(machines)
    arn = machines.create(only({"Type": "Pass", "Result": 1}), type="EXPRESS", loggingConfiguration=ALL)

    started = machines.api.start_execution(stateMachineArn=arn, input='{"a": 1}')
    await logged.reaches("ExecutionSucceeded")

    assert ":express:" in started["executionArn"]
    assert [record["type"] for record in logged.records] == [
        "ExecutionStarted",
        "PassStateEntered",
        "PassStateExited",
        "ExecutionSucceeded",
    ]
    with pytest.raises(AWSError, match="StateMachineTypeNotSupported"):
        machines.api.list_executions(stateMachineArn=arn)


async def test_a_standard_workflow_is_not_run_synchronously(machines: Machines) -> None:
    with pytest.raises(AWSError, match="StateMachineTypeNotSupported"):
        await machines.api.start_sync_execution(stateMachineArn=machines.create(PASS))


GROUP = "arn:aws:logs:us-east-1:111111111111:log-group:states:*"
ALL: dict[str, Any] = {
    "level": "ALL",
    "includeExecutionData": True,
    "destinations": [{"cloudWatchLogsLogGroup": {"logGroupArn": GROUP}}],
}


class Logs:
    """CloudWatch Logs, as far as a log stream needs it."""

    def __init__(self, machines: Machines) -> None:
        self.records: list[dict[str, Any]] = []
        self.groups: set[str] = set()
        self._written = asyncio.Event()
        for operation in ("CreateLogGroup", "CreateLogStream"):
            machines.operations["logs", operation] = lambda **request: {}
        machines.operations["logs", "PutLogEvents"] = self._put

    def _put(
        self, *, logGroupName: str, logStreamName: str, logEvents: list[dict[str, Any]]
    ) -> dict[str, Any]:
        self.groups.add(logGroupName)
        self.records += [json.loads(event["message"]) for event in logEvents]
        self._written.set()
        return {}

    async def reaches(self, event_type: str) -> None:
        async with asyncio.timeout(20):
            while all(record["type"] != event_type for record in self.records):
                self._written.clear()
                await self._written.wait()


async def test_events_are_logged_as_aws_writes_them(machines: Machines) -> None:
    logged = Logs(machines)
    arn = machines.create(PASS, loggingConfiguration=ALL)
    execution = machines.api.start_execution(stateMachineArn=arn, input='{"a":1}')["executionArn"]

    await logged.reaches("ExecutionSucceeded")

    assert logged.groups == {"states"}
    first = logged.records[0]
    assert first == {
        "id": "1",
        "type": "ExecutionStarted",
        "details": {
            "input": '{"a":1}',
            "inputDetails": {"truncated": False},
            "roleArn": first["details"]["roleArn"],
        },
        "previous_event_id": "0",
        "event_timestamp": first["event_timestamp"],
        "execution_arn": execution,
        "redrive_count": "0",
    }


@pytest.mark.parametrize(
    ("level", "types"),
    [("ERROR", ["FailStateEntered", "ExecutionFailed"]), ("FATAL", ["ExecutionFailed"])],
)
async def test_a_level_leaves_out_what_is_below_it(machines: Machines, level: str, types: list[str]) -> None:
    logged = Logs(machines)
    configuration = {**ALL, "level": level, "includeExecutionData": False}
    arn = machines.create(only({"Type": "Fail", "Error": "E"}), loggingConfiguration=configuration)
    machines.api.start_execution(stateMachineArn=arn, input='{"secret": 1}')

    await logged.reaches("ExecutionFailed")

    assert [record["type"] for record in logged.records] == types
    assert "secret" not in json.dumps(logged.records)


async def test_executions_of_a_deleted_state_machine_end_with_their_next_transition(
    machines: Machines, tmp_path: Path
) -> None:
    definition = {
        "StartAt": "Wait",
        "States": {"Wait": {"Type": "Wait", "Seconds": 1, "Next": "A"}, "A": {"Type": "Pass", "End": True}},
    }
    execution = machines.start(definition)
    await machines.reaches(execution, "WaitStateEntered")
    arn = machines.api.describe_execution(executionArn=execution)["stateMachineArn"]

    machines.api.delete_state_machine(stateMachineArn=arn)

    assert machines.api.describe_state_machine(stateMachineArn=arn)["status"] == "DELETING"
    with pytest.raises(AWSError, match="StateMachineDeleting"):
        machines.api.start_execution(stateMachineArn=arn)
    machines.store.commit()
    again = await machines.killed(tmp_path / "again")
    ended = await again.end(execution)
    assert (ended.status, ended.types[-1]) == ("ABORTED", "ExecutionAborted")
    with pytest.raises(AWSError, match="StateMachineDoesNotExist"):
        again.api.describe_state_machine(stateMachineArn=arn)
    await again.close()
