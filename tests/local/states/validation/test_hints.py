"""Warnings: they are told to those who ask, and refuse nothing."""

import json
from typing import Any

import pytest

from tests.local.states.conftest import Machines
from tests.local.states.validation.conftest import TASK, machine

DOLLAR = ("NO_DOLLAR", "No .$ on a field that appears to be a JSONPath or Intrinsic Function.")
PATH = ("NO_PATH", "Field value looks like a path, but field name does not end with 'Path'.")
STATIC = ("PASS_RESULT_IS_STATIC", "Attempt to use a path in the result of a pass state.")


def choice(**rule: Any) -> dict[str, Any]:
    return {"Type": "Choice", "Choices": [{"Next": "Done", **rule}]}


@pytest.mark.parametrize(
    ("state", "warning", "place"),
    [
        ({**TASK, "Parameters": {"FunctionName": "f", "Payload": "$.x"}}, DOLLAR, "/Parameters/Payload"),
        ({"Type": "Pass", "Parameters": {"a": [{"b": "States.UUID()"}]}}, DOLLAR, "/Parameters/a[0]/b"),
        ({"Type": "Pass", "Assign": {"x": "$$.Execution.Id"}}, DOLLAR, "/Assign/x"),
        ({"Type": "Fail", "Error": "$.error"}, PATH, "/Error"),
        (choice(Variable="$.x", StringEquals="$.y"), PATH, "/Choices[0]/StringEquals"),
        (choice(Not={"Variable": "$.x", "StringEquals": "$"}), PATH, "/Choices[0]/Not/StringEquals"),
        (
            choice(And=[{"Variable": "$.x", "StringMatches": "$.y"}]),
            PATH,
            "/Choices[0]/And[0]/StringMatches",
        ),
        ({"Type": "Pass", "Result": "$.x"}, STATIC, "/Result"),
        ({"Type": "Pass", "Result": {"a": [{"x.$": "$.x"}]}}, STATIC, "/Result"),
    ],
)
async def test_what_is_probably_not_meant(
    machines: Machines, state: dict[str, Any], warning: tuple[str, str], place: str
) -> None:
    definition = json.dumps(machine(state))

    asked = machines.api.validate_state_machine_definition(definition=definition, severity="WARNING")
    not_asked = machines.api.validate_state_machine_definition(definition=definition)

    code, message = warning
    assert asked == {
        "result": "OK",
        "diagnostics": [
            {"severity": "WARNING", "code": code, "message": message, "location": f"/States/State{place}"}
        ],
        "truncated": False,
    }
    assert not_asked == {"result": "OK", "diagnostics": [], "truncated": False}


async def test_an_amount_of_money_is_no_path(machines: Machines) -> None:
    definition = json.dumps(machine({"Type": "Pass", "Parameters": {"price": "$5"}, "Result": "$ 5"}))

    answer = machines.api.validate_state_machine_definition(definition=definition, severity="WARNING")

    assert answer == {"result": "OK", "diagnostics": [], "truncated": False}


async def test_warnings_stand_beside_errors_in_every_scope(machines: Machines) -> None:
    inner = {"StartAt": "Inner", "States": {"Inner": {"Type": "Pass", "Result": "$.x"}}}
    definition = json.dumps(machine({"Type": "Parallel", "Branches": [inner]}))

    answer = machines.api.validate_state_machine_definition(definition=definition, severity="WARNING")

    assert answer["result"] == "FAIL"
    assert [(problem["severity"], problem["location"]) for problem in answer["diagnostics"]] == [
        ("ERROR", "/States/State/Branches[0]/States/Inner"),
        ("WARNING", "/States/State/Branches[0]/States/Inner/Result"),
    ]
