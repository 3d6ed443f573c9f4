"""What is wrong with a definition, before it runs: AWS's codes, places and, where they are known, words.

`state_shapes` and `map_shapes` say as data which fields there are; `machines` goes through the states. What
AWS measurably answers is kept, also where it is milder than the States Language's specification.
"""

import json

from stagegate.local.service import Json
from stagegate.local.states.json_problems import json_problem
from stagegate.local.states.validation.diagnostics import SCHEMA, WARNING, Diagnostic
from stagegate.local.states.validation.hints import check_hints
from stagegate.local.states.validation.machines import check_machine, check_state

__all__ = ["Diagnostic", "diagnose", "diagnose_state", "report"]


def diagnose(definition: str, *, is_express: bool) -> list[Diagnostic]:
    """Everything that is wrong with the definition; nothing for one that can run."""
    if isinstance(parsed := _parsed(definition), Diagnostic):
        return [parsed]
    return list(dict.fromkeys(check_machine(parsed, is_express=is_express)))


def diagnose_state(definition: str) -> list[Diagnostic]:
    """Everything that is wrong with the definition of one state, as TestState takes it."""
    if isinstance(parsed := _parsed(definition), Diagnostic):
        return [parsed]
    return list(dict.fromkeys(check_state(parsed)))


def report(definition: str, *, is_express: bool, severity: str) -> list[Diagnostic]:
    """What is of this severity or worse."""
    found = diagnose(definition, is_express=is_express)
    if severity == WARNING and not isinstance(parsed := _parsed(definition), Diagnostic):
        found += check_hints(parsed)
    return found


def _parsed(definition: str) -> dict[str, Json] | Diagnostic:
    if not definition.strip():
        return Diagnostic("MISSING_DESCRIPTION", "Received a null or empty workflow input.", None)
    try:
        parsed = json.loads(definition)
    except ValueError as error:
        return Diagnostic("INVALID_JSON_DESCRIPTION", json_problem(definition, error), None)
    if not isinstance(parsed, dict):
        return Diagnostic(SCHEMA, "The definition must be a JSON object", "/")
    return parsed
