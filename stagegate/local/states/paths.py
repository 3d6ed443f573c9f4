"""JSONPath: `$` the state's data, `$$` the context object, `$name` a variable.

A path of names and numbers alone (a reference path) is followed by hand, any other selection of
children too; a filter goes through the JSONPath library.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from stagegate.local.service import Json
from stagegate.local.states.errors import RESULT_PATH_MATCH_FAILURE, EvaluationFailed
from stagegate.local.states.jsontext import to_text

MISSING = object()
"""In the place of a value that is not there, not even as null."""


@dataclass(frozen=True, kw_only=True)
class Values:
    """What the expressions of a state can see."""

    data: Json
    """What `$` is in JSONPath; for JSONata the state's input."""
    context: Callable[[], Mapping[str, Json]]
    variables: Mapping[str, Json]
    record: Callable[[Callable[[], Json]], Json]
    """Gives what the function gives, the same again after a restart: for random values."""
    result: Json = MISSING
    """For JSONata: what the work came to."""
    error_output: Json = MISSING
    """For JSONata: the error that is caught."""


class InvalidPath(ValueError):
    """The text is no JSONPath."""


class NotFound(Exception):
    """A path of names and numbers leads nowhere."""


@dataclass(frozen=True)
class Wildcard:
    def of(self, value: Json) -> Iterator[Json]:
        if isinstance(value, dict):
            yield from value.values()
        elif isinstance(value, list):
            yield from value


@dataclass(frozen=True)
class Slice:
    bounds: tuple[int | None, int | None, int | None]

    def of(self, value: Json) -> Iterator[Json]:
        if isinstance(value, list):
            yield from value[slice(*self.bounds)]


@dataclass(frozen=True)
class Union:
    keys: tuple[str | int, ...]

    def of(self, value: Json) -> Iterator[Json]:
        for key in self.keys:
            try:
                yield _child(value, key)
            except NotFound:
                continue


@dataclass(frozen=True)
class Descent:
    def of(self, value: Json) -> Iterator[Json]:
        yield value
        for child in Wildcard().of(value):
            yield from self.of(child)


Step = str | int | Wildcard | Slice | Union | Descent


@dataclass(frozen=True)
class Path:
    text: str
    root: str
    """"$", "$$" or the name of a variable."""
    steps: tuple[Step, ...]
    filtered: Any = None
    """The library's compiled path, where a filter makes it necessary."""

    @property
    def is_definite(self) -> bool:
        """Whether it gives one value, or fails; else it gives a list of what it finds."""
        return self.filtered is None and all(isinstance(step, str | int) for step in self.steps)

    def resolve(self, values: Values) -> Json:
        """Raise `NotFound` with the words of AWS's JSONPath library."""
        value = self._root_value(values)
        if self.filtered is not None:
            return self.filtered.findall(value)
        if self.is_definite:
            for index, step in enumerate(self.steps):
                try:
                    value = _child(value, step)  # type: ignore[arg-type]
                except NotFound:
                    raise NotFound(self._missing(index)) from None
            return value
        found = [value]
        for step in self.steps:
            found = [child for parent in found for child in _select(parent, step)]
        return found

    def _root_value(self, values: Values) -> Json:
        if self.root == "$":
            return values.data
        if self.root == "$$":
            return values.context()
        if self.root not in values.variables:
            raise NotFound(f"The variable '${self.root}' is not defined")
        return values.variables[self.root]

    def _missing(self, index: int) -> str:
        seen = "".join(
            f"[{step}]" if isinstance(step, int) else f"['{step}']" for step in self.steps[: index + 1]
        )
        if index == len(self.steps) - 1:
            return f"No results for path: ${seen}"
        return f"Missing property in path ${seen}"


def _child(value: Json, key: str | int) -> Json:
    if isinstance(key, str):
        if isinstance(value, dict) and key in value:
            return value[key]
    elif isinstance(value, list) and -len(value) <= key < len(value):
        return value[key]
    raise NotFound


def _select(value: Json, step: Step) -> Iterator[Json]:
    if isinstance(step, str | int):
        try:
            yield _child(value, step)
        except NotFound:
            return
    else:
        yield from step.of(value)


_ROOT = re.compile(r"\$(\$|[^\W\d]\w*)?")
_NAME = re.compile(r"[^.\[\]\s()?*,'\"]+")
_SLICE = re.compile(r"\s*(-?\d+)?\s*:\s*(-?\d+)?\s*(?::\s*(-?\d+)?\s*)?")
_KEY = re.compile(r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|(-?\d+))\s*""")


@lru_cache(maxsize=10_000)
def compile_path(text: str) -> Path:
    """The path that `text` says; `InvalidPath` when it says none."""
    if not (match := _ROOT.match(text)):
        raise InvalidPath(f"a path begins with '$': {text}")
    root = {None: "$", "$": "$$"}.get(match[1], match[1])
    rest = text[match.end() :]
    if "[?" in rest:
        return Path(text, root, (), _library_path("$" + rest))
    return Path(text, root, tuple(_steps(rest, text)))


def _steps(rest: str, text: str) -> Iterator[Step]:
    at = 0
    while at < len(rest):
        if rest.startswith("..", at):
            yield Descent()
            at += 1 if rest[at + 2 : at + 3] != "[" else 2
        if rest[at] == ".":
            at += 1
            if rest[at : at + 1] == "*":
                yield Wildcard()
                at += 1
            elif name := _NAME.match(rest, at):
                yield name[0]
                at = name.end()
            else:
                raise InvalidPath(f"a name is missing at position {at + 1}: {text}")
        elif rest[at] == "[":
            end = _closing(rest, at, text)
            yield _bracket(rest[at + 1 : end], text)
            at = end + 1
        else:
            raise InvalidPath(f"unexpected character '{rest[at]}': {text}")


def _closing(rest: str, at: int, text: str) -> int:
    quote = ""
    position = at
    while (position := position + 1) < len(rest):
        character = rest[position]
        if quote:
            if character == "\\":
                position += 1
            elif character == quote:
                quote = ""
        elif character in "'\"":
            quote = character
        elif character == "]":
            return position
    raise InvalidPath(f"'[' is not closed: {text}")


def _bracket(inside: str, text: str) -> Step:
    if inside.strip() == "*":
        return Wildcard()
    if match := _SLICE.fullmatch(inside):
        return Slice(tuple(int(bound) if bound else None for bound in match.groups()))  # type: ignore[arg-type]
    keys: list[str | int] = []
    at = 0
    while key := _KEY.match(inside, at):
        quoted = key[1] if key[1] is not None else key[2]
        keys.append(int(key[3]) if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
        at = key.end()
        if inside[at : at + 1] != ",":
            break
        at += 1
    if not keys or at != len(inside):
        raise InvalidPath(f"cannot be read: [{inside}] in {text}")
    return keys[0] if len(keys) == 1 else Union(tuple(keys))


def _library_path(text: str) -> Any:
    import jsonpath  # imported when the first filter comes: most definitions have none

    try:
        return jsonpath.compile(text)
    except jsonpath.JSONPathError as error:
        raise InvalidPath(f"{error}: {text}") from error


def resolve(text: str, values: Values) -> Json:
    """For the fields that are a path themselves: InputPath, OutputPath, TimeoutSecondsPath, …"""
    try:
        return compile_path(text).resolve(values)
    except NotFound as missing:
        raise EvaluationFailed(f"Invalid path '{text}' : {missing}") from missing


def put(text: str, data: Json, value: Json) -> Json:
    """`data` with `value` at the reference path `text`; nothing that is shared is changed."""
    path = compile_path(text)
    return _put(data, path.steps, value, path)


def _put(data: Json, steps: tuple[Step, ...], value: Json, path: Path) -> Json:
    if not steps:
        return value
    step, *rest = steps
    if isinstance(step, str):
        if isinstance(data, dict):
            return {**data, step: _put(data.get(step, {}), tuple(rest), value, path)}
    elif isinstance(step, int) and isinstance(data, list) and 0 <= step < len(data):
        copy = list(data)
        copy[step] = _put(data[step], tuple(rest), value, path)
        return copy
    raise EvaluationFailed(
        f"Unable to apply ReferencePath {path.text} to input {to_text(data)}", error=RESULT_PATH_MATCH_FAILURE
    )
