"""An operation's members against botocore's model, in AWS's wording.

botocore itself checks types, required members and minimal lengths before it sends; other clients, and the
state machines in this process, do not. Maximal lengths, patterns and enumerations only the services check.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Any

from stagegate.local import apis
from stagegate.local.service import AWSError

_PYTHON_TYPES: Mapping[str, tuple[type, ...]] = {
    "structure": (dict,),
    "map": (dict,),
    "list": (list, tuple),
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
    "timestamp": (datetime,),
    "blob": (bytes, bytearray, str),
}

_WITH_OWN_ERRORS = frozenset({"codecommit"})
"""Services that check lengths, patterns and enumerations themselves: each has an error of its own."""


class _Constraint(str):
    """A problem of such a kind."""


def validate(service: str, operation: str, members: Mapping[str, Any]) -> None:
    """Raise ValidationException, or what the API calls it, where `members` are not what the model wants."""
    shape = apis.operation_model(service, operation).input_shape
    if shape is None:
        return
    wrong = list(_problems(shape, members, ""))
    if service in _WITH_OWN_ERRORS:
        wrong = [problem for problem in wrong if not isinstance(problem, _Constraint)]
    if wrong:
        count = f"{len(wrong)} validation error{'s' if len(wrong) > 1 else ''} detected: "
        raise AWSError(_code(service), count + "; ".join(wrong))


@cache
def _code(service: str) -> str:
    model = apis.model(service)
    names = set(model.shape_names)
    for code in ("ValidationException", "ValidationError"):
        if code in names:
            return code
    return "ValidationError" if model.protocol in ("query", "ec2") else "ValidationException"


def _problems(shape: Any, value: Any, path: str) -> Iterator[str]:
    if not _has_type(shape, value):
        yield (
            f"Value '{_shown(value)}' at '{path}' failed to satisfy constraint: "
            f"Member must be of type {shape.type_name}"
        )
        return
    if shape.type_name == "structure":
        yield from _structure_problems(shape, value, path)
    elif shape.type_name == "list":
        yield from _length_problems(shape, value, path)
        for number, item in enumerate(value, start=1):
            yield from _problems(shape.member, item, f"{path}.{number}.member")
    elif shape.type_name == "map":
        yield from _length_problems(shape, value, path)
        for key, item in value.items():
            yield from _problems(shape.key, key, f"{path}.{key}.key")
            yield from _problems(shape.value, item, f"{path}.{key}.member")
    elif shape.type_name == "string":
        yield from _length_problems(shape, value, path)
        yield from _text_problems(shape, value, path)
    elif shape.type_name in ("integer", "long", "float", "double"):
        yield from _range_problems(shape, value, path)


def _structure_problems(shape: Any, value: Mapping[str, Any], path: str) -> Iterator[str]:
    if getattr(shape, "is_document_type", False):
        return
    for name in shape.required_members:
        if value.get(name) is None:
            yield (
                f"Value null at '{_join(path, name)}' failed to satisfy constraint: Member must not be null"
            )
    for name, item in value.items():
        if item is None:
            continue
        if name not in shape.members:
            yield (
                f"Value '{_shown(item)}' at '{_join(path, name)}' failed to satisfy constraint: "
                f"Member is not one of {shape.name}: {', '.join(shape.members)}"
            )
        else:
            yield from _problems(shape.members[name], item, _join(path, name))


def _length_problems(shape: Any, value: Any, path: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and len(value) < least:
        yield _constraint(value, path, f"Member must have length greater than or equal to {least}")
    if most is not None and len(value) > most:
        yield _constraint(value, path, f"Member must have length less than or equal to {most}")


def _range_problems(shape: Any, value: float, path: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and value < least:
        yield _constraint(value, path, f"Member must have value greater than or equal to {least}")
    if most is not None and value > most:
        yield _constraint(value, path, f"Member must have value less than or equal to {most}")


def _text_problems(shape: Any, value: str, path: str) -> Iterator[str]:
    if (allowed := shape.metadata.get("enum")) and value not in allowed:
        yield _constraint(value, path, f"Member must satisfy enum value set: [{', '.join(allowed)}]")
    pattern = shape.metadata.get("pattern")
    if pattern and (compiled := _compiled(pattern)) and not compiled.fullmatch(value):
        yield _constraint(value, path, f"Member must satisfy regular expression pattern: {pattern}")


@cache
def _compiled(pattern: str) -> re.Pattern[str] | None:
    """The model's patterns are Java's; the few that Python does not read (`\\p{L}`) are not checked."""
    try:
        return re.compile(pattern)
    except re.error:
        return None


def _has_type(shape: Any, value: Any) -> bool:
    if getattr(shape, "is_document_type", False):
        return True
    allowed = _PYTHON_TYPES.get(shape.type_name)
    if allowed is None:
        return True
    if isinstance(value, bool) and bool not in allowed:
        return False
    if shape.type_name == "blob" and hasattr(value, "read"):
        return True
    return isinstance(value, allowed)


def _constraint(value: Any, path: str, constraint: str) -> str:
    return _Constraint(f"Value '{_shown(value)}' at '{path}' failed to satisfy constraint: {constraint}")


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else text[:200] + "…"


def _join(path: str, name: str) -> str:
    name = name[:1].lower() + name[1:]
    return f"{path}.{name}" if path else name
