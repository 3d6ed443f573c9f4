"""What every service of the local runtime is made of: its runtime, its errors, its life, its events.

A service is a class whose methods are the API's operations in snake case. They take the API's members
by keyword, as botocore names them, and return the response as a dict. `server.py` finds them by name.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from stagegate.local import identity
from stagegate.local.identity import Identity
from stagegate.local.store import Store

if TYPE_CHECKING:
    from stagegate.local.faults import Faults

Json = Any
"""A value as JSON has it: None, bool, int, float, str, list or dict."""
Operation = TypeVar("Operation", bound=Callable[..., Any])


class AWSError(Exception):
    """An error in the API's own words; `server.py` writes it in the service's protocol.

    `code` is what a client sees as the error's code (`ResourceNotFound`), `members` are the further
    members that the API's model gives the error's shape (`reason`, `OriginalStatusCode`).
    """

    def __init__(self, code: str, message: str, *, status: int = 400, **members: Any) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.members = members


class AnswerLost(AWSError):
    """The connection ended before there was an answer: who called cannot know whether the call was made."""

    def __init__(self) -> None:
        super().__init__("ConnectionClosed", "The target server failed to respond", status=503)


class Aws(Protocol):
    """The in-process caller: any service by botocore's name, checked against botocore's model.

    Gives what boto3 would give, without `ResponseMetadata`; a streaming body as bytes. Raises `AWSError`.
    """

    async def __call__(
        self, service: str, operation: str, parameters: Mapping[str, Any] | None = None
    ) -> dict[str, Any]: ...


async def _nothing(
    service: str, operation: str, parameters: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    raise AWSError(
        "UnknownOperationException", f"Nothing beneath our own services answers {service}:{operation}."
    )


class Roles(Protocol):
    """How a call is made under a role. What the role may not do is refused, where the runtime enforces it."""

    def bound(self, identity: Identity) -> Aws:
        """The in-process caller of this session."""

    async def check(self, identity: Identity, action: str, resource: str) -> None:
        """Raise AWSError where the session may not do this."""


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """A service's own event (`source` "aws.sagemaker"), as EventBridge would receive it."""

    source: str
    detail_type: str
    detail: Mapping[str, Any]
    resources: tuple[str, ...] = ()
    time: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, kw_only=True)
class EventFate:
    """What becomes of an event on its way to its targets."""

    copies: int = 1
    seconds: float = 0.0
    is_lost: bool = False


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What the server hands to each service."""

    store: Store
    aws: Aws
    data: Path
    """The data directory; a service keeps its files below a folder of its own name."""
    endpoint_url: str
    """Where the server answers, for example "http://127.0.0.1:4566"."""
    account_id: str = "111111111111"
    region: str = "us-east-1"
    beneath: Aws = _nothing
    """Like `aws`, but past our own services: for one that adds to what moto does (`SNSMail.publish`)."""
    smtp: str | None = None
    """HOST:PORT of the mail server that mail goes to; None for the inbox in the data directory."""
    preload: tuple[str, ...] | None = None
    """The modules that jobs find imported already; None for those that a pipeline with torch needs."""
    max_jobs: int | None = None
    """How many jobs run at once; None leaves it to what the machine has."""
    faults: "Faults | None" = None
    """What is to go wrong on purpose."""
    enforce_iam: bool = False
    """Whether a role is refused what its policies do not allow."""
    roles: Roles | None = None
    identity: Identity | None = None
    """Under whom calls are made and processes run: a role's session, or nobody in particular."""
    listeners: list[Callable[[Announcement], None]] = field(default_factory=list)

    def as_role(self, role_arn: str | None, *, session: str) -> "Runtime":
        """This runtime for what a role does: its calls, and those of the processes it is given to."""
        return self if not role_arn else self.under(Identity(role_arn=role_arn, session=session))

    def as_caller(self) -> "Runtime":
        """For what a service does on behalf of who calls its operation, as forwarded access."""
        caller = identity.caller()
        return self if caller is None else self.under(caller)

    def under(self, session: Identity) -> "Runtime":
        aws = self.aws if self.roles is None else self.roles.bound(session)
        return replace(self, aws=aws, identity=session)

    async def authorize(self, action: str, resource: str) -> None:
        """Ask whether the role may do what a service does under it without a call of its own here."""
        if self.roles is not None and self.identity is not None:
            await self.roles.check(self.identity, action, resource)

    def announce(self, announcement: Announcement) -> None:
        """Tell every listener, at once and in this thread: EventBridge's rules, a state that waits for a job.

        A listener must only write to the store and wake something, so that the status change of the
        caller and what follows from it are committed together.
        """
        for listen in self.listeners:
            listen(announcement)

    def by(self, caller: str) -> Aws:
        """Like `aws`, for what a user's definition asks for: a task, a rule's target, a stack's resource.

        It may fail on purpose. What a service needs for itself does not: on AWS, too, it is tried again where
        nobody sees it.
        """
        if (faults := self.faults) is None:
            return self.aws

        async def call(
            service: str, operation: str, parameters: Mapping[str, Any] | None = None
        ) -> dict[str, Any]:
            return await faults.call(
                caller,
                service,
                operation,
                lambda: parameters or {},
                lambda: self.aws(service, operation, parameters),
            )

        return call

    def fate(self, service: str, operation: str, members: Mapping[str, Any]) -> dict[str, Any]:
        """What is to go wrong with what an operation has started: members for its document, kept with it.

        `_Failure` is why it fails before it has run, `_Interruption` when a training job loses its instances.
        """
        return {} if self.faults is None else self.faults.fate(service, operation, members)

    def event_fate(self, event: dict[str, Any]) -> EventFate:
        """What is to go wrong with an event."""
        return EventFate() if self.faults is None else self.faults.event_fate(event)

    def arn(self, service: str, resource: str) -> str:
        """`arn("sagemaker", "training-job/x")` in this account and region."""
        return f"arn:aws:{service}:{self.region}:{self.account_id}:{resource}"

    def environment(self) -> dict[str, str]:
        """What a process that the runtime starts needs to reach the services by boto3 or the AWS CLI."""
        own = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            **(own if self.identity is None else self.identity.environment()),
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            # "sync-127.0.0.1", where boto3 looks for StartSyncExecution, is nowhere.
            "AWS_DISABLE_HOST_PREFIX_INJECTION": "true",
        }


def ends_with_its_client(operation: Operation) -> Operation:
    """Mark an operation that is given up when its client hangs up, as a long poll must be.

    All others go on: what they do counts whether or not somebody reads the answer.
    """
    operation.ends_with_its_client = True  # type: ignore[attr-defined]
    return operation


def of_sessions(operation: Operation) -> Operation:
    """Mark an operation that is only for callers with a role's session; moto answers the others."""
    operation.is_of_sessions = True  # type: ignore[attr-defined]
    return operation


class Service:
    """One AWS API, or a part of one. Operations are plain or `async` methods; all run on the one event loop.

    A plain method must end within a few milliseconds; what blocks goes into `asyncio.to_thread`.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Called once every service exists and the endpoint answers: take up again what was under way."""

    async def stop(self) -> None:
        """Called once, when the server stops: end the tasks and whatever processes they own."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def authorize(self, operation: str, members: Mapping[str, Any]) -> None:
        """Called before an operation: raise AWSError where a role that it names may not do what it is for."""

    def spawn(self, work: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        """Run `work` beside the requests, as long as the server runs. Its failure is logged, never lost."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"{type(self).__name__}: {task.get_name()} failed", "exception": error}
            )
