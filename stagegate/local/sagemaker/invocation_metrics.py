"""What CloudWatch knows about an endpoint's invocations, per variant, sent in batches."""

import asyncio
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from stagegate.local.sagemaker.data_capture import Spawn
from stagegate.local.service import Aws

_BATCH_SECONDS = 1.0
_MAX_VALUES = 150  # of one datum
_MAX_DATA = 1_000  # of one PutMetricData
_LATENCIES = ("ModelLatency", "OverheadLatency")

Key = tuple[str, str, str]


class InvocationMetrics:
    """Values that are not in CloudWatch yet, by endpoint, variant and metric; `spawn` runs the sending."""

    def __init__(self, aws: Aws, *, spawn: Spawn) -> None:
        self._aws = aws
        self._spawn = spawn
        self._values: defaultdict[Key, list[float]] = defaultdict(list)
        self._is_waiting = False

    def record(
        self,
        endpoint: str,
        variant: str,
        *,
        status: int,
        model_seconds: float | None = None,
        overhead_seconds: float | None = None,
    ) -> None:
        """One invocation; a model that gave no answer has no latency."""
        metrics = {
            "Invocations": 1.0,
            "InvocationsPerInstance": 1.0,
            "Invocation4XXErrors": float(400 <= status < 500),
            "Invocation5XXErrors": float(status >= 500),
            "InvocationModelErrors": float(status >= 400),
            "ModelLatency": model_seconds and model_seconds * 1_000_000,
            "OverheadLatency": overhead_seconds and overhead_seconds * 1_000_000,
        }
        for name, value in metrics.items():
            if value is not None:
                self._values[endpoint, variant, name].append(value)
        if not self._is_waiting:
            self._is_waiting = True
            self._spawn(self._flush_soon(), name="send metrics of invocations")

    async def flush(self) -> None:
        values, self._values = self._values, defaultdict(list)
        now = datetime.now(UTC)
        data = [
            _datum(key, found[start : start + _MAX_VALUES], now)
            for key, found in values.items()
            for start in range(0, len(found), _MAX_VALUES)
        ]
        for start in range(0, len(data), _MAX_DATA):
            await self._aws(
                "cloudwatch",
                "PutMetricData",
                {"Namespace": "AWS/SageMaker", "MetricData": data[start : start + _MAX_DATA]},
            )

    async def _flush_soon(self) -> None:
        await asyncio.sleep(_BATCH_SECONDS)
        self._is_waiting = False
        await self.flush()


def _datum(key: Key, values: list[float], time: datetime) -> dict[str, Any]:
    """Latencies one by one, for their percentiles; what is counted as its statistics, which cost less."""
    endpoint, variant, metric = key
    return {
        "MetricName": metric,
        "Dimensions": [
            {"Name": "EndpointName", "Value": endpoint},
            {"Name": "VariantName", "Value": variant},
        ],
        "Timestamp": time,
        **({"Values": values} if metric in _LATENCIES else {"StatisticValues": _statistics(values)}),
        "Unit": "Microseconds" if metric in _LATENCIES else "Count",
    }


def _statistics(values: list[float]) -> dict[str, float]:
    return {
        "SampleCount": float(len(values)),
        "Sum": sum(values),
        "Minimum": min(values),
        "Maximum": max(values),
    }
