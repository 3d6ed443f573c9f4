"""InvokeEndpoint: a request to an endpoint's variant, its answer, and what is recorded about both."""

import asyncio
import contextlib
import time
from typing import Any

from stagegate.local.sagemaker.connections import ConnectionLost, Reply
from stagegate.local.sagemaker.data_capture import DataCapture
from stagegate.local.sagemaker.invocation_metrics import InvocationMetrics
from stagegate.local.sagemaker.model_process import ModelProcess
from stagegate.local.sagemaker.resources import ENDPOINT
from stagegate.local.sagemaker.routing import SERVING, Fleet, Route, routes_of
from stagegate.local.sagemaker.shadowing import Shadowing
from stagegate.local.service import AWSError, Runtime, Service

_SECONDS = 60  # that a model has for its answer
_MAX_BODY = 6_291_456
_CUSTOM_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"


class Invocations(Service):
    """The SageMaker runtime."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._routes = routes_of(runtime)
        self._capture = DataCapture(runtime.aws, spawn=self.spawn)
        self._metrics = InvocationMetrics(runtime.aws, spawn=self.spawn)
        self._shadowing = Shadowing(capture=self._capture, metrics=self._metrics, spawn=self.spawn)

    async def stop(self) -> None:
        await self._capture.flush()
        await self._metrics.flush()
        await super().stop()

    async def invoke_endpoint(
        self,
        *,
        EndpointName: str,
        Body: bytes,
        ContentType: str | None = None,
        Accept: str | None = None,
        CustomAttributes: str | None = None,
        TargetVariant: str | None = None,
        InferenceId: str | None = None,
        PrefixAwareId: str | None = None,
        **others: Any,
    ) -> dict[str, Any]:
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
        headers = [
            ("content-type", ContentType or "application/octet-stream"),
            ("accept", Accept or "*/*"),
            *([(_CUSTOM_ATTRIBUTES, CustomAttributes)] if CustomAttributes else []),
            *([("x-amzn-sagemaker-inference-id", InferenceId)] if InferenceId else []),
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
        sent = time.perf_counter()
        reply = await self._ask(EndpointName, process, headers, Body)
        answered = time.perf_counter()

        content_type = reply.headers.get("content-type", "application/octet-stream")
        attributes = reply.headers.get(_CUSTOM_ATTRIBUTES)
        answer = {
            "Body": reply.body,
            "ContentType": content_type,
            "InvokedProductionVariant": variant,
            **({"CustomAttributes": attributes} if attributes else {}),
        }
        self._metrics.record(
            EndpointName,
            variant,
            status=reply.status,
            model_seconds=answered - sent,
            overhead_seconds=sent - started,
        )
        if reply.status >= 400:
            raise self._model_error(EndpointName, reply.status, reply.body.decode(errors="replace"))
        if fleet.data_capture is not None:
            self._capture.record(
                fleet.data_capture,
                endpoint=EndpointName,
                variant=variant,
                input_type=ContentType or "application/octet-stream",
                input_body=Body,
                output_type=content_type,
                output_body=reply.body,
                inference_id=InferenceId,
                custom_attributes=CustomAttributes,
            )
        return answer

    async def _route(self, endpoint: str) -> Route:
        """Where it goes; after a restart, as soon as that is known."""
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
                if any(fleet.is_asynchronous for fleet, _ in route.fleets):
                    raise AWSError(
                        "ValidationError",
                        f"Endpoint {endpoint} of account {self.runtime.account_id} is an asynchronous "
                        "endpoint. Use InvokeEndpointAsync.",
                    )
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

    async def _ask(
        self, endpoint: str, process: ModelProcess, headers: list[tuple[str, str]], body: bytes
    ) -> Reply:
        try:
            async with asyncio.timeout(_SECONDS):
                return await process.request("POST", "/invocations", headers=headers, body=body)
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
