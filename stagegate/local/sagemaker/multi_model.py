"""A multi-model variant: below one prefix lie many models, each is loaded when it is first asked for.

https://docs.aws.amazon.com/sagemaker/latest/dg/multi-model-endpoints.html
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Any

from stagegate.local import s3
from stagegate.local.log_stream import LogStream
from stagegate.local.sagemaker import model_data
from stagegate.local.sagemaker.connections import Answer, Headers, Reply
from stagegate.local.sagemaker.model_process import ModelProcess, Unhealthy
from stagegate.local.sagemaker.requirements import NotInstalled, install_beside
from stagegate.local.sagemaker.resources import Document
from stagegate.local.service import AWSError, Runtime

TARGET = "x-amzn-sagemaker-target-model"
_MOST_LOADED = 8  # on AWS as many as the instance has memory for
_STARTUP_SECONDS = 60  # a request waits no longer


def is_multi_model(container: Mapping[str, Any]) -> bool:
    return container.get("Mode") == "MultiModel"


class MultiModelProcess(ModelProcess):
    """A process for each model that is loaded; the one that was not asked for the longest makes room."""

    def __init__(
        self,
        *,
        name: str,
        model_dir: Path,
        container: Document,
        runtime: Runtime,
        environment: Callable[[Path], dict[str, str]],
        log: LogStream,
    ) -> None:
        super().__init__(name=name, model_dir=model_dir, environment={}, log=log)
        self._container, self._runtime, self._environment_of = container, runtime, environment
        self._prefix = container["ModelDataUrl"].rstrip("/") + "/"
        setting = container.get("MultiModelConfig", {}).get("ModelCacheSetting", "Enabled")
        self._most = _MOST_LOADED if setting == "Enabled" else 0
        self._models: OrderedDict[str, asyncio.Task[ModelProcess]] = OrderedDict()
        """The one asked last at the end."""
        self._unloading: set[asyncio.Task[None]] = set()

    @property
    def pids(self) -> list[int]:
        return [
            pid for loading in self._models.values() if _is_loaded(loading) for pid in loading.result().pids
        ]

    async def start(self, *, seconds: float) -> None:
        self.resume()

    def resume(self) -> None:
        self._healthy.set()

    async def request(self, method: str, path: str, *, headers: Headers, body: bytes = b"") -> Reply:
        """Raises as any model's, and a ValidationError for a model that is not there."""
        async with self._request_under_way():
            try:
                model = await self._loaded(headers)
            except (Unhealthy, NotInstalled) as error:
                return Reply(status=500, headers={}, body=_failed(headers, error))
            try:
                return await model.request(method, path, headers=headers, body=body)
            finally:
                self._make_room()

    async def stream(
        self, method: str, path: str, *, headers: Headers, body: bytes = b""
    ) -> AsyncGenerator[Answer | bytes, None]:
        async with self._request_under_way():
            try:
                model = await self._loaded(headers)
            except (Unhealthy, NotInstalled) as error:
                yield Answer(status=500)
                yield _failed(headers, error)
                return
            try:
                async for part in model.stream(method, path, headers=headers, body=body):
                    yield part
            finally:
                self._make_room()

    async def stop(self) -> None:
        while self._models:
            self._unload(next(iter(self._models)))
        await asyncio.gather(*self._unloading)
        await super().stop()

    async def _loaded(self, headers: Headers) -> ModelProcess:
        target = _target(headers)
        loading = self._models.get(target)
        if loading is None:
            loading = self._models[target] = asyncio.create_task(self._load(target), name=f"load {target}")
            if self._most:
                self._make_room()
        self._models.move_to_end(target)
        try:
            return await asyncio.shield(loading)
        except BaseException:
            if loading.done() and self._models.get(target) is loading:
                del self._models[target]  # the next request tries again
            raise

    async def _load(self, target: str) -> ModelProcess:
        folder = self._folder(target) / "model"
        container = {**self._container, "ModelDataUrl": f"{self._prefix}{target}"}
        bucket, key = s3.split_uri(container["ModelDataUrl"])
        try:
            await model_data.fetch(self._runtime.aws, container, folder)
        except model_data.Unavailable as error:
            raise AWSError(
                "ValidationError",
                f"Failed to download model data(bucket: {bucket}, key: {key}). Please ensure that there is "
                "an object located at the URL and that the role passed to CreateModel has permissions to "
                "download the model.",
            ) from error
        await install_beside(folder, self._runtime.data, self._log)
        environment = {**self._environment_of(folder), "SAGEMAKER_MULTI_MODEL": "true"}
        model = ModelProcess(name=self.name, model_dir=folder, environment=environment, log=self._log)
        await model.start(seconds=_STARTUP_SECONDS)
        return model

    def _make_room(self) -> None:
        for target in list(self._models)[: max(0, len(self._models) - self._most)]:
            self._unload(target)

    def _unload(self, target: str) -> None:
        """Once it has answered what it was asked; a request that comes meanwhile loads it anew."""
        loading = self._models.pop(target)
        unloading = asyncio.create_task(self._end_model(loading), name=f"unload {target}")
        self._unloading.add(unloading)
        unloading.add_done_callback(self._unloading.discard)

    async def _end_model(self, loading: "asyncio.Task[ModelProcess]") -> None:
        (model,) = await asyncio.gather(loading, return_exceptions=True)
        if isinstance(model, ModelProcess):
            await model.drain()
            await model.stop()

    def _folder(self, target: str) -> Path:
        return self._model_dir / hashlib.sha256(target.encode()).hexdigest()[:16]


def _is_loaded(loading: "asyncio.Task[ModelProcess]") -> bool:
    return loading.done() and not loading.cancelled() and loading.exception() is None


def _target(headers: Headers) -> str:
    for name, value in headers:
        if name == TARGET and ".." not in value.split("/"):
            return value.lstrip("/")
    raise AWSError("ValidationError", "TargetModel must name a model of this multi-model endpoint.")


def _failed(headers: Headers, error: Exception) -> bytes:
    return f"Failed to load the model {_target(headers)}: {error}".encode()
