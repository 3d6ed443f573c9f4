"""Pipe mode: a channel as named pipes, `train_0`, `train_1`, …, one for each epoch that the script reads.

After the SageMaker Developer Guide, "How Amazon SageMaker AI Provides Training Information": a pipe is read
to its end, or closed early; then the next one is there.
"""

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stagegate.local.pipe_streams import writer_of


class Pipe:
    """A channel on one host. `epoch` gives what the pipe of an epoch is filled with."""

    def __init__(self, path: Path, epoch: Callable[[int], AsyncIterator[bytes]]) -> None:
        self._path = path
        self._epoch = epoch
        path.parent.mkdir(parents=True, exist_ok=True)
        self._make(0)

    def _make(self, number: int) -> None:
        os.mkfifo(self._at(number))

    def _at(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}_{number}")

    async def feed(self) -> None:
        """Fill one pipe after the other, until this is cancelled."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="pipe") as thread:
            for number in itertools.count():
                with _held(self._at(number)) as pipe:
                    async with _opened(pipe, thread) as writer:
                        self._make(number + 1)
                        with contextlib.suppress(ConnectionError):  # the script has had enough of this epoch
                            async for content in self._epoch(number):
                                writer.write(content)
                                await writer.drain()
                self._at(number).unlink(missing_ok=True)


@contextlib.contextmanager
def _held(path: Path) -> Iterator[Path]:
    """A path to the named pipe that stays, even where the script takes the pipe itself away."""
    descriptor = os.open(path, os.O_PATH)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


@contextlib.asynccontextmanager
async def _opened(path: Path, thread: ThreadPoolExecutor) -> AsyncIterator[asyncio.StreamWriter]:
    """The named pipe, once the script has opened it; what was written arrives before it is closed."""
    writer = await writer_of(await _when_opened(path, thread))
    try:
        yield writer
    except BaseException:
        if not writer.is_closing():
            writer.transport.abort()
        raise
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def _when_opened(path: Path, thread: ThreadPoolExecutor) -> int:
    """Opening a named pipe blocks until its other end is opened: a thread waits for that. Where nobody
    opens it any more, we do ourselves, so that the thread ends."""
    opening = thread.submit(os.open, path, os.O_WRONLY)
    try:
        return await asyncio.shield(asyncio.wrap_future(opening))
    except asyncio.CancelledError:
        other = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        os.close(opening.result())
        os.close(other)
        raise
