"""Which fields each type of state has, and what their values must be."""

from typing import Any

import pytest

from tests.local.states.validation.conftest import PROCESSOR, TASK, of_state

CHOICE = {"Type": "Choice", "Choices": [{"Variable": "$.x", "IsNull": True, "Next": "Done"}]}
PARALLEL = {"Type": "Parallel", "Branches": [PROCESSOR]}
MAP = {"Type": "Map", "ItemProcessor": PROCESSOR}
WAIT = {"Type": "Wait", "Seconds": 1}
JSONATA = {"QueryLanguage": "JSONata"}


def only_for(name: str, own: str, other: str) -> str:
    return (
        f"The QueryLanguage is set to '{own}', but field '{name}' is only supported for the '{other}' "
        "QueryLanguage at "
    )


@pytest.mark.parametrize("state", [TASK, CHOICE, PARALLEL, MAP, WAIT, {"Type": "Pass"}, {"Type": "Succeed"}])
def test_a_state_that_is_right(state: dict[str, Any]) -> None:
    assert of_state(state) == []


@pytest.mark.parametrize(
    ("state", "field"),
    [
        ({"Type": "Pass"}, "Catch"),
        ({"Type": "Pass"}, "TimeoutSeconds"),
        ({"Type": "Pass"}, "ResultSelector"),
        (WAIT, "Retry"),
        (WAIT, "ResultPath"),
        (CHOICE, "Next"),
        (CHOICE, "End"),
        ({"Type": "Succeed"}, "Assign"),
        ({"Type": "Succeed"}, "Next"),
        ({"Type": "Fail"}, "InputPath"),
        (PARALLEL, "TimeoutSeconds"),
        (PARALLEL, "ItemSelector"),
        (MAP, "TimeoutSeconds"),
        (MAP, "Branches"),
        (TASK, "Result"),
        (TASK, "resource"),
    ],
)
def test_a_field_that_the_type_does_not_have(state: dict[str, Any], field: str) -> None:
    assert f"Field '{field}' is not supported at " in of_state({**state, field: "Done"})


@pytest.mark.parametrize(
    ("state", "fields"),
    [
        ({"Type": "Pass"}, ["InputPath", "OutputPath", "ResultPath", "Parameters", "Result"]),
        ({"Type": "Succeed"}, ["InputPath", "OutputPath"]),
        ({"Type": "Fail"}, ["ErrorPath", "CausePath"]),
        (
            {"Type": "Task", "Resource": TASK["Resource"], "Arguments": {"FunctionName": "f"}},
            ["Parameters", "ResultSelector", "TimeoutSecondsPath", "HeartbeatSecondsPath"],
        ),
        (MAP, ["ItemsPath", "Parameters", "MaxConcurrencyPath", "ToleratedFailureCountPath"]),
    ],
)
def test_fields_that_jsonata_does_not_have(state: dict[str, Any], fields: list[str]) -> None:
    for field in fields:
        assert of_state({**state, field: "$.x"}, **JSONATA) == [only_for(field, "JSONata", "JSONPath")]


@pytest.mark.parametrize(
    ("state", "field"),
    [
        ({"Type": "Pass"}, "Output"),
        ({"Type": "Succeed"}, "Output"),
        (TASK, "Arguments"),
        (MAP, "Items"),
        (CHOICE, "Output"),
    ],
)
def test_fields_that_jsonpath_does_not_have(state: dict[str, Any], field: str) -> None:
    assert of_state({**state, field: []}) == [only_for(field, "JSONPath", "JSONata")]


def test_a_state_in_jsonpath_under_a_machine_in_jsonata_is_told_that_alone() -> None:
    state = {"Type": "Wait", "Seconds": -1, "QueryLanguage": "JSONPath", "Output": {"v": "{% 1 %}"}}

    assert of_state(state, **JSONATA) == [
        "'QueryLanguage' can not be 'JSONPath' if set to 'JSONata' for whole state machine at ",
        "Minimum value is 0 at /Seconds",
    ]


def test_a_query_language_that_there_is_not_counts_as_jsonata() -> None:
    state = {"Type": "Pass", "QueryLanguage": "jsonpath", "InputPath": "$.a"}

    assert of_state(state) == [
        only_for("InputPath", "JSONata", "JSONPath"),
        "Value should be one of the following: [JSONPath, JSONata] at /QueryLanguage",
    ]


@pytest.mark.parametrize(
    ("state", "found"),
    [
        ({"Type": "Task"}, "These fields are required: [Resource] at "),
        ({"Type": "Choice"}, "These fields are required: [Choices] at "),
        ({"Type": "Parallel"}, "These fields are required: [Branches] at "),
        (
            {"Type": "Map"},
            "This object should have only one of the following fields: [ItemProcessor, Iterator] at ",
        ),
        (
            {**MAP, "Iterator": {"StartAt": "B", "States": {"B": {"Type": "Succeed"}}}},
            "There should only be one of the following fields: [ItemProcessor, Iterator] at ",
        ),
        ({"Type": "Choice", "Choices": []}, "Value cannot be empty at /Choices"),
        ({"Type": "Parallel", "Branches": []}, "Value cannot be empty at /Branches"),
        ({"Type": "Parallel", "Branches": {}}, "Expected value of type [ARRAY] at /Branches"),
        (
            {"Type": "Pass", "Next": "Done", "End": True},
            "There should only be one of the following fields: [Next, End] at ",
        ),
        (
            {"Type": "Pass", "End": False},
            "This object should have only one of the following fields: [Next, End] at ",
        ),
        ({"Type": "Pass", "End": "true"}, "Expected value of type [BOOLEAN] at /End"),
        (
            {"Type": "Wait"},
            "This object should have only one of the following fields: "
            "[SecondsPath, Seconds, TimestampPath, Timestamp] at ",
        ),
        (
            {**WAIT, "SecondsPath": "$.x"},
            "There should only be one of the following fields: "
            "[SecondsPath, Seconds, TimestampPath, Timestamp] at ",
        ),
        ({"Type": "Wait", "Seconds": -1}, "Minimum value is 0 at /Seconds"),
        ({"Type": "Wait", "Seconds": 100_000_000}, "Maximum value is 99999999 at /Seconds"),
        ({"Type": "Wait", "Seconds": 1.5}, "Expected value of type Integer at /Seconds"),
        ({"Type": "Wait", "Seconds": "{% 1 %}"}, "Expected value of type Integer at /Seconds"),
        ({"Type": "Wait", "Timestamp": "soon"}, "String does not match RFC3339 timestamp at /Timestamp"),
        ({"Type": "Wait", "Timestamp": 5}, "Expected value of type [STRING] at /Timestamp"),
        (
            {"Type": "Wait", "SecondsPath": "x"},
            "Value is not a Reference Path: Reference path didn't start with '$' at /SecondsPath",
        ),
        (
            {"Type": "Wait", "SecondsPath": "$$.Execution.Input.n"},
            "Value is not a Reference Path at /SecondsPath",
        ),
        ({**TASK, "TimeoutSeconds": 0}, "Minimum value is 1 at /TimeoutSeconds"),
        ({**TASK, "HeartbeatSeconds": 0}, "Minimum value is 1 at /HeartbeatSeconds"),
        (
            {**TASK, "TimeoutSeconds": 5, "HeartbeatSeconds": 5},
            "The value of 'HeartbeatSeconds' must be smaller than the value of 'TimeoutSeconds' at "
            "/HeartbeatSeconds",
        ),
        (
            {**TASK, "TimeoutSeconds": 1, "TimeoutSecondsPath": "$.x"},
            "There should only be one of the following fields: [TimeoutSeconds, TimeoutSecondsPath] at ",
        ),
        (
            {"Type": "Fail", "Error": "E", "ErrorPath": "$.e"},
            "There should only be one of the following fields: [Error, ErrorPath] at ",
        ),
        ({"Type": "Fail", "Cause": 1}, "Expected value of type [STRING] at /Cause"),
        (
            {"Type": "Fail", "ErrorPath": "States.MathAdd(1, 2)"},
            "The value for the field 'ErrorPath' must be a valid JSONPath or a valid intrinsic function call "
            "at /ErrorPath",
        ),
        (
            {"Type": "Fail", "CausePath": "cause"},
            "The value for the field 'CausePath' must be a valid JSONPath or a valid intrinsic function call "
            "at /CausePath",
        ),
        ({"Type": "Pass", "InputPath": "x"}, "Value must be a valid JSONPath. at /InputPath"),
        ({"Type": "Pass", "OutputPath": "$.["}, "Value must be a valid JSONPath. at /OutputPath"),
        ({"Type": "Pass", "ResultPath": "$.a[*]"}, "Value is not a Reference Path at /ResultPath"),
        ({"Type": "Pass", "ResultPath": "$$.a"}, "Value is not a Reference Path at /ResultPath"),
        ({"Type": "Pass", "ResultPath": "$variable"}, "Value is not a Reference Path at /ResultPath"),
        ({**MAP, "ItemsPath": "$.items[*]"}, "Value is not a Reference Path at /ItemsPath"),
        (
            {"Type": "Pass", "Parameters": {"a.$": "a"}},
            "The value for the field 'a.$' must be a valid JSONPath or a valid intrinsic function call "
            "at /Parameters",
        ),
        (
            {"Type": "Pass", "Parameters": {"a": [{"b.$": "States.Nothing()"}]}},
            "The value for the field 'b.$' must be a valid JSONPath or a valid intrinsic function call "
            "at /Parameters/a[0]",
        ),
        ({**TASK, "ResultSelector": "x"}, "Expected value of type [OBJECT] at /ResultSelector"),
        ({**TASK, "Retry": {}}, "Expected value of type [ARRAY] at /Retry"),
        ({**TASK, "Retry": [{}]}, "These fields are required: [ErrorEquals] at /Retry[0]"),
        ({**TASK, "Retry": [{"ErrorEquals": []}]}, "Value cannot be empty at /Retry[0]/ErrorEquals"),
        (
            {**TASK, "Retry": [{"ErrorEquals": [1]}]},
            "Expected value of type [STRING] at /Retry[0]/ErrorEquals[0]",
        ),
        (
            {**TASK, "Retry": [{"ErrorEquals": ["x"], "Next": "State"}]},
            "Field 'Next' is not supported at /Retry[0]",
        ),
        (
            {**TASK, "Retry": [{"ErrorEquals": ["x"], "IntervalSeconds": -1}]},
            "Minimum value is 0 at /Retry[0]/IntervalSeconds",
        ),
        (
            {**TASK, "Retry": [{"ErrorEquals": ["x"], "MaxAttempts": 100_000_000}]},
            "Maximum value is 99999999 at /Retry[0]/MaxAttempts",
        ),
        (
            {**TASK, "Retry": [{"ErrorEquals": ["x"], "BackoffRate": 0.5}]},
            "Minimum value is 1.0 at /Retry[0]/BackoffRate",
        ),
        (
            {**TASK, "Retry": [{"ErrorEquals": ["x"], "MaxDelaySeconds": 0}]},
            "Minimum value is 1 at /Retry[0]/MaxDelaySeconds",
        ),
        (
            {**TASK, "Retry": [{"ErrorEquals": ["x"], "MaxDelaySeconds": 31_622_401}]},
            "Maximum value is 31622400 at /Retry[0]/MaxDelaySeconds",
        ),
        (
            {**TASK, "Retry": [{"ErrorEquals": ["x"], "JitterStrategy": "SOME"}]},
            "Value should be one of the following: [NONE, FULL] at /Retry[0]/JitterStrategy",
        ),
        ({**TASK, "Catch": [{"ErrorEquals": ["x"]}]}, "These fields are required: [Next] at /Catch[0]"),
        ({**TASK, "Catch": [{"Next": "Done"}]}, "These fields are required: [ErrorEquals] at /Catch[0]"),
        (
            {**TASK, "Catch": [{"ErrorEquals": ["x"], "Next": "Done", "Output": 1}]},
            only_for("Output", "JSONPath", "JSONata") + "/Catch[0]",
        ),
        (
            {**TASK, "Retry": [{"ErrorEquals": ["x", "States.ALL"]}]},
            "States.ALL must appear alone and at end of list at /Retry[0]/ErrorEquals[1]",
        ),
        (
            {**TASK, "Retry": [{"ErrorEquals": ["States.ALL"]}, {"ErrorEquals": ["x"]}]},
            "States.ALL must appear alone and at end of list at /Retry[0]/ErrorEquals[0]",
        ),
        (
            {**MAP, "Catch": [{"ErrorEquals": ["States.ALL", "x"], "Next": "Done"}]},
            "States.ALL must appear alone and at end of list at /Catch[0]/ErrorEquals[0]",
        ),
    ],
)
def test_a_state_that_is_wrong(state: dict[str, Any], found: str) -> None:
    assert of_state(state) == [found]


@pytest.mark.parametrize(
    "state",
    [
        {"Type": "Wait", "Seconds": "{% $states.input.n %}"},
        {"Type": "Wait", "Timestamp": "{% $states.input.at %}"},
        {**MAP, "MaxConcurrency": "{% $n %}", "Items": "{% $states.input %}"},
        {**MAP, "Items": [1, "{% 2 %}"], "ToleratedFailurePercentage": "{% 5 %}"},
        {"Type": "Fail", "Error": "{% $states.input.error %}", "Cause": "as it is"},
    ],
)
def test_an_expression_may_stand_for_a_value(state: dict[str, Any]) -> None:
    assert of_state(state, **JSONATA) == []


@pytest.mark.parametrize(
    "state",
    [
        {"Type": "Wait", "SecondsPath": "$variable.seconds"},
        {"Type": "Pass", "InputPath": None, "OutputPath": "$$.Execution", "ResultPath": None},
        {"Type": "Pass", "Parameters": {"text": "{% phone %}"}},
        {"Type": "Fail", "ErrorPath": "States.Format('{}', $.error)", "CausePath": "$.cause"},
        {**TASK, "Retry": [{"ErrorEquals": ["States.ALL"], "Comment": "again", "IntervalSeconds": 0}]},
        {**TASK, "Retry": [], "Catch": []},
        {**MAP, "ItemsPath": "$$.Execution.Input.items", "ToleratedFailurePercentage": 5},
    ],
)
def test_what_is_allowed_though_it_looks_odd(state: dict[str, Any]) -> None:
    assert of_state(state) == []
