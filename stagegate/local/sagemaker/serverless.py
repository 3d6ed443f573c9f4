"""A serverless variant: its process is started by a request, and ended when nobody has asked for a while.

https://docs.aws.amazon.com/sagemaker/latest/dg/serverless-endpoints.html
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from stagegate.local.log_stream import LogStream
from stagegate.local.sagemaker.model_process import ModelProcess
from stagegate.local.sagemaker.resources import Document, invalid
from stagegate.local.service import AWSError

SETUP_SECONDS = 180  # to fetch the model, start its container and pass the health check
SETUP_FAILED = (
    f"Unable to successfully stand up your model within the allotted {SETUP_SECONDS} second timeout. Please "
    "ensure that downloading your model artifacts, starting your model container and passing the ping health "
    f"checks can be completed within {SETUP_SECONDS} seconds."
)
_IDLE_SECONDS = 300  # AWS publishes no number; some minutes
_MEMORY_SIZES = range(1024, 6145, 1024)


class ServerlessProcess(ModelProcess):
    """A process that comes and goes; its provisioned concurrency, where it has some, keeps it here."""

    def __init__(
        self,
        *,
        name: str,
        model_dir: Path,
        environment: Mapping[str, str],
        log: LogStream,
        config: Mapping[str, Any],
    ) -> None:
        super().__init__(name=name, model_dir=model_dir, environment=environment, log=log)
        self._config = config
        self._timer: asyncio.TimerHandle | None = None
        self._falling_asleep: asyncio.Task[None] | None = None

    def configure(self, config: Mapping[str, Any]) -> None:
        """Take another `ServerlessConfig`, from the next request on."""
        self._config = config
        if self._stays_awake and self._watch is None:
            self.resume()

    def resume(self) -> None:
        if self._process is not None or self._stays_awake:
            super().resume()
        self._sleep_later()

    async def stop(self) -> None:
        self._stay()
        if self._falling_asleep is not None:
            await self._falling_asleep
        await super().stop()

    @property
    def _stays_awake(self) -> bool:
        return bool(self._config.get("ProvisionedConcurrency"))

    @asynccontextmanager
    async def _request_under_way(self) -> AsyncIterator[None]:
        if self._under_way >= self._config["MaxConcurrency"]:
            raise AWSError("ThrottlingException", "Rate exceeded")
        async with super()._request_under_way():
            try:
                await self._wake()
                yield
            finally:
                self._sleep_later()

    async def _wake(self) -> None:
        self._stay()
        while (task := self._falling_asleep) is not None:
            await asyncio.wait((task,))
            if self._falling_asleep is task:
                self._falling_asleep = None
        if self._watch is None:
            super().resume()

    def _stay(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sleep_later(self) -> None:
        self._stay()
        self._timer = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._sleep)

    def _sleep(self) -> None:
        if not self._under_way and self._watch is not None and not self._stays_awake:
            self._falling_asleep = asyncio.create_task(self._fall_asleep(), name=f"sleep {self.name}")

    async def _fall_asleep(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        self._connections.close()
        await self._end()


def check_variant(variant: Document) -> None:
    """Refuse what a serverless variant cannot have."""
    name, config = variant["VariantName"], variant["ServerlessConfig"]
    for member in ("InstanceType", "InitialInstanceCount", "AcceleratorType", "VolumeSizeInGB"):
        if variant.get(member) is not None:
            raise invalid(f'Variant "{name}": {member} cannot be specified together with ServerlessConfig')
    if config["MemorySizeInMB"] not in _MEMORY_SIZES:
        sizes = ", ".join(map(str, _MEMORY_SIZES))
        raise invalid(f'Variant "{name}": MemorySizeInMB must be one of {sizes}')
    check_config(name, config)


def check_config(name: str, config: Mapping[str, Any]) -> None:
    """Refuse more provisioned concurrency than there may be at all."""
    if config.get("ProvisionedConcurrency", 0) > config["MaxConcurrency"]:
        raise invalid(f'Variant "{name}": ProvisionedConcurrency must not exceed MaxConcurrency')


def check_endpoint_config(variants: list[Document], features: Mapping[str, object]) -> None:
    """Refuse what an endpoint config with a serverless variant cannot have."""
    if not any("ServerlessConfig" in variant for variant in variants):
        return
    if len(variants) > 1:
        raise invalid("Only one production variant is supported for serverless endpoints")
    for member, value in features.items():
        if value:
            raise invalid(f"{member} is not supported for serverless endpoints")
