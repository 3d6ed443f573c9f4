"""How many asynchronous requests an endpoint has before it, as CloudWatch knows it."""

import asyncio
from datetime import UTC, datetime

from stagegate.local.sagemaker.data_capture import Spawn
from stagegate.local.service import Aws

_SECONDS = 1.0  # between two reports


class BacklogMetrics:
    """The last length of each queue that changed since it was reported; `spawn` runs the sending."""

    def __init__(self, aws: Aws, *, spawn: Spawn) -> None:
        self._aws = aws
        self._spawn = spawn
        self._lengths: dict[str, tuple[int, int]] = {}
        self._is_waiting = False

    def record(self, endpoint: str, length: int, instances: int) -> None:
        self._lengths[endpoint] = length, instances
        if not self._is_waiting:
            self._is_waiting = True
            self._spawn(self._send_soon(), name="send the lengths of queues")

    async def _send_soon(self) -> None:
        await asyncio.sleep(_SECONDS)
        self._is_waiting = False
        lengths, self._lengths = self._lengths, {}
        now = datetime.now(UTC)
        data = [
            {
                "MetricName": metric,
                "Dimensions": [{"Name": "EndpointName", "Value": endpoint}],
                "Timestamp": now,
                "Value": value,
                "Unit": "Count",
            }
            for endpoint, (length, instances) in lengths.items()
            for metric, value in (
                ("ApproximateBacklogSize", length),
                ("ApproximateBacklogSizePerInstance", length / instances),
            )
        ]
        await self._aws("cloudwatch", "PutMetricData", {"Namespace": "AWS/SageMaker", "MetricData": data})
