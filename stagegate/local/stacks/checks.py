"""What is refused before anything is created: types, properties, capabilities that are not there."""

from collections.abc import Collection
from typing import Any

from stagegate.local.service import AWSError
from stagegate.local.stacks.intrinsics import Evaluator, check_extension, template_error
from stagegate.local.stacks.resources import RESOURCE_TYPES
from stagegate.local.stacks.schemas import schema
from stagegate.local.stacks.template import Template, format_error, unresolved, walk

_NAMED_IAM = {
    "AWS::IAM::Role": "RoleName",
    "AWS::IAM::ManagedPolicy": "ManagedPolicyName",
    "AWS::IAM::Policy": None,
}
"""The types that need a capability, each with the property that makes it the one for names."""


def check(evaluator: Evaluator) -> None:
    """A ValidationError that names what the template asks for and what cannot be had."""
    template = evaluator.template
    active = evaluator.active()
    if unknown := sorted({template.resources[name]["Type"] for name in active} - RESOURCE_TYPES.keys()):
        raise format_error(
            f"Unrecognized resource types: [{', '.join(unknown)}] (the local runtime has no such types)"
        )
    for name in active:
        _check_properties(name, template.resources[name])
        for function, argument in walk(evaluator.taken(template.resources[name].get("Properties", {}))):
            if function == "Fn::GetAtt":
                _check_attribute(template, argument)
            elif function in ("Fn::Length", "Fn::ToJsonString"):
                check_extension(template, function)
    for output in template.outputs.values():
        if "Condition" in output and not evaluator.condition(output["Condition"]):
            continue
        for function, argument in walk(evaluator.taken(output["Value"])):
            if function == "Fn::GetAtt":
                _check_attribute(template, argument)
            elif function == "Ref" and not _is_known(evaluator, argument):
                raise unresolved([argument], block="Outputs")
        evaluator.value(output["Value"])


def _is_known(evaluator: Evaluator, name: str) -> bool:
    return name in evaluator.template.resources or name in evaluator.parameters or name in evaluator.pseudo


def _check_properties(name: str, resource: Any) -> None:
    properties = resource.get("Properties", {})
    if not isinstance(properties, dict):
        raise format_error(f"[/Resources/{name}/Properties] 'null' values are not allowed in templates")
    kind = RESOURCE_TYPES[resource["Type"]]
    known = schema(kind.name)
    assert known is not None, kind.name
    # what the type itself does not have fails with the resource, as on AWS
    for written in properties:
        if written in known.properties and written not in kind.supported:
            raise AWSError(
                "ValidationError",
                f"The property {written} of {kind.name} ({name}) is not supported by the local runtime.",
            )


def _check_attribute(template: Template, argument: Any) -> None:
    logical_id, attribute = argument.split(".", 1) if isinstance(argument, str) else argument
    if logical_id not in template.resources:
        raise template_error(f"instance of Fn::GetAtt references undefined resource {logical_id}")
    kind = RESOURCE_TYPES.get(template.resources[logical_id]["Type"])
    if kind is None or not isinstance(attribute, str):
        return
    known = schema(kind.name)
    if known and attribute not in known.read_only | kind.attributes:
        raise template_error(
            f"resource {logical_id} does not support attribute type {attribute} in Fn::GetAtt"
        )


def needed_capabilities(template: Template) -> tuple[list[str], list[str]]:
    """What the caller must acknowledge, and the resource types for which."""
    types = {resource["Type"] for resource in template.resources.values()} & _NAMED_IAM.keys()
    if not types:
        return [], []
    named = any(
        (member := _NAMED_IAM.get(resource["Type"])) and member in resource.get("Properties", {})
        for resource in template.resources.values()
    )
    return ["CAPABILITY_NAMED_IAM" if named else "CAPABILITY_IAM"], sorted(types)


def check_capabilities(template: Template, given: Collection[str], *, is_extended: bool = False) -> None:
    if is_extended and "CAPABILITY_AUTO_EXPAND" not in given:
        raise AWSError(
            "InsufficientCapabilitiesException", "Requires capabilities : [CAPABILITY_AUTO_EXPAND]"
        )
    needed, _ = needed_capabilities(template)
    for capability in needed:
        if capability not in given and "CAPABILITY_NAMED_IAM" not in given:
            raise AWSError("InsufficientCapabilitiesException", f"Requires capabilities : [{capability}]")
