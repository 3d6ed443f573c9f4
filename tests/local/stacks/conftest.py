"""Stacks in this process, on moto's services; the ends of operations are waited for through announcements."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stagegate.local.endpoint import Endpoint
from stagegate.local.service import Announcement, AWSError
from stagegate.local.stacks.service import CloudFormation
from stagegate.local.stacks.template import MAX_BODY


class Stacks:
    """CloudFormation as a client sees it, which waits for the end of what it begins."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.announced: list[Announcement] = []
        self._changed = asyncio.Event()
        endpoint.runtime.listeners.append(self._listen)

    def _listen(self, announcement: Announcement) -> None:
        self.announced.append(announcement)
        self._changed.set()

    async def call(self, operation: str, service: str = "cloudformation", **members: Any) -> dict[str, Any]:
        return await self.endpoint.aws(service, operation, members)

    async def create(self, name: str, template: Any, **members: Any) -> dict[str, Any]:
        await self.call("CreateStack", StackName=name, **await self.source(template), **_given(members))
        return await self.ended(name)

    async def update(self, name: str, template: Any, **members: Any) -> dict[str, Any]:
        await self.call("UpdateStack", StackName=name, **await self.source(template), **_given(members))
        return await self.ended(name)

    async def source(self, template: Any) -> dict[str, str]:
        """The template in the request; where it is too large for that, in the bucket `assets`."""
        text = body(template)
        if len(text) <= MAX_BODY:
            return {"TemplateBody": text}
        await self.call("PutObject", "s3", Bucket="assets", Key="template.yaml", Body=text.encode())
        return {"TemplateURL": "https://assets.s3.us-east-1.amazonaws.com/template.yaml"}

    async def delete(self, name: str) -> dict[str, Any]:
        stack_id = (await self.stack(name))["StackId"]
        await self.call("DeleteStack", StackName=name)
        return await self.ended(stack_id)

    async def stack(self, name: str) -> dict[str, Any]:
        stack: dict[str, Any] = (await self.call("DescribeStacks", StackName=name))["Stacks"][0]
        return stack

    async def ended(self, name: str) -> dict[str, Any]:
        """The stack as it is when nothing is under way on it any more."""
        stack_id = (await self.stack(name))["StackId"]
        while (stack := await self.stack(stack_id))["StackStatus"].endswith("_IN_PROGRESS"):
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), 30)
        return stack

    async def reaches(self, name: str, logical_id: str, status: str) -> None:
        """Return when a resource's event says `status`."""
        while (logical_id, status) not in [event[:2] for event in await self.events(name)]:
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), 30)

    async def events(self, name: str) -> list[tuple[str, str, str]]:
        """(logical id, status, reason), the oldest first."""
        page = await self.call("DescribeStackEvents", StackName=name)
        events = page["StackEvents"]
        while token := page.get("NextToken"):
            page = await self.call("DescribeStackEvents", StackName=name, NextToken=token)
            events += page["StackEvents"]
        return [
            (event["LogicalResourceId"], event["ResourceStatus"], event.get("ResourceStatusReason", ""))
            for event in reversed(events)
        ]

    async def physical(self, name: str) -> dict[str, str]:
        resources = (await self.call("DescribeStackResources", StackName=name))["StackResources"]
        return {it["LogicalResourceId"]: it.get("PhysicalResourceId", "") for it in resources}

    async def refused(self, operation: str, **members: Any) -> tuple[str, str]:
        """The error's code and message."""
        with pytest.raises(AWSError) as caught:
            await self.call(operation, **_given(members))
        return caught.value.code, caught.value.message


def body(template: Any) -> str:
    return template if isinstance(template, str) else json.dumps(template)


def _given(members: dict[str, Any]) -> dict[str, Any]:
    """Parameters may be given as a plain dict."""
    if isinstance(parameters := members.get("Parameters"), dict):
        given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
        return {**members, "Parameters": given}
    if "Template" in members:
        members = {**members, "TemplateBody": body(members["Template"])}
        del members["Template"]
    return members


@pytest.fixture
def open_stacks(open_endpoint: Any) -> Any:
    """`async with open_stacks() as stacks`: opened again, it goes on with what it had."""
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def opened(**more: Any) -> AsyncIterator[Stacks]:
        async with open_endpoint({"cloudformation": (CloudFormation,), **more}) as endpoint:
            stacks = Stacks(endpoint)
            await endpoint.start()
            yield stacks

    return opened


@pytest.fixture
async def stacks(open_stacks: Any) -> AsyncIterator[Stacks]:
    async with open_stacks() as opened:
        yield opened


def resource(kind: str, /, **properties: Any) -> dict[str, Any]:
    return {"Type": kind, "Properties": properties}


def template(**resources: Any) -> dict[str, Any]:
    return {"Resources": resources}
