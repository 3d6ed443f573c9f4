"""Pipes as streams of asyncio's, for a loop that may be uvloop's.

uvloop closes the descriptor that it was given, and then the file that the descriptor came with: closed twice,
the number may be another thread's file by then, and soon the connection of a client that waits for its answer
(https://github.com/MagicStack/uvloop/issues/763). There the file must not own the descriptor. Nor does uvloop
close at the pipe's end where the protocol is one of streams, but when the garbage is collected, in whatever
thread.
"""

import asyncio
from typing import IO, Any

import uvloop


class PipeReader(asyncio.StreamReader):
    """What comes out of a pipe, which is closed at its end, or before it by `close`."""

    def set_transport(self, transport: asyncio.BaseTransport) -> None:
        super().set_transport(transport)
        self._pipe = transport

    def close(self) -> None:
        self._pipe.close()


class _Protocol(asyncio.StreamReaderProtocol):
    def eof_received(self) -> bool:
        super().eof_received()
        return False  # nothing can be written: close it


async def reader_of(descriptor: int, *, limit: int = 65_536) -> PipeReader:
    """`limit`: the most bytes of a line."""
    reader = PipeReader(limit=limit)
    await asyncio.get_running_loop().connect_read_pipe(lambda: _Protocol(reader), _file(descriptor, "rb"))
    return reader


async def writer_of(descriptor: int) -> asyncio.StreamWriter:
    """What goes into a pipe; its descriptor is closed with the stream."""
    loop = asyncio.get_running_loop()
    protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
    transport, _ = await loop.connect_write_pipe(lambda: protocol, _file(descriptor, "wb"))
    return asyncio.StreamWriter(transport, protocol, None, loop)


def _file(descriptor: int, mode: str) -> IO[Any]:
    closes_by_itself = isinstance(asyncio.get_running_loop(), uvloop.Loop)
    return open(descriptor, mode, buffering=0, closefd=not closes_by_itself)
