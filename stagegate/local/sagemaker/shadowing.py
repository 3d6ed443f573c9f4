"""Shadow variants: copies of requests to a model that is tried out; nobody waits for what it answers.

https://docs.aws.amazon.com/sagemaker/latest/dg/shadow-tests.html
"""

import asyncio
import random
import time
from collections import Counter

from stagegate.local.sagemaker.connections import ConnectionLost, Headers
from stagegate.local.sagemaker.data_capture import DataCapture, Spawn
from stagegate.local.sagemaker.invocation_metrics import InvocationMetrics
from stagegate.local.sagemaker.model_process import ModelProcess
from stagegate.local.sagemaker.routing import Fleet

_SECONDS = 60  # that a shadow has for its answer, as any variant
_MOST_UNDER_WAY = 100  # copies to one endpoint; a shadow that does not keep up gets no more


class Shadowing:
    """The copies that are under way; `spawn` runs them beside the requests."""

    def __init__(self, *, capture: DataCapture, metrics: InvocationMetrics, spawn: Spawn) -> None:
        self._capture = capture
        self._metrics = metrics
        self._spawn = spawn
        self._under_way: Counter[str] = Counter()

    def copy(
        self,
        fleet: Fleet,
        *,
        endpoint: str,
        variant: str,
        headers: Headers,
        body: bytes,
        inference_id: str | None,
        custom_attributes: str | None,
    ) -> None:
        """Send a request to the shadows as well, as often as their weights say."""
        for name, process in fleet.shadows.items():
            weight = fleet.weights[variant]
            share = fleet.shadow_weights[name] / weight if weight else 0.0
            if random.random() < share and self._under_way[endpoint] < _MOST_UNDER_WAY:
                self._under_way[endpoint] += 1
                self._spawn(
                    self._ask(
                        fleet,
                        process,
                        endpoint=endpoint,
                        headers=headers,
                        body=body,
                        inference_id=inference_id,
                        custom_attributes=custom_attributes,
                    ),
                    name=f"shadow {endpoint}",
                ).add_done_callback(lambda _: self._under_way.subtract((endpoint,)))

    async def _ask(
        self,
        fleet: Fleet,
        process: ModelProcess,
        *,
        endpoint: str,
        headers: Headers,
        body: bytes,
        inference_id: str | None,
        custom_attributes: str | None,
    ) -> None:
        sent = time.perf_counter()
        try:
            async with asyncio.timeout(_SECONDS):
                reply = await process.request("POST", "/invocations", headers=headers, body=body)
        except (TimeoutError, ConnectionLost):
            self._metrics.record(endpoint, process.name, status=500)
            return
        self._metrics.record(
            endpoint, process.name, status=reply.status, model_seconds=time.perf_counter() - sent
        )
        if fleet.data_capture is not None and reply.status < 400:
            self._capture.record(
                fleet.data_capture,
                endpoint=endpoint,
                variant=process.name,
                input_type=dict(headers)["content-type"],
                input_body=body,
                output_type=reply.headers.get("content-type", "application/octet-stream"),
                output_body=reply.body,
                inference_id=inference_id,
                custom_attributes=custom_attributes,
            )
