"""The one endpoint: finds the service that a request means, ours or moto, and has it answered.

Requests from outside come in as HTTP, those of our own services through `aws`; both are checked against the
API's model, and both see the same errors.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from botocore import xform_name

from stagegate.local import apis, caller, identity, protocol
from stagegate.local.apis import Target
from stagegate.local.caller import Method
from stagegate.local.faults import CLIENT
from stagegate.local.iam.access import Access
from stagegate.local.iam.record import Record
from stagegate.local.iam.resources import Place
from stagegate.local.identity import Identity
from stagegate.local.messages import HttpRequest, HttpResponse
from stagegate.local.moto_journal import Journal
from stagegate.local.moto_services import MOTO_BEHIND, Moto
from stagegate.local.service import AnswerLost, Aws, AWSError, Runtime, Service
from stagegate.local.store import Store
from stagegate.local.validation import validate

log = logging.getLogger(__name__)

_TOKEN = "x-amz-security-token"  # noqa: S105 (a header's name)


class Endpoint:
    """Every service, and the way to each of them."""

    def __init__(
        self,
        store: Store,
        data: Path,
        *,
        endpoint_url: str,
        classes: Mapping[str, tuple[type[Service], ...]],
        **settings: Any,
    ) -> None:
        self.store = store
        self.host = endpoint_url.removeprefix("http://")
        self.runtime = Runtime(
            store=store,
            aws=self.aws,
            beneath=self.beneath,
            roles=_Roles(self),
            data=data,
            endpoint_url=endpoint_url,
            **settings,
        )
        self.access = Access(
            Record(store),
            partial(self.beneath, "iam", "GetAccountAuthorizationDetails"),
            place=Place(region=self.runtime.region, account_id=self.runtime.account_id),
            is_enforced=self.runtime.enforce_iam,
        )
        self.moto = Moto(
            Journal(store, data / "moto"),
            host=self.host,
            account_id=self.runtime.account_id,
            region=self.runtime.region,
            announce=self.runtime.announce,
        )
        self.services: dict[str, tuple[Service, ...]] = {
            name: tuple(service(self.runtime) for service in of_api) for name, of_api in classes.items()
        }

    async def start(self) -> None:
        """Once the port is bound: the services take up again what was under way."""
        for service in self._each():
            await service.start()

    async def stop(self) -> None:
        """The services end, the last one first; then moto."""
        for service in reversed(self._each()):
            try:
                await service.stop()
            except Exception:
                log.exception("%s did not stop well", type(service).__name__)
        self.moto.close()

    def _each(self) -> list[Service]:
        return [service for of_api in self.services.values() for service in of_api]

    async def answer(self, request: HttpRequest) -> HttpResponse:
        """The answer to a request from outside, once all that it changed is on disk."""
        target = Target(service="", operation="", protocol=_guessed_protocol(request), path_parameters={})
        try:
            target = apis.identify(request, self.host)
            apis.check_region(request, target, self.runtime.region)
            response = await self._answer_or_fail(target, request)
        except AnswerLost as error:
            response = HttpResponse(status=error.status, is_lost=True)
        except AWSError as error:
            response = protocol.write_error(target, error)
        except Exception as error:
            log.exception("%s %s failed", target.service, target.operation)
            message = (
                f"{target.operation} failed in Stagegate's local runtime: {type(error).__name__}: {error}"
            )
            response = protocol.write_error(target, AWSError("InternalFailure", message, status=500))
        try:
            await self.store.committed()
        except sqlite3.Error as error:
            message = f"What {target.operation} changed could not be written to disk: {error}"
            response = protocol.write_error(target, AWSError("InternalFailure", message, status=500))
        return response

    async def _answer_or_fail(self, target: Target, request: HttpRequest) -> HttpResponse:
        """The answer, or what a fault that was asked for makes of it."""
        if (faults := self.runtime.faults) is None:
            return await self._answer(target, request)
        return await faults.call(
            CLIENT,
            target.service,
            target.operation,
            lambda: protocol.parse(target, request.uncompressed(), self.host),
            lambda: self._answer(target, request),
        )

    async def _answer(self, target: Target, request: HttpRequest) -> HttpResponse:
        by = identity.of_token(_session_token(request))
        method = self._method(target.service, target.operation, by)
        if method is None and target.service in MOTO_BEHIND and target.protocol != apis.CBOR:
            return await self._answer_with_moto(by, target, request)
        members = protocol.parse(target, request.uncompressed(), self.host)
        await self.access.check(by, target.service, target.operation, members)
        if method is None:
            return protocol.write(target, await self.beneath(target.service, target.operation, members))
        validate(target.service, target.operation, members)
        with identity.called_by(by):
            answer = self._call(target.operation, method, members)
            if request.client_left is not None and getattr(method, "ends_with_its_client", False):
                return protocol.write(target, await _while_asked(request.client_left, answer))
            return protocol.write(target, await answer)

    async def _answer_with_moto(
        self, by: Identity | None, target: Target, request: HttpRequest
    ) -> HttpResponse:
        """Only a role's request needs to be read here too."""
        if by is None:
            return await self._ask_moto(target, request)
        members = protocol.parse(target, request.uncompressed(), self.host)
        await self.access.check(by, target.service, target.operation, members)
        response = await self._ask_moto(target, request)
        if _is_missing_object(target.operation, response.status):
            await self.access.check_listing(by, members)
        return response

    async def aws(
        self,
        service: str,
        operation: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        by: Identity | None = None,
    ) -> dict[str, Any]:
        """Any operation of any service, from inside this process, by a role or by nobody in particular."""
        members = {name: value for name, value in (parameters or {}).items() if value is not None}
        method = self._method(service, operation, by)
        await self.access.check(by, service, operation, members)
        if method is None:
            try:
                return await self.beneath(service, operation, members)
            except AWSError as error:
                if _is_missing_object(operation, error.status):
                    await self.access.check_listing(by, members)
                raise
        validate(service, operation, members)
        with identity.called_by(by):
            return await self._call(operation, method, members)

    async def _call(self, operation: str, method: Method, members: Mapping[str, Any]) -> dict[str, Any]:
        if isinstance(owner := getattr(method, "__self__", None), Service):
            await owner.authorize(operation, members)
        return await caller.call_method(operation, method, members)

    async def beneath(
        self, service: str, operation: str, parameters: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The same past our own services: what moto answers."""
        members = {name: value for name, value in (parameters or {}).items() if value is not None}
        if service not in MOTO_BEHIND:
            raise apis.unknown_operation(service, operation)
        validate(service, operation, members)
        target, request = caller.http_request(service, operation, members, region=self.runtime.region)
        return caller.read_response(target, await self._ask_moto(target, request))

    async def _ask_moto(self, target: Target, request: HttpRequest) -> HttpResponse:
        response = await self.moto.answer(target, request)
        if target.service == "iam" and not target.operation.startswith(("Get", "List")):
            self.access.forget()
        return response

    def _method(self, service: str, operation: str, by: Identity | None) -> Method | None:
        """The method of ours that answers the operation to this caller, if one does."""
        if service not in apis.APIS:
            raise AWSError("UnknownServiceException", f"There is no service '{service}' here.", status=501)
        apis.operation_model(service, operation)
        name = xform_name(operation)
        for instance in self.services.get(service, ()):
            if method := getattr(instance, name, None):
                found: Method = method
                return None if by is None and getattr(method, "is_of_sessions", False) else found
        return None


class _Roles:
    """How services call under a role."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def bound(self, session: Identity) -> Aws:
        return partial(self._endpoint.aws, by=session)

    async def check(self, session: Identity, action: str, resource: str) -> None:
        await self._endpoint.access.check_action(session, action, resource)


def _session_token(request: HttpRequest) -> str:
    """A session's token stands in a header, or in a presigned URL."""
    if (token := request.headers.get(_TOKEN)) is not None:
        return token
    if _TOKEN not in request.query.lower():
        return ""
    given = {name.lower(): value for name, value in request.query_parameters().items()}
    return given.get(_TOKEN, "")


def _is_missing_object(operation: str, status: int) -> bool:
    return status == 404 and operation in ("GetObject", "HeadObject")


async def _while_asked(
    client_left: Callable[[], Awaitable[None]], answer: Coroutine[Any, Any, dict[str, Any]]
) -> dict[str, Any]:
    """The answer, unless the client hangs up before it is there."""
    answering = asyncio.ensure_future(answer)
    leaving = asyncio.ensure_future(client_left())
    try:
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            answering.cancel()
            await asyncio.wait((answering,))
        if answering.cancelled():
            raise AWSError("RequestTimeout", "The client has hung up.", status=408)
        return answering.result()
    finally:
        leaving.cancel()
        answering.cancel()


def _guessed_protocol(request: HttpRequest) -> str:
    """How to tell a client of an error where its request does not say what it wants."""
    if "smithy-protocol" in request.headers:
        return apis.CBOR
    if request.content_type.startswith("application/x-www-form-urlencoded"):
        return apis.QUERY
    if "json" in request.content_type or "x-amz-target" in request.headers:
        return apis.JSON
    return apis.REST_JSON
