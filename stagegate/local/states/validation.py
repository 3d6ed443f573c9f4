"""What is wrong with a definition, before it runs: AWS's codes, locations and, where they are known, words.

What the language has and this runtime has not yet is refused here by its name.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stagegate.local.service import Json
from stagegate.local.states.choice import OPERATORS, parse_timestamp
from stagegate.local.states.conversion import unknown_fields
from stagegate.local.states.integrations import (
    SYNC,
    SYNC_2,
    TASK_TOKEN,
    UnknownResource,
    parse_resource,
)
from stagegate.local.states.intrinsics import InvalidFunction, is_function, parse
from stagegate.local.states.paths import InvalidPath, compile_path

JSONPATH = "JSONPath"
JSONATA = "JSONata"

SCHEMA = "SCHEMA_VALIDATION_FAILED"
MISSING_TARGET = "MISSING_TRANSITION_TARGET"
DUPLICATE_NAME = "DUPLICATE_STATE_NAME"
INVALID_JSON = "INVALID_JSON_DESCRIPTION"

_STEER = {"Next", "End"}
_EVERY = {"Type", "Comment", "QueryLanguage"}
_DATA = {"InputPath", "OutputPath"}
_WORK = {"ResultSelector", "ResultPath", "Retry", "Catch", "Parameters", "Assign"} | _STEER | _DATA
_FIELDS: dict[str, set[str]] = {
    "Pass": _STEER | _DATA | {"Result", "ResultPath", "Parameters", "Assign"},
    "Task": _WORK
    | {"Resource", "Credentials"}
    | {"TimeoutSeconds", "TimeoutSecondsPath", "HeartbeatSeconds", "HeartbeatSecondsPath"},
    "Choice": _DATA | {"Choices", "Default", "Assign"},
    "Wait": _STEER | _DATA | {"Seconds", "SecondsPath", "Timestamp", "TimestampPath", "Assign"},
    "Succeed": _DATA,
    "Fail": {"Error", "Cause", "ErrorPath", "CausePath"},
    "Parallel": _WORK | {"Branches"},
    "Map": _WORK
    | {"ItemsPath", "ItemProcessor", "Iterator", "ItemSelector", "MaxConcurrency", "MaxConcurrencyPath"}
    | {"ItemReader", "ItemBatcher", "ResultWriter", "Label"}
    | {f"ToleratedFailure{what}{path}" for what in ("Count", "Percentage") for path in ("", "Path")},
}
_JSONATA = {
    "Pass": {"Output"},
    "Task": {"Arguments", "Output"},
    "Choice": {"Output"},
    "Wait": {"Output"},
    "Succeed": {"Output"},
    "Fail": set[str](),
    "Parallel": {"Arguments", "Output"},
    "Map": {"Items", "Output"},
}
"""What a state has with JSONata alone."""
_JSONPATH = {
    "InputPath",
    "OutputPath",
    "ResultPath",
    "ResultSelector",
    "Parameters",
    "Result",
    "ItemsPath",
    "SecondsPath",
    "TimestampPath",
    "TimeoutSecondsPath",
    "HeartbeatSecondsPath",
    "MaxConcurrencyPath",
    "ErrorPath",
    "CausePath",
    "ToleratedFailureCountPath",
    "ToleratedFailurePercentagePath",
}
"""What a state has with JSONPath alone."""
_REQUIRED = {"Task": ["Resource"], "Choice": ["Choices"], "Parallel": ["Branches"]}
_PATHS = {
    "InputPath": True,
    "OutputPath": True,
    "ResultPath": True,
    "ItemsPath": False,
    "SecondsPath": False,
    "TimestampPath": False,
    "TimeoutSecondsPath": False,
    "HeartbeatSecondsPath": False,
    "MaxConcurrencyPath": False,
}
"""The fields that are a path, and whether null is one."""
_TEMPLATES = ("Parameters", "ResultSelector", "ItemSelector", "Assign", "Credentials")
_EXCLUSIVE = [
    ("TimeoutSeconds", "TimeoutSecondsPath"),
    ("HeartbeatSeconds", "HeartbeatSecondsPath"),
    ("MaxConcurrency", "MaxConcurrencyPath"),
    ("Error", "ErrorPath"),
    ("Cause", "CausePath"),
]
_NUMBERS = {
    "Seconds": (0, 99_999_999),
    "TimeoutSeconds": (1, 99_999_999),
    "HeartbeatSeconds": (1, 99_999_999),
    "MaxConcurrency": (0, 2**31 - 1),
    "IntervalSeconds": (1, 99_999_999),
    "MaxAttempts": (0, 99_999_999),
    "MaxDelaySeconds": (1, 31_622_400),
}
_RETRIER = {
    "ErrorEquals",
    "IntervalSeconds",
    "MaxAttempts",
    "BackoffRate",
    "MaxDelaySeconds",
    "JitterStrategy",
    "Comment",
}
_CATCHER = {"ErrorEquals", "Next", "ResultPath", "Assign", "Comment"}
_MAXIMUM_NAME = 80


@dataclass(frozen=True)
class Diagnostic:
    code: str
    message: str
    location: str

    def __str__(self) -> str:
        return f"{self.code}: {self.message.rstrip()} at {self.location}"


def diagnose(definition: str, *, is_express: bool) -> list[Diagnostic]:
    """Everything that is wrong with the definition; nothing for one that can run."""
    try:
        parsed = json.loads(definition)
    except ValueError as error:
        return [Diagnostic(INVALID_JSON, str(error), "/")]
    if not isinstance(parsed, dict):
        return [Diagnostic(SCHEMA, "The definition must be a JSON object", "/")]
    language = parsed.get("QueryLanguage", JSONPATH)
    return list(_Check(is_express, language).machine(parsed, ""))


class _Check:
    def __init__(self, is_express: bool, language: Json) -> None:
        self.is_express = is_express
        self.language = language
        self.names: set[str] = set()

    def machine(self, fields: Mapping[str, Any], at: str) -> Iterator[Diagnostic]:
        where = at or "/"
        if missing := [name for name in ("States", "StartAt") if name not in fields]:
            yield Diagnostic(SCHEMA, f"These fields are required: [{', '.join(missing)}]", where)
            return
        is_top = not at
        allowed = {"Comment", "StartAt", "States", "QueryLanguage"} | (
            {"Version", "TimeoutSeconds"} if is_top else {"ProcessorConfig"}
        )
        yield from _unknown(fields, allowed, at)
        if is_top and fields.get("Version", "1.0") != "1.0":
            yield Diagnostic(SCHEMA, "The version must be '1.0'", "/Version")
        yield from _numbers(fields, at)
        yield from _query_language(fields, self.language, at)
        states = fields["States"]
        if not isinstance(states, dict) or not states:
            yield Diagnostic(SCHEMA, "There must be at least one state", f"{at}/States")
            return
        if fields["StartAt"] not in states:
            yield Diagnostic(
                MISSING_TARGET, f"Missing 'StartAt' target: {fields['StartAt']}", f"{at}/StartAt"
            )
        for name, state in states.items():
            yield from self.state(name, state, states, f"{at}/States/{name}")
        yield from _unreachable(fields["StartAt"], states, at)

    def state(self, name: str, fields: Json, states: Mapping[str, Json], at: str) -> Iterator[Diagnostic]:
        if len(name) > _MAXIMUM_NAME:
            yield Diagnostic(SCHEMA, f"A state's name has at most {_MAXIMUM_NAME} characters", at)
        if name in self.names:
            yield Diagnostic(DUPLICATE_NAME, f"Duplicate State name: {name}", at)
        self.names.add(name)
        if not isinstance(fields, dict) or "Type" not in fields:
            yield Diagnostic(SCHEMA, "These fields are required: [Type]", at)
            return
        kind = fields["Type"]
        if kind not in _FIELDS:
            yield Diagnostic(SCHEMA, f"Value is not valid. Expected one of {sorted(_FIELDS)}", f"{at}/Type")
            return
        problems = list(_query_language(fields, self.language, at))
        yield from problems
        if problems:
            return
        is_jsonata = fields.get("QueryLanguage", self.language) == JSONATA
        allowed = _FIELDS[kind] | _EVERY
        yield from _unknown(fields, (allowed - _JSONPATH) | _JSONATA[kind] if is_jsonata else allowed, at)
        if missing := [field for field in _REQUIRED.get(kind, ()) if field not in fields]:
            yield Diagnostic(SCHEMA, f"These fields are required: [{', '.join(missing)}]", at)
            return
        yield from _transitions(kind, fields, states, at)
        if not is_jsonata:
            yield from _paths(fields, at)
            for field in _TEMPLATES:
                if field in fields:
                    yield from _template(fields[field], f"{at}/{field}")
        yield from _numbers(fields, at, is_jsonata=is_jsonata)
        for one, other in _EXCLUSIVE:
            if one in fields and other in fields:
                yield Diagnostic(SCHEMA, f"The fields '{one}' and '{other}' cannot both be specified", at)
        yield from _retry_and_catch(fields, states, at, is_jsonata=is_jsonata)
        if check := getattr(self, f"_{kind.lower()}", None):
            yield from check(fields, states, at)

    def _task(self, fields: Mapping[str, Any], states: Mapping[str, Json], at: str) -> Iterator[Diagnostic]:
        resource = str(fields["Resource"])
        if self.is_express:
            if ":activity:" in resource:
                yield Diagnostic(
                    SCHEMA, "Express state machine does not support Activity ARN", f"{at}/Resource"
                )
                return
            for pattern, text in ((SYNC, SYNC), (SYNC_2, SYNC), (TASK_TOKEN, TASK_TOKEN)):
                if resource.endswith(pattern):
                    message = f"Express state machine does not support '{text}' service integration "
                    yield Diagnostic(SCHEMA, message, f"{at}/Resource")
                    return
        try:
            parsed = parse_resource(resource)
        except UnknownResource as unknown:
            yield Diagnostic(SCHEMA, str(unknown), f"{at}/Resource")
        else:
            member = "Arguments" if "Arguments" in fields else "Parameters"
            payload = fields.get(member)
            is_object = isinstance(payload, dict)
            for name in unknown_fields(parsed, payload) if is_object and not parsed.is_function else ():
                message = f'The field "{name}" is not supported by Step Functions'
                yield Diagnostic(SCHEMA, message, f"{at}/{member}")
        if "Credentials" in fields:
            credentials = fields["Credentials"]
            if isinstance(credentials, str) and credentials.startswith("{%"):
                return
            if not isinstance(credentials, dict) or not {"RoleArn", "RoleArn.$"} & set(credentials):
                message = "The field 'RoleArn' is required but was missing"
                yield Diagnostic(SCHEMA, message, f"{at}/Credentials")

    def _choice(self, fields: Mapping[str, Any], states: Mapping[str, Json], at: str) -> Iterator[Diagnostic]:
        if not isinstance(fields["Choices"], list) or not fields["Choices"]:
            yield Diagnostic(SCHEMA, "There must be at least one choice", f"{at}/Choices")
            return
        for index, rule in enumerate(fields["Choices"]):
            where = f"{at}/Choices[{index}]"
            if not isinstance(rule, dict) or "Next" not in rule:
                yield Diagnostic(SCHEMA, "These fields are required: [Next]", where)
                continue
            yield from _target("Next", rule, states, where)
            if fields.get("QueryLanguage", self.language) == JSONATA:
                yield from _unknown(rule, {"Condition", "Next", "Output", "Assign", "Comment"}, where)
            else:
                yield from _rule(rule, where, is_top=True)

    def _wait(self, fields: Mapping[str, Any], states: Mapping[str, Json], at: str) -> Iterator[Diagnostic]:
        times = [name for name in ("Seconds", "SecondsPath", "Timestamp", "TimestampPath") if name in fields]
        if len(times) != 1:
            names = ["Seconds", "SecondsPath", "Timestamp", "TimestampPath"]
            message = f"A Wait state must contain exactly one of {names}"
            yield Diagnostic(SCHEMA, message, at)
        if isinstance(timestamp := fields.get("Timestamp"), str) and timestamp.startswith("{%"):
            return
        if "Timestamp" in fields and parse_timestamp(fields["Timestamp"]) is None:
            yield Diagnostic(SCHEMA, "String is not a valid timestamp", f"{at}/Timestamp")

    def _fail(self, fields: Mapping[str, Any], states: Mapping[str, Json], at: str) -> Iterator[Diagnostic]:
        for field in ("ErrorPath", "CausePath"):
            if field in fields:
                yield from _expression(fields[field], field, f"{at}/{field}")

    def _parallel(
        self, fields: Mapping[str, Any], states: Mapping[str, Json], at: str
    ) -> Iterator[Diagnostic]:
        if not isinstance(fields["Branches"], list) or not fields["Branches"]:
            yield Diagnostic(SCHEMA, "There must be at least one branch", f"{at}/Branches")
            return
        for index, branch in enumerate(fields["Branches"]):
            yield from self.machine(branch, f"{at}/Branches[{index}]")

    def _map(self, fields: Mapping[str, Any], states: Mapping[str, Json], at: str) -> Iterator[Diagnostic]:
        for name in ("ItemProcessor", "Iterator"):
            if isinstance(processor := fields.get(name), dict):
                yield from self.machine(processor, f"{at}/{name}")
                return
        yield Diagnostic(SCHEMA, "These fields are required: [ItemProcessor]", at)


def _query_language(fields: Mapping[str, Any], language: Json, at: str) -> Iterator[Diagnostic]:
    if (own := fields.get("QueryLanguage", language)) not in (JSONPATH, JSONATA):
        yield Diagnostic(
            SCHEMA, "Value is not valid. Expected one of ['JSONPath', 'JSONata']", f"{at}/QueryLanguage"
        )
    elif own == JSONPATH and language == JSONATA:
        message = "'QueryLanguage' can not be 'JSONPath' if set to 'JSONata' for whole state machine"
        yield Diagnostic(SCHEMA, message, at)


def _unknown(fields: Mapping[str, Any], allowed: set[str], at: str) -> Iterator[Diagnostic]:
    for name in fields:
        if name not in allowed:
            yield Diagnostic(SCHEMA, "Field is not supported", f"{at}/{name}")


def _transitions(
    kind: str, fields: Mapping[str, Any], states: Mapping[str, Json], at: str
) -> Iterator[Diagnostic]:
    if "Next" in _FIELDS[kind]:
        if ("Next" in fields) == (fields.get("End") is True):
            yield Diagnostic(SCHEMA, "Exactly one of ['Next', 'End': true] must be specified", at)
        yield from _target("Next", fields, states, at)
    yield from _target("Default", fields, states, at)


def _target(
    field: str, fields: Mapping[str, Any], states: Mapping[str, Json], at: str
) -> Iterator[Diagnostic]:
    if field in fields and fields[field] not in states:
        yield Diagnostic(MISSING_TARGET, f"Missing '{field}' target: {fields[field]}", f"{at}/{field}")


def _unreachable(start_at: str, states: Mapping[str, Json], at: str) -> Iterator[Diagnostic]:
    reached: set[str] = set()
    following = [start_at]
    while following:
        name = following.pop()
        if name in reached or not isinstance(states.get(name), dict):
            continue
        reached.add(name)
        following += _targets(states[name])
    for name in states:
        if name not in reached and start_at in states:
            yield Diagnostic(MISSING_TARGET, f'State "{name}" is not reachable.', f"{at}/States/{name}")


def _targets(state: Mapping[str, Any]) -> Iterable[str]:
    for field in ("Next", "Default"):
        if isinstance(target := state.get(field), str):
            yield target
    for field in ("Choices", "Catch"):
        for rule in state.get(field) or ():
            if isinstance(rule, dict) and isinstance(target := rule.get("Next"), str):
                yield target


def _paths(fields: Mapping[str, Any], at: str) -> Iterator[Diagnostic]:
    for field, may_be_null in _PATHS.items():
        if field not in fields or (may_be_null and fields[field] is None):
            continue
        try:
            path = compile_path(fields[field])
        except (InvalidPath, TypeError):
            yield Diagnostic(SCHEMA, f"Value is not a valid JSONPath: {fields[field]}", f"{at}/{field}")
            continue
        if field == "ResultPath" and (path.root != "$" or not path.is_definite):
            yield Diagnostic(SCHEMA, f"Value is not a Reference Path: {fields[field]}", f"{at}/{field}")


def _numbers(fields: Mapping[str, Any], at: str, *, is_jsonata: bool = False) -> Iterator[Diagnostic]:
    for field, (least, most) in _NUMBERS.items():
        if field in fields:
            value = fields[field]
            if is_jsonata and isinstance(value, str):
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                yield Diagnostic(SCHEMA, "Expected value of type Integer", f"{at}/{field}")
            elif not least <= value <= most:
                yield Diagnostic(SCHEMA, f"Value must be between {least} and {most}", f"{at}/{field}")


def _template(payload: Json, at: str) -> Iterator[Diagnostic]:
    if isinstance(payload, list):
        for index, item in enumerate(payload):
            yield from _template(item, f"{at}[{index}]")
    if not isinstance(payload, dict):
        return
    for name, value in payload.items():
        if name.endswith(".$"):
            yield from _expression(value, name, at)
        else:
            yield from _template(value, f"{at}/{name}")


def _expression(text: Json, field: str, at: str) -> Iterator[Diagnostic]:
    try:
        if is_function(text):
            parse(text)
        else:
            compile_path(text)
    except (InvalidPath, InvalidFunction, TypeError, AttributeError):
        message = (
            f"The value for the field '{field}' must be a valid JSONPath or a valid intrinsic function call"
        )
        yield Diagnostic(SCHEMA, message, at)


def _rule(rule: Mapping[str, Any], at: str, *, is_top: bool) -> Iterator[Diagnostic]:
    if not is_top and "Next" in rule:
        yield Diagnostic(SCHEMA, "Field is not supported", f"{at}/Next")
    for operator in ("And", "Or"):
        if operator in rule:
            for index, part in enumerate(rule[operator]):
                yield from _rule(part, f"{at}/{operator}[{index}]", is_top=False)
            return
    if "Not" in rule:
        yield from _rule(rule["Not"], f"{at}/Not", is_top=False)
        return
    operators = [name for name in rule if name in OPERATORS]
    if len(operators) != 1 or "Variable" not in rule:
        yield Diagnostic(SCHEMA, "A rule has a 'Variable' and exactly one comparison operator", at)
        return
    yield from _unknown(rule, {"Variable", "Next", "Comment", "Assign", operators[0]}, at)
    yield from _expression(rule["Variable"], "Variable", f"{at}/Variable")
    yield from _operand(operators[0], rule[operators[0]], f"{at}/{operators[0]}")


_OPERANDS: list[tuple[str, Callable[[Json], bool], str]] = [
    ("Is", lambda value: isinstance(value, bool), "Boolean"),
    ("String", lambda value: isinstance(value, str), "String"),
    ("Numeric", lambda value: isinstance(value, int | float) and not isinstance(value, bool), "Number"),
    ("Boolean", lambda value: isinstance(value, bool), "Boolean"),
    ("Timestamp", lambda value: parse_timestamp(value) is not None, "Timestamp"),
]


def _operand(operator: str, value: Json, at: str) -> Iterator[Diagnostic]:
    if operator.endswith("Path"):
        yield from _expression(value, operator, at)
        return
    is_right, kind = next((check, kind) for prefix, check, kind in _OPERANDS if operator.startswith(prefix))
    if not is_right(value):
        yield Diagnostic(SCHEMA, f"Expected value of type {kind}", at)


def _retry_and_catch(
    fields: Mapping[str, Any], states: Mapping[str, Json], at: str, *, is_jsonata: bool
) -> Iterator[Diagnostic]:
    catcher = (_CATCHER - {"ResultPath"}) | {"Output"} if is_jsonata else _CATCHER
    for field, allowed in (("Retry", _RETRIER), ("Catch", catcher)):
        rules = fields.get(field, [])
        for index, rule in enumerate(rules):
            where = f"{at}/{field}[{index}]"
            yield from _unknown(rule, allowed, where)
            yield from _numbers(rule, where)
            yield from _paths(rule, where)
            yield from _target("Next", rule, states, where)
            errors = rule.get("ErrorEquals")
            if not errors or not isinstance(errors, list):
                yield Diagnostic(SCHEMA, "These fields are required: [ErrorEquals]", where)
            elif "States.ALL" in errors and (len(errors) > 1 or index < len(rules) - 1):
                message = f"'States.ALL' must appear alone and in the last element of '{field}'"
                yield Diagnostic(SCHEMA, message, f"{where}/ErrorEquals")
            if field == "Catch" and "Next" not in rule:
                yield Diagnostic(SCHEMA, "These fields are required: [Next]", where)
            if rule.get("BackoffRate", 1.0) < 1.0:
                yield Diagnostic(SCHEMA, "Value must be at least 1.0", f"{where}/BackoffRate")
            if rule.get("JitterStrategy", "NONE") not in ("NONE", "FULL"):
                yield Diagnostic(
                    SCHEMA, "Value is not valid. Expected one of ['FULL', 'NONE']", f"{where}/JitterStrategy"
                )
