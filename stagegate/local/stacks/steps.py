"""What is done to one resource of a stack: made, changed, put back, taken away; with statuses and reasons."""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from stagegate.local.service import AWSError, Runtime
from stagegate.local.stacks import references
from stagegate.local.stacks.records import Document, Records, generated_name
from stagegate.local.stacks.resources import RESOURCE_TYPES
from stagegate.local.stacks.resources.kind import Cancelled, Context, NotStabilized
from stagegate.local.stacks.schemas import BadProperties, fitted, schema

_REPLACING = "Requested update requires the creation of a new physical resource; hence creating one."
KEPT = (
    "PhysicalResourceId", "Name", "Properties", "Attributes", "DependsOn", "DeletionPolicy",
    "UpdateReplacePolicy", "ResourceType",
)  # fmt: skip
"""What of a resource makes it up, and is put back by a rollback."""
IN_UPDATE = ("From", "Previous", "PutBack", "Replaced")
"""What a resource's record has beside, while its stack is updated."""


log = logging.getLogger(__name__)


class Failed(Exception):
    """A resource failed; the reason is in its event."""


class Steps:
    """The steps of one operation on one stack. Each raises Failed when its resource has failed."""

    def __init__(self, runtime: Runtime, stack: Document) -> None:
        self._runtime = runtime
        self._records = Records(runtime)
        self._stack = stack
        self.failing = asyncio.Event()
        """Set when the operation goes no further, for those that wait for something long."""

    async def create(self, resource: Document, *, again: bool) -> None:
        kind = RESOURCE_TYPES[resource["ResourceType"]]
        if not again:
            resource.pop("PhysicalResourceId", None)
            if kind.named_by:
                resource["Name"] = resource["Properties"].get(kind.named_by) or self._generated_name(resource)
            self._records.set_resource_status(self._stack, resource, "CREATE_IN_PROGRESS")
            await self._runtime.store.committed()
        await self._attempt(resource, "CREATE", lambda: self._make(resource, again=again))

    async def change(self, resource: Document, *, again: bool = False) -> None:
        """In place or by a new one, whichever the type's schema says of the properties that change."""
        kind = RESOURCE_TYPES[resource["ResourceType"]]
        previous = resource["Previous"]
        known = schema(kind.name)
        assert known is not None, kind.name
        replacing = kind.update is None or bool(
            known.replaces(previous["Properties"], resource["Properties"])
        )
        if not again:
            resource["Replaced"] = replacing
            if not replacing:
                self._records.set_resource_status(self._stack, resource, "UPDATE_IN_PROGRESS")
            else:
                self._begin_replacement(resource)
            await self._runtime.store.committed()
        if replacing:
            await self._attempt(resource, "UPDATE", lambda: self._make(resource, again=again))
        else:
            await self._attempt(resource, "UPDATE", lambda: self._modify(resource, previous["Properties"]))

    def _begin_replacement(self, resource: Document) -> None:
        kind, previous = RESOURCE_TYPES[resource["ResourceType"]], resource["Previous"]
        self._records.add_resource_event(self._stack, resource, "UPDATE_IN_PROGRESS", _REPLACING)
        resource["ResourceStatus"] = "UPDATE_IN_PROGRESS"
        resource["PhysicalResourceId"] = None
        if kind.named_by:
            given = resource["Properties"].get(kind.named_by)
            if given and given == previous.get("Name"):
                reason = (
                    f"CloudFormation cannot update a stack when a custom-named resource requires replacing. "
                    f"Rename {given} and update the stack again."
                )
                self._records.set_resource_status(self._stack, resource, "UPDATE_FAILED", reason)
                raise Failed(resource["LogicalResourceId"])
            resource["Name"] = given or self._generated_name(resource)
        self._records.save_resource(self._stack, resource)

    async def _make(self, resource: Document, *, again: bool) -> None:
        kind = RESOURCE_TYPES[resource["ResourceType"]]
        properties = await self._properties(resource)
        context = self._context(resource)
        if again:  # killed while it was made: whatever of it is there goes, and it is made anew
            await kind.delete(context, resource.get("PhysicalResourceId"), properties)
        resource["Attributes"] = await kind.create(context, properties)

    async def _modify(self, resource: Document, old: Mapping[str, Any]) -> None:
        kind = RESOURCE_TYPES[resource["ResourceType"]]
        assert kind.update is not None, kind.name
        before = await self._properties({**resource, "Properties": old})
        after = await self._properties(resource)
        attributes = await kind.update(self._context(resource), resource["PhysicalResourceId"], before, after)
        if attributes is not None:
            resource["Attributes"] = attributes

    async def _attempt(self, resource: Document, verb: str, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:
            self._records.set_resource_status(
                self._stack, resource, f"{verb}_FAILED", self._reason(resource, verb, error)
            )
            raise Failed(resource["LogicalResourceId"]) from error
        self._records.set_resource_status(self._stack, resource, f"{verb}_COMPLETE")

    def _reason(self, resource: Document, verb: str, error: Exception) -> str:
        """A failure as the resource's event tells it."""
        if isinstance(error, BadProperties):
            return str(error)
        if isinstance(error, Cancelled):
            return f"Resource {'creation' if verb == 'CREATE' else 'update'} cancelled"
        if isinstance(error, AWSError):
            message = f"{error.message} (Status Code: {error.status}, Error Code: {error.code})"
            code = _handler_code(error)
        elif isinstance(error, NotStabilized):
            message, code = str(error), "NotStabilized"
        else:  # a mistake of ours must fail the resource, and not hang the stack
            log.error("%s failed", resource["LogicalResourceId"], exc_info=error)
            message, code = f"{type(error).__name__}: {error}", "InternalFailure"
        codes = f"RequestToken: {uuid.uuid4()}, HandlerErrorCode: {code}"
        return f'Resource handler returned message: "{message}" ({codes})'

    async def put_back(self, resource: Document) -> None:
        """One resource as it was before the update; the one that replaced it is left for the clean-up."""
        previous = resource["Previous"]
        if resource.get("PutBack"):
            return
        if resource.get("Replaced"):
            new = {member: resource[member] for member in KEPT if member in resource}
            self._records.set_resource_status(self._stack, resource, "UPDATE_IN_PROGRESS")
            restored = {**resource, **previous, "Previous": new, "PutBack": True}
            self._records.set_resource_status(self._stack, restored, "UPDATE_COMPLETE")
            return
        # "From" and "Previous" stay until it is done, so that a killed server goes on with the same
        failed_at: dict[str, Any] = resource.get("From") or resource["Properties"]
        restored = {**resource, **previous, "From": failed_at}
        self._records.set_resource_status(self._stack, restored, "UPDATE_IN_PROGRESS")
        await self._attempt(restored, "UPDATE", lambda: self._modify(restored, failed_at))
        for member in ("From", "Previous"):
            restored.pop(member)
        self._records.save_resource(self._stack, restored)

    async def delete(self, resource: Document) -> None:
        kind = RESOURCE_TYPES[resource["ResourceType"]]
        # killed while it was made, or taken away: there may be something of it even without an id
        uncertain = resource["ResourceStatus"] in (
            "CREATE_IN_PROGRESS",
            "DELETE_IN_PROGRESS",
            "DELETE_FAILED",
        )
        if resource.get("PhysicalResourceId") or uncertain:
            self.away(resource, "DELETE_IN_PROGRESS")
            try:
                properties = await self._properties(resource, checked=False)
                await kind.delete(self._context(resource), resource.get("PhysicalResourceId"), properties)
            except Exception as error:
                self.away(resource, "DELETE_FAILED", self._reason(resource, "DELETE", error))
                raise Failed(resource["LogicalResourceId"]) from error
        self.away(resource, "DELETE_COMPLETE")

    def away(self, resource: Document, status: str, reason: str | None = None) -> None:
        """A deletion's status: of the resource, or only an event where another has taken its place."""
        if resource.get("Stays"):
            self._records.add_resource_event(self._stack, resource, status, reason)
        else:
            self._records.set_resource_status(self._stack, resource, status, reason)

    async def _properties(self, resource: Document, *, checked: bool = True) -> dict[str, Any]:
        """As the handlers get them: with secrets in their places, of the right types, and with the name."""
        kind = RESOURCE_TYPES[resource["ResourceType"]]
        values = resource["Properties"]
        if checked:
            known = schema(kind.name)
            assert known is not None, kind.name
            values = fitted(known, await references.resolve(values, self._runtime.aws))
        return {**values, kind.named_by: resource["Name"]} if kind.named_by else dict(values)

    def _context(self, resource: Document) -> Context:
        def made(physical_id: str) -> None:
            resource["PhysicalResourceId"] = physical_id
            status = resource["ResourceStatus"]  # CREATE_IN_PROGRESS, or UPDATE_IN_PROGRESS where it replaces
            self._records.set_resource_status(self._stack, resource, status, "Resource creation Initiated")

        tags = {tag["Key"]: tag["Value"] for tag in self._stack["Current"].get("Tags", ())}
        return Context(
            runtime=self._runtime,
            stack_name=self._stack["StackName"],
            logical_id=resource["LogicalResourceId"],
            tags=tags,
            failing=self.failing,
            made=made,
        )

    def _generated_name(self, resource: Document) -> str:
        kind = RESOURCE_TYPES[resource["ResourceType"]]
        return generated_name(
            self._stack["StackName"],
            resource["LogicalResourceId"],
            longest=kind.longest_name,
            lower=kind.lower_name,
        )


_HANDLER_CODES = {
    "NotFound": ("NotFound", "NoSuch", "NonExistent"),
    "AlreadyExists": ("AlreadyExists", "AlreadyOwned", "ResourceExists", "ResourceInUse", "Conflict"),
    "AccessDenied": ("AccessDenied",),
    "InvalidRequest": ("Validation", "Invalid", "Malformed", "BadRequest"),
}
"""CloudFormation's codes, with what the services' own codes have in them."""


def _handler_code(error: AWSError) -> str:
    for code, parts in _HANDLER_CODES.items():
        if any(part in error.code for part in parts):
            return code
    return "GeneralServiceException"
