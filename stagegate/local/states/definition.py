"""A state machine's definition, read once: its states with every path, template and rule compiled."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stagegate.local.service import Json
from stagegate.local.states.choice import Rule, compile_rule
from stagegate.local.states.integrations import Resource, parse_resource
from stagegate.local.states.templates import Template, compile_expression, compile_template


@dataclass(frozen=True, kw_only=True)
class Program:
    """States and where they start: a state machine, a branch, what an iteration does."""

    start_at: str
    states: Mapping[str, "State"]
    timeout_seconds: int | None = None


@dataclass(frozen=True, kw_only=True)
class State:
    """What every type of state has."""

    name: str
    type: str
    next: str | None
    input_path: str | None
    output_path: str | None
    assign: Template | None


@dataclass(frozen=True, kw_only=True)
class Retrier:
    error_equals: tuple[str, ...]
    interval_seconds: int
    max_attempts: int
    backoff_rate: float
    max_delay_seconds: int | None
    has_full_jitter: bool

    def delay(self, attempt: int) -> float:
        """Seconds before the retry after `attempt` others; with full jitter the most there may be."""
        delay = self.interval_seconds * self.backoff_rate**attempt
        return delay if self.max_delay_seconds is None else min(delay, self.max_delay_seconds)


@dataclass(frozen=True, kw_only=True)
class Catcher:
    error_equals: tuple[str, ...]
    next: str
    result_path: str | None
    assign: Template | None


@dataclass(frozen=True, kw_only=True)
class Working(State):
    """A state that does work which may fail: Task, Parallel, Map."""

    parameters: Template | None
    result_selector: Template | None
    result_path: str | None
    retry: tuple[Retrier, ...]
    catch: tuple[Catcher, ...]


@dataclass(frozen=True, kw_only=True)
class Pass(State):
    has_result: bool
    result: Json
    parameters: Template | None
    result_path: str | None


@dataclass(frozen=True, kw_only=True)
class ChoiceRule:
    matches: Rule
    next: str
    assign: Template | None


@dataclass(frozen=True, kw_only=True)
class Choice(State):
    choices: tuple[ChoiceRule, ...]
    default: str | None


@dataclass(frozen=True, kw_only=True)
class Wait(State):
    seconds: int | None
    seconds_path: str | None
    timestamp: str | None
    timestamp_path: str | None


@dataclass(frozen=True, kw_only=True)
class Succeed(State):
    pass


@dataclass(frozen=True, kw_only=True)
class Fail(State):
    error: str | Template | None
    cause: str | Template | None


@dataclass(frozen=True, kw_only=True)
class Task(Working):
    resource: Resource
    timeout_seconds: int | None
    timeout_seconds_path: str | None
    heartbeat_seconds: int | None
    heartbeat_seconds_path: str | None
    credentials: Template | None


@dataclass(frozen=True, kw_only=True)
class Parallel(Working):
    branches: tuple[Program, ...]


@dataclass(frozen=True, kw_only=True)
class Map(Working):
    items_path: str
    item_processor: Program
    max_concurrency: int
    max_concurrency_path: str | None


def parse_definition(definition: Mapping[str, Any]) -> Program:
    """The program of a definition that `validation.diagnose` has nothing against."""
    return Program(
        start_at=definition["StartAt"],
        states={name: _parse_state(name, fields) for name, fields in definition["States"].items()},
        timeout_seconds=definition.get("TimeoutSeconds"),
    )


def _parse_state(name: str, fields: Mapping[str, Any]) -> State:
    return _PARSERS[fields["Type"]](_common(name, fields), fields)


def _common(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "type": fields["Type"],
        "next": fields.get("Next"),
        "input_path": fields.get("InputPath", "$"),
        "output_path": fields.get("OutputPath", "$"),
        "assign": _template(fields, "Assign"),
    }


def _template(fields: Mapping[str, Any], name: str) -> Template | None:
    return compile_template(fields[name]) if name in fields else None


def _working(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "parameters": _template(fields, "ItemSelector") or _template(fields, "Parameters"),
        "result_selector": _template(fields, "ResultSelector"),
        "result_path": fields.get("ResultPath", "$"),
        "retry": tuple(map(_parse_retrier, fields.get("Retry", ()))),
        "catch": tuple(map(_parse_catcher, fields.get("Catch", ()))),
    }


def _parse_retrier(fields: Mapping[str, Any]) -> Retrier:
    return Retrier(
        error_equals=tuple(fields["ErrorEquals"]),
        interval_seconds=fields.get("IntervalSeconds", 1),
        max_attempts=fields.get("MaxAttempts", 3),
        backoff_rate=fields.get("BackoffRate", 2.0),
        max_delay_seconds=fields.get("MaxDelaySeconds"),
        has_full_jitter=fields.get("JitterStrategy", "NONE") == "FULL",
    )


def _parse_catcher(fields: Mapping[str, Any]) -> Catcher:
    return Catcher(
        error_equals=tuple(fields["ErrorEquals"]),
        next=fields["Next"],
        result_path=fields.get("ResultPath", "$"),
        assign=_template(fields, "Assign"),
    )


def _parse_pass(common: dict[str, Any], fields: Mapping[str, Any]) -> Pass:
    return Pass(
        **common,
        has_result="Result" in fields,
        result=fields.get("Result"),
        parameters=_template(fields, "Parameters"),
        result_path=fields.get("ResultPath", "$"),
    )


def _parse_choice(common: dict[str, Any], fields: Mapping[str, Any]) -> Choice:
    rules = (
        ChoiceRule(matches=compile_rule(rule), next=rule["Next"], assign=_template(rule, "Assign"))
        for rule in fields["Choices"]
    )
    return Choice(**common, choices=tuple(rules), default=fields.get("Default"))


def _parse_wait(common: dict[str, Any], fields: Mapping[str, Any]) -> Wait:
    return Wait(
        **common,
        seconds=fields.get("Seconds"),
        seconds_path=fields.get("SecondsPath"),
        timestamp=fields.get("Timestamp"),
        timestamp_path=fields.get("TimestampPath"),
    )


def _parse_succeed(common: dict[str, Any], fields: Mapping[str, Any]) -> Succeed:
    return Succeed(**common)


def _parse_fail(common: dict[str, Any], fields: Mapping[str, Any]) -> Fail:
    return Fail(**common, error=_text_or_path(fields, "Error"), cause=_text_or_path(fields, "Cause"))


def _text_or_path(fields: Mapping[str, Any], name: str) -> str | Template | None:
    if (expression := fields.get(f"{name}Path")) is not None:
        return compile_expression(expression, field=f"{name}Path")
    text: str | None = fields.get(name)
    return text


def _parse_task(common: dict[str, Any], fields: Mapping[str, Any]) -> Task:
    return Task(
        **common,
        **_working(fields),
        resource=parse_resource(fields["Resource"]),
        timeout_seconds=fields.get("TimeoutSeconds"),
        timeout_seconds_path=fields.get("TimeoutSecondsPath"),
        heartbeat_seconds=fields.get("HeartbeatSeconds"),
        heartbeat_seconds_path=fields.get("HeartbeatSecondsPath"),
        credentials=_template(fields, "Credentials"),
    )


def _parse_parallel(common: dict[str, Any], fields: Mapping[str, Any]) -> Parallel:
    return Parallel(**common, **_working(fields), branches=tuple(map(parse_definition, fields["Branches"])))


def _parse_map(common: dict[str, Any], fields: Mapping[str, Any]) -> Map:
    return Map(
        **common,
        **_working(fields),
        items_path=fields.get("ItemsPath", "$"),
        item_processor=parse_definition(
            fields["ItemProcessor"] if "ItemProcessor" in fields else fields["Iterator"]
        ),
        max_concurrency=fields.get("MaxConcurrency", 0),
        max_concurrency_path=fields.get("MaxConcurrencyPath"),
    )


_PARSERS: dict[str, Callable[[dict[str, Any], Mapping[str, Any]], State]] = {
    "Pass": _parse_pass,
    "Task": _parse_task,
    "Choice": _parse_choice,
    "Wait": _parse_wait,
    "Succeed": _parse_succeed,
    "Fail": _parse_fail,
    "Parallel": _parse_parallel,
    "Map": _parse_map,
}
