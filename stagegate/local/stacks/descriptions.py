"""The reading operations of CloudFormation: stacks, resources, events, templates, exports."""

import json
from typing import Any

from stagegate.local.service import AWSError
from stagegate.local.stacks import parameters
from stagegate.local.stacks.checks import needed_capabilities
from stagegate.local.stacks.operations import Operations, page
from stagegate.local.stacks.records import Document
from stagegate.local.stacks.template import Template, parse

_STACK = (
    "StackId", "StackName", "ChangeSetId", "CreationTime", "DeletionTime", "LastUpdatedTime", "StackStatus",
    "StackStatusReason", "DisableRollback", "TimeoutInMinutes", "EnableTerminationProtection",
)  # fmt: skip
_SUMMARY = (
    "StackId", "StackName", "CreationTime", "DeletionTime", "LastUpdatedTime", "StackStatus",
    "StackStatusReason",
)  # fmt: skip
_RESOURCE = (
    "LogicalResourceId",
    "PhysicalResourceId",
    "ResourceType",
    "ResourceStatus",
    "ResourceStatusReason",
)
_NOT_CHECKED = {"StackDriftStatus": "NOT_CHECKED"}
_RESOURCE_NOT_CHECKED = {"StackResourceDriftStatus": "NOT_CHECKED"}


class Descriptions(Operations):
    """Describe*, List*, GetTemplate* and ValidateTemplate."""

    def describe_stacks(self, *, StackName: str | None = None, NextToken: str | None = None) -> Document:
        if StackName is not None:
            return {"Stacks": [_described(self.records.stack(StackName))]}
        there = [stack for stack in self.records.stacks() if stack["StackStatus"] != "DELETE_COMPLETE"]
        return page([_described(stack) for stack in reversed(there)], "Stacks", NextToken)

    def list_stacks(
        self, *, StackStatusFilter: list[str] | None = None, NextToken: str | None = None
    ) -> Document:
        found = []
        for stack in reversed(self.records.stacks()):
            if StackStatusFilter and stack["StackStatus"] not in StackStatusFilter:
                continue
            summary = {name: stack[name] for name in _SUMMARY if stack.get(name) is not None}
            if description := _description(stack):
                summary["TemplateDescription"] = description
            found.append({**summary, "DriftInformation": _NOT_CHECKED})
        return page(found, "StackSummaries", NextToken)

    def describe_stack_events(self, *, StackName: str, NextToken: str | None = None) -> Document:
        events = self.records.events(self._existing(StackName)["StackId"])
        return page(events[::-1], "StackEvents", NextToken)

    def describe_stack_resource(self, *, StackName: str, LogicalResourceId: str) -> Document:
        stack = self._existing(StackName)
        resource = self.records.resource(stack["StackId"], LogicalResourceId)
        if resource is None:
            raise AWSError(
                "ValidationError", f"Resource {LogicalResourceId} does not exist for stack {StackName}"
            )
        detail = {**_resource(stack, resource), "LastUpdatedTimestamp": resource["Timestamp"]}
        detail.pop("Timestamp")
        if metadata := resource.get("Metadata"):
            detail["Metadata"] = json.dumps(metadata)
        return {"StackResourceDetail": detail}

    def describe_stack_resources(
        self,
        *,
        StackName: str | None = None,
        LogicalResourceId: str | None = None,
        PhysicalResourceId: str | None = None,
    ) -> Document:
        if StackName is None:
            stack = self._stack_of(PhysicalResourceId)
        else:
            stack = self._existing(StackName)
        resources = [
            _resource(stack, it)
            for it in self.records.resources(stack["StackId"])
            if LogicalResourceId in (None, it["LogicalResourceId"])
            and (StackName is None or PhysicalResourceId in (None, it.get("PhysicalResourceId")))
        ]
        if LogicalResourceId and not resources:
            raise AWSError(
                "ValidationError", f"Resource {LogicalResourceId} does not exist for stack {StackName}"
            )
        return {"StackResources": resources}

    def list_stack_resources(self, *, StackName: str, NextToken: str | None = None) -> Document:
        stack = self._existing(StackName)
        summaries = [
            {
                **{name: it[name] for name in _RESOURCE if it.get(name)},
                "LastUpdatedTimestamp": it["Timestamp"],
                "DriftInformation": _RESOURCE_NOT_CHECKED,
            }
            for it in self.records.resources(stack["StackId"])
        ]
        return page(summaries, "StackResourceSummaries", NextToken)

    def get_template(
        self,
        *,
        StackName: str | None = None,
        ChangeSetName: str | None = None,
        TemplateStage: str = "Original",
    ) -> Document:
        if ChangeSetName is not None:
            raise AWSError(
                "ValidationError", "GetTemplate: ChangeSetName is not supported by the local runtime."
            )
        if StackName is None:
            raise AWSError("ValidationError", "StackName must be specified.")
        stack = self._existing(StackName)
        body = stack["Current"]["TemplateBody"]
        if TemplateStage == "Original":
            body = stack["Current"].get("OriginalTemplate", body)
        return {
            "TemplateBody": body,
            "StagesAvailable": ["Original", "Processed"],
        }

    async def get_template_summary(
        self,
        *,
        TemplateBody: str | None = None,
        TemplateURL: str | None = None,
        StackName: str | None = None,
        TemplateSummaryConfig: Any = None,
    ) -> Document:
        if StackName is not None:
            template = parse(self._existing(StackName)["Current"]["TemplateBody"])
        else:
            template = await self.template(TemplateBody, TemplateURL)
        types = sorted({resource["Type"] for resource in template.resources.values()})
        return {
            **_summary(template),
            "ResourceTypes": types,
            "Version": "2010-09-09",
        }

    async def validate_template(
        self, *, TemplateBody: str | None = None, TemplateURL: str | None = None
    ) -> Document:
        return _summary(await self.template(TemplateBody, TemplateURL), key="DefaultValue")

    def list_exports(self, *, NextToken: str | None = None) -> Document:
        return page(self.records.exports(), "Exports", NextToken)

    def list_imports(self, *, ExportName: str, NextToken: str | None = None) -> Document:
        names = [
            stack["StackName"]
            for stack in self.records.stacks()
            if ExportName in stack.get("Imports", ()) and stack["StackStatus"] != "DELETE_COMPLETE"
        ]
        if not names:
            raise AWSError("ValidationError", f"Export '{ExportName}' is not imported by any stack.")
        return page(names, "Imports", NextToken)

    def _existing(self, name: str) -> Document:
        """As these operations name a stack that is not there."""
        if found := self.records.find(name):
            return found
        raise AWSError("ValidationError", f"Stack [{name}] does not exist")

    def _stack_of(self, physical_id: str | None) -> Document:
        for stack in self.records.stacks():
            for resource in self.records.resources(stack["StackId"]):
                if physical_id and resource.get("PhysicalResourceId") == physical_id:
                    return stack
        raise AWSError("ValidationError", f"Stack for {physical_id} does not exist")


def _described(stack: Document) -> Document:
    answer = {name: stack[name] for name in _STACK if stack.get(name) is not None}
    current = stack.get("Current")
    if current:
        template = parse(current["TemplateBody"])
        if template.description:
            answer["Description"] = template.description
        answer["Parameters"] = parameters.described(
            template, current["Parameters"], current.get("Resolved", {})
        )
        answer["Capabilities"] = current["Capabilities"]
        answer["Tags"] = current.get("Tags", [])
        if current.get("RoleARN"):
            answer["RoleARN"] = current["RoleARN"]
    return {
        **answer,
        "Outputs": stack.get("Outputs", []),
        "NotificationARNs": stack.get("NotificationARNs", []),
        "RollbackConfiguration": {},
        "DriftInformation": _NOT_CHECKED,
    }


def _description(stack: Document) -> str | None:
    return parse(stack["Current"]["TemplateBody"]).description if "Current" in stack else None


def _resource(stack: Document, resource: Document) -> Document:
    return {
        "StackName": stack["StackName"],
        "StackId": stack["StackId"],
        **{name: resource[name] for name in _RESOURCE if resource.get(name)},
        "Timestamp": resource["Timestamp"],
        "DriftInformation": _RESOURCE_NOT_CHECKED,
    }


def _summary(template: Template, *, key: str = "") -> Document:
    capabilities, types = needed_capabilities(template)
    answer: Document = {"Parameters": parameters.declared(template)}
    if key:  # ValidateTemplate gives less of each parameter
        for parameter in answer["Parameters"]:
            parameter.pop("ParameterType", None)
            parameter.pop("ParameterConstraints", None)
    if template.description:
        answer["Description"] = template.description
    if capabilities:
        answer["Capabilities"] = capabilities
        answer["CapabilitiesReason"] = f"The following resource(s) require capabilities: [{', '.join(types)}]"
    return answer
