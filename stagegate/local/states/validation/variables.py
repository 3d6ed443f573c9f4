"""What is assigned to variables, and what a variable may be called."""

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from stagegate.local.service import Json
from stagegate.local.states.validation.diagnostics import Diagnostic, wrong_type
from stagegate.local.states.validation.shapes import Place
from stagegate.local.states.validation.values import payload

_RESERVED = "states"
_MOST_CHARACTERS = 80


def assignment(value: Json, place: Place) -> Iterator[Diagnostic]:
    """The value of an `Assign`."""
    if not isinstance(value, dict):
        yield wrong_type("[OBJECT]", place.at)
        return
    for member in value:
        name = _variable(member, is_jsonata=place.is_jsonata)
        at = f"{place.at}/{member}"
        if name == _RESERVED:
            message = f"Cannot assign to reserved variable '${name}'."
            yield Diagnostic("RESERVED_VARIABLE_NAME", message, at)
        elif problem := _problem(name):
            message = f"Invalid variable name '{name}': the variable name {problem}."
            yield Diagnostic("INVALID_VARIABLE_NAME", message, at)
    yield from payload(value, place)


def _variable(member: str, *, is_jsonata: bool) -> str:
    return member if is_jsonata else member.removesuffix(".$")


def _problem(name: str) -> str | None:
    if len(name) > _MOST_CHARACTERS:
        return f"exceeds the {_MOST_CHARACTERS}-character limit"
    # An identifier of Unicode's; Python's may begin with a low line too.
    if not name.isidentifier() or unicodedata.category(name[0]) == "Pc":
        return "contains invalid characters"
    return None


def check_scopes(
    states: Mapping[str, Any], outer: frozenset[str], at: str, *, is_jsonata: bool
) -> Iterator[Diagnostic]:
    """What is assigned in `states` must not have the name of a variable of a scope around them."""
    for name, state in states.items():
        for where, fields in _assignments(state, f"{at}/States/{name}"):
            language = state.get("QueryLanguage")
            for member in fields:
                variable = _variable(
                    member, is_jsonata=is_jsonata if language is None else language != "JSONPath"
                )
                if variable in outer:
                    message = f"The variable name '{variable}' was already defined in a parent scope."
                    yield Diagnostic("DUPLICATE_VARIABLE_NAME", message, f"{where}/{member}")


def assigned(states: Mapping[str, Any]) -> frozenset[str]:
    """The variables of a scope, without those of the scopes in it."""
    found = (
        member for state in states.values() for _, fields in _assignments(state, "") for member in fields
    )
    return frozenset(member.removesuffix(".$") for member in found)


def _assignments(state: Json, at: str) -> Iterator[tuple[str, Mapping[str, Json]]]:
    if not isinstance(state, dict):
        return
    if isinstance(fields := state.get("Assign"), dict):
        yield f"{at}/Assign", fields
    for rules in ("Choices", "Catch"):
        listed = state.get(rules)
        for index, rule in enumerate(listed if isinstance(listed, list) else ()):
            if isinstance(rule, dict) and isinstance(fields := rule.get("Assign"), dict):
                yield f"{at}/{rules}[{index}]/Assign", fields
