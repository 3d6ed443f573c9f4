"""The Condition of a policy's statement, as IAM evaluates it.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any

Context = Mapping[str, Sequence[str]]
"""The values of a request's condition keys, by their names in small letters."""

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_LITERALS = {"*": "*", "?": "?", "$": "$"}
_AS_ITSELF = {ord("*"): "\ue000", ord("?"): "\ue001"}
_WILD = {"*": ".*", "?": ".", "\ue000": r"\*", "\ue001": r"\?"}


def are_met(conditions: Mapping[str, Mapping[str, Any]], context: Context) -> bool:
    """All operators, and in each all keys, have to agree."""
    return all(
        _is_met(operator, key.lower(), as_list(expected), context)
        for operator, keys in conditions.items()
        for key, expected in keys.items()
    )


def _is_met(written: str, key: str, expected: Sequence[Any], context: Context) -> bool:
    quantifier, _, operator = written.rpartition(":")
    if_exists = operator.endswith("IfExists")
    operator = operator.removesuffix("IfExists")
    actual = context.get(key)
    if operator == "Null":
        return any((actual is None) == (str(wanted).lower() == "true") for wanted in expected)
    compare, is_negated = _OPERATORS[operator]
    if quantifier == "ForAllValues":
        return all(_agrees(value, expected, compare, is_negated, context) for value in actual or ())
    if quantifier == "ForAnyValue":
        return any(_agrees(value, expected, compare, is_negated, context) for value in actual or ())
    if actual is None:
        return if_exists or is_negated
    if is_negated:
        return all(_agrees(value, expected, compare, is_negated, context) for value in actual)
    return any(_agrees(value, expected, compare, is_negated, context) for value in actual)


def _agrees(
    value: str, expected: Sequence[Any], compare: "Compare", is_negated: bool, context: Context
) -> bool:
    """One value of the request beside those of the policy: one of them is right, or none may be."""
    found = any(
        _compares(compare, value, substituted(_text(wanted), context, for_pattern=compare in _PATTERNS))
        for wanted in expected
    )
    return found != is_negated


def _compares(compare: "Compare", value: str, wanted: str | None) -> bool:
    if wanted is None:
        return False
    try:
        return compare(value, wanted)
    except ValueError:  # not a number, not a date, not an address: it is not met
        return False


def substituted(text: str, context: Context, *, for_pattern: bool = True) -> str | None:
    """The text with its policy variables replaced; None where one has no value, so that nothing matches.

    In a pattern, a `*` or `?` of `${*}` or of a variable's value stands for itself.
    """
    if "${" not in text:
        return text
    missing = False

    def value(match: "re.Match[str]") -> str:
        nonlocal missing
        name, _, default = match[1].partition(",")
        if name in _LITERALS:
            found = _LITERALS[name]
        else:
            values = context.get(name.strip().lower()) or ([default.strip(" '")] if default else [])
            missing = missing or len(values) != 1
            found = values[0] if values else ""
        return found.translate(_AS_ITSELF) if for_pattern else found

    replaced = _VARIABLE.sub(value, text)
    return None if missing else replaced


def matches(pattern: str, text: str) -> bool:
    """`*` stands for any characters, `?` for one; capitals count."""
    return _compiled(pattern).fullmatch(text) is not None


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile("".join(_WILD.get(each) or re.escape(each) for each in pattern), re.DOTALL)


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _arn_matches(value: str, pattern: str) -> bool:
    """Part by part: a `*` does not reach over a colon, save in the last part."""
    parts, patterns = value.split(":", 5), pattern.split(":", 5)
    return len(parts) == len(patterns) == 6 and all(map(matches, patterns, parts))


def _moment(text: str) -> float:
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    return datetime.fromisoformat(text).timestamp()


def _is_in(value: str, network: str) -> bool:
    return ip_address(value) in ip_network(network, strict=False)


def _is_like(value: str, pattern: str) -> bool:
    return matches(pattern, value)


def _equal(value: str, wanted: str) -> bool:
    return value == wanted


Compare = Callable[[str, str], bool]
_PATTERNS: frozenset[Compare] = frozenset({_is_like, _arn_matches})
_PLAIN: Mapping[str, Compare] = {
    "StringEquals": _equal,
    "StringEqualsIgnoreCase": lambda value, wanted: value.lower() == wanted.lower(),
    "StringLike": _is_like,
    "ArnEquals": _arn_matches,
    "ArnLike": _arn_matches,
    "NumericEquals": lambda value, wanted: float(value) == float(wanted),
    "DateEquals": lambda value, wanted: _moment(value) == _moment(wanted),
    "IpAddress": _is_in,
}
_OPERATORS: Mapping[str, tuple[Compare, bool]] = {
    **{name: (compare, False) for name, compare in _PLAIN.items()},
    **{
        name.replace("Equals", "NotEquals").replace("Like", "NotLike").replace("IpAddress", "NotIpAddress"): (
            compare,
            True,
        )
        for name, compare in _PLAIN.items()
    },
    "NumericLessThan": (lambda value, wanted: float(value) < float(wanted), False),
    "NumericLessThanEquals": (lambda value, wanted: float(value) <= float(wanted), False),
    "NumericGreaterThan": (lambda value, wanted: float(value) > float(wanted), False),
    "NumericGreaterThanEquals": (lambda value, wanted: float(value) >= float(wanted), False),
    "DateLessThan": (lambda value, wanted: _moment(value) < _moment(wanted), False),
    "DateLessThanEquals": (lambda value, wanted: _moment(value) <= _moment(wanted), False),
    "DateGreaterThan": (lambda value, wanted: _moment(value) > _moment(wanted), False),
    "DateGreaterThanEquals": (lambda value, wanted: _moment(value) >= _moment(wanted), False),
    "Bool": (lambda value, wanted: value.lower() == wanted.lower(), False),
    "BinaryEquals": (_equal, False),
}
"""Each operator's comparison, and whether it is for what must not be so."""
