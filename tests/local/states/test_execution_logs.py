"""What executions write to CloudWatch Logs: once, in order, also when the server stops."""

import json
import re
from pathlib import Path
from typing import Any

from tests.conftest import Local
from tests.local.states.conftest import ROLE, Machines, only

GROUP = "arn:aws:logs:us-east-1:111111111111:log-group:/aws/vendedlogs/states/m:*"
ALL: dict[str, Any] = {
    "level": "ALL",
    "includeExecutionData": True,
    "destinations": [{"cloudWatchLogsLogGroup": {"logGroupArn": GROUP}}],
}
PASS = only({"Type": "Pass"})


class Logs:
    """CloudWatch Logs, as far as a log stream needs it."""

    def __init__(self, machines: Machines) -> None:
        self.records: list[dict[str, Any]] = []
        self.streams: set[tuple[str, str]] = set()
        for operation in ("CreateLogGroup", "CreateLogStream"):
            machines.operations["logs", operation] = lambda **request: {}
        machines.operations["logs", "PutLogEvents"] = self._put

    def _put(
        self, *, logGroupName: str, logStreamName: str, logEvents: list[dict[str, Any]]
    ) -> dict[str, Any]:
        self.streams.add((logGroupName, logStreamName))
        self.records += [json.loads(event["message"]) for event in logEvents]
        return {}

    @property
    def ids(self) -> list[str]:
        return [record["id"] for record in self.records]


async def test_all_is_delivered_when_the_server_stops(machines: Machines) -> None:
    logs = Logs(machines)
    arn = machines.create(PASS, name="m", loggingConfiguration=ALL)
    execution = machines.api.start_execution(stateMachineArn=arn, name="run")["executionArn"]
    await machines.end(execution)

    await machines.close()

    ((group, stream),) = logs.streams
    assert logs.ids == ["1", "2", "3", "4"]
    assert group == "/aws/vendedlogs/states/m"
    assert re.fullmatch(r"states/m/\d{4}-\d\d-\d\d-\d\d-\d\d/[0-9a-f]{8}", stream)


async def test_what_was_logged_is_not_logged_again_after_a_restart(
    machines: Machines, tmp_path: Path
) -> None:
    logs = Logs(machines)
    arn = machines.create(only({"Type": "Wait", "Seconds": 1}), loggingConfiguration=ALL)
    execution = machines.api.start_execution(stateMachineArn=arn)["executionArn"]
    await machines.reaches(execution, "WaitStateEntered")

    again = await machines.killed(tmp_path / "again")
    await again.end(execution)
    await again.close()

    assert logs.ids == ["1", "2", "3", "4"]


async def test_an_express_workflow_tells_its_output_to_its_log(machines: Machines) -> None:
    logs = Logs(machines)
    arn = machines.create(PASS, type="EXPRESS", loggingConfiguration=ALL)
    await machines.api.start_sync_execution(stateMachineArn=arn, input='{"a":1}')

    await machines.api.engine.logs.flush()

    last = logs.records[-1]
    assert (last["type"], last["details"]["output"]) == ("ExecutionSucceeded", '{"a":1}')
    assert ":express:machine-1:" in last["execution_arn"]


async def test_what_is_too_large_for_an_event_is_cut_off(machines: Machines) -> None:
    logs = Logs(machines)
    arn = machines.create(PASS, loggingConfiguration=ALL)
    text = json.dumps("é" * 130_000, ensure_ascii=False)
    started = machines.api.start_execution(stateMachineArn=arn, input=text)
    await machines.end(started["executionArn"])

    await machines.api.engine.logs.flush()

    details = logs.records[0]["details"]
    assert details["inputDetails"] == {"truncated": True}
    assert text.startswith(details["input"])
    assert 240_000 < len(json.dumps(details["input"], ensure_ascii=False).encode()) <= 248 * 1024


async def test_nothing_is_logged_when_logging_is_off(machines: Machines) -> None:
    logs = Logs(machines)
    arn = machines.create(PASS, loggingConfiguration={**ALL, "level": "OFF"})
    execution = machines.api.start_execution(stateMachineArn=arn)["executionArn"]
    running = machines.api.engine.running[execution]

    assert running.journal.listen is None
    await machines.end(execution)
    await machines.close()
    assert logs.records == []


def test_the_log_is_in_cloudwatch_logs_also_when_the_server_ends_at_once(local: Local) -> None:
    states = local.client("stepfunctions", inject_host_prefix=False)
    arn = states.create_state_machine(
        name="m", type="EXPRESS", definition=json.dumps(PASS), roleArn=ROLE, loggingConfiguration=ALL
    )["stateMachineArn"]

    result = states.start_sync_execution(stateMachineArn=arn, input='{"a":1}')
    local.stop()
    local.start()

    logs, group = local.client("logs"), "/aws/vendedlogs/states/m"
    (stream,) = logs.describe_log_streams(logGroupName=group)["logStreams"]
    events = logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"])["events"]
    records = [json.loads(event["message"]) for event in events]
    assert [(record["id"], record["type"]) for record in records] == [
        ("1", "ExecutionStarted"),
        ("2", "PassStateEntered"),
        ("3", "PassStateExited"),
        ("4", "ExecutionSucceeded"),
    ]
    assert {record["execution_arn"] for record in records} == {result["executionArn"]}
