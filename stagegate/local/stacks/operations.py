"""What CreateStack, UpdateStack and change sets share: reading a request, and beginning the work."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from stagegate.local import identity, pages
from stagegate.local.service import AWSError, Runtime, Service
from stagegate.local.stacks import parameters
from stagegate.local.stacks.checks import check, check_capabilities
from stagegate.local.stacks.deploy import Deployment
from stagegate.local.stacks.graph import dependencies
from stagegate.local.stacks.language_extensions import processed
from stagegate.local.stacks.plan import planning
from stagegate.local.stacks.records import Document, Records
from stagegate.local.stacks.template import MAX_BODY, MAX_OBJECT, Template, parse

UPDATABLE = frozenset(
    {"CREATE_COMPLETE", "CREATE_FAILED", "UPDATE_COMPLETE", "UPDATE_FAILED", "UPDATE_ROLLBACK_COMPLETE"}
)
_STACK_NAME = re.compile(r"[a-zA-Z][-a-zA-Z0-9]{0,127}")
_BUCKET_HOST = re.compile(r"(?P<bucket>.+)\.s3(?:[.-][a-z0-9-]+)*\.amazonaws\.com")
_S3_HOST = re.compile(r"s3(?:[.-][a-z0-9-]+)*\.amazonaws\.com")


class Operations(Service):
    """The stacks of one runtime, and what is under way on them."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.records = Records(runtime)
        self._under_way: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Go on with what was under way when the server ended."""
        for stack in self.records.stacks():
            if stack["StackStatus"].endswith("_IN_PROGRESS") and stack["StackStatus"] != "REVIEW_IN_PROGRESS":
                self.begin(stack)

    def begin(self, stack: Document) -> None:
        """Carry out what the stack's status says, beside the requests."""
        stack_id = stack["StackId"]
        task = self.spawn(Deployment(self.runtime, stack_id).run(), name=f"stack {stack['StackName']}")
        self._under_way[stack_id] = task
        task.add_done_callback(lambda done: self._forget(stack_id, done))

    async def interrupt(self, stack: Document) -> None:
        """Break off what is under way on a stack."""
        if task := self._under_way.get(stack["StackId"]):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _forget(self, stack_id: str, task: asyncio.Task[None]) -> None:
        if self._under_way.get(stack_id) is task:
            del self._under_way[stack_id]

    async def template(
        self, body: str | None, url: str | None, *, stack: Document | None = None, use_previous: bool = False
    ) -> Template:
        """The template that a request means."""
        if use_previous:
            if stack is None or "Current" not in stack:
                raise AWSError("ValidationError", "There is no previous template to use.")
            current = stack["Current"]
            return parse(current.get("OriginalTemplate", current["TemplateBody"]))
        if (body is None) == (url is None):
            raise AWSError("ValidationError", "Either Template URL or Template Body must be specified.")
        if body is not None:
            if len(body.encode()) > MAX_BODY:
                raise AWSError(
                    "ValidationError",
                    f"1 validation error detected: Value at 'templateBody' failed to satisfy constraint: "
                    f"Member must have length less than or equal to {MAX_BODY}",
                )
            return parse(body)
        assert url is not None
        return parse(await self._fetch(url))

    async def _fetch(self, url: str) -> str:
        bucket, key, version = _place(url, self.runtime.endpoint_url)
        members = {"Bucket": bucket, "Key": key, **({"VersionId": version} if version else {})}
        try:
            content: bytes = (await self.runtime.as_caller().aws("s3", "GetObject", members))["Body"]
        except AWSError as error:
            raise AWSError("ValidationError", f"S3 error: {error.message} ({url})") from error
        if len(content) > MAX_OBJECT:
            raise AWSError("ValidationError", f"Template may not exceed {MAX_OBJECT} bytes in size.")
        return content.decode()

    async def definition(
        self,
        template: Template,
        *,
        given: parameters.Given,
        previous: Document | None,
        capabilities: list[str] | None,
        tags: list[dict[str, str]] | None,
        role: str | None,
    ) -> Document:
        """All that a stack is made from; refused where the template or a parameter will not do.

        `TemplateBody` is the template as it is carried out, where a transform was applied to the given one.
        """
        values = parameters.choose(template, given, previous["Parameters"] if previous else None)
        resolved = await parameters.resolve(template, values, self.runtime.as_caller().aws)
        carried_out = processed(template, resolved)
        check_capabilities(carried_out, capabilities or (), is_extended=template.is_extended)
        before = previous or {}
        return {
            "TemplateBody": carried_out.text,
            **({"OriginalTemplate": template.text} if template.is_extended else {}),
            "Parameters": values,
            "Resolved": resolved,
            "Capabilities": capabilities or [],
            "Tags": tags if tags is not None else before.get("Tags", []),
            "RoleARN": role or before.get("RoleARN"),
            "Caller": session.token if (session := identity.caller()) else None,
        }

    def check(self, stack: Document, template: Template, resolved: Mapping[str, Any]) -> None:
        """Refuse what the template asks for and what cannot be had, before anything is created."""
        evaluator = planning(self.records, stack, template, resolved)
        dependencies(evaluator)
        check(evaluator)

    def check_types_stay(self, stack: Document, template: Template) -> None:
        changed = [
            it["LogicalResourceId"]
            for it in self.records.resources(stack["StackId"])
            if (declared := template.resources.get(it["LogicalResourceId"]))
            and declared["Type"] != it["ResourceType"]
            and it["ResourceStatus"] != "DELETE_COMPLETE"
        ]
        if changed:
            raise AWSError(
                "ValidationError",
                "Update of resource type is not permitted. The new template modifies resource type of the "
                f"following resources: [{', '.join(changed)}]",
            )

    def begin_update(self, stack: Document, definition: Document, *, token: str | None) -> None:
        stack["Previous"] = {**stack["Current"], "Outputs": stack.get("Outputs", [])}
        stack["Current"] = definition
        stack["ClientRequestToken"] = token
        self.records.set_status(stack, "UPDATE_IN_PROGRESS", "User Initiated")
        self.begin(stack)


def check_stack_name(name: str) -> None:
    if _STACK_NAME.fullmatch(name) is None:
        raise AWSError(
            "ValidationError",
            f"1 validation error detected: Value '{name}' at 'stackName' failed to satisfy constraint: "
            "Member must satisfy regular expression pattern: [a-zA-Z][-a-zA-Z0-9]*",
        )


def is_asked_again(stack: Document | None, token: str | None) -> bool:
    """Whether this request came before: its answer may have been lost."""
    return bool(stack and token and stack.get("ClientRequestToken") == token)


def check_updatable(stack: Document) -> None:
    if stack["StackStatus"] not in UPDATABLE:
        raise AWSError(
            "ValidationError",
            f"Stack:{stack['StackId']} is in {stack['StackStatus']} state and can not be updated.",
        )


def _place(url: str, endpoint_url: str) -> tuple[str, str, str | None]:
    """Bucket, key and version of a TemplateURL: of S3's own hosts, or of the local runtime's endpoint."""
    parts = urlsplit(url)
    host, path = parts.hostname or "", unquote(parts.path.lstrip("/"))
    version = parse_qs(parts.query).get("versionId", [None])[0]
    if (
        parts.netloc == urlsplit(endpoint_url).netloc
        or host in ("localhost", "127.0.0.1")
        or _S3_HOST.fullmatch(host)
    ):
        bucket, _, key = path.partition("/")
    elif match := _BUCKET_HOST.fullmatch(host):
        bucket, key = match["bucket"], path
    else:
        bucket, key = "", ""
    if parts.scheme not in ("http", "https") or not bucket or not key:
        raise AWSError(
            "ValidationError", f"S3 error: Domain name specified in {host} is not a valid S3 domain"
        )
    return bucket, key, version


def page(documents: list[Document], member: str, token: str | None, size: int = 100) -> Document:
    """One page of a listing, with the token of the next."""
    return pages.page(member, documents, token, size, invalid="ValidationError")
