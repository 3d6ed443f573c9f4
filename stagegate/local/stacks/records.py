"""What is kept of stacks: stacks, their resources and their events; the one place where a status changes."""

import secrets
import string
import uuid
from datetime import UTC, datetime
from typing import Any

from stagegate.local.service import Announcement, AWSError, Runtime

STACK = "cloudformation/stack"
ACTIVE = "cloudformation/active-stack"
RESOURCE = "cloudformation/resource"

Document = dict[str, Any]


class Records:
    """Reads and writes of one runtime's stacks."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.store = runtime.store

    # Stacks

    def new_stack(self, name: str, **members: Any) -> Document:
        stack = {
            "StackId": self.runtime.arn("cloudformation", f"stack/{name}/{uuid.uuid4()}"),
            "StackName": name,
            "CreationTime": datetime.now(UTC),
            **members,
        }
        self.store.put(ACTIVE, name, {"StackId": stack["StackId"]})
        return stack

    def stack(self, name_or_id: str) -> Document:
        """By its name one that is not deleted, by its id any; else the ValidationError that AWS gives."""
        if found := self.find(name_or_id):
            return found
        raise AWSError("ValidationError", f"Stack with id {name_or_id} does not exist")

    def find(self, name_or_id: str) -> Document | None:
        if not name_or_id.startswith("arn:"):
            active = self.store.get(ACTIVE, name_or_id)
            if active is None:
                return None
            name_or_id = active["StackId"]
        return self.store.get(STACK, name_or_id)

    def stacks(self) -> list[Document]:
        return self.store.list(STACK)

    def save(self, stack: Document) -> None:
        self.store.put(STACK, stack["StackId"], stack)

    def forget_name(self, stack: Document) -> None:
        """Its name is free for another stack; by its id it is still found."""
        active = self.store.get(ACTIVE, stack["StackName"])
        if active and active["StackId"] == stack["StackId"]:
            self.store.delete(ACTIVE, stack["StackName"])

    def set_status(self, stack: Document, status: str, reason: str | None = None) -> None:
        """The stack's status, with its event and its announcement."""
        stack["StackStatus"] = status
        _set_or_drop(stack, "StackStatusReason", reason)
        if status == "DELETE_COMPLETE":
            stack["DeletionTime"] = datetime.now(UTC)
            self.forget_name(stack)
        self.save(stack)
        self._add_event(
            stack,
            LogicalResourceId=stack["StackName"],
            PhysicalResourceId=stack["StackId"],
            ResourceType="AWS::CloudFormation::Stack",
            ResourceStatus=status,
            ResourceStatusReason=reason,
        )
        self._announce(stack, "CloudFormation Stack Status Change", status, reason, {})

    # Resources

    def resources(self, stack_id: str) -> list[Document]:
        return self.store.list(RESOURCE, prefix=f"{stack_id}/")

    def resource(self, stack_id: str, logical_id: str) -> Document | None:
        return self.store.get(RESOURCE, f"{stack_id}/{logical_id}")

    def save_resource(self, stack: Document, resource: Document) -> None:
        self.store.put(RESOURCE, f"{stack['StackId']}/{resource['LogicalResourceId']}", resource)

    def delete_resource(self, stack: Document, resource: Document) -> None:
        self.store.delete(RESOURCE, f"{stack['StackId']}/{resource['LogicalResourceId']}")

    def set_resource_status(
        self, stack: Document, resource: Document, status: str, reason: str | None = None
    ) -> None:
        """The resource's status, with its event and its announcement."""
        resource["ResourceStatus"] = status
        resource["Timestamp"] = datetime.now(UTC)
        _set_or_drop(resource, "ResourceStatusReason", reason)
        self.save_resource(stack, resource)
        self.add_resource_event(stack, resource, status, reason)

    def add_resource_event(
        self, stack: Document, resource: Document, status: str, reason: str | None = None
    ) -> None:
        """An event without a change of the status that is kept: of a resource that is being replaced."""
        self._add_event(
            stack,
            LogicalResourceId=resource["LogicalResourceId"],
            PhysicalResourceId=resource.get("PhysicalResourceId") or "",
            ResourceType=resource["ResourceType"],
            ResourceStatus=status,
            ResourceStatusReason=reason,
        )
        self._announce(
            stack,
            "CloudFormation Resource Status Change",
            status,
            reason,
            {
                "logical-resource-id": resource["LogicalResourceId"],
                "physical-resource-id": resource.get("PhysicalResourceId") or "",
                "resource-type": resource["ResourceType"],
            },
        )

    # Events

    def events(self, stack_id: str) -> list[Document]:
        """Oldest first."""
        return list(self.store.read(f"cloudformation/events/{stack_id}"))

    def _add_event(self, stack: Document, **members: Any) -> None:
        event = {
            "StackId": stack["StackId"],
            "EventId": str(uuid.uuid4()),
            "StackName": stack["StackName"],
            "Timestamp": datetime.now(UTC),
            "ClientRequestToken": stack.get("ClientRequestToken"),
            **members,
        }
        self.store.append(
            f"cloudformation/events/{stack['StackId']}",
            {name: value for name, value in event.items() if value is not None},
        )

    def _announce(
        self, stack: Document, detail_type: str, status: str, reason: str | None, members: Document
    ) -> None:
        self.runtime.announce(
            Announcement(
                source="aws.cloudformation",
                detail_type=detail_type,
                detail={
                    "stack-id": stack["StackId"],
                    **members,
                    "status-details": {"status": status, "status-reason": reason or ""},
                    "client-request-token": stack.get("ClientRequestToken") or "",
                },
                resources=(stack["StackId"],),
            )
        )

    # Exports

    def exports(self) -> list[Document]:
        return [
            {
                "ExportingStackId": stack["StackId"],
                "Name": output["ExportName"],
                "Value": output["OutputValue"],
            }
            for stack in self.stacks()
            if stack["StackStatus"] != "DELETE_COMPLETE"
            for output in stack.get("Outputs", ())
            if "ExportName" in output
        ]


def generated_name(stack_name: str, logical_id: str, *, longest: int, lower: bool) -> str:
    """stack-logical-RANDOM as CloudFormation names what has no name, shortened to what the service takes."""
    random = "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(12))
    room = longest - len(random) - 2
    logical = logical_id[: max(room - len(stack_name), room // 2)]
    name = f"{stack_name[: room - len(logical)]}-{logical}-{random}"
    return name.lower() if lower else name


def _set_or_drop(document: Document, member: str, value: Any) -> None:
    if value is None:
        document.pop(member, None)
    else:
        document[member] = value
