"""A state machine as a whole: its scopes, their states, how these lead to each other."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from stagegate.local.service import Json
from stagegate.local.states.validation.choices import check_rules
from stagegate.local.states.validation.diagnostics import Diagnostic, required, schema, too_long, wrong_type
from stagegate.local.states.validation.map_shapes import (
    DISTRIBUTED,
    EXPRESS,
    check_map,
    check_processor_config,
)
from stagegate.local.states.validation.shapes import JSONATA, JSONPATH, Place, Shape, check_object
from stagegate.local.states.validation.state_shapes import BRANCH, MACHINE, PROCESSOR, STATES
from stagegate.local.states.validation.tasks import check_error_names, check_task
from stagegate.local.states.validation.variables import assigned, check_scopes

MISSING_TARGET = "MISSING_TRANSITION_TARGET"
_MOST_NAME = 80


@dataclass(frozen=True, kw_only=True)
class _Machine:
    """What all scopes of a state machine share; `is_express` is a child workflow's own."""

    is_jsonata: bool
    is_express: bool
    names: set[str] = field(default_factory=set)
    labels: set[str] = field(default_factory=set)


def check_machine(definition: Mapping[str, Any], *, is_express: bool) -> Iterator[Diagnostic]:
    is_jsonata = definition.get("QueryLanguage", JSONPATH) != JSONPATH
    machine = _Machine(is_jsonata=is_jsonata, is_express=is_express)
    yield from _scope(definition, MACHINE, "", machine, frozenset())


def check_state(state: Mapping[str, Any]) -> Iterator[Diagnostic]:
    """One that stands alone: where it leads is not looked at."""
    yield from _content(state, "", _Machine(is_jsonata=False, is_express=False), frozenset())


def _scope(
    fields: Json, shape: Shape, at: str, machine: _Machine, outer: frozenset[str]
) -> Iterator[Diagnostic]:
    """A state machine, a branch, or what a Map does; `outer` are the variables it sees."""
    yield from check_object(fields, shape, Place(at=at, is_jsonata=machine.is_jsonata))
    if not isinstance(fields, dict) or "States" not in fields:
        return
    states = fields["States"]
    if not isinstance(states, dict):
        yield wrong_type("[OBJECT]", f"{at}/States")
        return
    if not states:
        yield schema("Value cannot be empty", f"{at}/States")
        return
    yield from check_scopes(states, outer, at, is_jsonata=machine.is_jsonata)
    visible = outer | assigned(states)
    for name, state in states.items():
        yield from _state(name, state, f"{at}/States/{name}", machine, visible)
    if isinstance(fields.get("StartAt"), str):
        yield from _transitions(fields["StartAt"], states, at)


def _state(
    name: str, fields: Json, at: str, machine: _Machine, variables: frozenset[str]
) -> Iterator[Diagnostic]:
    if len(name) > _MOST_NAME:
        yield too_long("State", name, _MOST_NAME, at)
    if name in machine.names:
        yield Diagnostic("DUPLICATE_STATE_NAME", f"Duplicate State name: {name}", at)
    machine.names.add(name)
    yield from _content(fields, at, machine, variables)


def _content(fields: Json, at: str, machine: _Machine, variables: frozenset[str]) -> Iterator[Diagnostic]:
    if not isinstance(fields, dict):
        yield wrong_type("[OBJECT]", at)
    elif "Type" not in fields:
        yield required(["Type"], at)
    elif not _has_known_type(fields):
        yield schema(f"Value should be one of the following: [{', '.join(STATES)}]", f"{at}/Type")
    else:
        yield from _known_state(fields, at, machine)
        yield from _scopes_within(fields, at, machine, variables)


def _has_known_type(state: Mapping[str, Any]) -> bool:
    return isinstance(kind := state.get("Type"), str) and kind in STATES


def _known_state(fields: Mapping[str, Any], at: str, machine: _Machine) -> Iterator[Diagnostic]:
    language = fields.get("QueryLanguage", JSONATA if machine.is_jsonata else JSONPATH)
    place = Place(at=at, is_jsonata=language != JSONPATH)
    if machine.is_jsonata and language == JSONPATH:
        message = "'QueryLanguage' can not be 'JSONPath' if set to 'JSONata' for whole state machine"
        yield schema(message, at)
        place = replace(place, only=JSONPATH)
    yield from check_object(fields, STATES[fields["Type"]], place)
    match fields["Type"]:
        case "Task":
            yield from check_task(fields, place, is_express=machine.is_express)
        case "Choice":
            yield from check_rules(fields.get("Choices"), place.within("Choices"))
        case "Map":
            yield from check_map(fields, place, machine.labels)
    yield from check_error_names(fields, place)


def _scopes_within(
    fields: Mapping[str, Any], at: str, machine: _Machine, variables: frozenset[str]
) -> Iterator[Diagnostic]:
    branches = fields.get("Branches")
    for index, branch in enumerate(branches if isinstance(branches, list) else ()):
        yield from _scope(branch, BRANCH, f"{at}/Branches[{index}]", machine, variables)
    for name in ("ItemProcessor", "Iterator"):
        if name in fields:
            yield from _processor(fields[name], f"{at}/{name}", machine, variables)


def _processor(fields: Json, at: str, machine: _Machine, variables: frozenset[str]) -> Iterator[Diagnostic]:
    config = fields.get("ProcessorConfig", {}) if isinstance(fields, dict) else {}
    place = Place(at=f"{at}/ProcessorConfig", is_jsonata=machine.is_jsonata)
    yield from check_processor_config(config, place, is_express=machine.is_express)
    if isinstance(config, dict) and config.get("Mode") == DISTRIBUTED:
        # A child workflow of its own: it sees no variable of its parent's.
        is_express = machine.is_express or config.get("ExecutionType") == EXPRESS
        machine, variables = replace(machine, is_express=is_express), frozenset()
    yield from _scope(fields, PROCESSOR, at, machine, variables)


def _transitions(start_at: str, states: Mapping[str, Json], at: str) -> Iterator[Diagnostic]:
    targets = [(start_at, f"{at}/StartAt")]
    for name, state in states.items():
        targets += _targets(state, f"{at}/States/{name}")
    for target, where in targets:
        if target not in states:
            yield Diagnostic(MISSING_TARGET, f"Missing 'Next' target: {target}", where)
    if not at and not any(map(_ends, states.values())):
        yield Diagnostic("MISSING_END_STATE", "Workflow has no terminal state", None)
        return
    reached = _reached(start_at, states)
    for name in states:
        if name not in reached:
            yield Diagnostic(MISSING_TARGET, f'State "{name}" is not reachable.', f"{at}/States/{name}")


def _ends(state: Json) -> bool:
    # One of a wrong type, or with no way on, is told what it is missing where it stands.
    if not isinstance(state, dict) or not _has_known_type(state):
        return True
    return state.get("End") is True or not any(True for _ in _targets(state, ""))


def _reached(start_at: str, states: Mapping[str, Json]) -> set[str]:
    reached: set[str] = set()
    following = [start_at]
    while following:
        name = following.pop()
        if name not in reached and name in states:
            reached.add(name)
            following += (target for target, _ in _targets(states[name], ""))
    return reached


def _targets(state: Json, at: str) -> Iterable[tuple[str, str]]:
    """Where a state leads, with the places that say so."""
    if not isinstance(state, dict):
        return
    for name in ("Next", "Default"):
        if isinstance(target := state.get(name), str):
            yield target, f"{at}/{name}"
    for rules in ("Choices", "Catch"):
        listed = state.get(rules)
        for index, rule in enumerate(listed if isinstance(listed, list) else ()):
            if isinstance(rule, dict) and isinstance(target := rule.get("Next"), str):
                yield target, f"{at}/{rules}[{index}]/Next"
