"""JSONata: `{% $states.input.total * 2 %}`. Compiled once, evaluated often, by the JSONata library.

To the language's own functions come Step Functions': `$partition`, `$range`, `$hash`, `$random`, `$uuid` and
`$parse`; `$eval` is not there.
https://docs.aws.amazon.com/step-functions/latest/dg/transforming-data.html
"""

import json
import math
import random
import re
import time
import uuid
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any

import jsonatapy

from stagegate.local.service import Json
from stagegate.local.states import intrinsics
from stagegate.local.states.errors import QUERY_EVALUATION_ERROR, EvaluationFailed
from stagegate.local.states.jsontext import to_text
from stagegate.local.states.paths import MISSING, Values

_SECONDS = 1.0
"""An expression that takes longer would keep every other execution waiting: it fails."""


class InvalidJsonata(ValueError):
    """The text is no JSONata expression."""


def is_jsonata(text: Json) -> bool:
    """Whether it is a string "{% … %}"."""
    return isinstance(text, str) and text.startswith("{%") and text.endswith("%}")


@dataclass(frozen=True)
class Expression:
    """An expression as it stands between "{%" and "%}", and what evaluates it."""

    source: str
    names: frozenset[str]
    """The names that may be variables."""
    compiled: jsonatapy.JsonataExpression

    def evaluate(self, values: Values, *, field: str, expected: str | None = None) -> Json:
        """Its value; `EvaluationFailed` where there is none, or none of the type `expected`.

        `expected` is a type as JSONata names it: "string", "number", "boolean", "array", "object".
        """
        token = _evaluation.set(_Evaluation(values))
        try:
            result = self.compiled.evaluate(None, self._bindings(values), timeout=round(_SECONDS * 1000))
        except ValueError as error:
            reason = f"threw an error during evaluation. {_reason(error)}"
            raise self._failed(field, reason) from error
        finally:
            _evaluation.reset(token)
        if "type" not in result:
            raise self._failed(field, "returned nothing (undefined).")
        value, kind = result["value"], result["type"]
        if kind == "function":
            raise self._failed(field, "returned an unsupported result type.")
        if not _is_finite(value):
            reason = f"threw an error during evaluation. D1001: Number out of range: {value}"
            raise self._failed(field, reason)
        if expected is not None and kind != expected:
            reason = (
                "returned an unexpected result type. "
                f"Expected '{expected}', but was '{kind}' for value: {to_text(value)}"
            )
            raise self._failed(field, reason)
        return value

    def _bindings(self, values: Values) -> dict[str, Json]:
        bindings = {name: value for name, value in values.variables.items() if name in self.names}
        if "states" in self.names:
            states = {"input": values.data, "context": values.context()}
            if values.result is not MISSING:
                states["result"] = values.result
            if values.error_output is not MISSING:
                states["errorOutput"] = values.error_output
            bindings["states"] = states
        return bindings

    def _failed(self, field: str, reason: str) -> EvaluationFailed:
        return EvaluationFailed(
            f"The JSONata expression '{self.source}' specified for the field '{field}' {reason}",
            error=QUERY_EVALUATION_ERROR,
            location=field,
            is_of_expression=True,
        )


_NAME = re.compile(r"\$([A-Za-z_]\w*)")


@lru_cache(maxsize=10_000)
def compile_jsonata(text: str) -> Expression:
    """The expression in "{% … %}". Raises `InvalidJsonata`."""
    source = text.removeprefix("{%").removesuffix("%}").strip()
    try:
        jsonatapy.compile(source)
        # What is undefined and what is null look alike from outside, a function looks like nothing.
        compiled = jsonatapy.compile(f'($v := ({source}\n); {{"type": $type($v), "value": $v}})')
    except ValueError as error:
        raise InvalidJsonata(_reason(error)) from error
    names = frozenset(_NAME.findall(source))
    for name in names & _FUNCTIONS.keys():
        compiled.register(name, partial(_FUNCTIONS[name]))
    for name in names & _REPLACED.keys():
        compiled.register_override(name, partial(_REPLACED[name]))
    return Expression(source, names, compiled)


def _reason(error: ValueError) -> str:
    """The error's code and text, without what the library puts around it."""
    text = re.sub(r"^(Parse error: |host function raised \w+: )+", "", str(error))
    return re.sub(r"^(T1006: Attempted to invoke a non-function): .*", r"\1", text)


def _is_finite(value: Json) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return all(map(_is_finite, value)) if isinstance(value, list) else True


# The functions. What is random or of the clock is recorded: it must be the same after a restart.


class _Evaluation:
    """One evaluation: within it the time stands still."""

    def __init__(self, values: Values) -> None:
        self.record = values.record
        self._milliseconds: int | None = None

    @property
    def milliseconds(self) -> int:
        if self._milliseconds is None:
            self._milliseconds = self.record(lambda: round(time.time() * 1000))
        return self._milliseconds


_evaluation: ContextVar[_Evaluation] = ContextVar("evaluation")


def _partition(array: Json = None, size: Json = None) -> Json:
    return _collapsed(_as_intrinsic("ArrayPartition", array, size))


def _range(first: Json = None, last: Json = None, step: Json = None) -> Json:
    return _collapsed(_as_intrinsic("ArrayRange", first, last, step))


def _collapsed(items: list[Json]) -> Json:
    """A sequence of one item is that item, as everywhere in JSONata; one that is an array stays inside."""
    return items[0] if len(items) == 1 and not isinstance(items[0], list) else items


def _hash(data: Json = None, algorithm: Json = None) -> Json:
    return _as_intrinsic("Hash", data, algorithm)


def _parse(text: Json = None) -> Json:
    try:
        return json.loads(text)
    except (TypeError, ValueError) as error:
        raise ValueError(f"D3110: The argument of the parse function must be JSON: {error}") from error


def _uuid() -> str:
    return str(_evaluation.get().record(lambda: str(uuid.uuid4())))


def _random(seed: Json = None) -> float:
    """From 0 to 1, 1 excluded; with a seed always the same."""
    if seed is not None:
        return random.Random(to_text(seed)).random()
    return float(_evaluation.get().record(random.random))


def _as_intrinsic(name: str, *arguments: Json) -> Any:
    try:
        return intrinsics.call(name, *arguments)
    except intrinsics.BadArgument as error:
        raise ValueError(f"T0410: {error}") from error


def _millis() -> int:
    return _evaluation.get().milliseconds


def _now(*picture_and_timezone: Json) -> str:
    moment = datetime.fromtimestamp(_evaluation.get().milliseconds / 1000, UTC)
    if not picture_and_timezone:
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    expression = jsonatapy.compile("$fromMillis($milliseconds, $picture, $timezone)")
    names = ("picture", "timezone")
    given = dict(zip(names, picture_and_timezone, strict=False))
    return str(expression.evaluate(None, {"milliseconds": _evaluation.get().milliseconds, **given}))


def _eval(*arguments: Json) -> Json:
    raise ValueError("T1006: Attempted to invoke a non-function")


_FUNCTIONS: dict[str, Callable[..., Json]] = {
    "hash": _hash,
    "parse": _parse,
    "partition": _partition,
    "range": _range,
    "uuid": _uuid,
}

_REPLACED: dict[str, Callable[..., Json]] = {
    "eval": _eval,
    "millis": _millis,
    "now": _now,
    "random": _random,
}
