"""Change sets: an update that is shown before it is made."""

import json
import uuid
from datetime import UTC, datetime
from typing import Any

from stagegate.local.service import AWSError
from stagegate.local.stacks import parameters
from stagegate.local.stacks.intrinsics import text
from stagegate.local.stacks.operations import (
    Operations,
    check_stack_name,
    check_updatable,
    is_asked_again,
    page,
)
from stagegate.local.stacks.plan import Change, is_changed, plan
from stagegate.local.stacks.records import Document
from stagegate.local.stacks.template import parse

CHANGE_SET = "cloudformation/change-set"

_NO_CHANGES = (
    "The submitted information didn't contain changes. Submit different information to create a change set."
)
_SUMMARY = (
    "StackId", "StackName", "ChangeSetId", "ChangeSetName", "ExecutionStatus", "Status", "StatusReason",
    "CreationTime", "Description",
)  # fmt: skip

_VALUES = ("Path", "BeforeValue", "AfterValue", "AttributeChangeType")


class ChangeSets(Operations):
    """Create, describe, list, execute and delete them."""

    async def create_change_set(
        self,
        *,
        StackName: str,
        ChangeSetName: str,
        TemplateBody: str | None = None,
        TemplateURL: str | None = None,
        UsePreviousTemplate: bool = False,
        Parameters: list[dict[str, Any]] | None = None,
        Capabilities: list[str] | None = None,
        RoleARN: str | None = None,
        NotificationARNs: list[str] | None = None,
        Tags: list[dict[str, str]] | None = None,
        ClientToken: str | None = None,
        Description: str | None = None,
        ChangeSetType: str = "UPDATE",
        OnStackFailure: str | None = None,
        IncludeNestedStacks: bool = False,
    ) -> Document:
        existing = self.records.find(StackName)
        earlier = self._found(ChangeSetName, existing) if existing and ClientToken else None
        if earlier is not None and earlier.get("ClientToken") == ClientToken:
            return {"Id": earlier["ChangeSetId"], "StackId": earlier["StackId"]}
        creating = ChangeSetType == "CREATE"
        if ChangeSetType not in ("CREATE", "UPDATE"):
            raise AWSError(
                "ValidationError", f"ChangeSetType {ChangeSetType} is not supported by the local runtime."
            )
        if creating:
            check_stack_name(StackName)
            if existing and existing["StackStatus"] != "REVIEW_IN_PROGRESS":
                raise AWSError(
                    "ValidationError",
                    f"Stack [{StackName}] already exists and cannot be created again with the changeSet "
                    f"[{ChangeSetName}].",
                )
        elif existing is None:
            raise AWSError("ValidationError", f"Stack [{StackName}] does not exist")
        else:
            check_updatable(existing)
        template = await self.template(
            TemplateBody, TemplateURL, stack=existing, use_previous=UsePreviousTemplate
        )
        previous = None if creating else (existing or {}).get("Current")
        definition = await self.definition(
            template,
            given=Parameters or (),
            previous=previous,
            capabilities=Capabilities,
            tags=Tags,
            role=RoleARN,
        )
        template = parse(definition["TemplateBody"])
        stack = existing or self.records.new_stack(StackName)
        if existing and self._found(ChangeSetName, existing) is not None:
            raise AWSError("AlreadyExistsException", f"ChangeSet {ChangeSetName} already exists")
        try:
            self.check(stack, template, definition["Resolved"])
            self.check_types_stay(stack, template)
            changes = plan(self.records, stack, template, definition["Resolved"])
        except AWSError:
            if existing is None:
                self.records.forget_name(stack)
            raise
        if existing is None:
            stack["NotificationARNs"] = NotificationARNs or []
            self.records.set_status(stack, "REVIEW_IN_PROGRESS", "User Initiated")
        changed = creating or is_changed(
            self.records, stack, template, definition["Resolved"], definition["Tags"]
        )
        change_set = {
            "ChangeSetId": self.runtime.arn("cloudformation", f"changeSet/{ChangeSetName}/{uuid.uuid4()}"),
            "ChangeSetName": ChangeSetName,
            "StackId": stack["StackId"],
            "StackName": stack["StackName"],
            "Description": Description,
            "CreationTime": datetime.now(UTC),
            "ChangeSetType": ChangeSetType,
            "ClientToken": ClientToken,
            "OnStackFailure": OnStackFailure,
            "Definition": definition,
            "Changes": [_described(change) for change in changes],
            "Status": "CREATE_COMPLETE" if changed else "FAILED",
            "ExecutionStatus": "AVAILABLE" if changed else "UNAVAILABLE",
            "StatusReason": None if changed else _NO_CHANGES,
            "NotificationARNs": NotificationARNs or [],
        }
        self._save(change_set)
        return {"Id": change_set["ChangeSetId"], "StackId": stack["StackId"]}

    def describe_change_set(
        self,
        *,
        ChangeSetName: str,
        StackName: str | None = None,
        NextToken: str | None = None,
        IncludePropertyValues: bool = False,
    ) -> Document:
        change_set = self._change_set(ChangeSetName, StackName)
        definition = change_set["Definition"]
        described = parameters.described(
            parse(definition["TemplateBody"]), definition["Parameters"], definition["Resolved"]
        )
        changes = change_set["Changes"]
        return {
            **{name: change_set[name] for name in _SUMMARY if change_set.get(name) is not None},
            "Parameters": described,
            "Capabilities": definition["Capabilities"],
            "Tags": definition["Tags"],
            "NotificationARNs": change_set["NotificationARNs"],
            "RollbackConfiguration": {},
            "IncludeNestedStacks": False,
            **page(
                changes if IncludePropertyValues else [_without_values(it) for it in changes],
                "Changes",
                NextToken,
            ),
        }

    def list_change_sets(self, *, StackName: str, NextToken: str | None = None) -> Document:
        stack = self.records.find(StackName)
        if stack is None:
            raise AWSError("ValidationError", f"Stack [{StackName}] does not exist")
        summaries = [
            {name: it[name] for name in _SUMMARY if it.get(name) is not None}
            for it in self.runtime.store.list(CHANGE_SET, prefix=f"{stack['StackId']}/")
        ]
        return page(summaries, "Summaries", NextToken)

    def execute_change_set(
        self,
        *,
        ChangeSetName: str,
        StackName: str | None = None,
        ClientRequestToken: str | None = None,
        DisableRollback: bool | None = None,
        RetainExceptOnCreate: bool = False,
    ) -> Document:
        change_set = self._change_set(ChangeSetName, StackName)
        if change_set["ExecutionStatus"] != "AVAILABLE":
            if is_asked_again(self.records.find(change_set["StackId"]), ClientRequestToken):
                return {}
            is_made = change_set["Status"] == "CREATE_COMPLETE"
            why = f"execution status of [{change_set['ExecutionStatus']}]"
            raise AWSError(
                "InvalidChangeSetStatus",
                f"ChangeSet [{change_set['ChangeSetId']}] cannot be executed in its current "
                f"{why if is_made else 'status of [' + change_set['Status'] + ']'}",
            )
        stack = self.records.stack(change_set["StackId"])
        creating = change_set["ChangeSetType"] == "CREATE"
        if not creating:
            check_updatable(stack)
        elif stack["StackStatus"] != "REVIEW_IN_PROGRESS":
            raise AWSError("ValidationError", f"Stack [{stack['StackName']}] already exists.")
        self.retire_change_sets(stack)
        self._save({**change_set, "ExecutionStatus": "EXECUTE_COMPLETE"})
        stack["ChangeSetId"] = change_set["ChangeSetId"]
        stack["DisableRollback"] = bool(DisableRollback)
        stack["RetainExceptOnCreate"] = RetainExceptOnCreate
        if creating:
            on_failure = change_set["OnStackFailure"] or "ROLLBACK"
            stack["OnFailure"] = "DO_NOTHING" if DisableRollback else on_failure
            stack["Current"] = change_set["Definition"]
            stack["ClientRequestToken"] = ClientRequestToken
            self.records.set_status(stack, "CREATE_IN_PROGRESS", "User Initiated")
            self.begin(stack)
        else:
            stack["LastUpdatedTime"] = datetime.now(UTC)
            self.begin_update(stack, change_set["Definition"], token=ClientRequestToken)
        return {}

    def delete_change_set(self, *, ChangeSetName: str, StackName: str | None = None) -> Document:
        change_set = self._change_set(ChangeSetName, StackName)
        self.runtime.store.delete(CHANGE_SET, f"{change_set['StackId']}/{change_set['ChangeSetName']}")
        return {}

    def retire_change_sets(self, stack: Document) -> None:
        """A change set is made for the stack as it was: once that changes, it is of no use any more."""
        for change_set in self.runtime.store.list(CHANGE_SET, prefix=f"{stack['StackId']}/"):
            if change_set["ExecutionStatus"] != "EXECUTE_COMPLETE":
                self._save({**change_set, "ExecutionStatus": "OBSOLETE"})

    def drop_change_sets(self, stack: Document) -> None:
        for change_set in self.runtime.store.list(CHANGE_SET, prefix=f"{stack['StackId']}/"):
            self.runtime.store.delete(CHANGE_SET, f"{stack['StackId']}/{change_set['ChangeSetName']}")

    def _save(self, change_set: Document) -> None:
        self.runtime.store.put(
            CHANGE_SET, f"{change_set['StackId']}/{change_set['ChangeSetName']}", change_set
        )

    def _found(self, name: str, stack: Document) -> Document | None:
        return self.runtime.store.get(CHANGE_SET, f"{stack['StackId']}/{name}")

    def _change_set(self, name: str, stack_name: str | None) -> Document:
        """By its ARN, or by its name and the stack's."""
        if name.startswith("arn:"):
            found = next(
                (it for it in self.runtime.store.list(CHANGE_SET) if it["ChangeSetId"] == name), None
            )
        elif stack_name is None:
            raise AWSError(
                "ValidationError", "StackName must be specified if ChangeSetName is not specified as an ARN."
            )
        else:
            stack = self.records.find(stack_name)
            if stack is None:
                raise AWSError("ValidationError", f"Stack [{stack_name}] does not exist")
            found = self._found(name, stack)
        if found is None:
            raise AWSError("ChangeSetNotFound", f"ChangeSet [{name}] does not exist", status=404)
        return found


def _described(change: Change) -> Document:
    """A change as DescribeChangeSet gives it."""
    detail: Document = {
        "Action": change.action,
        "LogicalResourceId": change.logical_id,
        "ResourceType": change.resource_type,
        "Scope": list(change.scope),
        "Details": [],
    }
    if change.physical_id:
        detail["PhysicalResourceId"] = change.physical_id
    if change.policy_action:
        detail["PolicyAction"] = change.policy_action
    if change.replacement:
        detail["Replacement"] = change.replacement
    for member, properties in (("BeforeContext", change.before), ("AfterContext", change.after)):
        if properties:
            detail[member] = json.dumps({"Properties": properties})
    for name in change.properties:
        requires = "Never"
        if name in change.replacing:
            requires = "Conditionally" if change.replacement == "Conditional" else "Always"
        attribute = "Tags" if name == "Tags" else "Properties"
        target: Document = {"Attribute": attribute, "RequiresRecreation": requires}
        if attribute == "Properties":
            target["Name"] = name
        target |= _values(name, change)
        detail["Details"].append(
            {
                "Target": target,
                "Evaluation": "Dynamic" if name in change.dynamic else "Static",
                "ChangeSource": "ResourceReference" if name in change.dynamic else "DirectModification",
            }
        )
    return {"Type": "Resource", "ResourceChange": detail}


def _values(name: str, change: Change) -> Document:
    """What a property was and will be, for who asks with IncludePropertyValues."""
    was, will_be = name in change.before, name in change.after
    return {
        "Path": f"/Properties/{name}",
        "AttributeChangeType": "Modify" if was and will_be else "Add" if will_be else "Remove",
        **({"BeforeValue": _shown(change.before[name])} if was else {}),
        **({"AfterValue": _shown(change.after[name])} if will_be else {}),
    }


def _shown(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else text(value)


def _without_values(change: Document) -> Document:
    resource = {name: it for name, it in change["ResourceChange"].items() if not name.endswith("Context")}
    details = [
        {**it, "Target": {name: part for name, part in it["Target"].items() if name not in _VALUES}}
        for it in resource["Details"]
    ]
    return {**change, "ResourceChange": {**resource, "Details": details}}
