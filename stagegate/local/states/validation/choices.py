"""The rules of a Choice state: a comparison each, or And, Or and Not of rules; with JSONata a condition."""

from collections.abc import Iterator

from stagegate.local.service import Json
from stagegate.local.states.choice import COMPARISONS
from stagegate.local.states.validation.diagnostics import Diagnostic, none_of, schema, several
from stagegate.local.states.validation.shapes import (
    Check,
    Field,
    Place,
    Shape,
    both,
    check_object,
    in_jsonata,
    in_jsonpath,
)
from stagegate.local.states.validation.values import (
    anything,
    array_of,
    boolean,
    condition,
    number,
    payload,
    reference_path_anywhere,
    string,
    timestamp,
)
from stagegate.local.states.validation.variables import assignment

_SELECTORS = ("And", "Or", "Not", "Variable", "Condition")
_OPERANDS: dict[str, Check] = {
    "String": string,
    "Numeric": number(float("-inf")),
    "Boolean": boolean,
    "Timestamp": timestamp,
}
_TESTS = ("IsNull", "IsPresent", "IsNumeric", "IsString", "IsBoolean", "IsTimestamp")


def _operand(operator: str) -> Check:
    return next(check for kind, check in _OPERANDS.items() if operator.startswith(kind))


_COMPARED: dict[str, Field] = {
    **{operator: in_jsonpath(_operand(operator)) for operator in COMPARISONS},
    **{
        f"{operator}Path": in_jsonpath(reference_path_anywhere)
        for operator in COMPARISONS
        if operator != "StringMatches"
    },
    **dict.fromkeys(_TESTS, in_jsonpath(boolean)),
}
_NESTED = {
    **_COMPARED,
    "Variable": in_jsonpath(reference_path_anywhere),
    "And": in_jsonpath(array_of(anything)),
    "Or": in_jsonpath(array_of(anything)),
    "Not": in_jsonpath(anything),
    "Comment": both(string),
}
_INNER_RULE = Shape(fields=_NESTED)
_RULE = Shape(
    fields={
        **_NESTED,
        "Condition": in_jsonata(condition),
        "Next": both(string),
        "Assign": both(assignment),
        "Output": in_jsonata(payload),
    },
    required=("Next",),
)


def check_rules(rules: Json, place: Place) -> Iterator[Diagnostic]:
    for index, rule in enumerate(rules if isinstance(rules, list) else ()):
        yield from _rule(rule, place.item(index), _RULE)


def _rule(rule: Json, place: Place, shape: Shape) -> Iterator[Diagnostic]:
    problems = list(check_object(rule, shape, place))
    yield from problems
    if not isinstance(rule, dict) or any(problem.location == place.at for problem in problems):
        return
    if sum(selector in rule for selector in _SELECTORS) != 1:
        message = f"The object must have only one of the following fields, [{', '.join(_SELECTORS)}]"
        yield schema(message, place.at)
        return
    compared = [name for name in rule if name in _COMPARED]
    if "Variable" in rule and len(compared) != 1:
        yield (several if compared else none_of)(_COMPARED, place.at)
    for name in ("And", "Or"):
        listed = rule.get(name)
        for index, inner in enumerate(listed if isinstance(listed, list) else ()):
            yield from _rule(inner, place.within(name).item(index), _INNER_RULE)
    if "Not" in rule:
        yield from _rule(rule["Not"], place.within("Not"), _INNER_RULE)
