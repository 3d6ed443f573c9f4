"""HTTP to a model server: connections that stay open, on the event loop."""

import asyncio
from dataclasses import dataclass

import h11

Headers = list[tuple[str, str]]


class ConnectionLost(Exception):
    """The other side closed the connection before it had answered."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


class Connections:
    """Connections to one address; each request has one for itself, and gives it back when it is done."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._idle: list[_Connection] = []

    async def request(self, method: str, path: str, *, headers: Headers, body: bytes = b"") -> Reply:
        connection = self._take() or _Connection(*await asyncio.open_connection(*self._address))
        try:
            reply = await connection.request(method, path, headers=headers, body=body)
        except (OSError, h11.ProtocolError, ConnectionLost) as error:
            self.close()  # who lost one connection has lost them all, though it may not be known yet
            raise ConnectionLost(str(error)) from error
        finally:
            if connection.is_reusable:
                self._idle.append(connection)
            else:
                connection.close()
        return reply

    def close(self) -> None:
        """Close those that nobody uses."""
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> "_Connection | None":
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
            connection.close()
        return None


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)

    @property
    def is_open(self) -> bool:
        return not self._reader.at_eof() and not self._writer.is_closing()

    @property
    def is_reusable(self) -> bool:
        """Whether the last request was answered to its end and the other side keeps the connection."""
        return self._http.our_state is h11.IDLE and self.is_open

    def close(self) -> None:
        self._writer.close()

    async def request(self, method: str, path: str, *, headers: Headers, body: bytes) -> Reply:
        head = [("host", "model"), ("content-length", str(len(body))), *headers]
        request = h11.Request(method=method, target=path, headers=head)
        parts = [self._http.send(request)]
        if body:
            parts.append(self._http.send(h11.Data(data=body)))
        parts.append(self._http.send(h11.EndOfMessage()))
        self._writer.write(b"".join(part for part in parts if part))
        await self._writer.drain()

        response: h11.Response | None = None
        received: list[bytes] = []
        while True:
            match await self._event():
                case h11.Response() as response:
                    pass
                case h11.Data(data=data):
                    received.append(bytes(data))
                case h11.EndOfMessage():
                    break
                case h11.ConnectionClosed():
                    raise ConnectionLost("the connection was closed before the answer")
        if response is None:
            raise ConnectionLost("the answer had no status")
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        return Reply(
            status=response.status_code,
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in response.headers},
            body=b"".join(received),
        )

    async def _event(self) -> object:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            self._http.receive_data(await self._reader.read(65_536))
