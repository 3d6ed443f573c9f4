"""The states that only steer: Pass, Choice, Wait, Succeed, Fail."""

from datetime import datetime

from stagegate.local.service import Json
from stagegate.local.states.choice import parse_timestamp
from stagegate.local.states.definition import Choice, Fail, Pass, Succeed, Wait
from stagegate.local.states.errors import NO_CHOICE_MATCHED, EvaluationFailed, StateFailed
from stagegate.local.states.jsontext import to_text
from stagegate.local.states.paths import NotFound, compile_path
from stagegate.local.states.strand import Outcome, Visit
from stagegate.local.states.templates import Template

_MAXIMUM_WAIT_SECONDS = 99_999_999
_MAXIMUM_WAIT_DAYS = 24_855  # a Wait until later than 2**31 - 1 seconds from now is refused


async def perform_pass(visit: Visit, state: Pass) -> Outcome:
    """Its result, else its parameters, else its input."""
    data = visit.effective_input()
    result = state.result if state.has_result else visit.evaluate(state.parameters, data)
    return visit.outcome(result, result_path=state.result_path)


async def perform_choice(visit: Visit, state: Choice) -> Outcome:
    """Go where the first rule that matches says."""
    data = visit.effective_input()
    values = visit.values(data)
    output = visit.at(state.output_path, data)
    for rule in state.choices:
        if rule.matches(values):
            assigned = None if rule.assign is None else rule.assign(values)
            return Outcome(output=output, next=rule.next, assigned=assigned)
    if state.default is None:
        raise EvaluationFailed(
            "Failed to transition out of the state. The state does not point to a next state.",
            error=NO_CHOICE_MATCHED,
        )
    assigned = None if state.assign is None else state.assign(values)
    return Outcome(output=output, next=state.default, assigned=assigned)


async def perform_wait(visit: Visit, state: Wait) -> Outcome:
    data = visit.effective_input()
    entered = visit.entered_at
    if state.timestamp is not None or state.timestamp_path is not None:
        until = _moment(visit, state, data).timestamp()
        if until - entered > _MAXIMUM_WAIT_DAYS * 86_400:
            raise EvaluationFailed("Wait state delay is too long.")
    else:
        until = entered + _seconds(visit, state, data)
    await visit.strand.sleep_until(lambda: until)
    return visit.outcome(data)


def _seconds(visit: Visit, state: Wait, data: Json) -> int:
    if state.seconds is not None:
        return state.seconds
    assert state.seconds_path is not None
    seconds = _referenced(visit, "SecondsPath", state.seconds_path, data)
    if isinstance(seconds, bool) or not isinstance(seconds, int):
        raise EvaluationFailed(
            "The SecondsPath parameter cannot be parsed as a long value: "
            f"{state.seconds_path} == {_shown(seconds)}"
        )
    if not 0 <= seconds <= _MAXIMUM_WAIT_SECONDS:
        raise EvaluationFailed(
            f"The SecondsPath parameter must be between 0 and {_MAXIMUM_WAIT_SECONDS}: "
            f"{state.seconds_path} == {seconds}"
        )
    return seconds


def _moment(visit: Visit, state: Wait, data: Json) -> datetime:
    if state.timestamp is not None:
        moment = parse_timestamp(state.timestamp)
        assert moment is not None, "checked when the definition was"
        return moment
    assert state.timestamp_path is not None
    text = _referenced(visit, "TimestampPath", state.timestamp_path, data)
    if (moment := parse_timestamp(text)) is None:
        raise EvaluationFailed(
            "The TimestampPath parameter does not reference a valid ISO-8601 extended offset date-time "
            f"format string: {state.timestamp_path} == {_shown(text)}"
        )
    return moment


def _referenced(visit: Visit, parameter: str, path: str, data: Json) -> Json:
    try:
        return compile_path(path).resolve(visit.values(data))
    except NotFound as missing:
        raise EvaluationFailed(
            f"The {parameter} parameter does not reference an input value: {path}"
        ) from missing


def _shown(value: Json) -> str:
    return value if isinstance(value, str) else to_text(value)


async def perform_succeed(visit: Visit, state: Succeed) -> Outcome:
    return visit.outcome(visit.effective_input())


async def perform_fail(visit: Visit, state: Fail) -> Outcome:
    """End here. A Fail state is never exited."""
    raise StateFailed(_text(visit, state.error, "ErrorPath"), _text(visit, state.cause, "CausePath"))


def _text(visit: Visit, text: str | Template | None, field: str) -> str | None:
    if text is None or isinstance(text, str):
        return text
    value = text(visit.values(visit.input))
    if not isinstance(value, str):
        raise EvaluationFailed(f"The {field} field must refer to a string, but refers to {to_text(value)}")
    return value
