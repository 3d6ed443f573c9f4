"""A definition is written by hand, and anything may stand anywhere in it."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from stagegate.local.states.parser import parse_definition
from stagegate.local.states.validation import report
from tests.local.states.validation.conftest import DISTRIBUTED, READER, TASK

PASS = {"Type": "Pass", "End": True}
DEFINITION: dict[str, Any] = {
    "StartAt": "Choose",
    "TimeoutSeconds": 60,
    "States": {
        "Choose": {
            "Type": "Choice",
            "Choices": [
                {"And": [{"Not": {"Variable": "$.x", "IsNull": True}}], "Next": "Work"},
                {"Variable": "$.x", "TimestampEquals": "2026-01-01T00:00:00Z", "Next": "Both"},
            ],
            "Default": "Wait",
        },
        "Wait": {"Type": "Wait", "SecondsPath": "$.seconds", "Next": "Each"},
        "Work": {
            **TASK,
            "ResultSelector": {"code.$": "$.StatusCode"},
            "ResultPath": "$.result",
            "Credentials": {"RoleArn": "arn:aws:iam::111111111111:role/other"},
            "TimeoutSeconds": 20,
            "HeartbeatSeconds": 10,
            "Retry": [{"ErrorEquals": ["Busy"], "IntervalSeconds": 1, "BackoffRate": 2.0}],
            "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "Failed"}],
            "Assign": {"seen": True},
            "End": True,
        },
        "Both": {
            "Type": "Parallel",
            "QueryLanguage": "JSONata",
            "Branches": [{"StartAt": "Left", "States": {"Left": PASS}}],
            "Arguments": {"x": "{% $states.input.x %}"},
            "Output": "{% $states.result %}",
            "Next": "Each",
        },
        "Each": {
            "Type": "Map",
            "ItemReader": READER,
            "ItemBatcher": {"MaxItemsPerBatch": 10, "BatchInput": {"x": 1}},
            "ResultWriter": {
                "Resource": "arn:aws:states:::s3:putObject",
                "Parameters": {"Bucket": "b"},
                "WriterConfig": {"Transformation": "NONE", "OutputType": "JSON"},
            },
            "ItemProcessor": DISTRIBUTED,
            "ItemSelector": {"value.$": "$$.Map.Item.Value"},
            "MaxConcurrency": 5,
            "ToleratedFailurePercentage": 5,
            "Label": "each",
            "Next": "Failed",
        },
        "Failed": {"Type": "Fail", "ErrorPath": "$.error", "Cause": "it failed"},
    },
}
ODD = [
    None,
    -1,
    1.5,
    True,
    "",
    "x",
    "$.x",
    "$$",
    "$.a[",
    "{% $x %}",
    "{% x",
    "States.Nope(",
    [],
    {},
    [1],
    {"a.$": 1},
]


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where the values of a definition stand."""
    members = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, member in members:
        yield (*path, key)
        yield from places(member, (*path, key))


def test_the_definition_is_right_as_it_is() -> None:
    assert report(json.dumps(DEFINITION), is_express=False, severity="WARNING") == []


@pytest.mark.parametrize("odd", ODD, ids=json.dumps)
def test_what_is_not_refused_can_be_run(odd: Any) -> None:
    refused = 0
    for *path, last in places(DEFINITION):
        definition = copy.deepcopy(DEFINITION)
        holder: Any = definition
        for key in path:
            holder = holder[key]
        holder[last] = odd

        if any(
            found.severity == "ERROR"
            for found in report(json.dumps(definition), is_express=False, severity="WARNING")
        ):
            refused += 1
        else:
            parse_definition(definition)

    assert refused > 50
