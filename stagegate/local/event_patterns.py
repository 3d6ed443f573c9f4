"""EventBridge's event patterns: whether an event matches (EventBridge User Guide, "Comparison operators").

A pattern is a choice of lists of conditions, more than one where it has `$or`. A condition names a path and
what may stand there. Conditions on fields of an array's objects hold for one of the objects together.
"""

import functools
import ipaddress
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stagegate.local.service import AWSError

Json = Any
Test = Callable[[Json], bool]
Path = tuple[str, ...]
Place = Mapping[int, int]
"""Of each array that a leaf is in, by the array's number, the index of the object that holds the leaf."""

_MOST_CHOICES = 1000
_FARTHEST = 5e9  # numeric matching works between its negative and itself


@dataclass(frozen=True, kw_only=True)
class Condition:
    path: Path
    tests: tuple[Test, ...]
    may_be_absent: bool


@dataclass(frozen=True, kw_only=True)
class Leaf:
    value: Json
    place: Place


def matches(pattern: dict[str, Json], event: Json) -> bool:
    """Whether the event has, at every path of the pattern, one of the values that the pattern lists there."""
    leaves: dict[Path, list[Leaf]] = {}
    for path, leaf in _leaves(event, (), {}, itertools.count()):
        leaves.setdefault(path, []).append(leaf)
    return any(_hold(conditions, leaves) for conditions in _compiled(json.dumps(pattern)))


def check(pattern: Json) -> None:
    """Refuse a pattern that EventBridge would refuse."""
    _compiled(json.dumps(pattern))


@functools.lru_cache(maxsize=1024)
def _compiled(text: str) -> list[list[Condition]]:
    pattern = json.loads(text)
    if not isinstance(pattern, dict):
        raise _invalid("Filter is not an object")
    return _choices(pattern, ())


def _choices(pattern: dict[str, Json], path: Path) -> list[list[Condition]]:
    """The lists of conditions of which one must hold."""
    if not pattern:
        raise _invalid("Empty objects are not allowed")
    choices: list[list[Condition]] = [[]]
    for name, wanted in pattern.items():
        if name == "$or" and _is_choice(wanted):
            found = [choice for entry in wanted for choice in _choices(entry, path)]
        elif isinstance(wanted, dict):
            found = _choices(wanted, (*path, name))
        elif isinstance(wanted, list):
            found = [[_condition((*path, name), wanted)]]
        else:
            raise _invalid(f'"{name}" must be an object or an array')
        if len(choices) * len(found) > _MOST_CHOICES:
            raise _invalid(f"$or makes more than {_MOST_CHOICES} combinations")
        choices = [[*one, *other] for one in choices for other in found]
    return choices


def _is_choice(wanted: Json) -> bool:
    """`$or` is an operator before two or more patterns, else a field's name as any other."""
    return (
        isinstance(wanted, list)
        and len(wanted) > 1
        and all(isinstance(entry, dict) and not _OPERATORS.keys() & entry.keys() for entry in wanted)
    )


def _condition(path: Path, wanted: list[Json]) -> Condition:
    if not wanted:
        raise _invalid("Empty arrays are not allowed")
    tests = tuple(_test(value) for value in wanted)
    return Condition(
        path=path,
        tests=tuple(test for test in tests if test is not _absent),
        may_be_absent=_absent in tests,
    )


def _leaves(value: Json, path: Path, place: Place, arrays: Iterator[int]) -> Iterator[tuple[Path, Leaf]]:
    if isinstance(value, dict):
        for name, entry in value.items():
            yield from _leaves(entry, (*path, name), place, arrays)
    elif isinstance(value, list):
        array = next(arrays)
        for index, entry in enumerate(value):
            within = {**place, array: index} if isinstance(entry, dict | list) else place
            yield from _leaves(entry, path, within, arrays)
    else:
        yield path, Leaf(value=value, place=place)


def _hold(conditions: list[Condition], leaves: dict[Path, list[Leaf]]) -> bool:
    open_conditions: list[list[Place]] = []
    for condition in conditions:
        there = leaves.get(condition.path)
        if there is None:
            if not condition.may_be_absent:
                return False
            continue
        places = [leaf.place for leaf in there if any(test(leaf.value) for test in condition.tests)]
        if not places:
            return False
        if {} not in places:
            open_conditions.append(places)
    return _agree(open_conditions, {})


def _agree(conditions: list[list[Place]], place: Place) -> bool:
    """Whether each condition holds at a place, all within the same objects of the arrays that they share."""
    if not conditions:
        return True
    return any(
        _agree(conditions[1:], {**place, **found})
        for found in conditions[0]
        if all(place.get(array, index) == index for array, index in found.items())
    )


def _test(wanted: Json) -> Test:
    """The test that a listed value stands for: equality, or an operator."""
    if isinstance(wanted, list):
        raise _invalid("Match value must be String, number, true, false, or null")
    if not isinstance(wanted, dict):
        return lambda found: _equal(found, wanted)
    if not wanted:
        raise _invalid("Match expression name not found")
    operator = next(iter(wanted))
    if operator not in _OPERATORS:
        raise _invalid(f"Unrecognized match type {operator}")
    test = _OPERATORS[operator](wanted[operator])
    if len(wanted) > 1:
        raise _invalid("Only one key allowed in match expression")
    return test


def _equal(found: Json, wanted: Json) -> bool:
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    return bool(found == wanted)


def _text_test(operator: str, test: Callable[[str, str], bool]) -> Callable[[Json], Test]:
    """An operator on texts; with `{"equals-ignore-case": …}` inside, without regard to case."""

    def made(argument: Json) -> Test:
        if isinstance(argument, dict) and list(argument) == ["equals-ignore-case"]:
            text = _text(operator, argument["equals-ignore-case"]).casefold()
            return lambda found: isinstance(found, str) and test(found.casefold(), text)
        text = _text(operator, argument)
        return lambda found: isinstance(found, str) and test(found, text)

    return made


def _wildcard(argument: Json) -> Test:
    text = _text("wildcard", argument)
    parts = re.findall(r"\\.|\*|[^*\\]+|\\", text, re.DOTALL)
    expression, at = "", 0
    for part, following in zip(parts, [*parts[1:], ""], strict=True):
        if part.startswith("\\") and part not in (r"\*", r"\\"):
            raise _invalid(f"Invalid escape character at pos {at}")
        if part == following == "*":
            raise _invalid(f"Consecutive wildcard characters at pos {at}")
        expression += ".*" if part == "*" else re.escape(part[1:] if part.startswith("\\") else part)
        at += len(part)
    pattern = re.compile(expression, re.DOTALL)
    return lambda found: isinstance(found, str) and pattern.fullmatch(found) is not None


def _anything_but(argument: Json) -> Test:
    if isinstance(argument, dict):
        return _anything_but_operator(argument)
    refused = argument if isinstance(argument, list) else [argument]
    if not isinstance(argument, list | str) and not _is_number(argument):
        raise _invalid("Value of anything-but must be an array or single string/number value.")
    if not all(isinstance(value, str) or _is_number(value) for value in refused):
        raise _invalid("Inside anything but list, start|null|boolean is not supported.")
    if len({isinstance(value, str) for value in refused}) != 1:
        raise _invalid(
            "Inside anything but list, either all values are number or string, mixed type is not supported"
        )
    return lambda found: not any(_equal(found, value) for value in refused)


def _anything_but_operator(argument: dict[str, Json]) -> Test:
    if not argument:
        raise _invalid("Anything-But expression name not found")
    operator, value = next(iter(argument.items()))
    if operator not in ("prefix", "suffix", "equals-ignore-case", "wildcard"):
        raise _invalid(f"Unsupported anything-but pattern: {operator}")
    if len(argument) > 1:
        raise _invalid("Only one key allowed in match expression")
    values = value if isinstance(value, list) else [value]
    if not values:
        raise _invalid("Empty arrays are not allowed")
    if operator in ("prefix", "suffix") and "" in values:
        raise _invalid("Null prefix/suffix not allowed")
    tests = [_OPERATORS[operator](_text(operator, entry)) for entry in values]
    return lambda found: not any(test(found) for test in tests)


_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "=": lambda a, b: a == b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def _numeric(argument: Json) -> Test:
    """One comparison, or a range from its bottom to its top."""
    if not isinstance(argument, list):
        raise _invalid("Value of numeric must be an array.")
    if not argument or not isinstance(argument[0], str):
        raise _invalid(f"Invalid member in numeric match: {argument[0] if argument else ']'}")
    first = argument[0]
    if first not in _COMPARE:
        raise _invalid(f"Unrecognized numeric range operator: {first}")
    bounds = [(first, _bound("equals" if first == "=" else first, argument[1:2]))]
    if len(argument) > 2:
        if first not in (">", ">="):
            raise _invalid("Too many elements in numeric expression")
        second = argument[2]
        if not isinstance(second, str):
            raise _invalid(f"Bad value in numeric range: {second}")
        if second not in ("<", "<="):
            raise _invalid(f"Bad numeric range operator: {second}")
        bounds.append((second, _bound(second, argument[3:4])))
        if len(argument) > 4:
            raise _invalid("Too many terms in numeric range expression")
        if bounds[0][1] >= bounds[1][1]:
            raise _invalid("Bottom must be less than top")
    return lambda found: (
        _is_number(found)
        and abs(found) <= _FARTHEST
        and all(_COMPARE[sign](found, bound) for sign, bound in bounds)
    )


def _bound(operator: str, given: list[Json]) -> float:
    if not given or not _is_number(given[0]):
        raise _invalid(f"Value of {operator} must be numeric")
    bound: float = given[0]
    if abs(bound) > _FARTHEST:
        raise _invalid("Value must be between -5.0E9 and 5.0E9, inclusive")
    return bound


def _present(found: Json) -> bool:
    return True


def _absent(found: Json) -> bool:
    return False


def _exists(argument: Json) -> Test:
    if not isinstance(argument, bool):
        raise _invalid("exists match pattern must be either true or false.")
    return _present if argument else _absent


def _cidr(argument: Json) -> Test:
    text = _text("cidr", argument)
    try:
        if "/" not in text:
            raise ValueError(text)
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise _invalid(f"Malformed CIDR, one '/' required: {text}") from error

    def test(found: Json) -> bool:
        try:
            return isinstance(found, str) and ipaddress.ip_address(found) in network
        except ValueError:
            return False

    return test


def _ignoring_case(argument: Json) -> Test:
    text = _text("equals-ignore-case", argument).casefold()
    return lambda found: isinstance(found, str) and found.casefold() == text


_OPERATORS: dict[str, Callable[[Json], Test]] = {
    "prefix": _text_test("prefix", str.startswith),
    "suffix": _text_test("suffix", str.endswith),
    "equals-ignore-case": _ignoring_case,
    "wildcard": _wildcard,
    "anything-but": _anything_but,
    "numeric": _numeric,
    "exists": _exists,
    "cidr": _cidr,
}


def _text(operator: str, argument: Json) -> str:
    if not isinstance(argument, str):
        raise _invalid(f"{operator} match pattern must be a string")
    return argument


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _invalid(reason: str) -> AWSError:
    return AWSError("InvalidEventPatternException", f"Event pattern is not valid. Reason: {reason}")
