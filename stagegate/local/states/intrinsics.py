"""The 18 intrinsic functions: `States.Format('{} of {}', $.part, $.whole)`. Compiled once, called often.

What each does with odd arguments follows the recordings of real executions and
https://docs.aws.amazon.com/step-functions/latest/dg/intrinsic-functions.html
"""

import base64
import hashlib
import json
import math
import random
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from stagegate.local.service import Json
from stagegate.local.states.errors import INTRINSIC_FAILURE, EvaluationFailed
from stagegate.local.states.jsontext import to_text
from stagegate.local.states.paths import NotFound, Path, Values, compile_path

MAXIMUM_TEXT = 10_000
MAXIMUM_RANGE = 1_000


class InvalidFunction(ValueError):
    """The text is no call of an intrinsic function."""


class BadArgument(Exception):
    """The function was called with what it can't take."""


@dataclass(frozen=True)
class Text:
    """A quoted argument: `raw` as it stands between the quotes, where a format can tell `\\{` from `{`."""

    raw: str

    @property
    def value(self) -> str:
        return re.sub(r"\\(['{}\\])", r"\1", self.raw)


@dataclass(frozen=True)
class Call:
    name: str
    arguments: tuple["Argument", ...]
    text: str

    def evaluate(self, values: Values) -> Json:
        arguments = [_value(argument, values) for argument in self.arguments]
        try:
            if self.name in _RANDOM:
                return values.record(lambda: _RANDOM[self.name](*arguments))
            if self.name == "Format" and arguments and isinstance(self.arguments[0], Text):
                arguments[0] = self.arguments[0]
            return _FUNCTIONS[self.name](*arguments)
        except (BadArgument, TypeError) as error:
            raise EvaluationFailed(
                f"The function '{self.text}' had the following error: {_reason(error, arguments)}",
                error=INTRINSIC_FAILURE,
            ) from error


@dataclass(frozen=True)
class Constant:
    value: Json


Argument = Text | Call | Constant | Path


def is_function(text: str) -> bool:
    return text.startswith("States.") and text.endswith(")")


def compile_function(text: str) -> Callable[[Values], Json]:
    return parse(text).evaluate


def _reason(error: Exception, arguments: list[Any]) -> str:
    if isinstance(error, BadArgument):
        return str(error)
    return f"{len(arguments)} arguments of these kinds are not accepted"


def _value(argument: Argument, values: Values) -> Json:
    if isinstance(argument, Call):
        return argument.evaluate(values)
    if isinstance(argument, Path):
        try:
            return argument.resolve(values)
        except NotFound as missing:
            raise EvaluationFailed(f"Invalid path '{argument.text}' : {missing}") from missing
    return argument.value


def call(name: str, *arguments: Json) -> Json:
    """What the function `States.<name>` gives for values. Raises `BadArgument`."""
    try:
        return _FUNCTIONS[name](*arguments)
    except TypeError as error:
        raise BadArgument(_reason(error, list(arguments))) from error


# The calls, read from their text.

_NAME = re.compile(r"\s*States\.([A-Za-z0-9]+)\s*\(")
_TEXT = re.compile(r"\s*'((?:[^'\\]|\\.)*)'\s*", re.DOTALL)
_CONSTANT = re.compile(r"\s*(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null)\s*(?=[,)])")


@lru_cache(maxsize=10_000)
def parse(text: str) -> Call:
    call, end = _call(text, 0)
    if text[end:].strip():
        raise InvalidFunction(f"unexpected text after the function: {text}")
    return call


def _call(text: str, at: int) -> tuple[Call, int]:
    if not (name := _NAME.match(text, at)):
        raise InvalidFunction(f"no function at position {at + 1}: {text}")
    if name[1] not in _FUNCTIONS and name[1] not in _RANDOM:
        raise InvalidFunction(f"there is no function States.{name[1]}: {text}")
    begin, at = at, name.end()
    arguments: list[Argument] = []
    while True:
        if not arguments and (empty := re.compile(r"\s*\)").match(text, at)):
            return Call(name[1], (), text[begin : empty.end()]), empty.end()
        argument, at = _argument(text, at)
        arguments.append(argument)
        if text[at : at + 1] == ")":
            return Call(name[1], tuple(arguments), text[begin : at + 1]), at + 1
        if text[at : at + 1] != ",":
            raise InvalidFunction(f"',' or ')' is missing at position {at + 1}: {text}")
        at += 1


def _argument(text: str, at: int) -> tuple[Argument, int]:
    if match := _TEXT.match(text, at):
        return Text(match[1]), match.end()
    if match := _CONSTANT.match(text, at):
        return Constant(json.loads(match[1])), match.end()
    if _NAME.match(text, at):
        call, at = _call(text, at)
        return call, at + len(text[at:]) - len(text[at:].lstrip())
    end = _end_of_path(text, at)
    path = text[at:end].strip()
    if not path.startswith("$"):
        raise InvalidFunction(f"'{path}' is no argument: {text}")
    return compile_path(path), end


def _end_of_path(text: str, at: int) -> int:
    depth, quote = 0, ""
    while at < len(text):
        character = text[at]
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and depth:
            quote = character
        elif character in "[(":
            depth += 1
        elif character in "])" and depth:
            depth -= 1
        elif character in ",)":
            return at
        at += 1
    raise InvalidFunction(f"')' is missing: {text}")


# What the functions do.


def _format(template: Any, *arguments: Json) -> str:
    raw = template.raw if isinstance(template, Text) else _text(template, "template")
    pieces = re.split(r"(?<!\\)\{\}", raw)
    if len(pieces) - 1 != len(arguments):
        raise BadArgument(
            f"{len(pieces) - 1} arguments are expected after the template, not {len(arguments)}"
        )
    filled = [Text(pieces[0]).value]
    for argument, piece in zip(arguments, pieces[1:], strict=True):
        filled += [_as_java_writes(argument), Text(piece).value]
    return "".join(filled)


def _as_java_writes(value: Json) -> str:
    """AWS formats with Java's `toString`: `{a=1, b=[]}`."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}={_as_java_writes(member)}" for name, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_as_java_writes, value)) + "]"
    return value if isinstance(value, str) else to_text(value)


def _array(*items: Json) -> list[Json]:
    return list(items)


def _array_partition(array: Json, size: Json) -> list[Json]:
    size = _integer(size)
    if size <= 0:
        raise BadArgument("the size of a chunk must be a positive integer")
    items = _list(array)
    return [items[begin : begin + size] for begin in range(0, len(items), size)]


def _array_contains(array: Json, value: Json) -> bool:
    return any(_same(item, value) for item in _list(array))


def _array_range(first: Json, last: Json, step: Json) -> list[int]:
    begin, end, by = _integer(first), _integer(last), _integer(step)
    if by == 0:
        raise BadArgument("the step must not be 0")
    numbers = range(begin, end + (1 if by > 0 else -1), by)
    if len(numbers) > MAXIMUM_RANGE:
        raise BadArgument(f"the array would have more than {MAXIMUM_RANGE} items")
    return list(numbers)


def _array_get_item(array: Json, index: Json) -> Json:
    items, at = _list(array), _integer(index)
    if not 0 <= at < len(items):
        raise BadArgument(f"the index {at} is outside of the array, which has {len(items)} items")
    return items[at]


def _array_length(array: Json) -> int:
    return len(_list(array))


def _array_unique(array: Json) -> list[Json]:
    unique: list[Json] = []
    for item in _list(array):
        if not any(_same(item, seen) for seen in unique):
            unique.append(item)
    return unique


def _base64_encode(text: Json) -> str:
    return base64.b64encode(_text(text).encode()).decode()


def _base64_decode(text: Json) -> str:
    try:
        return base64.b64decode(_text(text), validate=True).decode()
    except ValueError as error:
        raise BadArgument("the text is not the Base64 encoding of a text") from error


_ALGORITHMS = {"MD5": "md5", "SHA-1": "sha1", "SHA-256": "sha256", "SHA-384": "sha384", "SHA-512": "sha512"}


def _hash(data: Json, algorithm: Json) -> str:
    if algorithm not in _ALGORITHMS:
        raise BadArgument(f"the algorithm must be one of {', '.join(_ALGORITHMS)}")
    text = data if isinstance(data, str) else to_text(data)
    return hashlib.new(_ALGORITHMS[algorithm], _text(text).encode(), usedforsecurity=False).hexdigest()


def _json_merge(first: Json, second: Json, deep: Json) -> dict[str, Json]:
    if deep is not False:
        raise BadArgument("only a shallow merge is supported: the third argument must be false")
    if not isinstance(first, dict) or not isinstance(second, dict):
        raise BadArgument("both arguments must be JSON objects")
    return {**first, **second}


def _string_to_json(text: Json) -> Json:
    try:
        return json.loads(text) if _text(text, limit=None).strip() else None
    except ValueError as error:
        raise BadArgument(f"the text is not JSON: {error}") from error


def _json_to_string(value: Json) -> str:
    return to_text(value)


def _math_add(first: Json, second: Json) -> int:
    return _integer(first) + _integer(second)


def _string_split(text: Json, separators: Json) -> list[str]:
    separating = set(_text(separators))
    if not separating:
        return [_text(text)]
    return [piece for piece in re.split("[" + re.escape("".join(separating)) + "]", _text(text)) if piece]


def _math_random(first: Json, last: Json, seed: Json = None) -> int:
    begin, end = _integer(first), _integer(last)
    if begin >= end:
        raise BadArgument("the start must be less than the end")
    return (random.Random(_integer(seed)) if seed is not None else random).randrange(begin, end)


def _uuid() -> str:
    return str(uuid.uuid4())


def _integer(value: Json) -> int:
    """Numbers are rounded half up, as Java's `Math.round` does."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadArgument(f"a number is expected, not {to_text(value)}")
    return value if isinstance(value, int) else math.floor(value + 0.5)


def _list(value: Json) -> list[Json]:
    if not isinstance(value, list):
        raise BadArgument(f"an array is expected, not {to_text(value)}")
    return value


def _text(value: Json, what: str = "text", limit: int | None = MAXIMUM_TEXT) -> str:
    if not isinstance(value, str):
        raise BadArgument(f"a {what} is expected, not {to_text(value)}")
    if limit is not None and len(value) > limit:
        raise BadArgument(f"the {what} has more than {limit} characters")
    return value


def _same(one: Json, other: Json) -> bool:
    """Equal as JSON: true is not 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


_FUNCTIONS: dict[str, Callable[..., Json]] = {
    "Array": _array,
    "ArrayContains": _array_contains,
    "ArrayGetItem": _array_get_item,
    "ArrayLength": _array_length,
    "ArrayPartition": _array_partition,
    "ArrayRange": _array_range,
    "ArrayUnique": _array_unique,
    "Base64Decode": _base64_decode,
    "Base64Encode": _base64_encode,
    "Format": _format,
    "Hash": _hash,
    "JsonMerge": _json_merge,
    "JsonToString": _json_to_string,
    "MathAdd": _math_add,
    "StringSplit": _string_split,
    "StringToJson": _string_to_json,
}

_RANDOM: dict[str, Callable[..., Json]] = {"MathRandom": _math_random, "UUID": _uuid}
"""Recorded in the journal, so that a restart does not change what was already used."""
