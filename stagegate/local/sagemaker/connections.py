"""HTTP to a model server: connections that stay open, on the event loop."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httptools

Headers = list[tuple[str, str]]
_LARGE = 65_536  # bytes of a body that are worth a system call more, and not a copy


class ConnectionLost(Exception):
    """The other side closed the connection before it had answered."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


@dataclass(kw_only=True)
class Answer:
    """An answer whose head is there; its body may still be on its way."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)
    """What has come of the body and was not taken yet."""


class Connections:
    """Connections to one address; each request has one for itself, and gives it back when it is done, unless
    who is there may close it at any time."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self.are_kept = True
        self._idle: list[_Connection] = []

    async def request(self, method: str, path: str, *, headers: Headers, body: bytes = b"") -> Reply:
        """Raises ConnectionLost, or OSError where nobody listens."""
        connection = await self._connection()
        try:
            answer = await connection.begin(method, path, headers=headers, body=body)
            await connection.completed()
        except ConnectionLost:
            self.close()  # who lost one connection has lost them all, though it may not be known yet
            raise
        finally:
            self._give_back(connection)
        return Reply(status=answer.status, headers=answer.headers, body=b"".join(answer.parts))

    async def stream(
        self, method: str, path: str, *, headers: Headers, body: bytes = b""
    ) -> tuple[Answer, AsyncGenerator[bytes, None]]:
        """The answer as soon as its head is there, and its body part by part. Raises as `request` does."""
        connection = await self._connection()
        try:
            answer = await connection.begin(method, path, headers=headers, body=body)
        except BaseException:
            self._give_back(connection)
            raise

        async def parts() -> AsyncGenerator[bytes, None]:
            try:
                async for part in connection.parts():
                    yield part
            finally:
                self._give_back(connection)

        return answer, parts()

    def close(self) -> None:
        """Close those that nobody uses."""
        while self._idle:
            self._idle.pop().close()

    async def _connection(self) -> "_Connection":
        while self._idle:
            connection = self._idle.pop()
            if connection.is_reusable:
                return connection
            connection.close()
        _, connection = await asyncio.get_running_loop().create_connection(_Connection, *self._address)
        return connection

    def _give_back(self, connection: "_Connection") -> None:
        if connection.is_reusable and self.are_kept:
            self._idle.append(connection)
        else:
            connection.close()


class _Connection(asyncio.Protocol):
    """One request at a time; httptools reads the answers and calls the `on_…` methods."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._answer = Answer()
        self._has_head = False
        self._is_complete = True
        self._error: Exception | None = None
        self._news: asyncio.Future[None] | None = None

    @property
    def is_reusable(self) -> bool:
        """Whether the last request was answered to its end and the other side keeps the connection."""
        return self._is_complete and self._error is None and not self._transport.is_closing()

    def close(self) -> None:
        self._transport.close()

    async def begin(self, method: str, path: str, *, headers: Headers, body: bytes) -> Answer:
        """Send a request; return when the head of its answer is there."""
        self._answer, self._has_head, self._is_complete = Answer(), False, False
        lines = [f"{method} {path} HTTP/1.1", "host: model", f"content-length: {len(body)}"]
        lines += (" ".join(f"{name}: {value}".splitlines()) for name, value in headers)
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", errors="replace")
        if len(body) < _LARGE:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        while not self._has_head:
            await self._change()
        return self._answer

    async def completed(self) -> None:
        """Return when the whole answer is there."""
        while not self._is_complete:
            await self._change()

    async def parts(self) -> AsyncIterator[bytes]:
        """The body as it comes, until its end."""
        while True:
            parts, self._answer.parts = self._answer.parts, []
            for part in parts:
                yield part
            if not parts and self._is_complete:
                return
            if not parts:
                await self._change()

    async def _change(self) -> None:
        """Return when something has come. Raises ConnectionLost."""
        if self._error is None:
            self._news = asyncio.get_running_loop().create_future()
            try:
                await self._news
            finally:
                self._news = None
        if self._error is not None and not self._is_complete:
            raise ConnectionLost(str(self._error)) from self._error

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    # What the event loop calls

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._error = error
            self._transport.close()
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        headers = self._answer.headers
        has_length = "content-length" in headers or "chunked" in headers.get("transfer-encoding", "")
        if error is None and self._has_head and not has_length:
            self._is_complete = True  # as HTTP/1.0 ends a body
        self._error = self._error or error or ConnectionError("the connection was closed before the answer")
        self._wake()

    # What httptools calls

    def on_header(self, name: bytes, value: bytes) -> None:
        self._answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._answer.status = self._parser.get_status_code()
        self._has_head = self._answer.status >= 200  # what comes before is no answer

    def on_body(self, body: bytes) -> None:
        self._answer.parts.append(body)

    def on_message_complete(self) -> None:
        if not self._has_head:
            self._answer = Answer()
            return
        self._is_complete = True
        if not self._parser.should_keep_alive():
            self._transport.close()
