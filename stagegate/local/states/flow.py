"""The states that only steer: Pass, Choice, Wait, Succeed, Fail."""

from datetime import datetime

from stagegate.local.service import Json
from stagegate.local.states.choice import parse_timestamp
from stagegate.local.states.definition import Choice, Fail, Pass, Succeed, Wait
from stagegate.local.states.errors import (
    NO_CHOICE_MATCHED,
    QUERY_EVALUATION_ERROR,
    EvaluationFailed,
    StateFailed,
)
from stagegate.local.states.jsontext import to_text
from stagegate.local.states.paths import NotFound, Values, compile_path
from stagegate.local.states.strand import Outcome, Visit
from stagegate.local.states.templates import Setting, Template

_MAXIMUM_WAIT_SECONDS = 99_999_999
_MAXIMUM_WAIT_DAYS = 24_855  # a Wait until later than 2**31 - 1 seconds from now is refused


async def perform_pass(visit: Visit, state: Pass) -> Outcome:
    """Its result, else its parameters, else its input."""
    if state.is_jsonata:
        return visit.outcome(visit.input)
    if state.has_result:
        visit.inspect("result", state.result)
        return visit.outcome_of_work(state.result, result_path=state.result_path)
    arguments = visit.arguments(state.parameters, visit.effective_input())
    return visit.outcome_of_work(arguments, result_path=state.result_path)


async def perform_choice(visit: Visit, state: Choice) -> Outcome:
    """Go where the first rule that matches says."""
    values = visit.values(visit.effective_input())
    for rule in state.choices:
        if rule.matches(values):
            return _chosen(visit, values, rule.next, output=rule.output, assign=rule.assign)
    if state.default is None:
        raise EvaluationFailed(
            "Failed to transition out of the state. The state does not point to a next state.",
            error=NO_CHOICE_MATCHED,
        )
    return _chosen(visit, values, state.default, output=state.output, assign=state.assign)


def _chosen(
    visit: Visit, values: Values, next: str, *, output: Template | None, assign: Template | None
) -> Outcome:
    return Outcome(
        output=visit.at(visit.state.output_path, values.data) if output is None else output(values),
        next=next,
        assigned=None if assign is None else assign(values),
    )


async def perform_wait(visit: Visit, state: Wait) -> Outcome:
    data = visit.effective_input()
    entered = visit.entered.timestamp
    if state.timestamp is not None:
        until = _moment(visit, state.timestamp, data).timestamp()
        if until - entered > _MAXIMUM_WAIT_DAYS * 86_400:
            raise EvaluationFailed("Wait state delay is too long.")
    else:
        assert state.seconds is not None
        until = entered + _seconds(visit, state.seconds, data)
    await visit.strand.sleep_until(lambda: until)
    return visit.outcome(data)


def _seconds(visit: Visit, setting: Setting, data: Json) -> int:
    seconds = _evaluated(visit, setting, data)
    if isinstance(seconds, bool) or not isinstance(seconds, int):
        raise _refused(visit, setting, "cannot be parsed as a long value", seconds)
    if not 0 <= seconds <= _MAXIMUM_WAIT_SECONDS:
        raise _refused(visit, setting, f"must be between 0 and {_MAXIMUM_WAIT_SECONDS}", seconds)
    return seconds


def _moment(visit: Visit, setting: Setting, data: Json) -> datetime:
    text = _evaluated(visit, setting, data)
    if (moment := parse_timestamp(text)) is None:
        what = "ISO-8601 extended offset date-time format string"
        if visit.state.is_jsonata:
            raise _refused(visit, setting, f"cannot be parsed as an {what}", text)
        raise _refused(visit, setting, f"does not reference a valid {what}", text)
    return moment


def _evaluated(visit: Visit, setting: Setting, data: Json) -> Json:
    if setting.is_constant or visit.state.is_jsonata:
        return setting.evaluate(visit.values(data))
    try:
        return compile_path(setting.written).resolve(visit.values(data))
    except NotFound as missing:
        raise EvaluationFailed(
            f"The {setting.field} parameter does not reference an input value: {setting.written}"
        ) from missing


def _refused(visit: Visit, setting: Setting, what: str, value: Json) -> EvaluationFailed:
    shown = value if isinstance(value, str) else to_text(value)
    if visit.state.is_jsonata:
        cause = f"The {setting.field} field {what}: {shown}"
        return EvaluationFailed(cause, error=QUERY_EVALUATION_ERROR, location=setting.field)
    return EvaluationFailed(f"The {setting.field} parameter {what}: {setting.written} == {shown}")


async def perform_succeed(visit: Visit, state: Succeed) -> Outcome:
    return visit.outcome(visit.effective_input())


async def perform_fail(visit: Visit, state: Fail) -> Outcome:
    """End here. A Fail state is never exited."""
    visit.effective_input()
    raise StateFailed(_text(visit, state.error, "ErrorPath"), _text(visit, state.cause, "CausePath"))


def _text(visit: Visit, text: str | Template | None, field: str) -> str | None:
    if text is None or isinstance(text, str):
        return text
    value = text(visit.values(visit.input))
    if not isinstance(value, str):
        raise EvaluationFailed(f"The {field} field must refer to a string, but refers to {to_text(value)}")
    return value
