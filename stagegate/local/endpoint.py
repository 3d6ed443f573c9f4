"""The one endpoint: finds the service that a request means, ours or moto, and has it answered.

Requests from outside come in as HTTP, those of our own services through `aws`; both are checked against the
API's model, and both see the same errors.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from botocore import xform_name

from stagegate.local import apis, caller, protocol
from stagegate.local.apis import Target
from stagegate.local.caller import Method
from stagegate.local.messages import HttpRequest, HttpResponse
from stagegate.local.moto_journal import Journal
from stagegate.local.moto_services import MOTO_BEHIND, Moto
from stagegate.local.service import AWSError, Runtime, Service
from stagegate.local.store import Store
from stagegate.local.validation import validate

log = logging.getLogger(__name__)


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
            store=store, aws=self.aws, beneath=self.beneath, data=data, endpoint_url=endpoint_url, **settings
        )
        self.moto = Moto(Journal(store, data / "moto"), host=self.host, account_id=self.runtime.account_id)
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
            response = await self._answer(target, request)
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

    async def _answer(self, target: Target, request: HttpRequest) -> HttpResponse:
        method = self._method(target.service, target.operation)
        if method is None and target.service in MOTO_BEHIND and target.protocol != apis.CBOR:
            return await self.moto.answer(target, request)
        members = protocol.parse(target, request.uncompressed(), self.host)
        if method is None:
            return protocol.write(target, await self.beneath(target.service, target.operation, members))
        validate(target.service, target.operation, members)
        answer = caller.call_method(target.operation, method, members)
        if request.client_left is not None and getattr(method, "ends_with_its_client", False):
            return protocol.write(target, await _while_asked(request.client_left, answer))
        return protocol.write(target, await answer)

    async def aws(
        self, service: str, operation: str, parameters: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Any operation of any service, from inside this process."""
        members = {name: value for name, value in (parameters or {}).items() if value is not None}
        method = self._method(service, operation)
        if method is None:
            return await self.beneath(service, operation, members)
        validate(service, operation, members)
        return await caller.call_method(operation, method, members)

    async def beneath(
        self, service: str, operation: str, parameters: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The same past our own services: what moto answers."""
        members = {name: value for name, value in (parameters or {}).items() if value is not None}
        if service not in MOTO_BEHIND:
            raise apis.unknown_operation(service, operation)
        validate(service, operation, members)
        target, request = caller.http_request(service, operation, members)
        return caller.read_response(target, await self.moto.answer(target, request))

    def _method(self, service: str, operation: str) -> Method | None:
        """The method of ours that answers the operation, if one does."""
        if service not in apis.APIS:
            raise AWSError("UnknownServiceException", f"There is no service '{service}' here.", status=501)
        apis.operation_model(service, operation)
        name = xform_name(operation)
        for instance in self.services.get(service, ()):
            if method := getattr(instance, name, None):
                found: Method = method
                return found
        return None


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
