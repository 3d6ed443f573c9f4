"""JSONata that is wrong before it is evaluated."""

from typing import Any

import pytest

from stagegate.local.states.validation.references import references
from tests.local.states.validation.conftest import of_state, problems

JSONATA = {"QueryLanguage": "JSONata"}


def output(expression: str) -> list[str]:
    return of_state({"Type": "Pass", "Output": f"{{% {expression} %}}"}, **JSONATA)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("a[1,2)", 'Expected "]", got ","'),
        ('"unterminated', "String literal must be terminated by a matching quote"),
        ("1 +", "Unexpected end of expression"),
        ('{"a":}', 'The symbol "}" cannot be used as a unary operator'),
        ("$x :=", "Unexpected end of expression"),
        ("phone %.other", 'The symbol "." cannot be used as a unary operator'),
        ("", "Unexpected end of expression"),
        ('[1 "b"]', 'Expected "]", got "b"'),
        ("(1; 2", 'Expected ")" before end of expression'),
        ("1 2", "Syntax error: 2"),
        ("$match('a', //)", "Empty regular expressions are not allowed"),
    ],
)
def test_what_is_no_expression(expression: str, message: str) -> None:
    assert output(expression) == [f"INVALID_JSONATA_EXPRESSION: {message} at /Output"]


@pytest.mark.parametrize("text", ["{% 1", "{%1 }"])
def test_an_expression_ends_as_it_begins(text: str) -> None:
    assert of_state({"Type": "Pass", "Output": {"v": text}}, **JSONATA) == [
        "JSONata string must start with {% and end with %} at /Output/v"
    ]


@pytest.mark.parametrize(
    ("expression", "messages"),
    [
        ("phone", ["Reference to 'phone' at the top level is not supported."]),
        (
            "aaa + bbb + aaa",
            [
                "Reference to 'aaa' at the top level is not supported.",
                "Reference to 'bbb' at the top level is not supported.",
            ],
        ),
        ("$.phone", ["Reference to '$' at the top level is not supported."]),
        ("$$.phone", ["Reference to '$$' is not supported."]),
        ("$states.errorOutput.Cause", ["Field '$states.errorOutput' does not exist."]),
        ("$states.result", ["Field '$states.result' does not exist."]),
        ("$states.nothing", ["Field '$states.nothing' does not exist."]),
    ],
)
def test_what_an_expression_can_not_refer_to(expression: str, messages: list[str]) -> None:
    assert output(expression) == [
        f"UNSUPPORTED_JSONATA_EXPRESSION: {message} at /Output" for message in messages
    ]


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("$states.input.items[phone > 3].name", []),
        ("$states.input.items^(>age, <name){kind: $sum(size)}", []),
        ("$states.input.items#$i.part@$p[$p.x = y]", []),
        ("$states.input ~> |part|{'size': size * 2}, ['old']|", []),
        ("$map($states.input.a, function($x, $i)<n-n:n>{ $x.y + b })", ["b"]),
        ("{key: 1, 'other': value}", ["key", "value"]),
        ("$exists(a) ? b : [c, -d]", ["a", "b", "c", "d"]),
        ("($v := e; $v.f; `quoted name`)", ["e", "quoted name"]),
        ("$contains($states.input.text, /^a\\/[b\\/]/i) and g", ["g"]),
        ("/* h */ 'i' & \"j\" & true & null", []),
        ("[1..k].($ * 2)", ["k"]),
        ("$a ?? m", ["m"]),
        ("or", ["or"]),
        ("$f(?, n)", ["n"]),
        ("$x.*.**.%.y", []),
        ("o in [1]", ["o"]),
        ("p~>$q", ["p"]),
    ],
)
def test_only_what_begins_a_path_is_read_at_the_top_level(expression: str, names: list[str]) -> None:
    assert list(references(expression).at_top_level) == names


TASK = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Arguments": {"FunctionName": "f"}}


@pytest.mark.parametrize(
    ("state", "place"),
    [
        ({"Type": "Pass", "Output": {"a": {"b": ["{% phone %}"]}}}, "/Output/a/b[0]"),
        ({"Type": "Pass", "Assign": {"Next": "{% phone %}"}}, "/Assign/Next"),
        ({"Type": "Wait", "Seconds": "{% phone %}"}, "/Seconds"),
        ({"Type": "Wait", "Timestamp": "{% phone %}"}, "/Timestamp"),
        ({"Type": "Fail", "Cause": "{% phone %}"}, "/Cause"),
        (
            {"Type": "Choice", "Choices": [{"Condition": "{% phone %}", "Next": "Done"}]},
            "/Choices[0]/Condition",
        ),
        ({**TASK, "Arguments": {"FunctionName": "{% phone %}"}}, "/Arguments/FunctionName"),
        ({**TASK, "TimeoutSeconds": "{% phone %}"}, "/TimeoutSeconds"),
        ({**TASK, "Credentials": {"RoleArn": "{% phone %}"}}, "/Credentials/RoleArn"),
        (
            {**TASK, "Catch": [{"ErrorEquals": ["States.ALL"], "Output": "{% phone %}", "Next": "Done"}]},
            "/Catch[0]/Output",
        ),
    ],
)
def test_every_field_that_is_evaluated_is_read(state: dict[str, Any], place: str) -> None:
    assert of_state(state, **JSONATA) == [
        f"UNSUPPORTED_JSONATA_EXPRESSION: Reference to 'phone' at the top level is not supported. at {place}"
    ]


def test_every_field_of_a_map_that_is_evaluated_is_read() -> None:
    state = {
        "Type": "Map",
        "Items": "{% a %}",
        "ItemSelector": {"v": "{% b %}"},
        "ItemBatcher": {"MaxItemsPerBatch": "{% c %}", "BatchInput": {"v": "{% d %}"}},
        "ItemReader": {
            "Resource": "arn:aws:states:::s3:getObject",
            "Arguments": {"Bucket": "{% e %}", "Key": "k"},
            "ReaderConfig": {"InputType": "CSV", "CSVHeaderLocation": "GIVEN", "CSVHeaders": ["{% no %}"]},
        },
        "MaxConcurrency": "{% f %}",
        "ItemProcessor": {
            "StartAt": "Item",
            "States": {"Item": {"Type": "Pass", "Output": "{% g %}", "End": True}},
            "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
        },
        "End": True,
    }

    found = problems({"StartAt": "Map", "States": {"Map": state}, **JSONATA})

    assert [problem.split("'")[1] for problem in found] == list("abcdefg")


@pytest.mark.parametrize(
    "state",
    [
        {"Type": "Pass", "Comment": "{% phone %}"},
        {**TASK, "Retry": [{"ErrorEquals": ["{% phone %}"]}]},
        {**TASK, "Output": "{% $states.result.Payload %}", "Assign": {"v": "{% $states.result %}"}},
        {
            **TASK,
            "Catch": [
                {
                    "ErrorEquals": ["States.ALL"],
                    "Output": "{% $states.errorOutput %}",
                    "Assign": {"v": "{% $states.errorOutput.Error %}"},
                    "Next": "Done",
                }
            ],
        },
    ],
)
def test_an_expression_that_is_right_or_none(state: dict[str, Any]) -> None:
    assert of_state(state, **JSONATA) == []
