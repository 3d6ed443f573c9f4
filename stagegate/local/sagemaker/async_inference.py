"""Asynchronous inference: requests that are queued, and whose answers are put into S3 and told to SNS.

A request is a document from the moment at which it is accepted to the moment at which its answer is where it
should be: what was accepted when the server was killed is done by the next one, at least once.
https://docs.aws.amazon.com/sagemaker/latest/dg/async-inference.html
"""

import asyncio
import functools
import uuid
from collections import defaultdict, deque
from dataclasses import dataclass
from datetime import UTC, datetime

from stagegate.local import s3
from stagegate.local.sagemaker.async_results import Failure, Result, publish, upload
from stagegate.local.sagemaker.backlog import BacklogMetrics
from stagegate.local.sagemaker.connections import ConnectionLost, Reply
from stagegate.local.sagemaker.data_capture import DataCapture
from stagegate.local.sagemaker.invocation_metrics import InvocationMetrics
from stagegate.local.sagemaker.model_process import ModelProcess
from stagegate.local.sagemaker.resources import ENDPOINT, SESSION, Document
from stagegate.local.sagemaker.routing import SERVING, Fleet, routes_of
from stagegate.local.service import AWSError, Runtime, Service

_REQUEST = "sagemaker/async-invocation"
_TTL_SECONDS = 21_600
_INVOCATION_SECONDS = 900
_CONCURRENT = 4  # per instance, where the config leaves it to us
_CUSTOM_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """What the model said, and who it was."""

    reply: Reply
    fleet: Fleet
    variant: str
    seconds: float


class AsyncInvocations(Service):
    """InvokeEndpointAsync, and the queue of each endpoint."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._routes = routes_of(runtime)
        self._capture = DataCapture(runtime, spawn=self.spawn)
        self._metrics = InvocationMetrics(runtime.aws, spawn=self.spawn)
        self._backlog = BacklogMetrics(runtime.aws, spawn=self.spawn)
        self._waiting: defaultdict[str, deque[str]] = defaultdict(deque)
        self._running: defaultdict[str, int] = defaultdict(int)

    async def start(self) -> None:
        for request in self.runtime.store.list(_REQUEST):
            self._enqueue(request["EndpointName"], request["Key"])

    async def stop(self) -> None:
        await self._capture.flush()
        await self._metrics.flush()
        await super().stop()

    def invoke_endpoint_async(
        self,
        *,
        EndpointName: str,
        InputLocation: str | None = None,
        Body: bytes | None = None,
        ContentType: str | None = None,
        Accept: str | None = None,
        CustomAttributes: str | None = None,
        InferenceId: str | None = None,
        S3OutputPathExtension: str | None = None,
        Filename: str | None = None,
        RequestTTLSeconds: int = _TTL_SECONDS,
        InvocationTimeoutSeconds: int = _INVOCATION_SECONDS,
    ) -> Document:
        config = self._config(EndpointName)
        if bool(InputLocation) == bool(Body):
            raise _invalid("Exactly one of Body and InputLocation must be provided")
        if InputLocation is not None and not InputLocation.startswith("s3://"):
            raise _invalid(
                f"InputLocation '{InputLocation}' is not an S3 URI: it should read s3://bucket/key"
            )
        inference_id = InferenceId or str(uuid.uuid4())
        output = config["OutputConfig"]
        extension = S3OutputPathExtension
        stem = Filename.partition(".")[0] if Filename else inference_id
        locations = {
            "OutputLocation": _below(
                output.get("S3OutputPath"), extension, Filename or f"{inference_id}.out"
            ),
            "FailureLocation": _below(output.get("S3FailurePath"), extension, f"{stem}-error.out"),
        }
        key = str(uuid.uuid4())
        request = {
            "Key": key,
            "EndpointName": EndpointName,
            "ReceivedTime": datetime.now(UTC),
            "InputLocation": InputLocation,
            "Body": Body or None,
            "ContentType": ContentType,
            "Accept": Accept,
            "CustomAttributes": CustomAttributes,
            "InferenceId": inference_id,
            "RequestTTLSeconds": RequestTTLSeconds,
            "InvocationTimeoutSeconds": InvocationTimeoutSeconds,
            "OutputConfig": output,
            **locations,
        }
        self.runtime.store.put(_REQUEST, key, request)
        self._enqueue(EndpointName, key)
        given = {name: location for name, location in locations.items() if location is not None}
        return {"InferenceId": inference_id, **given}

    def _config(self, endpoint: str) -> Document:
        document = self.runtime.store.get(ENDPOINT, endpoint)
        if document is None or not self._serves(endpoint):
            raise _invalid(f"Endpoint {endpoint} of account {self.runtime.account_id} not found.")
        config: Document | None = document["Fleet"].get("AsyncInferenceConfig")
        if config is None:
            raise _invalid(
                f"Endpoint {endpoint} of account {self.runtime.account_id} is not an asynchronous endpoint: "
                "its endpoint config has no AsyncInferenceConfig. Use InvokeEndpoint."
            )
        return config

    def _enqueue(self, endpoint: str, key: str) -> None:
        self._waiting[endpoint].append(key)
        self._next(endpoint)

    def _next(self, endpoint: str) -> None:
        """Begin with as many requests as the endpoint takes at once, in the order in which they came."""
        waiting = self._waiting[endpoint]
        while waiting and self._running[endpoint] < self._concurrent(endpoint):
            key = waiting.popleft()
            self._running[endpoint] += 1
            task = self.spawn(self._do(key), name=f"asynchronous invocation {key}")
            task.add_done_callback(functools.partial(self._done, endpoint))
        self._backlog.record(endpoint, len(waiting) + self._running[endpoint], self._instances(endpoint))

    def _concurrent(self, endpoint: str) -> int:
        document: Document = self.runtime.store.get(ENDPOINT, endpoint) or {"Fleet": {}}
        client = (document["Fleet"].get("AsyncInferenceConfig") or {}).get("ClientConfig", {})
        return int(client.get("MaxConcurrentInvocationsPerInstance", _CONCURRENT)) * self._instances(endpoint)

    def _instances(self, endpoint: str) -> int:
        document = self.runtime.store.get(ENDPOINT, endpoint) or {"Fleet": {"Variants": ()}}
        return max(1, sum(int(entry["InstanceCount"]) for entry in document["Fleet"]["Variants"]))

    def _done(self, endpoint: str, task: asyncio.Task[None]) -> None:
        self._running[endpoint] -= 1
        if not task.cancelled():  # as when the server stops: the next one goes on
            self._next(endpoint)

    async def _do(self, key: str) -> None:
        request = self.runtime.store.get(_REQUEST, key)
        if request is not None:
            await self.runtime.store.committed()
            await self._finish(request, await self._result(request))
            self.runtime.store.delete(_REQUEST, key)

    async def _result(self, request: Document) -> Result | Failure | None:
        """None where the endpoint is gone: its queue went with it."""
        age = (datetime.now(UTC) - request["ReceivedTime"]).total_seconds()
        if age > request["RequestTTLSeconds"]:
            return Failure(reason=f"ClientError: The request expired after {age:.0f} seconds in the queue.")
        body = request["Body"]
        if body is None:
            try:
                bucket, at = s3.split_uri(request["InputLocation"])
                stored = await self._by_role(request).aws("s3", "GetObject", {"Bucket": bucket, "Key": at})
            except AWSError as error:
                return Failure(reason=f"ClientError: Failed to download {request['InputLocation']}: {error}")
            body = stored["Body"]
            content_type = request["ContentType"] or stored.get("ContentType")  # the SDK gives the object's
            request = {**request, "ContentType": content_type}
        try:
            async with asyncio.timeout(request["InvocationTimeoutSeconds"]):
                answer = await self._ask(request, body)
        except TimeoutError:
            return Failure(
                reason="ClientError: Your invocation timed out while waiting for a response from container "
                "primary. Review the latency metrics for each container in Amazon CloudWatch, resolve the "
                "issue, and try again."
            )
        except ConnectionLost as error:
            return Failure(reason=f"ClientError: The connection to container primary was lost: {error}")
        if answer is None:
            return None
        self._record(request, body, answer)
        reply = answer.reply
        result = Result(
            content_type=reply.headers.get("content-type", "application/octet-stream"), body=reply.body
        )
        if reply.status < 400:
            return result
        kind = "client" if reply.status < 500 else "server"
        return Failure(
            reason=f"ClientError: Received {kind} error ({reply.status}) from model. See the SageMaker "
            "Endpoint logs in your account for more information.",
            answer=result,
        )

    async def _ask(self, request: Document, body: bytes) -> _Answer | None:
        """The answer of a variant; one that was stopped before it had answered leaves it to the next."""
        loop = asyncio.get_running_loop()
        headers = [
            ("content-type", request["ContentType"] or "application/octet-stream"),
            ("accept", request["Accept"] or "*/*"),
            ("x-amzn-sagemaker-inference-id", request["InferenceId"]),
            *([(_CUSTOM_ATTRIBUTES, attributes)] if (attributes := request["CustomAttributes"]) else []),
        ]
        endpoint = request["EndpointName"]
        while self._serves(endpoint):
            route = self._routes.get(endpoint)
            if route is None:
                await self._routes.change()
                continue
            fleet = route.pick()
            variant = fleet.pick()
            process = fleet.variants[variant]
            if not process.is_healthy:
                await self._healthy_or_replaced(process)
                continue
            started = loop.time()
            try:
                reply = await process.request("POST", "/invocations", headers=headers, body=body)
            except ConnectionLost:
                if not process.has_stopped:
                    self._metrics.record(endpoint, variant, status=500)
                    raise
            else:
                return _Answer(reply=reply, fleet=fleet, variant=variant, seconds=loop.time() - started)
        return None

    def _serves(self, endpoint: str) -> bool:
        document = self.runtime.store.get(ENDPOINT, endpoint)
        return document is not None and document["EndpointStatus"] in SERVING

    async def _healthy_or_replaced(self, process: ModelProcess) -> None:
        waits = [
            asyncio.ensure_future(process.wait_until_healthy()),
            asyncio.ensure_future(self._routes.change()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _record(self, request: Document, body: bytes, answer: _Answer) -> None:
        endpoint, reply = request["EndpointName"], answer.reply
        self._metrics.record(endpoint, answer.variant, status=reply.status, model_seconds=answer.seconds)
        if answer.fleet.data_capture is not None and reply.status < 400:
            self._capture.record(
                answer.fleet.data_capture,
                endpoint=endpoint,
                variant=answer.variant,
                input_type=request["ContentType"] or "application/octet-stream",
                input_body=body,
                output_type=reply.headers.get("content-type", "application/octet-stream"),
                output_body=reply.body,
                inference_id=request["InferenceId"],
                custom_attributes=request["CustomAttributes"],
            )

    async def _finish(self, request: Document, result: Result | Failure | None) -> None:
        if result is None:
            return
        role = self._by_role(request)
        if isinstance(result, Result):
            try:
                await upload(role.aws, request, request["OutputLocation"], result)
            except AWSError as error:
                result = Failure(reason=f"ClientError: Failed to upload the inference response: {error}")
        if isinstance(result, Failure):
            await upload(role.aws, request, request["FailureLocation"], result.as_written())
        await publish(role, request, result)

    def _by_role(self, request: Document) -> Runtime:
        """As the role of the endpoint's model sees it."""
        endpoint = self.runtime.store.get(ENDPOINT, request["EndpointName"])
        variants = endpoint["Fleet"]["Variants"] if endpoint else [{}]
        return self.runtime.as_role(variants[0].get("RoleArn"), session=SESSION)


def _below(path: str | None, extension: str | None, name: str) -> str | None:
    if path is None:
        return None
    return "/".join([path.rstrip("/"), *([extension.strip("/")] if extension else []), name])


def _invalid(message: str) -> AWSError:
    return AWSError("ValidationError", message)
