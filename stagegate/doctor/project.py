"""What is examined, as plain data: the state machines' definitions and the CloudFormation templates."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from stagegate.errors import ConfigurationError
from stagegate.templates import read_template

JSONATA = "JSONata"


@dataclass(frozen=True, kw_only=True)
class Expression:
    """A member of a request: a text as it is, or what is computed when the task starts."""

    text: str
    is_computed: bool


@dataclass(frozen=True, kw_only=True)
class State:
    """A state, with those beside it and those around it."""

    name: str
    body: Mapping[str, Any]
    siblings: Mapping[str, "State"] = field(repr=False)
    around: "State | None" = None
    language: str = "JSONPath"

    @property
    def kind(self) -> str:
        return str(self.body.get("Type", ""))

    @property
    def is_jsonata(self) -> bool:
        return self.language == JSONATA

    @property
    def request(self) -> Mapping[str, Any]:
        """What a task asks its API for; empty where an expression makes it all."""
        request = self.body.get("Arguments" if self.is_jsonata else "Parameters")
        return request if isinstance(request, dict) else {}

    @property
    def is_distributed(self) -> bool:
        """Whether a Map runs its items as executions of their own."""
        processor = self.body.get("ItemProcessor", {})
        return bool(processor.get("ProcessorConfig", {}).get("Mode") == "DISTRIBUTED")

    def member(self, name: str) -> Expression | None:
        """The member of the request with this name; None where it is not there, or is no text."""
        if isinstance(text := self.request.get(f"{name}.$"), str):
            return Expression(text=text, is_computed=True)
        if not isinstance(text := self.request.get(name), str):
            return None
        return Expression(text=text, is_computed=self.is_jsonata and text.strip().startswith("{%"))

    def following(self) -> Iterator["State"]:
        """The states that may come next when this one succeeds; after a branch, those after its state."""
        names = [self.body.get("Next"), self.body.get("Default")]
        names += [choice.get("Next") for choice in self.body.get("Choices", ())]
        yield from (self.siblings[str(name)] for name in names if name in self.siblings)
        if self.body.get("End") and self.around:
            yield from self.around.following()


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A state machine's definition, and where it was read."""

    file: str
    body: Mapping[str, Any] = field(repr=False)

    @cached_property
    def states(self) -> tuple[State, ...]:
        """All of them, those in branches and in the processors of Map states too."""
        language = str(self.body.get("QueryLanguage", "JSONPath"))
        return tuple(_states(self.body, around=None, language=language))

    @property
    def name(self) -> str:
        return Path(self.file).name.removesuffix(".json").removesuffix(".asl")


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A resource of a template."""

    file: str
    logical_id: str
    type: str
    properties: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Template:
    """A CloudFormation template: `!Ref X` is {"Ref": X}, `!Sub` and the others are {"Fn::Sub": …}."""

    file: str
    resources: Mapping[str, Resource]
    parameters: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def of_type(self, *types: str) -> Iterator[Resource]:
        return (resource for resource in self.resources.values() if resource.type in types)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A state machine that a template makes, where its definition is known."""

    resource: Resource
    template: Template
    definition: Definition


@dataclass(frozen=True, kw_only=True)
class Project:
    """All that is examined."""

    definitions: tuple[Definition, ...] = ()
    templates: tuple[Template, ...] = ()
    machines: tuple[Machine, ...] = ()

    @property
    def states(self) -> Iterator[tuple[Definition, State]]:
        return ((definition, state) for definition in self.definitions for state in definition.states)

    @property
    def resources(self) -> Iterator[Resource]:
        return (resource for template in self.templates for resource in template.resources.values())


def default_files(root: Path) -> list[Path]:
    """The definitions and the templates of the project; what else there is in YAML is not examined."""
    templates = sorted(root.glob("deploy/*.yaml"))
    return [
        *sorted(root.glob("statemachines/*.asl.json")),
        *(path for path in templates if re.search(r"^Resources:", path.read_text(), re.MULTILINE)),
    ]


def read_project(paths: Iterable[Path], *, root: Path) -> Project:
    """Read definitions and templates, each known by its content.

    Raises ConfigurationError for a file that is neither.
    """
    return project_of({_shown(path, root): _read(path) for path in paths})


def project_of(documents: Mapping[str, Any]) -> Project:
    """Definitions and templates by the names of their files."""
    definitions, templates = [], []
    for file, document in documents.items():
        if _is_definition(document):
            definitions.append(Definition(file=file, body=document))
        elif isinstance(document, dict) and isinstance(document.get("Resources"), dict):
            templates.append(_template(file, document["Resources"], document.get("Parameters") or {}))
        else:
            raise ConfigurationError(
                f"{file} is neither a definition, with StartAt and States, nor a template, with Resources"
            )
    machines = [machine for template in templates for machine in _machines(template, definitions)]
    written = [machine.definition for machine in machines if machine.definition not in definitions]
    return Project(definitions=(*definitions, *written), templates=tuple(templates), machines=tuple(machines))


def text_of(value: Any) -> str | None:
    """A template's text, with what is substituted left as `${Name}`; None for what only AWS knows."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict) or len(value) != 1:
        return None
    (function, argument) = next(iter(value.items()))
    if function == "Ref":
        return f"${{{argument}}}"
    if function == "Fn::GetAtt":
        return f"${{{argument if isinstance(argument, str) else '.'.join(map(str, argument))}}}"
    if function == "Fn::Sub":
        text = argument[0] if isinstance(argument, list) and argument else argument
        return text if isinstance(text, str) else None
    if function == "Fn::Join" and isinstance(argument, list) and len(argument) == 2:
        parts = [text_of(part) for part in argument[1]] if isinstance(argument[1], list) else [None]
        return None if None in parts else str(argument[0]).join(part for part in parts if part is not None)
    return None


def choices_of(value: Any) -> list[Any]:
    """What a property may be: both sides of each Fn::If, and the elements of lists."""
    if isinstance(value, list):
        return [choice for item in value for choice in choices_of(item)]
    if isinstance(value, dict) and "Fn::If" in value:
        return [choice for side in value["Fn::If"][1:] for choice in choices_of(side)]
    return [value]


def texts(value: Any) -> Iterator[str]:
    """Each text in a value, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def _states(body: Mapping[str, Any], *, around: State | None, language: str) -> Iterator[State]:
    siblings: dict[str, State] = {}
    for name, written in body.get("States", {}).items():
        spoken = str(written.get("QueryLanguage", language))
        siblings[name] = State(name=name, body=written, siblings=siblings, around=around, language=spoken)
    for state in siblings.values():
        yield state
        inner = [*state.body.get("Branches", ())]
        inner += [state.body[key] for key in ("ItemProcessor", "Iterator") if key in state.body]
        for part in inner:
            yield from _states(part, around=state, language=language)


def _is_definition(document: Any) -> bool:
    if not isinstance(document, dict) or "StartAt" not in document:
        return False
    states = document.get("States")
    return isinstance(states, dict) and all(isinstance(state, dict) for state in states.values())


def _template(file: str, resources: Mapping[str, Any], parameters: Mapping[str, Any]) -> Template:
    for name, resource in resources.items():
        if not isinstance(resource, dict) or not isinstance(resource.get("Type"), str):
            raise ConfigurationError(f"{file}: the resource {name} has no Type")
    return Template(
        file=file,
        parameters=parameters,
        resources={
            name: Resource(
                file=file,
                logical_id=name,
                type=resource["Type"],
                properties=resource.get("Properties") or {},
            )
            for name, resource in resources.items()
        },
    )


def _machines(template: Template, definitions: Iterable[Definition]) -> Iterator[Machine]:
    by_name = {definition.name: definition for definition in definitions}
    for resource in template.of_type("AWS::StepFunctions::StateMachine"):
        definition = _written_definition(resource) or _stored_definition(resource, by_name)
        if definition:
            yield Machine(resource=resource, template=template, definition=definition)


def _written_definition(resource: Resource) -> Definition | None:
    """The definition that stands in the template itself."""
    body = _filled(resource.properties.get("Definition"))
    if body is None:
        text = text_of(resource.properties.get("DefinitionString"))
        try:
            body = json.loads(text) if text else None
        except ValueError:
            return None
    file = f"{resource.file} ({resource.logical_id})"
    return Definition(file=file, body=body) if body and _is_definition(body) else None


def _filled(value: Any) -> Any:
    """A definition in YAML, with texts where the template has functions that make texts."""
    if isinstance(value, dict):
        text = text_of(value)
        return {key: _filled(item) for key, item in value.items()} if text is None else text
    return [_filled(item) for item in value] if isinstance(value, list) else value


def _stored_definition(resource: Resource, by_name: Mapping[str, Definition]) -> Definition | None:
    """The definition in S3: by the name of its file in the key, else by the logical id, `ModelBuild` being
    model-build.asl.json."""
    location = resource.properties.get("DefinitionS3Location")
    if not isinstance(location, dict):
        return None
    key = (text_of(location.get("Key")) or "").rpartition("/")[2]
    stored = by_name.get(key.removesuffix(".json").removesuffix(".asl"))
    return stored or by_name.get(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", resource.logical_id).lower())


def _shown(path: Path, root: Path) -> str:
    absolute = path.resolve()
    return str(absolute.relative_to(root) if absolute.is_relative_to(root) else path)


def _read(path: Path) -> Any:
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    try:
        if path.suffix == ".json":
            return json.loads(text)
        return read_template(text)
    except (ValueError, yaml.YAMLError) as error:
        language = "JSON" if path.suffix == ".json" else "YAML"
        raise ConfigurationError(f"{path} is not valid {language}: {error}") from error
