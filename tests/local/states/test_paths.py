"""JSONPath: what each form of path finds."""

import pytest

from stagegate.local.states.errors import EvaluationFailed
from stagegate.local.states.paths import InvalidPath, NotFound, Values, compile_path, put

DATA = {
    "name": "model",
    "runs": [{"id": 1, "score": 0.5}, {"id": 2, "score": 0.75}, {"id": 3}],
    "delivery-partner": {"a.b": "dotted", "quote'd": "quoted"},
    "none": None,
}


def resolve(path: str) -> object:
    values = Values(
        data=DATA,
        context=lambda: {"Execution": {"Name": "run"}},
        variables={"count": 3, "list": [1, 2, 3]},
        record=lambda produce: produce(),
    )
    return compile_path(path).resolve(values)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", DATA),
        ("$.name", "model"),
        ("$['name']", "model"),
        ('$["name"]', "model"),
        ("$.none", None),
        ("$.runs[1].id", 2),
        ("$.runs[-1].id", 3),
        ("$.delivery-partner['a.b']", "dotted"),
        ("$.delivery-partner['quote\\'d']", "quoted"),
        ("$$.Execution.Name", "run"),
        ("$count", 3),
        ("$list[2]", 3),
        ("$.runs[*].id", [1, 2, 3]),
        ("$.runs[*].score", [0.5, 0.75]),
        ("$.runs[:2].id", [1, 2]),
        ("$.runs[1:].id", [2, 3]),
        ("$.runs[-2:].id", [2, 3]),
        ("$.runs[0,2].id", [1, 3]),
        ("$.runs[0]['id','score']", [1, 0.5]),
        ("$..id", [1, 2, 3]),
        ("$.runs[?(@.score > 0.6)].id", [2]),
        ("$.runs[?(@.score)].id", [1, 2]),
        ("$.missing[*].id", []),
        ("$.missing[1:5]", []),
    ],
)
def test_a_path_finds(path: str, found: object) -> None:
    assert resolve(path) == found


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("$.missing", "No results for path: $['missing']"),
        ("$.missing.deeper", "Missing property in path $['missing']"),
        ("$.runs[7]", "No results for path: $['runs'][7]"),
        ("$unknown", "The variable '$unknown' is not defined"),
    ],
)
def test_a_path_of_names_that_leads_nowhere_says_where_it_ended(path: str, message: str) -> None:
    with pytest.raises(NotFound) as raised:
        resolve(path)

    assert str(raised.value) == message


@pytest.mark.parametrize("path", ["", "name", "$.", "$.a[", "$.a['b", "$[?(", "$.a b", "$.a[x]"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(InvalidPath):
        compile_path(path)


@pytest.mark.parametrize(
    ("path", "changed"),
    [
        ("$", 9),
        ("$.b", {"a": {"x": 1}, "list": [1, 2], "b": 9}),
        ("$.a.y", {"a": {"x": 1, "y": 9}, "list": [1, 2]}),
        ("$.new.deep", {"a": {"x": 1}, "list": [1, 2], "new": {"deep": 9}}),
        ("$.list[1]", {"a": {"x": 1}, "list": [1, 9]}),
    ],
)
def test_a_result_is_put_where_its_path_says_and_nothing_else_changes(path: str, changed: object) -> None:
    data = {"a": {"x": 1}, "list": [1, 2]}

    assert put(path, data, 9) == changed
    assert data == {"a": {"x": 1}, "list": [1, 2]}


@pytest.mark.parametrize("path", ["$.list[2]", "$.a.x.y", "$.list.name"])
def test_a_result_that_has_no_place_is_an_error(path: str) -> None:
    with pytest.raises(EvaluationFailed) as raised:
        put(path, {"a": {"x": 1}, "list": [1, 2]}, 9)

    assert raised.value.error == "States.ResultPathMatchFailure"
