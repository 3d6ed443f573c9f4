"""Payload templates: Parameters, ResultSelector, ItemSelector, Assign. Compiled once, evaluated often."""

from collections.abc import Callable
from typing import Any

from stagegate.local.service import Json
from stagegate.local.states.errors import EvaluationFailed
from stagegate.local.states.intrinsics import compile_function, is_function
from stagegate.local.states.jsontext import to_text
from stagegate.local.states.paths import NotFound, Values, compile_path

Template = Callable[[Values], Json]


def compile_template(payload: Json) -> Template:
    """The function that makes a value of `payload`; names that end in ".$" hold a path or a function."""
    if isinstance(payload, dict):
        members = [_compile_member(name, value) for name, value in payload.items()]
        return lambda values: {name: evaluate(values) for name, evaluate in members}
    if isinstance(payload, list):
        items = [compile_template(item) for item in payload]
        return lambda values: [evaluate(values) for evaluate in items]
    return lambda values: payload


def _compile_member(name: str, value: Any) -> tuple[str, Template]:
    if not name.endswith(".$"):
        return name, compile_template(value)
    return name[:-2], compile_expression(value, field=name)


def compile_expression(text: str, *, field: str) -> Template:
    """A path or a function, as the value of `field`."""
    if is_function(text):
        return compile_function(text)
    path = compile_path(text)

    def evaluate(values: Values) -> Json:
        try:
            return path.resolve(values)
        except NotFound as missing:
            data = values.context() if path.root == "$$" else values.data
            raise EvaluationFailed(
                f"The JSONPath '{text}' specified for the field '{field}' could not be found in the input "
                f"'{to_text(data)}'"
            ) from missing

    return evaluate
