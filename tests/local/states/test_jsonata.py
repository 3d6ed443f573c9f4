"""JSONata: what expressions see, what they give, and how they fail."""

import hashlib
import uuid
from pathlib import Path
from typing import Any

import pytest

from stagegate.local.states.jsonata import InvalidJsonata, compile_jsonata
from tests.local.states.conftest import Machines, only

ORDER = {"id": 7, "lines": [{"price": 10, "count": 2}, {"price": 5, "count": 1}], "note": None}


def jsonata(type: str, **fields: Any) -> dict[str, Any]:
    return {"Type": type, "QueryLanguage": "JSONata", **fields}


def machine(**states: dict[str, Any]) -> dict[str, Any]:
    """A state machine in JSONata, of these states one after the other."""
    names = list(states)
    ends: list[dict[str, Any]] = [{"Next": name} for name in names[1:]] + [{"End": True}]
    chained = {
        name: state if state["Type"] in ("Choice", "Fail", "Succeed") else {**state, **end}
        for (name, state), end in zip(states.items(), ends, strict=True)
    }
    return {"QueryLanguage": "JSONata", "StartAt": names[0], "States": chained}


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("{% $states.input.id %}", 7),
        ("{%$states.input%}", ORDER),
        ("{% $sum($states.input.lines.(price * count)) %}", 25),
        ("{% $states.input.lines[price > 5] %}", {"price": 10, "count": 2}),
        ("{% $states.input.lines[price > 5][] %}", [{"price": 10, "count": 2}]),
        ("{% $states.input.note %}", None),
        ("{% $states.context.State.Name %}", "State"),
        ("{% $states.context.Execution.Input.id %}", 7),
        ("{% /* the text */ 'run ' & $states.input.id %}", "run 7"),
        ("{% ($total := 3; $total * 2) %}", 6),
        ("plain", "plain"),
        (" {% 1 %}", " {% 1 %}"),
        ({"a": [1, "{% 1 + 1 %}"], "{% 'key' %}": True}, {"a": [1, 2], "{% 'key' %}": True}),
        ("{% $partition([1, 2, 3], 2) %}", [[1, 2], [3]]),
        ("{% $partition([1], 2) %}", [[1]]),
        ("{% $range(0, 10, 5) %}", [0, 5, 10]),
        ("{% $range(1, 2, 5) %}", 1),
        ("{% $hash('a', 'SHA-256') %}", hashlib.sha256(b"a").hexdigest()),
        ("{% $parse('{\"a\": [1, null]}') %}", {"a": [1, None]}),
        ("{% $random(4) = $random(4) %}", True),
        ("{% $random() < 1 and $random() != $random() %}", True),
        ("{% $now() = $fromMillis($millis()) %}", True),
        ("{% $now('[Y0001]') = $substring($now(), 0, 4) %}", True),
        (None, None),
        (False, False),
    ],
)
async def test_an_output_is_made_of_expressions(machines: Machines, output: Any, expected: Any) -> None:
    assert await machines.output(jsonata("Pass", Output=output), ORDER) == expected


@pytest.mark.parametrize(
    ("output", "location", "reason"),
    [
        (
            {"a": [0, {"b": "{% $states.input.nothing %}"}]},
            "Output/a[1]/b",
            "returned nothing (undefined).",
        ),
        ("{% $nothing %}", "Output", "returned nothing (undefined)."),
        ("{% function($x) { $x } %}", "Output", "returned an unsupported result type."),
        (
            "{% $states.input.id + 'a' %}",
            "Output",
            "threw an error during evaluation. "
            "T2002: The right side of the + operator must evaluate to a number",
        ),
        (
            "{% $eval('1') %}",
            "Output",
            "threw an error during evaluation. T1006: Attempted to invoke a non-function",
        ),
        ("{% 1 / 0 %}", "Output", "threw an error during evaluation. D1001: Number out of range: inf"),
        (
            "{% ($f := function() { $f() }; $f()) %}",
            "Output",
            "threw an error during evaluation. "
            "D1012: Evaluation timeout after 1000 milliseconds. Check for infinite loop",
        ),
    ],
)
async def test_an_expression_that_fails_is_named(
    machines: Machines, output: Any, location: str, reason: str
) -> None:
    expression = output if isinstance(output, str) else output["a"][1]["b"]
    cause = (
        "An error occurred while executing the state 'State' (entered at the event id #2). The JSONata "
        f"expression '{expression[2:-2].strip()}' specified for the field '{location}' {reason}"
    )

    ended = await machines.run(only(jsonata("Pass", Output=output)), ORDER)

    assert (ended.status, ended.error, ended.cause) == ("FAILED", "States.QueryEvaluationError", cause)
    assert ended.links == [
        (1, 0, "ExecutionStarted"),
        (2, 0, "PassStateEntered"),
        (3, 0, "EvaluationFailed"),
        (4, 3, "ExecutionFailed"),
    ]
    assert ended.details("EvaluationFailed") == [
        {"error": "States.QueryEvaluationError", "cause": cause, "location": location, "state": "State"}
    ]


def test_what_is_no_expression_is_refused() -> None:
    with pytest.raises(InvalidJsonata, match="S0207: Unexpected end of expression"):
        compile_jsonata("{% 1 + %}")


async def test_variables_are_assigned_at_once_and_seen_by_both_languages(machines: Machines) -> None:
    definition = machine(
        First={"Type": "Pass", "Assign": {"x": 1, "order": "{% $states.input %}"}},
        Swap={"Type": "Pass", "Assign": {"x": "{% $x + 1 %}", "before": "{% $x %}"}},
        Path={
            "Type": "Pass",
            "Output": {"x": "{% $x %}", "before": "{% $before %}", "id": "{% $order.id %}"},
        },
    )

    ended = await machines.run(definition, ORDER)

    assert ended.output == {"x": 2, "before": 1, "id": 7}
    assert ended.details("PassStateExited")[1]["assignedVariables"] == {"x": "2", "before": "1"}

    mixed = machine(First={"Type": "Pass", "Assign": {"x": [1]}}, Last={"Type": "Pass"})
    mixed["QueryLanguage"] = "JSONPath"
    mixed["States"]["Last"] |= {"QueryLanguage": "JSONata", "Output": "{% $x[0] %}"}
    assert (await machines.run(mixed)).output == 1


@pytest.mark.parametrize(("cost", "output"), [(3, "cheap"), (30, {"cost": 30}), (300, "dear")])
async def test_the_first_condition_that_is_true_is_taken(machines: Machines, cost: int, output: Any) -> None:
    definition = machine(
        Choose=jsonata(
            "Choice",
            Choices=[
                {"Condition": "{% $states.input.cost < 10 %}", "Output": "cheap", "Next": "Done"},
                {"Condition": "{% $states.input.cost < 100 %}", "Next": "Done"},
            ],
            Default="Done",
            Output="dear",
        ),
        Done={"Type": "Succeed"},
    )

    assert (await machines.run(definition, {"cost": cost})).output == output


async def test_a_condition_must_be_a_boolean(machines: Machines) -> None:
    rule = {"Condition": "{% $states.input %}", "Next": "Done"}
    definition = machine(Choose=jsonata("Choice", Choices=[rule]), Done={"Type": "Succeed"})

    ended = await machines.run(definition, 1)

    assert ended.error == "States.QueryEvaluationError"
    assert ended.cause is not None and ended.cause.endswith(
        "The JSONata expression '$states.input' specified for the field 'Choices[0]/Condition' returned an "
        "unexpected result type. Expected 'boolean', but was 'number' for value: 1"
    )


async def test_the_other_steering_states(machines: Machines) -> None:
    definition = machine(
        Wait=jsonata("Wait", Seconds="{% $states.input.seconds %}", Output="{% 'waited' %}"),
        Until=jsonata("Wait", Timestamp="{% $fromMillis(0) %}", Assign={"error": "{% $states.input %}"}),
        Done=jsonata("Fail", Error="{% $error %}", Cause="{% 'it ' & $states.input %}"),
    )

    ended = await machines.run(definition, {"seconds": 0})

    assert (ended.status, ended.error, ended.cause) == ("FAILED", "waited", "it waited")
    assert await machines.output(jsonata("Succeed", Output="{% 1 + 1 %}")) == 2


@pytest.mark.parametrize(
    ("state", "location", "cause"),
    [
        (
            jsonata("Wait", Seconds="{% 1.5 %}"),
            "Seconds",
            "The Seconds field cannot be parsed as a long value: 1.5",
        ),
        (
            jsonata("Wait", Timestamp="{% 'soon' %}"),
            "Timestamp",
            "The Timestamp field cannot be parsed as an ISO-8601 extended offset date-time format string: "
            "soon",
        ),
    ],
)
async def test_a_wait_needs_a_time(machines: Machines, state: Any, location: str, cause: str) -> None:
    ended = await machines.run(only(state))

    assert ended.links[2:] == [(3, 2, "EvaluationFailed"), (4, 3, "ExecutionFailed")]
    (details,) = ended.details("EvaluationFailed")
    assert details["location"] == location
    assert details["cause"].endswith(cause)


async def test_a_map_takes_items_selects_and_gathers(machines: Machines) -> None:
    state = jsonata(
        "Map",
        Items="{% $states.input.lines %}",
        ItemSelector={
            "index": "{% $states.context.Map.Item.Index %}",
            "price": "{% $states.context.Map.Item.Value.price %}",
            "order": "{% $states.input.id %}",
        },
        MaxConcurrency="{% 1 %}",
        ItemProcessor={
            "StartAt": "Item",
            "States": {"Item": jsonata("Pass", Output="{% $states.input.index & ':' & $factor %}", End=True)},
        },
        Output={"items": "{% $states.result %}", "was": "{% $states.input.id %}"},
        Assign={"count": "{% $count($states.result) %}"},
    )
    definition = machine(
        Factor={"Type": "Pass", "Assign": {"factor": "x"}},
        Each=state,
        Last={"Type": "Pass", "Output": ["{% $states.input %}", "{% $count %}"]},
    )

    ended = await machines.run(definition, ORDER)

    assert ended.output == [{"items": ["0:x", "1:x"], "was": 7}, 2]


async def test_items_that_are_no_array_fail_the_map_and_can_be_caught(machines: Machines) -> None:
    processor = {"StartAt": "Item", "States": {"Item": {"Type": "Pass", "End": True}}}
    definition = machine(
        Each=jsonata(
            "Map",
            Items="{% $states.input.id %}",
            ItemProcessor=processor,
            Catch=[
                {
                    "ErrorEquals": ["States.QueryEvaluationError"],
                    "Output": {"caught": "{% $states.errorOutput.Error %}", "id": "{% $states.input.id %}"},
                    "Assign": {"cause": "{% $states.errorOutput.Cause %}"},
                    "Next": "Done",
                }
            ],
        ),
        Done={"Type": "Pass", "Output": ["{% $states.input %}", "{% $contains($cause, 'Expected') %}"]},
    )

    ended = await machines.run(definition, ORDER)

    assert ended.output == [{"caught": "States.QueryEvaluationError", "id": 7}, True]
    assert ended.links[1:5] == [
        (2, 0, "MapStateEntered"),
        (3, 0, "EvaluationFailed"),
        (4, 3, "MapStateFailed"),
        (5, 4, "MapStateExited"),
    ]


async def test_a_parallel_hands_its_arguments_to_the_branches(machines: Machines) -> None:
    branches = [
        {"StartAt": name, "States": {name: {"Type": "Pass", "End": True}}} for name in ("One", "Other")
    ]
    state = jsonata(
        "Parallel",
        Arguments={"id": "{% $states.input.id %}"},
        Branches=branches,
        Output="{% $states.result[1].id + $count($states.result) %}",
    )

    assert await machines.output(state, ORDER) == 9


async def test_a_task_gets_arguments_and_gives_a_result(machines: Machines) -> None:
    sent: list[dict[str, Any]] = []

    def send_message(**request: Any) -> dict[str, Any]:
        sent.append(request)
        return {"MessageId": "m-1", "MD5OfMessageBody": "x"}

    machines.operations["sqs", "SendMessage"] = send_message
    state = jsonata(
        "Task",
        Resource="arn:aws:states:::aws-sdk:sqs:sendMessage",
        Arguments={"QueueUrl": "http://queue", "MessageBody": "{% $string($states.input.id) %}"},
        TimeoutSeconds="{% 10 * 2 %}",
        Output="{% $states.result.MessageId & ' for ' & $states.input.id %}",
    )

    ended = await machines.run(only(state), ORDER)

    assert ended.output == "m-1 for 7"
    assert sent == [{"QueueUrl": "http://queue", "MessageBody": "7"}]
    assert ended.details("TaskScheduled")[0]["timeoutInSeconds"] == 20


async def test_a_catch_that_fails_ends_the_execution(machines: Machines) -> None:
    definition = machine(
        Try=jsonata(
            "Parallel",
            Branches=[{"StartAt": "No", "States": {"No": {"Type": "Fail", "Error": "Broken"}}}],
            Catch=[{"ErrorEquals": ["States.ALL"], "Output": "{% $nothing %}", "Next": "Done"}],
        ),
        Done={"Type": "Pass"},
    )

    ended = await machines.run(definition)

    assert (ended.status, ended.error) == ("FAILED", "States.QueryEvaluationError")
    assert ended.details("EvaluationFailed")[0]["location"] == "Catch[0]/Output"


async def test_what_was_random_or_of_the_clock_is_the_same_after_a_restart(
    machines: Machines, tmp_path: Path
) -> None:
    definition = machine(
        Draw={
            "Type": "Pass",
            "Assign": {"drawn": ["{% $uuid() %}", "{% $random() %}", "{% $millis() %}", "{% $now() %}"]},
        },
        Wait=jsonata("Wait", Seconds=1),
        Last={"Type": "Pass", "Output": "{% $drawn %}"},
    )
    execution = machines.start(definition)
    await machines.reaches(execution, "WaitStateEntered")
    (exited,) = [event for event in machines.history(execution) if event["type"] == "PassStateExited"]

    again = await machines.killed(tmp_path / "again")
    ended = await again.end(execution)
    await again.close()

    drawn = exited["stateExitedEventDetails"]["assignedVariables"]["drawn"]
    assert ended.details("PassStateExited")[-1]["output"] == drawn
    assert str(uuid.UUID(ended.output[0])) == ended.output[0]


async def test_variables_have_a_limit(machines: Machines) -> None:
    ended = await machines.run(
        only(jsonata("Pass", Assign={"a": "{% $join($map([1..30000], function($i) { '123456789' })) %}"}))
    )

    assert (ended.status, ended.error) == ("FAILED", "States.DataLimitExceeded")
