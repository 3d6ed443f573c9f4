"""The launcher and its processes, without a service around them."""

import asyncio
import signal

from stagegate.local.log_stream import LogStream
from stagegate.local.processes import Processes, Program

PATIENCE = 20


async def test_a_process_gets_the_signal_that_comes_at_whatever_moment_of_its_start(tmp_path):
    processes = Processes()
    await processes.isolates()

    async def ended(number):
        home = tmp_path / str(number)
        home.mkdir()
        sleep = Program(home=home, command=["sleep", "600"], environment={}, directory=str(home))
        log = LogStream(_nowhere, group="group", stream="stream")
        running = asyncio.create_task(processes.run(str(number), sleep, log))
        await asyncio.sleep(number / 1_000)
        processes.signal(str(number), signal.SIGTERM)
        return (await running).code

    try:
        async with asyncio.timeout(PATIENCE):
            codes = [await ended(number) for number in range(50)]
    finally:
        await processes.stop()

    assert codes == [128 + signal.SIGTERM] * 50


async def _nowhere(service, operation, parameters=None):
    return {}
