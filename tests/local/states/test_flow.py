"""Pass, Wait, Succeed and Fail, and how data flows through a state."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.local.states.conftest import ROLE, Machines, only

RUN = {"run": {"id": 7, "tags": ["a"]}, "note": "x"}


@pytest.mark.parametrize(
    ("state", "output"),
    [
        ({}, RUN),
        ({"Result": [1]}, [1]),
        ({"InputPath": "$.run.id"}, 7),
        ({"InputPath": None}, {}),
        ({"OutputPath": "$.run"}, {"id": 7, "tags": ["a"]}),
        ({"OutputPath": None}, {}),
        (
            {"Result": 1, "ResultPath": "$.run.score"},
            {"run": {"id": 7, "tags": ["a"], "score": 1}, "note": "x"},
        ),
        ({"Result": 1, "ResultPath": None}, RUN),
        ({"InputPath": "$.run", "ResultPath": "$.copy", "OutputPath": "$.copy.id"}, 7),
        (
            {
                "InputPath": "$.run",
                "Parameters": {
                    "id.$": "$.id",
                    "name.$": "$$.Execution.Name",
                    "text.$": "States.Format('run {}', $.id)",
                    "list": [{"tag.$": "$.tags[0]"}, "$.id"],
                    "kept": {"path": "$.id"},
                },
            },
            {
                "id": 7,
                "name": "run",
                "text": "run 7",
                "list": [{"tag": "a"}, "$.id"],
                "kept": {"path": "$.id"},
            },
        ),
    ],
)
async def test_data_flows_through_a_state(machines: Machines, state: dict[str, Any], output: Any) -> None:
    assert await machines.output({"Type": "Pass", **state}, RUN) == output


async def test_what_is_not_there_fails_the_execution_and_says_where(machines: Machines) -> None:
    located = "An error occurred while executing the state 'State' (entered at the event id #2). "

    assert await machines.failure({"Type": "Pass", "Parameters": {"x.$": "$.no.path"}}, RUN) == (
        "States.Runtime",
        located + "The JSONPath '$.no.path' specified for the field 'x.$' could not be found in the input "
        '\'{"run":{"id":7,"tags":["a"]},"note":"x"}\'',
    )
    assert await machines.failure({"Type": "Pass", "InputPath": "$.no"}, RUN) == (
        "States.Runtime",
        located + "Invalid path '$.no' : No results for path: $['no']",
    )
    assert await machines.failure({"Type": "Pass", "OutputPath": "$.no.path"}, RUN) == (
        "States.Runtime",
        located + "Invalid path '$.no.path' : Missing property in path $['no']",
    )


async def test_the_context_object(machines: Machines) -> None:
    ended = await machines.run(only({"Type": "Pass", "Parameters": {"context.$": "$$"}}), {"a": 1})

    context = ended.output["context"]
    started, entered = (event["timestamp"] for event in ended.events[:2])
    assert context.pop("State") == {"EnteredTime": as_text(entered), "Name": "State"}
    assert as_time(context["Execution"].pop("StartTime")) <= started
    assert context == {
        "Execution": {
            "Id": ended.arn,
            "Input": {"a": 1},
            "Name": "run",
            "RoleArn": ROLE,
            "RedriveCount": 0,
        },
        "StateMachine": {
            "Id": "arn:aws:states:us-east-1:111111111111:stateMachine:machine-1",
            "Name": "machine-1",
        },
    }


def as_text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_time(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_variables_are_assigned_together_and_seen_by_later_states(machines: Machines) -> None:
    definition = {
        "StartAt": "First",
        "States": {
            "First": {
                "Type": "Pass",
                "Result": {"n": 1},
                "Assign": {"n.$": "$.n", "old": 0},
                "Next": "Second",
            },
            "Second": {"Type": "Pass", "Assign": {"n": 2, "old.$": "$n"}, "Next": "Third"},
            "Third": {"Type": "Pass", "Parameters": {"n.$": "$n", "old.$": "$old"}, "End": True},
        },
    }

    ended = await machines.run(definition)

    assert ended.output == {"n": 2, "old": 1}
    assert [details.get("assignedVariables") for details in ended.details("PassStateExited")] == [
        {"n": "1", "old": "0"},
        {"n": "2", "old": "1"},
        None,
    ]


async def test_a_wait_lasts_as_long_as_it_says(machines: Machines) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=0.3)
    began = time.monotonic()

    output = await machines.output({"Type": "Wait", "TimestampPath": "$.at"}, {"at": soon.isoformat()})

    assert 0.2 < time.monotonic() - began < 5
    assert output == {"at": soon.isoformat()}


@pytest.mark.parametrize(
    "wait",
    [
        {"Seconds": 0},
        {"SecondsPath": "$.zero"},
        {"Timestamp": "2016-03-14T01:59:00Z"},
        {"TimestampPath": "$.past"},
    ],
)
async def test_a_wait_for_what_is_past_is_over_at_once(machines: Machines, wait: dict[str, Any]) -> None:
    data = {"zero": 0, "past": "2016-03-14T01:59:00+01:00"}

    assert await machines.output({"Type": "Wait", **wait}, data) == data


@pytest.mark.parametrize(
    ("wait", "cause"),
    [
        ({"SecondsPath": "$.no"}, "The SecondsPath parameter does not reference an input value: $.no"),
        (
            {"SecondsPath": "$.text"},
            "The SecondsPath parameter cannot be parsed as a long value: $.text == soon",
        ),
        (
            {"SecondsPath": "$.less"},
            "The SecondsPath parameter must be between 0 and 99999999: $.less == -1",
        ),
        (
            {"TimestampPath": "$.text"},
            "The TimestampPath parameter does not reference a valid ISO-8601 extended offset date-time "
            "format string: $.text == soon",
        ),
        ({"TimestampPath": "$.far"}, "Wait state delay is too long."),
    ],
)
async def test_a_wait_that_cannot_be_understood_fails(
    machines: Machines, wait: dict[str, Any], cause: str
) -> None:
    data = {"text": "soon", "less": -1, "far": "2999-01-01T00:00:00Z"}

    assert await machines.failure({"Type": "Wait", **wait}, data) == (
        "States.Runtime",
        f"An error occurred while executing the state 'State' (entered at the event id #2). {cause}",
    )


async def test_a_succeed_state_ends_the_execution_with_its_output(machines: Machines) -> None:
    ended = await machines.run(only({"Type": "Succeed", "InputPath": "$.run", "OutputPath": "$.id"}), RUN)

    assert (ended.status, ended.output) == ("SUCCEEDED", 7)
    assert ended.links == [
        (1, 0, "ExecutionStarted"),
        (2, 0, "SucceedStateEntered"),
        (3, 2, "SucceedStateExited"),
        (4, 3, "ExecutionSucceeded"),
    ]


@pytest.mark.parametrize(
    ("fail", "outcome"),
    [
        ({}, (None, None)),
        ({"Error": "TooBad"}, ("TooBad", None)),
        ({"Error": "TooBad", "Cause": "0.5 < 0.6"}, ("TooBad", "0.5 < 0.6")),
        (
            {"ErrorPath": "$.error", "CausePath": "States.Format('{} < {}', $.accuracy, $.threshold)"},
            ("Gate", "0.5 < 0.6"),
        ),
    ],
)
async def test_a_fail_state_ends_the_execution(
    machines: Machines, fail: dict[str, Any], outcome: tuple[Any, Any]
) -> None:
    data = {"error": "Gate", "accuracy": 0.5, "threshold": 0.6}

    ended = await machines.run(only({"Type": "Fail", **fail}), data)

    assert (ended.error, ended.cause) == outcome
    assert ended.links == [
        (1, 0, "ExecutionStarted"),
        (2, 0, "FailStateEntered"),
        (3, 2, "ExecutionFailed"),
    ]


async def test_an_execution_that_takes_too_long_times_out(machines: Machines) -> None:
    ended = await machines.run({**only({"Type": "Wait", "Seconds": 60}), "TimeoutSeconds": 1})

    assert (ended.status, ended.error, ended.cause) == ("TIMED_OUT", None, None)
    assert ended.links == [
        (1, 0, "ExecutionStarted"),
        (2, 0, "WaitStateEntered"),
        (3, 0, "ExecutionTimedOut"),
    ]


async def test_an_endless_loop_ends_when_its_history_is_full(machines: Machines) -> None:
    done = {"Variable": "$.done", "IsPresent": True, "Next": "C"}
    states = {
        "A": {"Type": "Pass", "Next": "B"},
        "B": {"Type": "Choice", "Choices": [done], "Default": "A"},
        "C": {"Type": "Succeed"},
    }

    execution = machines.start({"StartAt": "A", "States": states})
    await machines.end(execution)

    described = machines.api.describe_execution(executionArn=execution)
    latest = machines.api.get_execution_history(executionArn=execution, maxResults=1, reverseOrder=True)[
        "events"
    ]
    assert (described["status"], described["error"], described["cause"]) == (
        "FAILED",
        "States.Runtime",
        "The execution reached the maximum number of history events (25000).",
    )
    assert [(event["id"], event["type"]) for event in latest] == [(25_000, "ExecutionFailed")]


async def test_the_history_has_what_each_state_was_given_and_gave(machines: Machines) -> None:
    ended = await machines.run(only({"Type": "Pass", "Result": "é"}), [1, 2])

    for event in ended.events:
        assert event.pop("timestamp").tzinfo is UTC
    assert ended.events == [
        {
            "id": 1,
            "previousEventId": 0,
            "type": "ExecutionStarted",
            "executionStartedEventDetails": {
                "input": "[1, 2]",
                "inputDetails": {"truncated": False},
                "roleArn": ROLE,
            },
        },
        {
            "id": 2,
            "previousEventId": 0,
            "type": "PassStateEntered",
            "stateEnteredEventDetails": {
                "name": "State",
                "input": "[1,2]",
                "inputDetails": {"truncated": False},
            },
        },
        {
            "id": 3,
            "previousEventId": 2,
            "type": "PassStateExited",
            "stateExitedEventDetails": {
                "name": "State",
                "output": '"é"',
                "outputDetails": {"truncated": False},
            },
        },
        {
            "id": 4,
            "previousEventId": 3,
            "type": "ExecutionSucceeded",
            "executionSucceededEventDetails": {"output": '"é"', "outputDetails": {"truncated": False}},
        },
    ]
