"""What CloudFormation knows of a resource type: its properties, their types, and which of them replace it.

The resource schemas are AWS's own, as cfn-lint ships them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stagegate.local.stacks.intrinsics import text

_REGION = "us-east-1"


class BadProperties(Exception):
    """A resource's properties are not what its type wants."""


@dataclass(frozen=True, kw_only=True)
class Schema:
    """One resource type's schema."""

    properties: Mapping[str, Any]
    definitions: Mapping[str, Any]
    required: frozenset[str]
    read_only: frozenset[str]
    """Attributes for Fn::GetAtt; nested ones with dots."""
    create_only: tuple[tuple[str, ...], ...]
    """Paths of properties of which a change replaces the resource."""

    def replaces(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
        """The properties of which the change from `old` to `new` replaces the resource."""
        return sorted({path[0] for path in self.create_only if _at(old, path) != _at(new, path)})


@cache
def schema(resource_type: str) -> Schema | None:
    """None for a type that CloudFormation does not have."""
    digest = _index().get(resource_type)
    if digest is None:
        return None
    data = json.loads((_folder() / "resources" / f"{digest}.json").read_text())
    read_only = frozenset(".".join(_path(pointer)) for pointer in data.get("readOnlyProperties", ()))
    create_only = [*data.get("createOnlyProperties", ()), *data.get("conditionalCreateOnlyProperties", ())]
    return Schema(
        properties={name: part for name, part in data["properties"].items() if name not in read_only},
        definitions=data.get("definitions", {}),
        required=frozenset(data.get("required", ())) - read_only,
        read_only=read_only,
        create_only=tuple(_path(pointer) for pointer in create_only),
    )


def fitted(known: Schema, properties: Mapping[str, Any]) -> dict[str, Any]:
    """The properties with texts turned into the numbers and booleans that are wanted, and the reverse.

    Raises BadProperties for names that the type does not have, and for what is required and missing.
    """
    for name in properties:
        if name not in known.properties:
            raise BadProperties(f"Encountered unsupported property {name}")
    if missing := sorted(known.required - properties.keys()):
        raise BadProperties(f"Property {missing[0]} cannot be empty.")
    return {name: _fitted(known, known.properties[name], value, name) for name, value in properties.items()}


def _fitted(known: Schema, part: Mapping[str, Any], value: Any, where: str) -> Any:
    part = _resolved(known, part)
    kind = part.get("type")
    kinds = [kind] if isinstance(kind, str) else list(kind or ())
    if isinstance(value, dict):
        return _fitted_object(known, part, kinds, value, where)
    if isinstance(value, list):
        items = part.get("items", {})
        if kinds and "array" not in kinds:
            raise BadProperties(f"Value of property {where} must be of type {'/'.join(kinds).title()}")
        return [_fitted(known, items, item, f"{where}/{index}") for index, item in enumerate(value)]
    if not kinds:
        return value
    return _fitted_scalar(kinds, value, where)


def _fitted_object(
    known: Schema, part: Mapping[str, Any], kinds: list[str], value: dict[str, Any], where: str
) -> Any:
    if kinds and "object" not in kinds:
        raise BadProperties(f"Value of property {where} must be of type {'/'.join(kinds).title()}")
    named = part.get("properties", {})
    patterns = list(part.get("patternProperties", {}).values())
    if named and not patterns and part.get("additionalProperties") is False:
        for name in value:
            if name not in named:
                raise BadProperties(f"Encountered unsupported property {name}")
    other = patterns[0] if patterns else part.get("additionalProperties") or {}
    other = other if isinstance(other, dict) else {}
    return {
        name: _fitted(known, named.get(name, other), item, f"{where}/{name}") for name, item in value.items()
    }


def _fitted_scalar(kinds: list[str], value: Any, where: str) -> Any:
    if "string" in kinds and "boolean" not in kinds:
        return value if isinstance(value, str) else text(value)
    if "boolean" in kinds and str(value).lower() in ("true", "false"):
        return value if isinstance(value, bool) else value.lower() == "true"
    if {"integer", "number"} & set(kinds) and not isinstance(value, bool):
        try:
            number = float(value)
            return int(number) if number.is_integer() else number
        except (TypeError, ValueError):
            pass  # falls through to the error below
    if "object" in kinds and isinstance(value, str):
        try:
            return json.loads(value)  # policies may be given as texts
        except ValueError:
            pass  # falls through to the error below
    if "string" in kinds:
        return value if isinstance(value, str) else text(value)
    raise BadProperties(f"Value of property {where} must be of type {'/'.join(kinds).title()}")


def _resolved(known: Schema, part: Mapping[str, Any]) -> Mapping[str, Any]:
    """`part` with its reference followed, and the properties of its alternatives beside its own."""
    seen = 0
    while "$ref" in part and seen < 10:
        part = known.definitions.get(part["$ref"].rsplit("/", 1)[-1], {})
        seen += 1
    return part


def _path(pointer: str) -> tuple[str, ...]:
    return tuple(pointer.removeprefix("/properties/").replace("/properties/", "/").split("/"))


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


@cache
def _folder() -> Path:
    found = find_spec("cfnlint")
    if found is None or not found.submodule_search_locations:
        raise RuntimeError(
            "cfn-lint is not installed: it brings the resource schemas (moto[server] needs it too)"
        )
    return Path(found.submodule_search_locations[0]) / "data" / "schemas"


@cache
def _index() -> dict[str, str]:
    index: dict[str, str] = json.loads((_folder() / "providers" / f"{_REGION}.json").read_text())
    return index
