"""A stack's template evaluated against the stack's own resources, and against what a plan knows of them."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from stagegate.local.service import AWSError, Runtime
from stagegate.local.stacks.intrinsics import Evaluator, template_error, text
from stagegate.local.stacks.records import Document, Records
from stagegate.local.stacks.template import Template, parse, unresolved, walk

UNKNOWN = "{{changeSet:KNOWN_AFTER_APPLY}}"
"""What a plan has in the place of a value that is known when the resource is there."""


@dataclass(frozen=True, kw_only=True)
class StackResources:
    """Ref, Fn::GetAtt and Fn::ImportValue for one stack; those of `unknown` resources are not known yet."""

    records: Records
    stack_id: str
    unknown: Collection[str] = ()
    planned: bool = False

    def ref(self, logical_id: str) -> str:
        if self.planned and logical_id in self.unknown:
            return UNKNOWN
        physical_id: str = self._resource(logical_id).get("PhysicalResourceId") or ""
        return physical_id

    def attribute(self, logical_id: str, name: str) -> Any:
        if self.planned and logical_id in self.unknown:
            return UNKNOWN
        attributes = self._resource(logical_id).get("Attributes", {})
        if name not in attributes:
            raise template_error(
                f"resource {logical_id} does not support attribute type {name} in Fn::GetAtt"
            )
        return attributes[name]

    def imported(self, name: str) -> str:
        for export in self.records.exports():
            if export["Name"] == name:
                value: str = export["Value"]
                return value
        raise AWSError("ValidationError", f"No export named {name} found.")

    def _resource(self, logical_id: str) -> Document:
        resource = self.records.resource(self.stack_id, logical_id)
        if resource is None:
            raise unresolved([logical_id])
        return resource


def pseudo_parameters(runtime: Runtime, stack: Document) -> dict[str, Any]:
    return {
        "AWS::AccountId": runtime.account_id,
        "AWS::NotificationARNs": list(stack.get("NotificationARNs", ())),
        "AWS::Partition": "aws",
        "AWS::Region": runtime.region,
        "AWS::StackId": stack["StackId"],
        "AWS::StackName": stack["StackName"],
        "AWS::URLSuffix": "amazonaws.com",
    }


def evaluator_of(records: Records, stack: Document) -> Evaluator:
    """For the stack as it is now, with the definition that is its current one."""
    definition = stack["Current"]
    return Evaluator(
        template=parse(definition["TemplateBody"]),
        parameters=definition["Resolved"],
        pseudo=pseudo_parameters(records.runtime, stack),
        resources=StackResources(records=records, stack_id=stack["StackId"]),
    )


def planning_evaluator(
    records: Records, stack: Document, template: Template, resolved: Document, unknown: Collection[str]
) -> Evaluator:
    """For another definition, where the `unknown` resources are still to be made or replaced."""
    return Evaluator(
        template=template,
        parameters=resolved,
        pseudo=pseudo_parameters(records.runtime, stack),
        resources=StackResources(records=records, stack_id=stack["StackId"], unknown=unknown, planned=True),
    )


def imports(evaluator: Evaluator) -> set[str]:
    """The exports that the template takes in."""
    outputs = dict(evaluator.template.outputs)
    written = [evaluator.template.resources[name].get("Properties", {}) for name in evaluator.active()]
    return {
        text(evaluator.value(argument))
        for function, argument in walk(evaluator.taken([*written, outputs]))
        if function == "Fn::ImportValue"
    }
