"""What executions write to CloudWatch Logs, as their state machine's logging configuration asks.

https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html
"""

import asyncio
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from stagegate.local.log_stream import LogStream
from stagegate.local.service import Aws, Json
from stagegate.local.states.history import details_of
from stagegate.local.states.journal import Event, Journal
from stagegate.local.states.jsontext import to_text

_BATCH_SECONDS = 0.5
_MAXIMUM_DATA = 248 * 1024
_FATAL = ("ExecutionAborted", "ExecutionFailed", "ExecutionTimedOut")
_ERRORS = ("Failed", "TimedOut", "Aborted", "FailStateEntered")


class ExecutionLogs:
    """A stream for each log group and state machine, written in batches."""

    def __init__(self, aws: Aws, spawn: Callable[..., asyncio.Task[Any]]) -> None:
        self._aws = aws
        self._spawn = spawn
        self._streams: dict[tuple[str, str], LogStream] = {}
        self._is_flushing = False

    def follow(self, journal: Journal, document: dict[str, Any], configuration: dict[str, Any]) -> None:
        """Log what is written to the journal of an execution; with the level OFF nothing at all."""
        level = configuration["level"]
        if level == "OFF":
            return
        (destination,) = configuration["destinations"]
        group = (
            destination["cloudWatchLogsLogGroup"]["logGroupArn"].split(":log-group:")[1].removesuffix(":*")
        )
        machine = document["stateMachineArn"].rpartition(":")[2].partition("/")[0]
        has_data = configuration["includeExecutionData"]

        def write(event: Event) -> None:
            if _is_of(level, event.type):
                self._stream(group, machine).write(to_text(_record(event, document, has_data=has_data)))
                self._flush_soon()

        journal.listen = write

    async def flush(self) -> None:
        for stream in self._streams.values():
            await stream.flush()

    def _stream(self, group: str, machine: str) -> LogStream:
        if (group, machine) not in self._streams:
            moment = datetime.now(UTC).strftime("%Y-%m-%d-%H-%M")
            name = f"states/{machine}/{moment}/{secrets.token_hex(4)}"
            self._streams[group, machine] = LogStream(self._aws, group=group, stream=name)
        return self._streams[group, machine]

    def _flush_soon(self) -> None:
        if not self._is_flushing:
            self._is_flushing = True
            self._spawn(self._flush(), name="execution logs")

    async def _flush(self) -> None:
        await asyncio.sleep(_BATCH_SECONDS)
        self._is_flushing = False
        await self.flush()


def _is_of(level: str, event_type: str) -> bool:
    if level == "ALL":
        return True
    return event_type in _FATAL or (level == "ERROR" and event_type.endswith(_ERRORS))


def _record(event: Event, document: dict[str, Any], *, has_data: bool) -> dict[str, Json]:
    return {
        "id": str(event.id),
        "type": event.type,
        "details": _shortened(details_of(event, include_execution_data=has_data)),
        "previous_event_id": str(event.previous_id),
        "event_timestamp": str(round(event.timestamp * 1000)),
        "execution_arn": document["executionArn"],
        "redrive_count": str(document["redriveCount"]),
    }


def _shortened(details: dict[str, Json]) -> dict[str, Json]:
    """With as much of a large input or output as fits into an event of CloudWatch Logs, as AWS has it."""
    for name in ("input", "output", "parameters"):
        if (text := details.get(name)) is not None and _escaped_size(text) > _MAXIMUM_DATA:
            while _escaped_size(text) > _MAXIMUM_DATA:
                text = text[: len(text) * _MAXIMUM_DATA // _escaped_size(text)]
            details[name] = text
            if f"{name}Details" in details:
                details[f"{name}Details"] = {"truncated": True}
    return details


def _escaped_size(text: str) -> int:
    return len(to_text(text).encode())
