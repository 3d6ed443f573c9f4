"""EventBridge's event patterns: whether an event matches (EventBridge User Guide, "Comparison operators")."""

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from stagegate.local.service import AWSError

Json = Any
Test = Callable[[Json], bool]

_MISSING = object()


def matches(pattern: dict[str, Json], event: Json) -> bool:
    """Whether the event has, at every path of the pattern, one of the values that the pattern lists there."""
    return all(_field_matches(name, wanted, event) for name, wanted in pattern.items())


def check(pattern: Json) -> None:
    """Refuse a pattern that EventBridge would refuse."""
    if not isinstance(pattern, dict) or not pattern:
        raise _invalid("Event pattern is not valid. Reason: Filter is not an object")
    for name, wanted in pattern.items():
        if name == "$or":
            if not isinstance(wanted, list) or len(wanted) < 2:
                raise _invalid(
                    "Event pattern is not valid. Reason: $or must be an array of two or more patterns"
                )
            for choice in wanted:
                check(choice)
        elif isinstance(wanted, dict):
            check(wanted)
        elif isinstance(wanted, list):
            if not wanted:
                raise _invalid("Event pattern is not valid. Reason: Empty arrays are not allowed")
            for value in wanted:
                _test(value)
        else:
            raise _invalid(f'Event pattern is not valid. Reason: "{name}" must be an object or an array')


def _field_matches(name: str, wanted: Json, event: Json) -> bool:
    if name == "$or":
        return any(matches(choice, event) for choice in wanted)
    if isinstance(event, list):  # of an array of objects, any may match
        return any(_field_matches(name, wanted, entry) for entry in event)
    found = event.get(name, _MISSING) if isinstance(event, dict) else _MISSING
    if isinstance(wanted, dict):
        return matches(wanted, {} if found is _MISSING else found)
    return any(_value_matches(_test(value), value, found) for value in wanted)


def _value_matches(test: Test, wanted: Json, found: Json) -> bool:
    if isinstance(wanted, dict) and "exists" in wanted:
        return test(found)
    if found is _MISSING:
        return False
    if isinstance(found, list):
        negative = isinstance(wanted, dict) and "anything-but" in wanted
        return bool(found) and (all if negative else any)(test(value) for value in found)
    return test(found)


def _test(wanted: Json) -> Test:
    """The test that a listed value stands for: equality, or an operator."""
    if not isinstance(wanted, dict):
        if isinstance(wanted, list):
            raise _invalid("Event pattern is not valid. Reason: An array cannot stand in an array")
        return lambda found: _equal(found, wanted)
    if len(wanted) != 1 or (operator := next(iter(wanted))) not in _OPERATORS:
        raise _invalid(
            f"Event pattern is not valid. Reason: Unrecognized match type {next(iter(wanted), '')}"
        )
    return _OPERATORS[operator](wanted[operator])


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
    if "**" in text:
        raise _invalid("Event pattern is not valid. Reason: Consecutive wildcard characters")
    parts = re.findall(r"\\[\\*]|\*|[^*\\]+|\\", text)
    expression = "".join(
        ".*" if part == "*" else re.escape(re.sub(r"\\([\\*])", r"\1", part)) for part in parts
    )
    pattern = re.compile(expression, re.DOTALL)
    return lambda found: isinstance(found, str) and pattern.fullmatch(found) is not None


def _anything_but(argument: Json) -> Test:
    if isinstance(argument, dict):
        operator, value = next(iter(argument.items()))
        if operator not in ("prefix", "suffix", "equals-ignore-case", "wildcard"):
            raise _invalid(
                f"Event pattern is not valid. Reason: Unsupported anything-but pattern: {operator}"
            )
        tests = [_OPERATORS[operator](entry) for entry in (value if isinstance(value, list) else [value])]
        return lambda found: not any(test(found) for test in tests)
    refused = argument if isinstance(argument, list) else [argument]
    return lambda found: not any(_equal(found, value) for value in refused)


def _numeric(argument: Json) -> Test:
    compare: dict[str, Callable[[float, float], bool]] = {
        "=": lambda a, b: a == b,
        "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b,
        ">=": lambda a, b: a >= b,
    }
    if not isinstance(argument, list) or len(argument) not in (2, 4):
        raise _invalid("Event pattern is not valid. Reason: Invalid member in numeric match")
    pairs = list(zip(argument[::2], argument[1::2], strict=True))
    if any(sign not in compare or not _is_number(bound) for sign, bound in pairs):
        raise _invalid("Event pattern is not valid. Reason: Invalid member in numeric match")
    return lambda found: _is_number(found) and all(compare[sign](found, bound) for sign, bound in pairs)


def _exists(argument: Json) -> Test:
    if not isinstance(argument, bool):
        raise _invalid(
            "Event pattern is not valid. Reason: exists match pattern must be either true or false."
        )
    return lambda found: (found is not _MISSING) is argument


def _cidr(argument: Json) -> Test:
    try:
        network = ipaddress.ip_network(_text("cidr", argument), strict=False)
    except ValueError as error:
        raise _invalid(f"Event pattern is not valid. Reason: Malformed CIDR: {argument}") from error

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
        raise _invalid(f"Event pattern is not valid. Reason: {operator} match pattern must be a string")
    return argument


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _invalid(message: str) -> AWSError:
    return AWSError("InvalidEventPatternException", message)
