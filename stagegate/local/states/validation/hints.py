"""What runs and is yet probably not meant: AWS's warnings, in the words of its documentation.

https://docs.aws.amazon.com/step-functions/latest/apireference/API_ValidateStateMachineDefinitionDiagnostic.html
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from stagegate.local.service import Json
from stagegate.local.states.choice import COMPARISONS
from stagegate.local.states.validation.diagnostics import WARNING, Diagnostic
from stagegate.local.states.validation.shapes import JSONPATH

_MESSAGES = {
    "NO_DOLLAR": "No .$ on a field that appears to be a JSONPath or Intrinsic Function.",
    "NO_PATH": "Field value looks like a path, but field name does not end with 'Path'.",
    "PASS_RESULT_IS_STATIC": "Attempt to use a path in the result of a pass state.",
}
_TEMPLATES = ("Parameters", "ResultSelector", "ItemSelector", "Assign")
_WITH_A_PATH = ("Error", "Cause", "Timestamp")
_PATH = re.compile(r"\$\$?[.\[]|\$\$?$")
_FUNCTION = re.compile(r"States\.\w+\(.*\)$", re.DOTALL)


def check_hints(definition: Mapping[str, Any]) -> Iterator[Diagnostic]:
    language = definition.get("QueryLanguage", JSONPATH)
    for state, at in _states(definition, ""):
        if state.get("QueryLanguage", language) == JSONPATH:
            yield from _state(state, at)


def _states(scope: Json, at: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Every state of every scope, with its place."""
    states = scope.get("States") if isinstance(scope, dict) else None
    for name, state in states.items() if isinstance(states, dict) else ():
        if not isinstance(state, dict):
            continue
        here = f"{at}/States/{name}"
        yield state, here
        branches = state.get("Branches")
        for index, branch in enumerate(branches if isinstance(branches, list) else ()):
            yield from _states(branch, f"{here}/Branches[{index}]")
        for processor in ("ItemProcessor", "Iterator"):
            yield from _states(state.get(processor), f"{here}/{processor}")


def _state(state: Mapping[str, Any], at: str) -> Iterator[Diagnostic]:
    for name in _TEMPLATES:
        yield from _template(state.get(name), f"{at}/{name}")
    if state.get("Type") == "Pass" and _has_path(state.get("Result")):
        yield _hint("PASS_RESULT_IS_STATIC", f"{at}/Result")
    for name in _WITH_A_PATH:
        if _is_path(state.get(name)):
            yield _hint("NO_PATH", f"{at}/{name}")
    rules = state.get("Choices")
    for index, rule in enumerate(rules if isinstance(rules, list) else ()):
        yield from _rule(rule, f"{at}/Choices[{index}]")


def _template(value: Json, at: str) -> Iterator[Diagnostic]:
    if isinstance(value, dict):
        for name, content in value.items():
            if _is_path(content) and not name.endswith(".$"):
                yield _hint("NO_DOLLAR", f"{at}/{name}")
            yield from _template(content, f"{at}/{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _template(item, f"{at}[{index}]")


def _rule(rule: Json, at: str) -> Iterator[Diagnostic]:
    if not isinstance(rule, dict):
        return
    for name, value in rule.items():
        if name in COMPARISONS and _is_path(value):
            yield _hint("NO_PATH", f"{at}/{name}")
        elif name == "Not":
            yield from _rule(value, f"{at}/Not")
        elif name in ("And", "Or"):
            for index, inner in enumerate(value if isinstance(value, list) else ()):
                yield from _rule(inner, f"{at}/{name}[{index}]")


def _has_path(value: Json) -> bool:
    if isinstance(value, dict):
        return any(name.endswith(".$") or _has_path(content) for name, content in value.items())
    return any(map(_has_path, value)) if isinstance(value, list) else _is_path(value)


def _is_path(value: Json) -> bool:
    return isinstance(value, str) and bool(_PATH.match(value) or _FUNCTION.match(value))


def _hint(code: str, at: str) -> Diagnostic:
    return Diagnostic(code, _MESSAGES[code], at, WARNING)
