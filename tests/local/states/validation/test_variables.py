"""What is assigned to variables."""

from typing import Any

import pytest

from tests.local.states.validation.conftest import of_state, problems

PASS = {"Type": "Pass", "End": True}


@pytest.mark.parametrize(
    ("assign", "found"),
    [
        ([], "Expected value of type [OBJECT] at /Assign"),
        ("{% $x %}", "Expected value of type [OBJECT] at /Assign"),
        (
            {"states": 1},
            "RESERVED_VARIABLE_NAME: Cannot assign to reserved variable '$states'. at /Assign/states",
        ),
        (
            {"a-b": 1},
            "INVALID_VARIABLE_NAME: Invalid variable name 'a-b': the variable name contains invalid "
            "characters. at /Assign/a-b",
        ),
        (
            {"1st": 1},
            "INVALID_VARIABLE_NAME: Invalid variable name '1st': the variable name contains invalid "
            "characters. at /Assign/1st",
        ),
        (
            {"_x": 1},
            "INVALID_VARIABLE_NAME: Invalid variable name '_x': the variable name contains invalid "
            "characters. at /Assign/_x",
        ),
        (
            {"x" * 81: 1},
            f"INVALID_VARIABLE_NAME: Invalid variable name '{'x' * 81}': the variable name exceeds the "
            f"80-character limit. at /Assign/{'x' * 81}",
        ),
    ],
)
@pytest.mark.parametrize("language", ["JSONPath", "JSONata"])
def test_an_assignment_that_is_wrong(language: str, assign: Any, found: str) -> None:
    assert of_state({"Type": "Pass", "Assign": assign}, QueryLanguage=language) == [found]


@pytest.mark.parametrize(
    ("language", "assign"),
    [
        ("JSONPath", {"größe": 1, "x_1": {}, "x" * 80: None, "path.$": "$.a", "call.$": "States.UUID()"}),
        ("JSONata", {"größe": 1, "x_1": "{% $states.input %}"}),
    ],
)
def test_an_assignment_that_is_right(language: str, assign: dict[str, Any]) -> None:
    assert of_state({"Type": "Pass", "Assign": assign}, QueryLanguage=language) == []


def scopes(*, outer: dict[str, Any], inner: dict[str, Any], **config: Any) -> list[str]:
    processor = {"StartAt": "Inner", "States": {"Inner": {**PASS, "Assign": inner}}, **config}
    state = {"Type": "Map", "Assign": outer, "ItemProcessor": processor, "End": True}
    return problems({"StartAt": "Outer", "States": {"Outer": state}})


def test_a_variable_of_an_outer_scope_is_not_assigned_again_within() -> None:
    assert scopes(outer={"x": 1}, inner={"x.$": "$.x", "y": 2}) == [
        "DUPLICATE_VARIABLE_NAME: The variable name 'x' was already defined in a parent scope. "
        "at /States/Outer/ItemProcessor/States/Inner/Assign/x.$"
    ]


def test_a_child_workflow_has_variables_of_its_own() -> None:
    config = {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}

    assert scopes(outer={"x": 1}, inner={"x": 2}, ProcessorConfig=config) == []


def test_branches_beside_each_other_may_use_the_same_name() -> None:
    branches = [{"StartAt": name, "States": {name: {**PASS, "Assign": {"x": 1}}}} for name in ("One", "Two")]

    assert of_state({"Type": "Parallel", "Branches": branches}) == []
