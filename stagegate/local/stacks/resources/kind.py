"""A resource type: how one is made, changed and taken away through its service, and what it is told with."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from stagegate.local.service import Announcement, AWSError, Runtime

Properties = dict[str, Any]
Attributes = dict[str, Any]
"""What Fn::GetAtt gives, by name."""


class NotStabilized(Exception):
    """The service took the request, and the resource did not become what was asked for."""


class Cancelled(Exception):
    """Another resource of the stack failed, so that this one is not waited for."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the handlers of a resource type are given."""

    runtime: Runtime
    stack_name: str
    logical_id: str
    tags: Mapping[str, str]
    """The stack's own tags, which its resources get."""
    failing: asyncio.Event
    """Set when the stack goes no further."""
    made: Callable[[str], None]
    """To be called with the physical id as soon as there is something that a rollback must take away."""

    async def __call__(self, service: str, operation: str, **members: Any) -> dict[str, Any]:
        """Call the service; members that are None are left out."""
        given = {name: value for name, value in members.items() if value is not None}
        return await self.runtime.by("cloudformation")(service, operation, given)

    def merged_tags(self, properties: Mapping[str, Any]) -> list[dict[str, str]] | None:
        """The stack's tags and the resource's own, which win."""
        own = properties.get("Tags") or []
        pairs = own.items() if isinstance(own, dict) else [(tag["Key"], tag["Value"]) for tag in own]
        tags = {**self.tags, **dict(pairs)}
        return [{"Key": key, "Value": value} for key, value in tags.items()] or None

    def tag_map(self, properties: Mapping[str, Any]) -> dict[str, str] | None:
        return {tag["Key"]: tag["Value"] for tag in self.merged_tags(properties) or ()} or None

    @contextmanager
    def hearing(self, arn: str) -> Iterator[Callable[[], Awaitable[None]]]:
        """Gives `changed`: returns once `arn` was announced after its last call, or raises Cancelled."""
        heard = asyncio.Event()

        def listen(announcement: Announcement) -> None:
            if arn in announcement.resources:
                heard.set()

        async def changed() -> None:
            waits = [asyncio.ensure_future(heard.wait()), asyncio.ensure_future(self.failing.wait())]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            if self.failing.is_set() and not heard.is_set():
                raise Cancelled
            heard.clear()

        self.runtime.listeners.append(listen)
        try:
            yield changed
        finally:
            self.runtime.listeners.remove(listen)


Create = Callable[[Context, Properties], Awaitable[Attributes]]
Update = Callable[[Context, str, Properties, Properties], Awaitable[Attributes | None]]
Delete = Callable[[Context, str | None, Properties], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class ResourceType:
    """One resource type; the name of its entry in the registry is CloudFormation's."""

    name: str
    supported: frozenset[str]
    """The properties that are honoured; the type's other ones are refused by name."""
    create: Create
    """Calls `context.made` and gives the attributes."""
    delete: Delete
    """By the physical id, which is None where the server was killed while it was made, and the properties."""
    update: Update | None = None
    """In place, from old properties to new ones; may give new attributes. Types without it are replaced."""
    named_by: str | None = None
    """The property that is its name, which is generated where the template has none."""
    longest_name: int = 63
    lower_name: bool = False
    attributes: frozenset[str] = field(default_factory=frozenset)
    """For Fn::GetAtt, beside those that the type's schema has."""


def properties(names: str) -> frozenset[str]:
    """Names with blanks between them."""
    return frozenset(names.split())


async def ignoring(codes: str, call: Awaitable[Any]) -> Any:
    """The call's answer, or None where it fails with one of the error codes (with blanks between them)."""
    try:
        return await call
    except AWSError as error:
        if error.code in codes.split():
            return None
        raise


def renamed(properties: Mapping[str, Any], **names: str) -> dict[str, Any]:
    """The properties that are there, under the names that the service's operation has for them."""
    return {to: properties[name] for name, to in names.items() if name in properties}


def picked(properties: Mapping[str, Any], names: str) -> dict[str, Any]:
    """The properties of those names that are there."""
    return {name: properties[name] for name in names.split() if name in properties}


def lower_first(value: Any) -> Any:
    """Members as APIs with small first letters have them: {"Type": …} as {"type": …}, all the way down."""
    if isinstance(value, dict):
        return {name[:1].lower() + name[1:]: lower_first(part) for name, part in value.items()}
    if isinstance(value, list):
        return [lower_first(part) for part in value]
    return value


async def update_tags(
    context: Context,
    old: Properties,
    new: Properties,
    *,
    put: Callable[[dict[str, str]], Awaitable[Any]],
    remove: Callable[[list[str]], Awaitable[Any]],
) -> None:
    """Bring a resource's tags from the old ones to the new ones."""
    before, after = context.tag_map(old) or {}, context.tag_map(new) or {}
    if gone := sorted(before.keys() - after.keys()):
        await remove(gone)
    if changed := {key: value for key, value in after.items() if before.get(key) != value}:
        await put(changed)
