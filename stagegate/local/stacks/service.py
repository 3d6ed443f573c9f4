"""AWS CloudFormation: stacks made, changed and taken away."""

from datetime import UTC, datetime
from typing import Any

from stagegate.local.service import AWSError
from stagegate.local.stacks.change_sets import ChangeSets
from stagegate.local.stacks.descriptions import Descriptions
from stagegate.local.stacks.operations import check_stack_name, check_updatable, is_asked_again
from stagegate.local.stacks.plan import is_changed
from stagegate.local.stacks.records import Document
from stagegate.local.stacks.steps import IN_UPDATE
from stagegate.local.stacks.template import parse

_DELETABLE_WHILE = frozenset(
    {"CREATE_IN_PROGRESS", "REVIEW_IN_PROGRESS", "DELETE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS"}
)


class CloudFormation(ChangeSets, Descriptions):
    """The API; what reads and what shows changes first is in the classes that it is made of."""

    async def create_stack(
        self,
        *,
        StackName: str,
        TemplateBody: str | None = None,
        TemplateURL: str | None = None,
        Parameters: list[dict[str, Any]] | None = None,
        DisableRollback: bool | None = None,
        OnFailure: str | None = None,
        TimeoutInMinutes: int | None = None,
        NotificationARNs: list[str] | None = None,
        Capabilities: list[str] | None = None,
        RoleARN: str | None = None,
        Tags: list[dict[str, str]] | None = None,
        ClientRequestToken: str | None = None,
        EnableTerminationProtection: bool = False,
        RetainExceptOnCreate: bool = False,
    ) -> Document:
        check_stack_name(StackName)
        if DisableRollback is not None and OnFailure is not None:
            raise AWSError(
                "ValidationError", "You can specify either DisableRollback or OnFailure, but not both."
            )
        template = await self.template(TemplateBody, TemplateURL)
        definition = await self.definition(
            template,
            given=Parameters or (),
            previous=None,
            capabilities=Capabilities,
            tags=Tags,
            role=RoleARN,
        )
        template = parse(definition["TemplateBody"])
        if existing := self.records.find(StackName):
            if is_asked_again(existing, ClientRequestToken):
                return {"StackId": existing["StackId"]}
            raise AWSError("AlreadyExistsException", f"Stack [{StackName}] already exists")
        stack = self.records.new_stack(
            StackName,
            Current=definition,
            OnFailure=OnFailure or ("DO_NOTHING" if DisableRollback else "ROLLBACK"),
            DisableRollback=bool(DisableRollback),
            TimeoutInMinutes=TimeoutInMinutes,
            NotificationARNs=NotificationARNs or [],
            ClientRequestToken=ClientRequestToken,
            EnableTerminationProtection=EnableTerminationProtection,
            RetainExceptOnCreate=RetainExceptOnCreate,
        )
        try:
            self.check(stack, template, definition["Resolved"])
        except AWSError:
            self.records.forget_name(stack)
            raise
        self.records.set_status(stack, "CREATE_IN_PROGRESS", "User Initiated")
        self.begin(stack)
        return {"StackId": stack["StackId"]}

    async def update_stack(
        self,
        *,
        StackName: str,
        TemplateBody: str | None = None,
        TemplateURL: str | None = None,
        UsePreviousTemplate: bool = False,
        Parameters: list[dict[str, Any]] | None = None,
        Capabilities: list[str] | None = None,
        RoleARN: str | None = None,
        NotificationARNs: list[str] | None = None,
        Tags: list[dict[str, str]] | None = None,
        DisableRollback: bool = False,
        RetainExceptOnCreate: bool = False,
        ClientRequestToken: str | None = None,
    ) -> Document:
        existing = self.records.find(StackName)
        if existing is None or existing["StackStatus"] == "DELETE_COMPLETE":
            raise AWSError("ValidationError", f"Stack [{StackName}] does not exist")
        if is_asked_again(existing, ClientRequestToken):
            return {"StackId": existing["StackId"]}
        check_updatable(existing)
        template = await self.template(
            TemplateBody, TemplateURL, stack=existing, use_previous=UsePreviousTemplate
        )
        definition = await self.definition(
            template,
            given=Parameters or (),
            previous=existing["Current"],
            capabilities=Capabilities,
            tags=Tags,
            role=RoleARN,
        )
        template = parse(definition["TemplateBody"])
        stack = self.records.stack(existing["StackId"])
        check_updatable(stack)  # again: another request may have come in between
        self.check(stack, template, definition["Resolved"])
        self.check_types_stay(stack, template)
        if not is_changed(self.records, stack, template, definition["Resolved"], definition["Tags"]):
            raise AWSError("ValidationError", "No updates are to be performed.")
        stack["DisableRollback"] = DisableRollback
        stack["RetainExceptOnCreate"] = RetainExceptOnCreate
        stack["LastUpdatedTime"] = datetime.now(UTC)
        if NotificationARNs is not None:
            stack["NotificationARNs"] = NotificationARNs
        self.retire_change_sets(stack)
        self.begin_update(stack, definition, token=ClientRequestToken)
        return {"StackId": stack["StackId"]}

    async def delete_stack(
        self,
        *,
        StackName: str,
        RetainResources: list[str] | None = None,
        RoleARN: str | None = None,
        ClientRequestToken: str | None = None,
        DeletionMode: str = "STANDARD",
    ) -> Document:
        stack = self.records.find(StackName)
        if stack is None or stack["StackStatus"] in ("DELETE_COMPLETE", "DELETE_IN_PROGRESS"):
            return {}
        status = stack["StackStatus"]
        if stack.get("EnableTerminationProtection"):
            raise AWSError(
                "ValidationError",
                f"Stack [{stack['StackName']}] cannot be deleted while TerminationProtection is enabled",
            )
        if status.endswith("_IN_PROGRESS") and status not in _DELETABLE_WHILE:
            raise AWSError(
                "ValidationError",
                f"Stack [{stack['StackName']}] cannot be deleted while in status {status}",
            )
        if RetainResources and status != "DELETE_FAILED":
            raise AWSError(
                "ValidationError",
                "Invalid operation on stack. RetainResources is only valid for a stack in DELETE_FAILED.",
            )
        if DeletionMode != "STANDARD":
            raise AWSError(
                "ValidationError", f"DeletionMode {DeletionMode} is not supported by the local runtime."
            )
        self._check_exports(stack)
        await self.interrupt(stack)
        stack = self.records.stack(stack["StackId"])
        for resource in self.records.resources(stack["StackId"]):
            if resource["LogicalResourceId"] in (RetainResources or ()):
                self.records.set_resource_status(stack, resource, "DELETE_SKIPPED")
        self.drop_change_sets(stack)
        stack["ClientRequestToken"] = ClientRequestToken
        self.records.set_status(stack, "DELETE_IN_PROGRESS", "User Initiated")
        self.begin(stack)
        return {}

    def continue_update_rollback(
        self,
        *,
        StackName: str,
        RoleARN: str | None = None,
        ResourcesToSkip: list[str] | None = None,
        ClientRequestToken: str | None = None,
    ) -> Document:
        stack = self.records.stack(StackName)
        if stack["StackStatus"] != "UPDATE_ROLLBACK_FAILED":
            raise AWSError(
                "ValidationError",
                f"Stack:{stack['StackId']} is in {stack['StackStatus']} state and can not continue rollback.",
            )
        stack["ClientRequestToken"] = ClientRequestToken
        self._skip(stack, ResourcesToSkip or [])
        self.records.set_status(stack, "UPDATE_ROLLBACK_IN_PROGRESS", "User Initiated")
        self.begin(stack)
        return {}

    def _skip(self, stack: Document, names: list[str]) -> None:
        """Take it that these resources are as they were before the update, whatever they are."""
        by_name = {it["LogicalResourceId"]: it for it in self.records.resources(stack["StackId"])}
        failed = {name for name, it in by_name.items() if it["ResourceStatus"] == "UPDATE_FAILED"}
        if wrong := sorted(set(names) - failed):
            raise AWSError(
                "ValidationError",
                f"The following resource(s) cannot be skipped: [{', '.join(wrong)}]. ResourcesToSkip takes "
                f"the logical ids of resources in UPDATE_FAILED: [{', '.join(sorted(failed))}]",
            )
        for name in names:
            resource = {**by_name[name], **by_name[name].get("Previous", {})}
            skipped = {member: value for member, value in resource.items() if member not in IN_UPDATE}
            self.records.set_resource_status(stack, skipped, "UPDATE_COMPLETE")

    def update_termination_protection(self, *, StackName: str, EnableTerminationProtection: bool) -> Document:
        stack = self.records.stack(StackName)
        if stack["StackStatus"].endswith("_IN_PROGRESS"):
            raise AWSError(
                "ValidationError", f"Stack [{stack['StackName']}] is in {stack['StackStatus']} state."
            )
        stack["EnableTerminationProtection"] = EnableTerminationProtection
        self.records.save(stack)
        return {"StackId": stack["StackId"]}

    def _check_exports(self, stack: Document) -> None:
        """An export that another stack takes in stays."""
        exported = {output["ExportName"] for output in stack.get("Outputs", ()) if "ExportName" in output}
        for other in self.records.stacks():
            if other["StackStatus"] == "DELETE_COMPLETE" or other["StackId"] == stack["StackId"]:
                continue
            if used := sorted(exported & set(other.get("Imports", ()))):
                raise AWSError(
                    "ValidationError",
                    f"Export {used[0]} cannot be deleted as it is in use by {other['StackName']}",
                )
