"""The rules of a Choice state."""

from typing import Any

import pytest

from tests.local.states.validation.conftest import of_state

SELECTORS = "The object must have only one of the following fields, [And, Or, Not, Variable, Condition]"
NULL = {"Variable": "$.x", "IsNull": True}


def rule(*, language: str = "JSONPath", **fields: Any) -> list[str]:
    state = {"Type": "Choice", "Choices": [{"Next": "Done", **fields}]}
    return [problem.replace("/Choices[0]", "") for problem in of_state(state, QueryLanguage=language)]


@pytest.mark.parametrize(
    "fields",
    [
        {"Variable": "$.x", "IsPresent": False},
        {"Variable": "$$.Execution.Name", "StringMatches": "a*"},
        {"Variable": "$count", "NumericEqualsPath": "$.other"},
        {"Not": {"Variable": "$.x", "BooleanEquals": True}},
        {"And": [{"Or": [{"Variable": "$.x", "IsNull": True}]}], "Assign": {"x.$": "$.x"}, "Comment": "why"},
    ],
)
def test_a_rule_that_is_right(fields: dict[str, Any]) -> None:
    assert rule(**fields) == []


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({}, f"{SELECTORS} at "),
        (
            {"Variable": "$.x", "IsNull": True, "And": [{"Variable": "$.x", "IsNull": True}]},
            f"{SELECTORS} at ",
        ),
        ({"Variable": "$.x", "IsPresent": "yes"}, "Expected value of type [BOOLEAN] at /IsPresent"),
        ({"Variable": "$.x", "StringEquals": 1}, "Expected value of type [STRING] at /StringEquals"),
        ({"Variable": "$.x", "NumericEquals": "1"}, "Expected value of type Number at /NumericEquals"),
        ({"Variable": "$.x", "NumericEquals": True}, "Expected value of type Number at /NumericEquals"),
        ({"Variable": "$.x", "BooleanEquals": "true"}, "Expected value of type [BOOLEAN] at /BooleanEquals"),
        (
            {"Variable": "$.x", "TimestampEquals": "today"},
            "String does not match RFC3339 timestamp at /TimestampEquals",
        ),
        (
            {"Variable": "x", "IsPresent": True},
            "Value is not a Reference Path: Reference path didn't start with '$' at /Variable",
        ),
        (
            {"Variable": "$.x", "StringEqualsPath": "x"},
            "Value is not a Reference Path: Reference path didn't start with '$' at /StringEqualsPath",
        ),
        ({"Variable": "$..x", "IsNull": True}, "Value is not a Reference Path at /Variable"),
        ({"Variable": "$.x", "StringLooksLike": "x"}, "Field 'StringLooksLike' is not supported at "),
        ({"And": []}, "Value cannot be empty at /And"),
        ({"Or": {}}, "Expected value of type [ARRAY] at /Or"),
        ({"Not": []}, "Expected value of type [OBJECT] at /Not"),
        (
            {"And": [{"Variable": "$.x", "IsNull": True, "Next": "Done"}]},
            "Field 'Next' is not supported at /And[0]",
        ),
        (
            {"Not": {"Variable": "$.x", "IsNull": True, "Assign": {}}},
            "Field 'Assign' is not supported at /Not",
        ),
        (
            {"Condition": "{% true %}"},
            "The QueryLanguage is set to 'JSONPath', but field 'Condition' is only supported for the "
            "'JSONata' QueryLanguage at ",
        ),
    ],
)
def test_a_rule_that_is_wrong(fields: dict[str, Any], found: str) -> None:
    assert rule(**fields) == [found]


def test_a_variable_is_compared_once() -> None:
    (none,) = rule(Variable="$.x")
    (two,) = rule(Variable="$.x", StringEquals="x", IsNull=False)

    assert none.startswith("This object should have only one of the following fields: [StringEquals, ")
    assert two.startswith("There should only be one of the following fields: [StringEquals, ")


def test_a_rule_leads_somewhere() -> None:
    state = {"Type": "Choice", "Choices": [{"Variable": "$.x", "IsNull": True}], "Default": "Done"}

    assert of_state(state) == ["These fields are required: [Next] at /Choices[0]"]


@pytest.mark.parametrize("condition", ["{% $states.input.x = 1 %}", True])
def test_a_condition_that_is_right(condition: Any) -> None:
    assert rule(language="JSONata", Condition=condition, Output={"x": "{% $states.input %}"}) == []


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"Condition": 1}, "Expected value of type [STRING, BOOLEAN] at /Condition"),
        ({"Condition": "true"}, "JSONata string must start with {% and end with %} at /Condition"),
        (
            {"Condition": "{% true %}", "Variable": "$.x"},
            "The QueryLanguage is set to 'JSONata', but field 'Variable' is only supported for the "
            "'JSONPath' QueryLanguage at ",
        ),
        ({}, f"{SELECTORS} at "),
    ],
)
def test_a_condition_that_is_wrong(fields: dict[str, Any], found: str) -> None:
    assert rule(language="JSONata", **fields) == [found]
