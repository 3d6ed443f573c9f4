"""A variant of several containers: an inference pipeline, each asked with the answer of the one before, or
containers of which a request names one.

https://docs.aws.amazon.com/sagemaker/latest/dg/inference-pipelines.html
https://docs.aws.amazon.com/sagemaker/latest/dg/multi-container-endpoints.html
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

from stagegate.local.log_stream import LogStream
from stagegate.local.sagemaker.connections import Answer, Headers, Reply
from stagegate.local.sagemaker.model_process import ModelProcess
from stagegate.local.sagemaker.resources import Document, invalid

TARGET = "x-amzn-sagemaker-target-container-hostname"
_MODE = "Pipeline"
_MOST = 15


def several(containers: list[Document], execution: Mapping[str, Any] | None) -> Document:
    """What a model of several containers is made of, in place of the one that others have."""
    if len(containers) > _MOST:
        raise invalid(f"A model can have at most {_MOST} containers, not {len(containers)}")
    is_direct = (execution or {}).get("Mode") == "Direct"
    names = [container.get("ContainerHostname") for container in containers]
    if is_direct and None in names:
        raise invalid("Each of Containers needs a ContainerHostname where the Mode is Direct")
    given = [name for name in names if name is not None]
    if len(set(given)) < len(given):
        raise invalid(f"The ContainerHostname of each of Containers must be unique: {given}")
    if any(container.get("Mode") == "MultiModel" for container in containers):
        raise invalid("Mode MultiModel is for a model of one container")
    named = [
        {"ContainerHostname": f"container-{number}", **container}
        for number, container in enumerate(containers, start=1)
    ]
    return {"Mode": _MODE, "Containers": named, "IsDirect": is_direct}


def containers_of(container: Mapping[str, Any]) -> list[Document]:
    """Those that `several` has put together; none of one that stands alone."""
    return list(container["Containers"]) if container.get("Mode") == _MODE else []


class PipelineProcess(ModelProcess):
    """A process for each container, by its host name."""

    def __init__(
        self, *, name: str, model_dir: Path, log: LogStream, parts: dict[str, ModelProcess], is_direct: bool
    ) -> None:
        super().__init__(name=name, model_dir=model_dir, environment={}, log=log)
        self._parts, self.is_direct = parts, is_direct

    @property
    def hostnames(self) -> list[str]:
        return list(self._parts)

    @property
    def pids(self) -> list[int]:
        return [pid for part in self._parts.values() for pid in part.pids]

    @property
    def is_healthy(self) -> bool:
        return all(part.is_healthy for part in self._parts.values())

    async def wait_until_healthy(self) -> None:
        for part in self._parts.values():
            await part.wait_until_healthy()

    async def start(self, *, seconds: float) -> None:
        await asyncio.gather(*(part.start(seconds=seconds) for part in self._parts.values()))

    def resume(self) -> None:
        for part in self._parts.values():
            part.resume()

    async def request(self, method: str, path: str, *, headers: Headers, body: bytes = b"") -> Reply:
        async with self._request_under_way():
            refusal, last, headers, body = await self._before_last(method, path, headers, body)
            return refusal or await last.request(method, path, headers=headers, body=body)

    async def stream(
        self, method: str, path: str, *, headers: Headers, body: bytes = b""
    ) -> AsyncGenerator[Answer | bytes, None]:
        async with self._request_under_way():
            refusal, last, headers, body = await self._before_last(method, path, headers, body)
            if refusal is not None:
                yield Answer(status=refusal.status, headers=refusal.headers)
                yield refusal.body
                return
            async for part in last.stream(method, path, headers=headers, body=body):
                yield part

    async def stop(self) -> None:
        await asyncio.gather(*(part.stop() for part in self._parts.values()))
        await super().stop()

    async def _before_last(
        self, method: str, path: str, headers: Headers, body: bytes
    ) -> tuple[Reply | None, ModelProcess, Headers, bytes]:
        """The container that gives the answer, and what it is asked; or an error that came before."""
        if self.is_direct:
            return None, self._parts[dict(headers)[TARGET]], headers, body
        *first, last = self._parts.values()
        accept = dict(headers).get("accept", "*/*")
        for part in first:
            # What the next one reads is the containers' affair: SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT.
            reply = await part.request(method, path, headers=_with(headers, accept="*/*"), body=body)
            if reply.status >= 400:
                return reply, last, headers, body
            content_type = reply.headers.get("content-type", "application/octet-stream")
            headers, body = _with(headers, **{"content-type": content_type}), reply.body
        return None, last, _with(headers, accept=accept), body


def _with(headers: Headers, **changed: str) -> Headers:
    return [*((name, value) for name, value in headers if name not in changed), *changed.items()]
