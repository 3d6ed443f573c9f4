import asyncio
import os
import subprocess
import sys

import pytest
import uvloop

from stagegate.local.pipe_streams import reader_of, writer_of

LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])

OPENED_MEANWHILE = """
import asyncio, os, pathlib, sys, threading, time
import uvloop
from stagegate.local.pipe_streams import reader_of, writer_of

end, theirs = time.monotonic() + 1, []

def open_files(path):
    inode = os.stat(path).st_ino
    while time.monotonic() < end:
        descriptor = os.open(path, os.O_RDONLY)
        for _ in range(3):
            if os.fstat(descriptor).st_ino != inode:
                theirs.append(path)
        os.close(descriptor)

async def open_pipes():
    while time.monotonic() < end:
        reading, writing = os.pipe()
        reader, writer = await reader_of(reading), await writer_of(writing)
        writer.close()
        await reader.read()

for name in "ab":
    path = pathlib.Path(sys.argv[1], name)
    path.touch()
    threading.Thread(target=open_files, args=(path,)).start()
threading.excepthook = lambda failure: theirs.append(failure.exc_value)
uvloop.run(open_pipes())
sys.exit(f"{len(theirs)} files were closed by another thread" if theirs else 0)
"""


@LOOPS
def test_what_is_written_is_read_and_both_ends_are_closed(loop):
    async def exchange():
        reading, writing = os.pipe()
        reader, writer = await reader_of(reading, limit=1_000_000), await writer_of(writing)
        writer.write(b"x" * 200_000 + b"\n")
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return line, await reader.read(), reading, writing

    with asyncio.Runner(loop_factory=loop) as runner:
        line, rest, *descriptors = runner.run(exchange())

    assert (len(line), rest) == (200_001, b"")
    for descriptor in descriptors:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


@LOOPS
def test_a_pipe_can_be_closed_before_its_end(loop):
    async def begin():
        reading, writing = os.pipe()
        reader = await reader_of(reading)
        reader.close()
        return await reader.read(), writing

    with asyncio.Runner(loop_factory=loop) as runner:
        rest, writing = runner.run(begin())

    assert rest == b""
    with pytest.raises(BrokenPipeError):
        os.write(writing, b"late")
    os.close(writing)


def test_no_descriptor_is_closed_that_another_thread_has_by_then(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", OPENED_MEANWHILE, str(tmp_path)], capture_output=True, text=True, timeout=60
    )

    assert (done.returncode, done.stderr) == (0, "")
