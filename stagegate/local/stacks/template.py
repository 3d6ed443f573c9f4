"""A template's text as data: JSON, or YAML with the short forms; and what is wrong with its form."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import yaml

from stagegate.local.service import AWSError

_SECTIONS = frozenset(
    {
        "AWSTemplateFormatVersion", "Conditions", "Description", "Mappings", "Metadata", "Outputs",
        "Parameters", "Resources", "Rules", "Transform",
    }
)  # fmt: skip
_RESOURCE_MEMBERS = frozenset(
    {"Condition", "DeletionPolicy", "DependsOn", "Metadata", "Properties", "Type", "UpdateReplacePolicy"}
)
_DELETION_POLICIES = frozenset({"Delete", "Retain", "RetainExceptOnCreate"})
_SHORT_FORMS = frozenset(
    {
        "And", "Base64", "Cidr", "Equals", "FindInMap", "GetAZs", "GetAtt", "If", "ImportValue", "Join",
        "Length", "Not", "Or", "Select", "Split", "Sub", "ToJsonString",
    }
)  # fmt: skip
LANGUAGE_EXTENSIONS = "AWS::LanguageExtensions"
LOOP = "Fn::ForEach::"
MAX_BODY = 51_200
MAX_OBJECT = 1_048_576


@dataclass(frozen=True, kw_only=True)
class Template:
    """The sections of a template, each as it was written."""

    text: str
    description: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    mappings: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    conditions: Mapping[str, Any] = field(default_factory=dict)
    resources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    is_extended: bool = False
    """It has the transform AWS::LanguageExtensions; its loops are left out until they are written out."""

    @property
    def knows_extensions(self) -> bool:
        """Whether the functions of AWS::LanguageExtensions may be used."""
        return self.is_extended or LANGUAGE_EXTENSIONS in self.metadata


def format_error(message: str) -> AWSError:
    return AWSError("ValidationError", f"Template format error: {message}")


def unresolved(names: Iterable[str], *, block: str = "Resources") -> AWSError:
    """The error for references to what the template does not have."""
    return format_error(
        f"Unresolved resource dependencies [{', '.join(names)}] in the {block} block of the template"
    )


@lru_cache(maxsize=64)
def parse(text: str) -> Template:
    """Read a template; a ValidationError in CloudFormation's words says what is wrong with its form."""
    body = read(text)
    if not isinstance(body, dict):
        raise format_error("unsupported structure.")
    if unknown := sorted(str(section) for section in body if section not in _SECTIONS):
        raise AWSError("ValidationError", f"Invalid template property or properties [{', '.join(unknown)}]")
    if body.get("Rules"):
        raise AWSError(
            "ValidationError", "The template's section Rules is not supported by the local runtime."
        )
    transforms = body.get("Transform") or []
    transforms = transforms if isinstance(transforms, list) else [transforms]
    if unknown := [str(it) for it in transforms if it != LANGUAGE_EXTENSIONS]:
        raise AWSError(
            "ValidationError",
            f"The transform {unknown[0]} is not supported by the local runtime; {LANGUAGE_EXTENSIONS} is.",
        )
    is_extended = bool(transforms)
    for section in ("Conditions", "Mappings", "Metadata", "Outputs", "Parameters", "Resources"):
        if not isinstance(body.get(section, {}), dict):
            raise format_error(f"{section} must be an object.")
    if not body.get("Resources"):
        raise format_error("At least one Resources member must be defined.")
    resources, outputs, conditions = (
        _without_loops(body.get(section, {}), is_extended=is_extended)
        for section in ("Resources", "Outputs", "Conditions")
    )
    for name, resource in resources.items():
        _check_resource(name, resource)
    for name, parameter in body.get("Parameters", {}).items():
        if not isinstance(parameter, dict) or "Type" not in parameter:
            raise format_error(f"Every Parameters object must contain a Type member. ({name})")
    for name, output in outputs.items():
        if not isinstance(output, dict) or "Value" not in output:
            raise format_error(f"Every Outputs member must contain a Value object. ({name})")
    return Template(
        text=text,
        description=body.get("Description"),
        metadata=body.get("Metadata", {}),
        parameters=body.get("Parameters", {}),
        mappings=body.get("Mappings", {}),
        conditions=conditions,
        resources=resources,
        outputs=outputs,
        is_extended=is_extended,
    )


def _without_loops(section: dict[str, Any], *, is_extended: bool) -> dict[str, Any]:
    """The loops of a template that has them are written out first (language_extensions.py)."""
    if not is_extended:
        return section
    return {name: part for name, part in section.items() if not str(name).startswith(LOOP)}


def _check_resource(name: str, resource: Any) -> None:
    if not isinstance(name, str) or not name.isalnum():
        raise format_error(f"Resource name {name} is non alphanumeric.")
    if not isinstance(resource, dict):
        raise format_error(f"[/Resources/{name}] resource definition is malformed")
    if not isinstance(resource.get("Type"), str):
        raise format_error(f"[/Resources/{name}] Every Resources object must contain a Type member.")
    if unknown := sorted(set(resource) - _RESOURCE_MEMBERS):
        raise AWSError(
            "ValidationError", f"Invalid template resource property '{unknown[0]}' in resource '{name}'"
        )
    for member in ("DeletionPolicy", "UpdateReplacePolicy"):
        policy = resource.get(member, "Delete")
        if policy not in _DELETION_POLICIES:
            raise format_error(f"Unrecognized {member} {policy} for resource {name}")


def read(text: str) -> Any:
    """The text as data; a ValidationError says where it is not well-formed."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - built on the safe loader; JSON is YAML too
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        language = "JSON" if text.lstrip().startswith("{") else "YAML"
        raise format_error(
            f"{language} not well-formed.{where} {getattr(error, 'problem', None) or ''}".rstrip()
        ) from error


_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):  # type: ignore[misc]
    """Safe, with the short forms, and with dates left as the texts that they are ("2012-10-17")."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _SafeLoader.yaml_implicit_resolvers.items()
}


def _short_form(loader: Any, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if suffix not in _SHORT_FORMS and suffix not in ("Ref", "Condition"):
        raise yaml.constructor.ConstructorError(None, None, f"unknown tag !{suffix}", node.start_mark)
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short_form)


def walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Every function in `value`, as (name, argument), from the outside to the inside."""
    if isinstance(value, dict):
        if len(value) == 1:
            ((name, argument),) = value.items()
            if name in ("Ref", "Condition") or str(name).startswith("Fn::"):
                yield name, argument
        for part in value.values():
            yield from walk(part)
    elif isinstance(value, list):
        for part in value:
            yield from walk(part)
