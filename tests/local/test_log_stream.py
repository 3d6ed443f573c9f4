import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from stagegate.local.log_stream import LogStream
from stagegate.local.service import AWSError


class Logs:
    """CloudWatch Logs, as far as a stream needs it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.batches: list[list[str]] = []
        self.is_broken = False
        self.has_group = True

    async def __call__(
        self, service: str, operation: str, parameters: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        self.calls.append(operation)
        given = parameters or {}
        if operation == "CreateLogGroup" and not self.has_group:
            self.has_group = True
            return {}
        if not self.has_group:
            raise AWSError("ResourceNotFoundException", "The specified log group does not exist.")
        if operation != "PutLogEvents":
            raise AWSError("ResourceAlreadyExistsException", "It is there already")
        if self.is_broken:
            raise AWSError("ServiceUnavailableException", "Not now", status=503)
        self.batches.append([event["message"] for event in given["logEvents"]])
        return {}

    @property
    def lines(self) -> list[str]:
        return [line for batch in self.batches for line in batch]


async def copied(logs: Logs, *chunks: bytes) -> None:
    reader = asyncio.StreamReader()
    for chunk in chunks:
        reader.feed_data(chunk)
    reader.feed_eof()
    await LogStream(logs, group="/g", stream="s").copy(reader)


async def test_lines_arrive_whole_whatever_pieces_they_came_in() -> None:
    logs = Logs()

    await copied(logs, b"one\ntw", b"o\r\n\nfou", b"r")

    assert logs.lines == ["one", "two", " ", "four"]
    assert logs.calls == ["CreateLogStream", "PutLogEvents"]


async def test_a_group_that_is_not_there_is_made() -> None:
    logs = Logs()
    logs.has_group = False

    await copied(logs, b"one\n")

    assert logs.lines == ["one"]
    assert logs.calls == ["CreateLogStream", "CreateLogGroup", "CreateLogStream", "PutLogEvents"]


async def test_bytes_that_are_no_text_arrive_as_replacements() -> None:
    logs = Logs()

    await copied(logs, b"\xff\xfe\n")

    assert logs.lines == ["\ufffd\ufffd"]


async def test_much_output_goes_in_batches_and_long_lines_in_pieces() -> None:
    logs = Logs()

    await copied(logs, b"x" * 500_000 + b"\n", b"line\n" * 2_500)

    assert max(len(batch) for batch in logs.batches) <= 1_000
    assert sum(len(line) for line in logs.lines if line.startswith("x")) == 500_000
    assert max(len(line) for line in logs.lines) <= 200_000
    assert logs.lines.count("line") == 2_500


async def test_a_process_is_read_to_its_end_when_the_logs_fail(caplog: pytest.LogCaptureFixture) -> None:
    logs = Logs()
    logs.is_broken = True

    with caplog.at_level(logging.ERROR):
        await copied(logs, b"one\n")

    assert caplog.messages == ["1 lines for /g/s are lost"]
