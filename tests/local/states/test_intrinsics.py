"""The 18 intrinsic functions, with what they take and what they refuse."""

import re
from typing import Any

import pytest

from stagegate.local.states.errors import EvaluationFailed
from stagegate.local.states.intrinsics import InvalidFunction, parse
from stagegate.local.states.paths import Values


def call(text: str, **data: Any) -> Any:
    values = Values(
        data=data,
        context=lambda: {"State": {"Name": "Train"}},
        variables={"size": 2},
        record=lambda produce: produce(),
    )
    return parse(text).evaluate(values)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("States.Array()", []),
        ("States.Array(1, 'two', null, true, -1.5e1)", [1, "two", None, True, -15.0]),
        ("States.ArrayPartition($.list, 2)", [[1, 2], [2, True]]),
        ("States.ArrayPartition($.list, $size)", [[1, 2], [2, True]]),
        ("States.ArrayPartition($.list, 9)", [[1, 2, 2, True]]),
        ("States.ArrayContains($.list, 2)", True),
        ("States.ArrayContains($.list, false)", False),
        ("States.ArrayContains(States.Array(1), true)", False),
        ("States.ArrayRange(1, 9, 2)", [1, 3, 5, 7, 9]),
        ("States.ArrayRange(3, -3, -3)", [3, 0, -3]),
        ("States.ArrayGetItem($.list, 1)", 2),
        ("States.ArrayLength($.list)", 4),
        ("States.ArrayUnique($.list)", [1, 2, True]),
        ("States.Base64Encode('Grüße')", "R3LDvMOfZQ=="),
        ("States.Base64Decode('R3LDvMOfZQ==')", "Grüße"),
        ("States.Hash('model', 'MD5')", "20f35e630daf44dbfa4c3f68f5399d8c"),
        ("States.Hash('model', 'SHA-1')", "1d06a0d76f000e6edd18de492383983feefced4e"),
        ("States.JsonMerge($.one, $.other, false)", {"a": {"y": 2}, "b": 1}),
        ("States.StringToJson('{\"a\": [1, 2.5]}')", {"a": [1, 2.5]}),
        ("States.JsonToString($.one)", '{"a":{"x":1},"b":1}'),
        ("States.MathAdd(1, -3)", -2),
        ("States.MathAdd(1.5, 2.4)", 4),
        ("States.MathAdd(-1.5, 0)", -1),
        ("States.StringSplit('a.b,,c', '.,')", ["a", "b", "c"]),
        ("States.Format('{} of {}', 1, 'two')", "1 of two"),
        ("States.Format('\\{{}\\} isn\\'t {}', $.one, null)", "{{a={x=1}, b=1}} isn't null"),
        ("States.Format($.template, $$.State.Name)", "state Train"),
        ("States.Format('{}', States.Array('a', 1.5))", "[a, 1.5]"),
        (
            "States.ArrayGetItem(States.StringSplit('a-b', '-'), "
            "States.MathAdd(States.ArrayLength($.two), -1))",
            "b",
        ),
        ("States.ArrayLength($.list[?(@ > 1)])", 2),
    ],
)
def test_a_function_gives(text: str, result: Any) -> None:
    given = call(
        text,
        list=[1, 2, 2, True],
        two=[0, 0],
        one={"a": {"x": 1}, "b": 1},
        other={"a": {"y": 2}},
        template="state {}",
    )

    assert given == result
    assert isinstance(given, bool) == isinstance(result, bool)


def test_a_uuid_is_one_of_version_4() -> None:
    assert re.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", call("States.UUID()")
    )


def test_random_numbers_are_between_start_and_end_and_the_same_for_the_same_seed() -> None:
    assert {call("States.MathRandom(3, 5)") for _ in range(50)} == {3, 4}
    assert call("States.MathRandom(1, 1000, 7)") == call("States.MathRandom(1, 1000, 7)")


@pytest.mark.parametrize(
    "text",
    [
        "States.ArrayPartition($.list, 0)",
        "States.ArrayPartition('text', 1)",
        "States.ArrayRange(1, 5000, 1)",
        "States.ArrayRange(1, 5, 0)",
        "States.ArrayGetItem($.list, 9)",
        "States.ArrayLength(1)",
        "States.Base64Decode('?')",
        "States.Hash('x', 'CRC')",
        "States.JsonMerge($.list, $.list, false)",
        "States.JsonMerge($.object, $.object, true)",
        "States.StringToJson('{')",
        "States.MathAdd('1', 1)",
        "States.MathAdd(true, 1)",
        "States.MathRandom(5, 3)",
        "States.Format('{} {}', 1)",
        "States.Format(1)",
        "States.StringSplit(1, ',')",
        "States.ArrayLength()",
        "States.UUID(1)",
    ],
)
def test_a_function_refuses(text: str) -> None:
    with pytest.raises(EvaluationFailed) as raised:
        call(text, list=[1], object={})

    assert raised.value.error == "States.IntrinsicFailure"


@pytest.mark.parametrize(
    "text",
    [
        "States.Nothing()",
        "States.Array(1",
        "States.Array(1,)",
        "States.Array(x)",
        "States.Array(1) 2",
        "Array(1)",
    ],
)
def test_what_is_no_function_is_refused_when_it_is_read(text: str) -> None:
    with pytest.raises(InvalidFunction):
        parse(text)
