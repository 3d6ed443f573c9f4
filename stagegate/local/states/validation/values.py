"""The checks of single values: numbers, texts, paths, payload templates, JSONata."""

from collections.abc import Callable, Iterator
from typing import Any

from stagegate.local.service import Json
from stagegate.local.states.choice import parse_timestamp
from stagegate.local.states.intrinsics import Call, InvalidFunction, is_function, parse
from stagegate.local.states.paths import InvalidPath, Path, compile_path
from stagegate.local.states.validation.diagnostics import Diagnostic, schema, wrong_type
from stagegate.local.states.validation.expressions import check_expression
from stagegate.local.states.validation.shapes import Check, Place

_TEXT_FUNCTIONS = {
    "Format",
    "JsonToString",
    "ArrayGetItem",
    "Base64Encode",
    "Base64Decode",
    "Hash",
    "UUID",
}
"""The functions that may give the error or the cause of a Fail state: those whose value can be a text."""


def anything(value: Json, place: Place) -> Iterator[Diagnostic]:
    """Any JSON, taken as it is."""
    yield from ()


def string(value: Json, place: Place) -> Iterator[Diagnostic]:
    if not isinstance(value, str):
        yield wrong_type("[STRING]", place.at)


def boolean(value: Json, place: Place) -> Iterator[Diagnostic]:
    if not isinstance(value, bool):
        yield wrong_type("[BOOLEAN]", place.at)


def text(value: Json, place: Place) -> Iterator[Diagnostic]:
    """A string; with JSONata it may be an expression."""
    yield from string(value, place)
    yield from _expression_in(value, place)


def one_of(*names: str) -> Check:
    def check(value: Json, place: Place) -> Iterator[Diagnostic]:
        if not isinstance(value, str):
            yield wrong_type("[STRING]", place.at)
        elif value not in names:
            yield schema(f"Value should be one of the following: [{', '.join(names)}]", place.at)

    return check


def integer(least: int, most: int | None = None, *, may_be_expression: bool = False) -> Check:
    return _number(least, most, "Integer", int, may_be_expression)


def number(least: float, most: float | None = None, *, may_be_expression: bool = False) -> Check:
    return _number(least, most, "Number", int | float, may_be_expression)


def _number(least: float, most: float | None, kind: str, types: Any, may_be_expression: bool) -> Check:
    def check(value: Json, place: Place) -> Iterator[Diagnostic]:
        if may_be_expression and place.is_jsonata and isinstance(value, str) and value.startswith("{%"):
            yield from check_expression(value, place)
        elif isinstance(value, bool) or not isinstance(value, types):
            yield wrong_type(kind, place.at)
        elif value < least:
            yield schema(f"Minimum value is {least}", place.at)
        elif most is not None and value > most:
            yield schema(f"Maximum value is {most}", place.at)

    return check


def timestamp(value: Json, place: Place) -> Iterator[Diagnostic]:
    if not isinstance(value, str):
        yield wrong_type("[STRING]", place.at)
    elif place.is_jsonata and value.startswith("{%"):
        yield from check_expression(value, place)
    elif parse_timestamp(value) is None:
        yield schema("String does not match RFC3339 timestamp", place.at)


def items(value: Json, place: Place) -> Iterator[Diagnostic]:
    """The array that a Map goes through, or the expression that gives it."""
    if not isinstance(value, list | str):
        yield wrong_type("[ARRAY, STRING]", place.at)
    yield from payload(value, place)


def condition(value: Json, place: Place) -> Iterator[Diagnostic]:
    if not isinstance(value, str | bool):
        yield wrong_type("[STRING, BOOLEAN]", place.at)
    elif isinstance(value, str):
        yield from check_expression(value, place)


def array_of(check: Check, *, may_be_empty: bool = False) -> Check:
    def check_all(value: Json, place: Place) -> Iterator[Diagnostic]:
        if not isinstance(value, list):
            yield wrong_type("[ARRAY]", place.at)
        elif not value and not may_be_empty:
            yield schema("Value cannot be empty", place.at)
        else:
            for index, item in enumerate(value):
                yield from check(item, place.item(index))

    return check_all


# Paths.


def path(value: Json, place: Place) -> Iterator[Diagnostic]:
    """A JSONPath, or null."""
    if value is not None and _compiled(value) is None:
        yield schema("Value must be a valid JSONPath.", place.at)


def reference_path(value: Json, place: Place) -> Iterator[Diagnostic]:
    """To one value of the state's input or of a variable."""
    yield from _reference(value, place, lambda root: root != "$$")


def reference_path_anywhere(value: Json, place: Place) -> Iterator[Diagnostic]:
    """To one value of the context object too."""
    yield from _reference(value, place, lambda root: True)


def result_path(value: Json, place: Place) -> Iterator[Diagnostic]:
    """To where a result goes, which is in the state's input; null drops it."""
    if value is not None:
        yield from _reference(value, place, lambda root: root == "$")


def path_or_function(value: Json, place: Place) -> Iterator[Diagnostic]:
    """Of a Fail state: a path, or a function that gives a text."""
    if not _is_path_or_function(value) or (is_function(value) and parse(value).name not in _TEXT_FUNCTIONS):
        name = place.at.rpartition("/")[2]
        yield _no_path_or_function(name, place.at)


def _reference(value: Json, place: Place, may_begin: Callable[[str], bool]) -> Iterator[Diagnostic]:
    if not isinstance(value, str):
        yield wrong_type("[STRING]", place.at)
    elif not value.startswith("$"):
        yield schema("Value is not a Reference Path: Reference path didn't start with '$'", place.at)
    elif (found := _compiled(value)) is None or not found.is_definite or not may_begin(found.root):
        yield schema("Value is not a Reference Path", place.at)


def _compiled(value: Json) -> Path | None:
    if not isinstance(value, str):
        return None
    try:
        return compile_path(value)
    except InvalidPath:
        return None


# Payloads.


def payload(value: Json, place: Place) -> Iterator[Diagnostic]:
    """A payload template, or with JSONata any JSON with expressions in it."""
    check = _expressions if place.is_jsonata else _template
    yield from check(value, place)


def object_payload(value: Json, place: Place) -> Iterator[Diagnostic]:
    """A payload that is an object; with JSONata an expression may give it."""
    if not isinstance(value, dict) and not (place.is_jsonata and isinstance(value, str)):
        yield wrong_type("[OBJECT, STRING]" if place.is_jsonata else "[OBJECT]", place.at)
    yield from payload(value, place)


def _template(value: Json, place: Place) -> Iterator[Diagnostic]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _template(item, place.item(index))
    elif isinstance(value, dict):
        for name, content in value.items():
            if not name.endswith(".$"):
                yield from _template(content, place.within(name))
            elif not _is_path_or_function(content):
                yield _no_path_or_function(name, place.at)


def _expressions(value: Json, place: Place) -> Iterator[Diagnostic]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _expressions(item, place.item(index))
    elif isinstance(value, dict):
        for name, content in value.items():
            yield from _expressions(content, place.within(name))
    else:
        yield from _expression_in(value, place)


def _expression_in(value: Json, place: Place) -> Iterator[Diagnostic]:
    if place.is_jsonata and isinstance(value, str) and value.startswith("{%"):
        yield from check_expression(value, place)


def _is_path_or_function(value: Any) -> bool:
    if isinstance(value, str) and is_function(value):
        try:
            return isinstance(parse(value), Call)
        except (InvalidFunction, InvalidPath):
            return False
    return _compiled(value) is not None


def _no_path_or_function(name: str, at: str) -> Diagnostic:
    return schema(
        f"The value for the field '{name}' must be a valid JSONPath or a valid intrinsic function call", at
    )
