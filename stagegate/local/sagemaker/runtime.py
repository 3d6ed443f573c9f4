"""InvokeEndpoint: a request to an endpoint's variant, its answer, and what is recorded about both."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from stagegate.local.sagemaker import multi_model, pipeline
from stagegate.local.sagemaker.connections import Answer, ConnectionLost, Reply
from stagegate.local.sagemaker.data_capture import DataCapture
from stagegate.local.sagemaker.invocation_metrics import InvocationMetrics
from stagegate.local.sagemaker.model_process import ModelProcess
from stagegate.local.sagemaker.multi_model import MultiModelProcess
from stagegate.local.sagemaker.pipeline import PipelineProcess
from stagegate.local.sagemaker.resources import ENDPOINT
from stagegate.local.sagemaker.routing import SERVING, Fleet, Route, routes_of
from stagegate.local.sagemaker.shadowing import Shadowing
from stagegate.local.service import AWSError, Runtime, Service

_SECONDS = 60  # that a model has for its answer
_STREAM_SECONDS = 480  # and for a whole stream
_MAX_BODY = 6_291_456
_CUSTOM_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"


Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A request that is on its way to a variant."""

    endpoint: str
    fleet: Fleet
    variant: str
    process: ModelProcess
    headers: list[tuple[str, str]]
    body: bytes
    content_type: str
    inference_id: str | None
    custom_attributes: str | None
    started: float


class Invocations(Service):
    """The SageMaker runtime."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._routes = routes_of(runtime)
        self._capture = DataCapture(runtime, spawn=self.spawn)
        self._metrics = InvocationMetrics(runtime.aws, spawn=self.spawn)
        self._shadowing = Shadowing(capture=self._capture, metrics=self._metrics, spawn=self.spawn)

    async def stop(self) -> None:
        await self._capture.flush()
        await self._metrics.flush()
        await super().stop()

    async def invoke_endpoint(self, **members: Any) -> dict[str, Any]:
        asked = await self._begin(**members)
        sent = time.perf_counter()
        reply = await self._ask(asked.endpoint, asked.process, asked.headers, asked.body)
        self._answered(asked, reply.status, reply.headers, reply.body, sent=sent)
        if reply.status >= 400:
            raise self._model_error(asked.endpoint, reply.status, reply.body.decode(errors="replace"))
        return {"Body": reply.body, **_described(asked, reply.headers)}

    async def invoke_endpoint_with_response_stream(self, **members: Any) -> dict[str, Any]:
        """The parts of the answer, each as soon as the model has made it."""
        asked = await self._begin(**members)
        sent = time.perf_counter()
        whole = asked.process.stream("POST", "/invocations", headers=asked.headers, body=asked.body)
        answer = await self._in_time(asked.endpoint, asked.process, anext(whole))
        assert isinstance(answer, Answer)
        if answer.status >= 400:
            body = await self._in_time(asked.endpoint, asked.process, _joined(whole))
            self._answered(asked, answer.status, answer.headers, body, sent=sent)
            raise self._model_error(asked.endpoint, answer.status, body.decode(errors="replace"))
        return {"Body": self._events(asked, answer, whole, sent), **_described(asked, answer.headers)}

    async def _events(
        self, asked: _Asked, answer: Answer, whole: AsyncGenerator[Answer | bytes, None], sent: float
    ) -> AsyncGenerator[dict[str, dict[str, bytes]], None]:
        """The parts as events. Raises a ModelStreamError where the model does not come to its end."""
        seen: list[bytes] = []
        deadline = asyncio.get_running_loop().time() + _STREAM_SECONDS
        async with contextlib.aclosing(whole):
            try:
                while True:
                    async with asyncio.timeout_at(deadline):
                        part = await anext(whole, None)
                    if not isinstance(part, bytes):
                        break
                    seen.append(part)
                    yield {"PayloadPart": {"Bytes": part}}
            except TimeoutError as error:
                message = f"it took more than {_STREAM_SECONDS} s"
                raise self._broken(asked, message, "ModelInvocationTimeExceeded") from error
            except ConnectionLost as error:
                raise self._broken(asked, str(error), "StreamBroken") from error
            except GeneratorExit:  # the client has left
                self._answered(asked, answer.status, answer.headers, b"".join(seen), sent=sent)
                raise
        self._answered(asked, answer.status, answer.headers, b"".join(seen), sent=sent)

    async def _begin(
        self,
        *,
        EndpointName: str,
        Body: bytes,
        ContentType: str | None = None,
        Accept: str | None = None,
        CustomAttributes: str | None = None,
        TargetVariant: str | None = None,
        TargetModel: str | None = None,
        TargetContainerHostname: str | None = None,
        InferenceId: str | None = None,
        PrefixAwareId: str | None = None,
        **others: Any,
    ) -> _Asked:
        """Where a request goes and what it says there; the shadows have their copies."""
        for member, value in others.items():
            if value:
                raise AWSError("ValidationError", f"{member} is not supported by the local runtime")
        if len(Body) > _MAX_BODY:
            raise AWSError(
                "ValidationError",
                f"1 validation error detected: Value at 'body' failed to satisfy constraint: "
                f"Member must have length less than or equal to {_MAX_BODY}",
            )
        started = time.perf_counter()
        fleet = (await self._route(EndpointName)).pick(TargetVariant)
        variant, process = self._variant(fleet, EndpointName, TargetVariant)
        if isinstance(process, MultiModelProcess) != (TargetModel is not None):
            kind, how = ("not a", "without") if TargetModel is not None else ("a", "with")
            raise AWSError(
                "ValidationError",
                f"Endpoint {EndpointName} of account {self.runtime.account_id} is {kind} multi-model "
                f"endpoint. Invoke it {how} TargetModel.",
            )
        self._check_container(process, EndpointName, TargetContainerHostname)
        content_type = ContentType or "application/octet-stream"
        headers = [
            ("content-type", content_type),
            ("accept", Accept or "*/*"),
            *([(_CUSTOM_ATTRIBUTES, CustomAttributes)] if CustomAttributes else []),
            *([("x-amzn-sagemaker-inference-id", InferenceId)] if InferenceId else []),
            *([(multi_model.TARGET, TargetModel)] if TargetModel else []),
            *([(pipeline.TARGET, TargetContainerHostname)] if TargetContainerHostname else []),
        ]
        self._shadowing.copy(
            fleet,
            endpoint=EndpointName,
            variant=variant,
            headers=headers,
            body=Body,
            inference_id=InferenceId,
            custom_attributes=CustomAttributes,
        )
        return _Asked(
            endpoint=EndpointName,
            fleet=fleet,
            variant=variant,
            process=process,
            headers=headers,
            body=Body,
            content_type=content_type,
            inference_id=InferenceId,
            custom_attributes=CustomAttributes,
            started=started,
        )

    def _answered(
        self, asked: _Asked, status: int, headers: Mapping[str, str], body: bytes, *, sent: float
    ) -> None:
        """Record what was answered: the metrics, and both sides where data is captured."""
        self._metrics.record(
            asked.endpoint,
            asked.variant,
            status=status,
            model_seconds=time.perf_counter() - sent,
            overhead_seconds=sent - asked.started,
        )
        if asked.fleet.data_capture is not None and status < 400:
            self._capture.record(
                asked.fleet.data_capture,
                endpoint=asked.endpoint,
                variant=asked.variant,
                input_type=asked.content_type,
                input_body=asked.body,
                output_type=headers.get("content-type", "application/octet-stream"),
                output_body=body,
                inference_id=asked.inference_id,
                custom_attributes=asked.custom_attributes,
            )

    def _broken(self, asked: _Asked, message: str, code: str) -> AWSError:
        """The event that ends a stream before the model has ended it."""
        self._metrics.record(asked.endpoint, asked.variant, status=500)
        return AWSError(
            "ModelStreamError", f"The stream from container primary ended: {message}", ErrorCode=code
        )

    async def _route(self, endpoint: str) -> Route:
        route = self._routes.get(endpoint) or await self._route_in_time(endpoint)
        if any(fleet.is_asynchronous for fleet, _ in route.fleets):
            raise AWSError(
                "ValidationError",
                f"Endpoint {endpoint} of account {self.runtime.account_id} is an asynchronous endpoint. "
                "Use InvokeEndpointAsync.",
            )
        return route

    async def _route_in_time(self, endpoint: str) -> Route:
        """Where it goes, after a restart, as soon as that is known."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SECONDS):
                while (route := self._routes.get(endpoint)) is None:
                    document = self.runtime.store.get(ENDPOINT, endpoint)
                    if document is None or document["EndpointStatus"] not in SERVING:
                        raise AWSError(
                            "ValidationError",
                            f"Endpoint {endpoint} of account {self.runtime.account_id} not found.",
                        )
                    await self._routes.change()
                return route
        raise AWSError("ServiceUnavailable", f"Endpoint {endpoint} is not ready yet.", status=503)

    def _variant(self, fleet: Fleet, endpoint: str, target: str | None) -> tuple[str, ModelProcess]:
        name = target or fleet.pick()
        process = fleet.variants.get(name)
        if process is None:
            raise AWSError(
                "ValidationError",
                f"Variant {name} of endpoint {endpoint} of account {self.runtime.account_id} not found.",
            )
        return name, process

    def _check_container(self, process: ModelProcess, endpoint: str, target: str | None) -> None:
        hosts = process.hostnames if isinstance(process, PipelineProcess) and process.is_direct else []
        if target in hosts or (target is None and not hosts):
            return
        raise AWSError(
            "ValidationError",
            f"TargetContainerHostname {target} is none of the containers of endpoint {endpoint} of account "
            f"{self.runtime.account_id} that can be invoked directly: {hosts}.",
        )

    async def _ask(
        self, endpoint: str, process: ModelProcess, headers: list[tuple[str, str]], body: bytes
    ) -> Reply:
        work = process.request("POST", "/invocations", headers=headers, body=body)
        return await self._in_time(endpoint, process, work)

    async def _in_time(self, endpoint: str, process: ModelProcess, work: Awaitable[Result]) -> Result:
        """What the model answers. Raises a ModelError where it does not."""
        try:
            async with asyncio.timeout(_SECONDS):
                return await work
        except TimeoutError:
            message = (
                "Your invocation timed out while waiting for a response from container primary. Review the "
                "latency metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
            )
        except ConnectionLost as error:
            message = f"The connection to container primary was lost: {error}"
        self._metrics.record(endpoint, process.name, status=500)
        raise self._model_error(endpoint, 0, message)

    def _model_error(self, endpoint: str, status: int, message: str) -> AWSError:
        group = f"/aws/sagemaker/Endpoints/{endpoint}"
        region, account = self.runtime.region, self.runtime.account_id
        kind = "client" if 400 <= status < 500 else "server"
        return AWSError(
            "ModelError",
            f'Received {kind} error ({status}) from primary with message "{message}". See '
            f"https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}"
            f"#logEventViewer:group={group} in account {account} for more information.",
            status=424,
            OriginalStatusCode=status,
            OriginalMessage=message,
            LogStreamArn=self.runtime.arn("logs", f"log-group:{group}"),
        )


def _described(asked: _Asked, headers: Mapping[str, str]) -> dict[str, Any]:
    attributes = headers.get(_CUSTOM_ATTRIBUTES)
    return {
        "ContentType": headers.get("content-type", "application/octet-stream"),
        "InvokedProductionVariant": asked.variant,
        **({"CustomAttributes": attributes} if attributes else {}),
    }


async def _joined(whole: AsyncGenerator[Answer | bytes, None]) -> bytes:
    async with contextlib.aclosing(whole):
        return b"".join([part async for part in whole if isinstance(part, bytes)])
