"""A definition as a whole: its scopes, names and transitions, and how the API tells what is wrong."""

import json
from typing import Any

import pytest

from stagegate.local.service import AWSError
from stagegate.local.states.validation import diagnose, diagnose_state
from tests.local.states.conftest import ROLE, Machines
from tests.local.states.validation.conftest import DISTRIBUTED, PROCESSOR, machine, problems

PASS = {"Type": "Pass", "End": True}
SCHEMA = "SCHEMA_VALIDATION_FAILED: "
TARGET = "MISSING_TRANSITION_TARGET: "


def states(**states: Any) -> dict[str, Any]:
    return {"StartAt": next(iter(states)), "States": states}


@pytest.mark.parametrize(
    ("definition", "found"),
    [
        ([], [f"{SCHEMA}The definition must be a JSON object at /"]),
        ({}, [f"{SCHEMA}These fields are required: [States, StartAt] at /"]),
        ({"StartAt": "A"}, [f"{SCHEMA}These fields are required: [States] at /"]),
        ({"States": {"A": PASS}}, [f"{SCHEMA}These fields are required: [StartAt] at /"]),
        ({"StartAt": "A", "States": {}}, [f"{SCHEMA}Value cannot be empty at /States"]),
        ({"StartAt": "A", "States": None}, [f"{SCHEMA}Expected value of type [OBJECT] at /States"]),
        ({"StartAt": "A", "States": []}, [f"{SCHEMA}Expected value of type [OBJECT] at /States"]),
        ({**states(A=PASS), "Extra": 1}, [f"{SCHEMA}Field 'Extra' is not supported at /"]),
        ({**states(A=PASS), "StartAt": 1}, [f"{SCHEMA}Expected value of type [STRING] at /StartAt"]),
        ({**states(A=PASS), "Comment": 1}, [f"{SCHEMA}Expected value of type [STRING] at /Comment"]),
        (
            {**states(A=PASS), "Version": "2.0"},
            [f"{SCHEMA}Value should be one of the following: [1.0] at /Version"],
        ),
        ({**states(A=PASS), "TimeoutSeconds": -1}, [f"{SCHEMA}Minimum value is 0 at /TimeoutSeconds"]),
        (
            {**states(A=PASS), "TimeoutSeconds": 100_000_000},
            [f"{SCHEMA}Maximum value is 99999999 at /TimeoutSeconds"],
        ),
        (
            {**states(A=PASS), "TimeoutSeconds": "{% 1 %}", "QueryLanguage": "JSONata"},
            [f"{SCHEMA}Expected value of type Integer at /TimeoutSeconds"],
        ),
        (
            {**states(A=PASS), "QueryLanguage": "jsonata"},
            [f"{SCHEMA}Value should be one of the following: [JSONPath, JSONata] at /QueryLanguage"],
        ),
        (
            {**states(A=PASS), "QueryLanguage": 5},
            [f"{SCHEMA}Expected value of type [STRING] at /QueryLanguage"],
        ),
        (states(A=1), [f"{SCHEMA}Expected value of type [OBJECT] at /States/A"]),
        (states(A={"End": True}), [f"{SCHEMA}These fields are required: [Type] at /States/A"]),
        (
            states(A={"Type": "Jump"}),
            [
                f"{SCHEMA}Value should be one of the following: "
                "[Task, Wait, Pass, Succeed, Fail, Choice, Parallel, Map] at /States/A/Type"
            ],
        ),
        (
            states(**{"x" * 81: PASS}),
            [
                f"INVALID_STATE_NAME: Invalid State name: {'x' * 81} exceeds the 80-character limit allowed "
                f"by the service at /States/{'x' * 81}"
            ],
        ),
    ],
)
def test_a_definition_that_is_wrong(definition: Any, found: list[str]) -> None:
    assert problems(definition) == found


@pytest.mark.parametrize(
    ("definition", "found"),
    [
        (
            {"StartAt": "Nope", "States": {"A": PASS}},
            [
                f"{TARGET}Missing 'Next' target: Nope at /StartAt",
                f'{TARGET}State "A" is not reachable. at /States/A',
            ],
        ),
        (
            states(A={"Type": "Pass", "Next": "Nope"}),
            [
                f"{TARGET}Missing 'Next' target: Nope at /States/A/Next",
                "MISSING_END_STATE: Workflow has no terminal state at null",
            ],
        ),
        (
            states(A={"Type": "Pass", "Next": "Nope"}, B=PASS),
            [
                f"{TARGET}Missing 'Next' target: Nope at /States/A/Next",
                f'{TARGET}State "B" is not reachable. at /States/B',
            ],
        ),
        (
            states(
                A={
                    "Type": "Choice",
                    "Choices": [{"Variable": "$.x", "IsNull": True, "Next": "X"}],
                    "Default": "Y",
                },
                B=PASS,
            ),
            [
                f"{TARGET}Missing 'Next' target: Y at /States/A/Default",
                f"{TARGET}Missing 'Next' target: X at /States/A/Choices[0]/Next",
                f'{TARGET}State "B" is not reachable. at /States/B',
            ],
        ),
        (
            states(
                A={
                    "Type": "Parallel",
                    "Branches": [states(B=PASS)],
                    "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "X"}],
                    "End": True,
                }
            ),
            [f"{TARGET}Missing 'Next' target: X at /States/A/Catch[0]/Next"],
        ),
        (
            states(A={"Type": "Pass", "Next": "B"}, B={"Type": "Pass", "Next": "A"}),
            ["MISSING_END_STATE: Workflow has no terminal state at null"],
        ),
        (
            states(A={"Type": "Pass", "Next": "A"}, B={"Type": "Pass", "Next": "A"}),
            ["MISSING_END_STATE: Workflow has no terminal state at null"],
        ),
        (
            states(A={"Type": "Pass", "Next": "A"}, B={"Type": "Fail"}),
            [f'{TARGET}State "B" is not reachable. at /States/B'],
        ),
        (
            states(
                A={"Type": "Parallel", "Branches": [states(B={"Type": "Pass", "Next": "C"})], "Next": "C"},
                C=PASS,
            ),
            [f"{TARGET}Missing 'Next' target: C at /States/A/Branches[0]/States/B/Next"],
        ),
        (
            states(A={"Type": "Map", "ItemProcessor": states(B={"Type": "Pass", "Next": "B"}), "End": True}),
            [],
        ),
        (
            states(A={"Type": "Map", "Iterator": states(B=PASS, C=PASS), "End": True}),
            [f'{TARGET}State "C" is not reachable. at /States/A/Iterator/States/C'],
        ),
        (
            states(A={"Type": "Parallel", "Branches": [states(A=PASS)], "End": True}),
            ["DUPLICATE_STATE_NAME: Duplicate State name: A at /States/A/Branches[0]/States/A"],
        ),
        (
            states(A={"Type": "Parallel", "Branches": [{"StartAt": "B"}], "End": True}),
            [f"{SCHEMA}These fields are required: [States] at /States/A/Branches[0]"],
        ),
        (
            states(A={"Type": "Parallel", "Branches": [1], "End": True}),
            [f"{SCHEMA}Expected value of type [OBJECT] at /States/A/Branches[0]"],
        ),
        (
            states(
                A={"Type": "Map", "ItemProcessor": {**PROCESSOR, "QueryLanguage": "JSONata"}, "End": True}
            ),
            [f"{SCHEMA}Field 'QueryLanguage' is not supported at /States/A/ItemProcessor"],
        ),
    ],
)
def test_how_states_lead_to_each_other(definition: dict[str, Any], found: list[str]) -> None:
    assert problems(definition) == found


def test_the_states_within_a_state_have_the_query_language_of_the_machine() -> None:
    inner = {"Type": "Pass", "Output": {"v": "{% 1 %}"}, "End": True}
    outer = {"Type": "Parallel", "QueryLanguage": "JSONata", "Branches": [states(B=inner)], "End": True}

    assert problems(states(A=outer)) == [
        f"{SCHEMA}The QueryLanguage is set to 'JSONPath', but field 'Output' is only supported for the "
        "'JSONata' QueryLanguage at /States/A/Branches[0]/States/B"
    ]
    assert problems({**states(A=outer), "QueryLanguage": "JSONata"}) == []


@pytest.mark.parametrize(
    ("state", "found"),
    [
        (
            {"Type": "Task", "Resource": "arn:aws:states:us-east-1:111111111111:activity:work"},
            "Express state machine does not support Activity ARN at /States/State/Resource",
        ),
        (
            {
                "Type": "Task",
                "Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken",
                "Parameters": {"FunctionName": "f"},
            },
            "Express state machine does not support '.waitForTaskToken' service integration at "
            "/States/State/Resource",
        ),
        (
            {"Type": "Task", "Resource": "arn:aws:states:::states:startExecution.sync:2", "Parameters": {}},
            "Express state machine does not support '.sync' service integration at /States/State/Resource",
        ),
        (
            {"Type": "Map", "ItemProcessor": DISTRIBUTED},
            "The field 'Mode' with value 'DISTRIBUTED' is not supported inside 'EXPRESS' state machines at "
            "/States/State/ItemProcessor/ProcessorConfig/Mode",
        ),
    ],
)
def test_what_express_workflows_can_not_do(state: dict[str, Any], found: str) -> None:
    assert problems(machine(state), is_express=True) == [SCHEMA + found]


def test_what_a_child_workflow_that_is_express_can_not_do() -> None:
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
        "Parameters": {},
        "End": True,
    }
    config = {"Mode": "DISTRIBUTED", "ExecutionType": "EXPRESS"}
    processor = {**states(Send=task), "ProcessorConfig": config}

    assert problems(machine({"Type": "Map", "ItemProcessor": processor})) == [
        f"{SCHEMA}Express state machine does not support '.waitForTaskToken' service integration at "
        "/States/State/ItemProcessor/States/Send/Resource"
    ]


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("", "MISSING_DESCRIPTION", "Received a null or empty workflow input."),
        (
            "oops",
            "INVALID_JSON_DESCRIPTION",
            "Unrecognized token 'oops': was expecting (JSON String, Number, Array, Object or token 'null', "
            "'true' or 'false')",
        ),
    ],
)
def test_text_that_is_no_json(text: str, code: str, message: str) -> None:
    (problem,) = diagnose(text, is_express=False)

    assert problem.as_members() == {"severity": "ERROR", "code": code, "message": message}


@pytest.mark.parametrize(
    ("state", "found"),
    [
        ({"Type": "Pass", "Next": "Anywhere"}, []),
        ({"Type": "Pass", "QueryLanguage": "JSONata", "Output": "{% 1 %}", "End": True}, []),
        ({}, [f"{SCHEMA}These fields are required: [Type] at /"]),
        (
            {"Type": "Pass", "Output": 1, "End": True},
            [
                f"{SCHEMA}The QueryLanguage is set to 'JSONPath', but field 'Output' is only supported for "
                "the 'JSONata' QueryLanguage at /"
            ],
        ),
        ({"Type": "Wait", "Seconds": -1, "End": True}, [f"{SCHEMA}Minimum value is 0 at /Seconds"]),
        (
            {"Type": "Parallel", "Branches": [states(A={"Type": "Pass", "Next": "B"})], "End": True},
            [f"{TARGET}Missing 'Next' target: B at /Branches[0]/States/A/Next"],
        ),
    ],
)
def test_a_state_that_stands_alone(state: dict[str, Any], found: list[str]) -> None:
    assert [str(problem) for problem in diagnose_state(json.dumps(state))] == found


async def test_a_wrong_definition_is_not_created_and_can_be_asked_about(machines: Machines) -> None:
    with pytest.raises(AWSError) as refused:
        machines.api.create_state_machine(name="wrong", definition="{}", roleArn=ROLE)

    words = "These fields are required: [States, StartAt]"
    assert refused.value.code == "InvalidDefinition"
    assert refused.value.message == f"Invalid State Machine Definition: '{SCHEMA}{words} at /'"
    assert machines.api.validate_state_machine_definition(definition="{}") == {
        "result": "FAIL",
        "diagnostics": [
            {"severity": "ERROR", "code": "SCHEMA_VALIDATION_FAILED", "message": words, "location": "/"}
        ],
        "truncated": False,
    }


async def test_as_many_diagnostics_as_are_asked_for(machines: Machines) -> None:
    definition = json.dumps({**states(A=PASS), "One": 1, "Two": 2, "Three": 3})

    answer = machines.api.validate_state_machine_definition(definition=definition, maxResults=2)
    everything = machines.api.validate_state_machine_definition(definition=definition, maxResults=0)

    assert [problem["message"] for problem in answer["diagnostics"]] == [
        "Field 'One' is not supported",
        "Field 'Two' is not supported",
    ]
    assert answer["truncated"] is True
    assert (len(everything["diagnostics"]), everything["truncated"]) == (3, False)
