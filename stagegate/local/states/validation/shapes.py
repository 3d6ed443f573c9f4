"""What an object of a definition may hold, as data: its fields, each with a check of its value."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from stagegate.local.service import Json
from stagegate.local.states.validation.diagnostics import (
    Diagnostic,
    none_of,
    required,
    several,
    unsupported,
    wrong_language,
    wrong_type,
)

JSONPATH = "JSONPath"
JSONATA = "JSONata"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a value stands, and what that means for it."""

    at: str
    is_jsonata: bool
    visible: frozenset[str] = frozenset({"input", "context"})
    """What `$states` has there."""
    only: str | None = None
    """The one query language whose fields are looked at: a state in the wrong one is not told twice."""

    def within(self, name: str) -> "Place":
        return replace(self, at=f"{self.at}/{name}")

    def item(self, index: int) -> "Place":
        return replace(self, at=f"{self.at}[{index}]")


Check = Callable[[Json, Place], Iterator[Diagnostic]]


@dataclass(frozen=True, kw_only=True)
class Field:
    check: Check
    language: str | None = None
    """The one query language that has the field; None for both."""
    sees: frozenset[str] = frozenset()
    """What `$states` has in it besides the input and the context object."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    fields: Mapping[str, Field]
    required: tuple[str, ...] = ()
    exactly_one: tuple[tuple[str, ...], ...] = ()
    at_most_one: tuple[tuple[str, ...], ...] = field(default=())


def both(check: Check, *sees: str) -> Field:
    return Field(check=check, sees=frozenset(sees))


def in_jsonpath(check: Check) -> Field:
    return Field(check=check, language=JSONPATH)


def in_jsonata(check: Check, *sees: str) -> Field:
    return Field(check=check, language=JSONATA, sees=frozenset(sees))


def of_shape(shape: Shape) -> Check:
    """The check of a value that must be an object of this shape."""
    return lambda value, place: check_object(value, shape, place)


def check_object(value: Json, shape: Shape, place: Place) -> Iterator[Diagnostic]:
    if not isinstance(value, dict):
        yield wrong_type("[OBJECT]", place.at)
        return
    foreign = JSONPATH if place.is_jsonata else JSONATA
    refused = {name for name in value if name in shape.fields and shape.fields[name].language == foreign}
    if place.only is None:
        for name in value:
            if name in refused:
                yield wrong_language(name, place.is_jsonata, place.at)
    for name in value:
        if name not in shape.fields:
            yield unsupported(name, place.at)
    if missing := [name for name in shape.required if name not in value]:
        yield required(missing, place.at)
    yield from _choices_of_one(value, shape, place)
    for name, content in value.items():
        if name in shape.fields and name not in refused:
            known = shape.fields[name]
            inside = replace(place.within(name), visible=place.visible | known.sees)
            yield from known.check(content, inside)


def _choices_of_one(value: Mapping[str, Json], shape: Shape, place: Place) -> Iterator[Diagnostic]:
    for names in (*shape.exactly_one, *shape.at_most_one):
        # "End": false says as little as no End.
        given = [name for name in names if name in value and (name, value[name]) != ("End", False)]
        if len(given) > 1:
            yield several(names, place.at)
        elif not given and names in shape.exactly_one:
            yield none_of(names, place.at)
