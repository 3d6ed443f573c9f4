"""Choice: every operator, with what it takes for true, for false and for a mistake."""

from typing import Any

import pytest

from stagegate.local.states.choice import OPERATORS, compile_rule
from stagegate.local.states.errors import EvaluationFailed
from stagegate.local.states.paths import Values
from tests.local.states.conftest import Machines

EARLY, LATE = "2026-01-01T00:00:00Z", "2026-01-01T00:00:01+00:00"


def matches(rule: dict[str, Any], **data: Any) -> bool:
    return compile_rule(rule)(Values(data=data, context=dict, variables={}, record=lambda produce: produce()))


COMPARED = [
    ("StringEquals", "b", {"b": True, "a": False, 1: False}),
    ("StringLessThan", "b", {"a": True, "b": False, 1: False}),
    ("StringGreaterThan", "b", {"c": True, "b": False, 9: False}),
    ("StringLessThanEquals", "b", {"b": True, "c": False}),
    ("StringGreaterThanEquals", "b", {"b": True, "a": False}),
    ("NumericEquals", 1, {1: True, 2: False, "1": False}),
    ("NumericLessThan", 1.5, {1: True, 1.5: False, "1": False}),
    ("NumericGreaterThan", 1.5, {2: True, 1.5: False}),
    ("NumericLessThanEquals", 2, {2: True, 3: False}),
    ("NumericGreaterThanEquals", 2, {2: True, 1: False}),
    ("BooleanEquals", True, {True: True, False: False, "true": False}),
    ("TimestampEquals", EARLY, {EARLY: True, "2026-01-01T01:00:00+01:00": True, LATE: False, "today": False}),
    ("TimestampLessThan", LATE, {EARLY: True, LATE: False}),
    ("TimestampGreaterThan", EARLY, {LATE: True, EARLY: False}),
    ("TimestampLessThanEquals", EARLY, {EARLY: True, LATE: False}),
    ("TimestampGreaterThanEquals", LATE, {LATE: True, EARLY: False}),
]


@pytest.mark.parametrize(("operator", "operand", "expected"), COMPARED)
def test_a_comparison_with_a_value_and_with_a_path(
    operator: str, operand: Any, expected: dict[Any, bool]
) -> None:
    for value, result in expected.items():
        assert matches({"Variable": "$.value", operator: operand}, value=value) is result
        assert (
            matches({"Variable": "$.value", f"{operator}Path": "$.operand"}, value=value, operand=operand)
            is result
        )


def test_a_number_is_no_boolean_and_a_boolean_no_number() -> None:
    assert not matches({"Variable": "$.value", "NumericEquals": 1}, value=True)
    assert not matches({"Variable": "$.value", "BooleanEquals": True}, value=1)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("model-*.tar.gz", "model-7.tar.gz", True),
        ("model-*.tar.gz", "model-7.zip", False),
        ("*", "", True),
        ("a*c*e", "abcde", True),
        (r"a\*c", "a*c", True),
        (r"a\*c", "abc", False),
        (r"a\\*", r"a\b", True),
        ("a.c", "abc", False),
        ("*", "two\nlines", True),
    ],
)
def test_a_pattern(pattern: str, text: str, expected: bool) -> None:
    assert matches({"Variable": "$.value", "StringMatches": pattern}, value=text) is expected


@pytest.mark.parametrize(
    ("operator", "true_for", "false_for"),
    [
        ("IsNull", [None], [0, "", False]),
        ("IsString", ["", "x"], [None, 1]),
        ("IsNumeric", [0, 1.5], ["1", True, None]),
        ("IsBoolean", [True, False], [0, "true"]),
        ("IsTimestamp", [EARLY], ["2026-01-01", "2026-13-01T00:00:00Z", 0]),
        ("IsPresent", [None, 0, [], ""], []),
    ],
)
def test_what_a_value_is(operator: str, true_for: list[Any], false_for: list[Any]) -> None:
    for value in true_for:
        assert matches({"Variable": "$.value", operator: True}, value=value)
        assert not matches({"Variable": "$.value", operator: False}, value=value)
    for value in false_for:
        assert not matches({"Variable": "$.value", operator: True}, value=value)
        assert matches({"Variable": "$.value", operator: False}, value=value)


def test_what_is_not_there_is_only_asked_for_with_is_present() -> None:
    assert matches({"Variable": "$.missing", "IsPresent": False})
    assert matches({"Variable": "$.missing[*]", "IsPresent": False})
    with pytest.raises(EvaluationFailed) as raised:
        matches({"Variable": "$.missing", "StringEquals": "x"})
    assert raised.value.cause == (
        "Invalid path '$.missing': The choice state's condition path references an invalid value."
    )


def test_rules_are_combined() -> None:
    big = {"Variable": "$.value", "NumericGreaterThan": 1}
    small = {"Variable": "$.value", "NumericLessThan": 5}

    assert matches({"And": [big, small]}, value=3)
    assert not matches({"And": [big, small]}, value=7)
    assert matches({"Or": [big, small]}, value=7)
    assert matches({"Not": big}, value=1)
    assert not matches({"Not": {"Or": [big, small]}}, value=3)


def test_every_operator_of_the_language_is_known() -> None:
    assert len(OPERATORS) == 39


async def test_a_choice_takes_the_first_rule_that_matches_and_else_the_default(machines: Machines) -> None:
    definition = {
        "StartAt": "Gate",
        "States": {
            "Gate": {
                "Type": "Choice",
                "Choices": [
                    {
                        "Variable": "$.accuracy",
                        "NumericGreaterThanEqualsPath": "$.threshold",
                        "Next": "Passed",
                    },
                    {"Variable": "$.accuracy", "NumericGreaterThan": 0, "Next": "Near"},
                ],
                "Default": "Failed",
            },
            **{name: {"Type": "Pass", "Result": name, "End": True} for name in ("Passed", "Near", "Failed")},
        },
    }
    arn = machines.create(definition)

    outputs = []
    for accuracy in (0.9, 0.5, 0):
        text = f'{{"accuracy": {accuracy}, "threshold": 0.6}}'
        started = machines.api.start_execution(stateMachineArn=arn, input=text)
        outputs.append((await machines.end(started["executionArn"])).output)

    assert outputs == ["Passed", "Near", "Failed"]


async def test_a_choice_without_a_match_and_a_default_fails(machines: Machines) -> None:
    definition = {
        "StartAt": "Gate",
        "States": {
            "Gate": {"Type": "Choice", "Choices": [{"Variable": "$.x", "IsPresent": True, "Next": "Done"}]},
            "Done": {"Type": "Succeed"},
        },
    }

    ended = await machines.run(definition)

    assert (ended.error, ended.cause) == (
        "States.NoChoiceMatched",
        "An error occurred while executing the state 'Gate' (entered at the event id #2). "
        "Failed to transition out of the state. The state does not point to a next state.",
    )
    assert ended.types == ["ExecutionStarted", "ChoiceStateEntered", "ExecutionFailed"]
