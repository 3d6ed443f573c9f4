"""What the variants of endpoints take of the machine, as CloudWatch has it of their instances."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from stagegate.local.sagemaker import fleets
from stagegate.local.sagemaker.model_process import ModelProcess
from stagegate.local.sagemaker.resources import Document
from stagegate.local.sagemaker.routing import Fleet
from stagegate.local.sagemaker.usage import Usage
from stagegate.local.service import Runtime

NAMESPACE = "/aws/sagemaker/Endpoints"
_SAMPLE_SECONDS = 10.0
_SEND_SECONDS = 60.0
_VOLUME = 30  # GB, where a variant does not say

Serving = Iterable[tuple[str, Document, Fleet]]
"""Endpoints by name, each with its document's fleet, and the processes of that."""


@dataclass
class _Measured:
    usage: Usage
    folder: Path
    is_sent: bool = False


class VariantUsage:
    """Samples of all processes that serve; serverless ones have no instance that could be measured."""

    def __init__(self, runtime: Runtime, serving: Callable[[], Serving]) -> None:
        self._runtime = runtime
        self._serving = serving
        self._measured: dict[ModelProcess, _Measured] = {}

    async def measure(self) -> None:
        """As long as the server runs. What has begun to serve is sent soon, then by the minute."""
        sent = time.monotonic()
        while True:
            await asyncio.sleep(_SAMPLE_SECONDS)
            await self._sample()
            is_new = not all(one.is_sent for one in self._measured.values())
            if is_new or time.monotonic() - sent > _SEND_SECONDS:
                sent = time.monotonic()
                await self._send()

    async def _sample(self) -> None:
        for process, one in self._measured.items():
            await asyncio.to_thread(one.usage.sample, *process.pids, folder=one.folder)
        serving = dict(self._processes())
        self._measured = {of: self._measured.get(of) or one for of, one in serving.items()}
        for process, one in serving.items():
            if self._measured[process] is one:
                await asyncio.to_thread(one.usage.join, *process.pids)

    async def _send(self) -> None:
        data = []
        for one in self._measured.values():
            taken = one.usage.take()
            one.is_sent = one.is_sent or bool(taken)
            data += taken
        if data:
            batch = {"Namespace": NAMESPACE, "MetricData": data}
            await self._runtime.aws("cloudwatch", "PutMetricData", batch)

    def _processes(self) -> Iterable[tuple[ModelProcess, _Measured]]:
        for endpoint, planned, fleet in self._serving():
            for entry in fleets.entries(planned):
                name = entry["Variant"]["VariantName"]
                process = fleet.processes.get(name)
                if process is None or not process.pids or entry.get("ServerlessConfig"):
                    continue
                volume = entry["Variant"].get("VolumeSizeInGB", _VOLUME)
                usage = Usage({"EndpointName": endpoint, "VariantName": name}, volume=volume)
                folder = fleets.variant_folder(self._runtime, endpoint, entry)
                yield process, _Measured(usage=usage, folder=folder)
