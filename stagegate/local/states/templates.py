"""What a definition takes from its data: Parameters, Arguments, Output, Assign, …, in JSONPath or JSONata.

Compiled once, evaluated often.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stagegate.local.service import Json
from stagegate.local.states import paths
from stagegate.local.states.errors import EvaluationFailed
from stagegate.local.states.intrinsics import compile_function, is_function
from stagegate.local.states.jsonata import compile_jsonata, is_jsonata
from stagegate.local.states.jsontext import to_text
from stagegate.local.states.paths import NotFound, Values, compile_path

JSONPATH = "JSONPath"
JSONATA = "JSONata"

Template = Callable[[Values], Json]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A number or a text that a definition gives as it is, by a path, or by JSONata."""

    field: str
    """"TimeoutSeconds", or "TimeoutSecondsPath"."""
    written: Json
    """As the definition has it."""
    evaluate: Template

    @property
    def is_constant(self) -> bool:
        return not self.field.endswith("Path") and not is_jsonata(self.written)


def compile_template(payload: Json, *, language: str = JSONPATH, field: str = "") -> Template:
    """The function that makes a value of `payload`, which is what `field` holds."""
    return _jsonata_template(payload, field) if language == JSONATA else _template(payload)


def compile_setting(
    fields: Mapping[str, Any], name: str, *, language: str, expected: str = "number", within: str = ""
) -> Setting | None:
    """What the definition has as `name` or as `name`Path. `within`: the field that `fields` are."""
    if (path := fields.get(f"{name}Path")) is not None and language == JSONPATH:
        return Setting(field=f"{name}Path", written=path, evaluate=lambda values: paths.resolve(path, values))
    if (written := fields.get(name)) is None:
        return None
    if language == JSONATA and is_jsonata(written):
        evaluate = compile_jsonata_field(written, field=f"{within}{name}", expected=expected)
        return Setting(field=name, written=written, evaluate=evaluate)
    return Setting(field=name, written=written, evaluate=lambda values: written)


def compile_jsonata_field(text: str, *, field: str, expected: str | None = None) -> Template:
    """The value of an expression "{% … %}", of the type `expected`."""
    expression = compile_jsonata(text)
    return lambda values: expression.evaluate(values, field=field, expected=expected)


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


def _template(payload: Json) -> Template:
    """JSONPath: names that end in ".$" hold a path or a function."""
    if isinstance(payload, dict):
        members = [_member(name, value) for name, value in payload.items()]
        return lambda values: {name: evaluate(values) for name, evaluate in members}
    if isinstance(payload, list):
        items = [_template(item) for item in payload]
        return lambda values: [evaluate(values) for evaluate in items]
    return lambda values: payload


def _member(name: str, value: Any) -> tuple[str, Template]:
    if not name.endswith(".$"):
        return name, _template(value)
    return name[:-2], compile_expression(value, field=name)


def _jsonata_template(payload: Json, field: str) -> Template:
    """JSONata: any text may be an expression."""
    if is_jsonata(payload):
        return compile_jsonata_field(payload, field=field)
    if isinstance(payload, dict):
        members = [(name, _jsonata_template(value, f"{field}/{name}")) for name, value in payload.items()]
        return lambda values: {name: evaluate(values) for name, evaluate in members}
    if isinstance(payload, list):
        items = [_jsonata_template(item, f"{field}[{index}]") for index, item in enumerate(payload)]
        return lambda values: [evaluate(values) for evaluate in items]
    return lambda values: payload
