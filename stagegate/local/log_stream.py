"""What a process writes, line by line, into a stream of CloudWatch Logs, in batches."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

from stagegate.local.service import Aws, AWSError

_LOGGER = logging.getLogger(__name__)
_BATCH_SECONDS = 0.2
_MAX_LINE = 200_000  # bytes; an event of CloudWatch Logs has at most 256 KB
_MAX_EVENTS, _MAX_BYTES = 1_000, 900_000  # of one PutLogEvents; AWS takes 10,000 and 1 MB


class LogStream:
    """One log stream. `write` never blocks; `flush` returns when all that was written has arrived."""

    def __init__(self, aws: Aws, *, group: str, stream: str) -> None:
        self._aws = aws
        self._group = group
        self.stream = stream
        self._created = False
        self._waiting: list[dict[str, Any]] = []
        self._sending = asyncio.Lock()

    def write(self, line: str) -> None:
        self._waiting.append({"timestamp": int(time.time() * 1000), "message": line or " "})

    async def copy(self, reader: asyncio.StreamReader) -> None:
        """Everything from `reader` until its end, in batches, whatever the bytes and however long a line."""
        rest = b""
        flusher = asyncio.create_task(self._flush_regularly())
        try:
            while chunk := await reader.read(65_536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in [*lines, *([rest] if len(rest) > _MAX_LINE else [])]:
                    self._write_bytes(line)
                if len(rest) > _MAX_LINE:
                    rest = b""
                if len(self._waiting) > _MAX_EVENTS:
                    await self.flush()
            if rest:
                self._write_bytes(rest)
        finally:
            flusher.cancel()
            await self.flush()

    async def flush(self) -> None:
        async with self._sending:
            while self._waiting:
                batch = _first_batch(self._waiting)
                del self._waiting[: len(batch)]
                try:
                    await self._create()
                    await self._aws(
                        "logs",
                        "PutLogEvents",
                        {"logGroupName": self._group, "logStreamName": self.stream, "logEvents": batch},
                    )
                except AWSError:  # a process whose output nobody reads would stand still
                    _LOGGER.exception("%d lines for %s/%s are lost", len(batch), self._group, self.stream)

    def _write_bytes(self, line: bytes) -> None:
        for start in range(0, max(len(line), 1), _MAX_LINE):
            self.write(line[start : start + _MAX_LINE].decode(errors="replace").rstrip("\r"))

    async def _flush_regularly(self) -> None:
        while True:
            await asyncio.sleep(_BATCH_SECONDS)
            if self._waiting:
                await asyncio.shield(self.flush())

    async def _create(self) -> None:
        if self._created:
            return
        group = {"logGroupName": self._group}
        stream = {**group, "logStreamName": self.stream}
        try:
            await self._made("CreateLogStream", stream)
        except AWSError as error:
            if error.code != "ResourceNotFoundException":
                raise
            await self._made("CreateLogGroup", group)
            await self._made("CreateLogStream", stream)
        self._created = True

    async def _made(self, operation: str, parameters: dict[str, str]) -> None:
        try:
            await self._aws("logs", operation, parameters)
        except AWSError as error:
            if error.code != "ResourceAlreadyExistsException":
                raise


def _first_batch(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    batch: list[dict[str, Any]] = []
    size = 0
    for event in events[:_MAX_EVENTS]:
        size += len(event["message"].encode()) + 26  # CloudWatch Logs counts 26 bytes more for each
        if batch and size > _MAX_BYTES:
            break
        batch.append(event)
    return batch
