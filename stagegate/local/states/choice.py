"""The rules of a Choice state: a comparison each, or And, Or and Not of rules. Compiled once."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from stagegate.local.service import Json
from stagegate.local.states.errors import EvaluationFailed
from stagegate.local.states.paths import NotFound, Values, compile_path

Rule = Callable[[Values], bool]

_COMPARED = {
    "Equals": lambda one, other: one == other,
    "LessThan": lambda one, other: one < other,
    "GreaterThan": lambda one, other: one > other,
    "LessThanEquals": lambda one, other: one <= other,
    "GreaterThanEquals": lambda one, other: one >= other,
}


def parse_timestamp(text: Json) -> datetime | None:
    """A time as RFC 3339 has it, with "T" and an offset or "Z"; None when it is anything else."""
    if not isinstance(text, str) or not _TIMESTAMP.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d([.,]\d+)?)?(Z|[-+]\d\d:?\d\d)")


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Json) -> int | float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _boolean(value: Json) -> bool | None:
    return value if isinstance(value, bool) else None


_KINDS: dict[str, Callable[[Json], Any]] = {
    "String": _text,
    "Numeric": _number,
    "Boolean": _boolean,
    "Timestamp": parse_timestamp,
}

_IS: dict[str, Callable[[Json], bool]] = {
    "IsNull": lambda value: value is None,
    "IsString": lambda value: isinstance(value, str),
    "IsNumeric": lambda value: _number(value) is not None,
    "IsBoolean": lambda value: isinstance(value, bool),
    "IsTimestamp": lambda value: parse_timestamp(value) is not None,
}


def _compare(kind: str, comparison: str, value: Json, expected: Json) -> bool:
    """A value of another kind than the operator's compares as false, never as an error."""
    one, other = _KINDS[kind](value), _KINDS[kind](expected)
    return one is not None and other is not None and bool(_COMPARED[comparison](one, other))


def _matches(value: Json, pattern: Json) -> bool:
    """`*` stands for any characters; `\\*` and `\\\\` for themselves."""
    if not isinstance(value, str) or not isinstance(pattern, str):
        return False
    pieces = re.split(r"(\\.|\*)", pattern, flags=re.DOTALL)
    expression = "".join(
        ".*" if piece == "*" else re.escape(re.sub(r"^\\(.)$", r"\1", piece)) for piece in pieces
    )
    return re.fullmatch(expression, value, re.DOTALL) is not None


COMPARISONS: dict[str, Callable[[Json, Json], bool]] = {
    f"{kind}{comparison}": partial(_compare, kind, comparison)
    for kind in _KINDS
    for comparison in _COMPARED
    if kind != "Boolean" or comparison == "Equals"
} | {"StringMatches": _matches}
"""Every operator that compares with a value; each but StringMatches has a Path form too."""

OPERATORS = frozenset(
    {*COMPARISONS, *(f"{name}Path" for name in COMPARISONS if name != "StringMatches"), *_IS, "IsPresent"}
)


def compile_rule(rule: Mapping[str, Any]) -> Rule:
    if "And" in rule:
        rules = [compile_rule(part) for part in rule["And"]]
        return lambda values: all(part(values) for part in rules)
    if "Or" in rule:
        rules = [compile_rule(part) for part in rule["Or"]]
        return lambda values: any(part(values) for part in rules)
    if "Not" in rule:
        negated = compile_rule(rule["Not"])
        return lambda values: not negated(values)
    operator = next(name for name in rule if name in OPERATORS)
    return _compile_comparison(rule["Variable"], operator, rule[operator])


def _compile_comparison(variable: str, operator: str, expected: Json) -> Rule:
    if operator == "IsPresent":
        return lambda values: _is_present(variable, values) is expected
    if operator in _IS:
        is_kind = _IS[operator]
        return lambda values: is_kind(_resolve(variable, values)) is expected
    if operator in COMPARISONS:
        compare = COMPARISONS[operator]
        return lambda values: compare(_resolve(variable, values), expected)
    compare = COMPARISONS[operator.removesuffix("Path")]
    return lambda values: compare(_resolve(variable, values), _resolve(expected, values))


def _is_present(path: str, values: Values) -> bool:
    compiled = compile_path(path)
    try:
        found = compiled.resolve(values)
    except NotFound:
        return False
    return compiled.is_definite or bool(found)


def _resolve(path: str, values: Values) -> Json:
    try:
        return compile_path(path).resolve(values)
    except NotFound as missing:
        raise EvaluationFailed(
            f"Invalid path '{path}': The choice state's condition path references an invalid value."
        ) from missing
