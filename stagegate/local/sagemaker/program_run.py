"""A job whose hosts run programs: started together, ended together, in time or when one of them fails."""

import asyncio
import shutil
import signal
from abc import abstractmethod
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

from stagegate.local.processes import Processes, Program
from stagegate.local.sagemaker.container import Folder
from stagegate.local.sagemaker.hosts import Host
from stagegate.local.sagemaker.images import authorize_pull, image_of
from stagegate.local.sagemaker.job_run import HostRun, JobLog, JobRun
from stagegate.local.sagemaker.spot import Capacity, time_left
from stagegate.local.sagemaker.usage import Usage
from stagegate.local.service import Runtime

_KILLED = 128 + signal.SIGKILL


class ProgramHost(HostRun):
    """A host with its program, and how that ended."""

    folder: Folder
    program: Program
    code: int | None = None

    def __init__(
        self, host: Host, *, home: Path, log: JobLog, usage: Usage, process: str, processes: Processes
    ) -> None:
        super().__init__(host, home=home, log=log, usage=usage)
        self.process = process
        self._processes = processes

    @property
    def pid(self) -> int | None:
        return self._processes.pid(self.process)

    @property
    def volume(self) -> Path:
        return self.folder.path

    async def empty(self, *, isolated: bool, keep: tuple[str, ...]) -> None:
        self.folder = Folder(self.home / "ml", isolated=isolated)
        await asyncio.to_thread(_emptied, self.folder.path, keep=keep)


class ProgramRun(JobRun[ProgramHost]):
    """A training or a processing job under way."""

    def __init__(
        self, runtime: Runtime, name: str, *, processes: Processes, turns: asyncio.Semaphore, grace: float
    ) -> None:
        self.processes = processes
        self._grace = grace
        self.capacity = Capacity()
        self._ran = 0.0
        self.failed: ProgramHost | None = None
        """The host whose program failed, the first of them if there are several."""
        self.is_out_of_memory = False
        """Whether it failed because the kernel ended it to have memory."""
        super().__init__(runtime, name, turns=turns)

    def host(self, host: Host, *, home: Path, log: JobLog, usage: Usage) -> ProgramHost:
        process = f"{self.kind.resource}/{self.name}/{host.name}"
        return ProgramHost(host, home=home, log=log, usage=usage, process=process, processes=self.processes)

    async def work(self) -> None:
        while not await self._run_once():
            await self.or_stop(self.capacity.back())
            self.began_again()

    async def _run_once(self) -> bool:
        """Give the job a turn; false where its instances were taken away in the middle of it."""
        async with self.turn():
            await self._start()
            is_interrupted = await self._execute()
            await (self.interrupted() if is_interrupted else self.finish())
            return not is_interrupted

    async def _start(self) -> None:
        self.hosts = self.new_hosts()
        self.failed = None
        isolated = await self.processes.isolates()
        for one in self.hosts:
            await one.empty(isolated=isolated, keep=self.kept())
        await authorize_pull(self.runtime, image_of(self.document))
        await self.or_stop(self.prepare())
        self.began()

    def kept(self) -> tuple[str, ...]:
        """The folders that stay when an interrupted job is run again."""
        return ()

    @abstractmethod
    async def prepare(self) -> None:
        """Get the job's files, and set the program of each host."""

    @abstractmethod
    def began(self) -> None:
        """The program is about to run."""

    @abstractmethod
    async def finish(self) -> None:
        """Give what the programs have made, and end the job."""

    async def interrupted(self) -> None:
        """The instances were taken away, and the programs ended."""
        raise NotImplementedError

    def began_again(self) -> None:
        """There are instances again."""
        raise NotImplementedError

    def background(self) -> list[Coroutine[Any, Any, None]]:
        """What goes on while the programs run."""
        return []

    async def _execute(self) -> bool:
        """Run every host's program. All are ended when one of them fails, or the job has to end.

        Gives whether they were ended because the job's instances were taken away.
        """
        running = {asyncio.create_task(self._run_on(one)): one for one in self.hosts}
        beside = [asyncio.ensure_future(work) for work in (*self.background(), self.watch())]
        over = asyncio.ensure_future(self._over(running))
        stop = asyncio.ensure_future(self._stopping.wait())
        lost = asyncio.ensure_future(self.capacity.lost())
        loop = asyncio.get_running_loop()
        begun, (limit, seconds) = loop.time(), self._limit()
        try:
            first = {over, stop, lost, *beside}  # those beside end only when they fail
            done, _ = await asyncio.wait(first, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                self.exceed(limit)
            if not done.intersection(beside) and self._signal(running, signal.SIGTERM):
                await asyncio.wait(running, timeout=self._grace)
            self._signal(running, signal.SIGKILL)
            await asyncio.gather(*running, *done.intersection(beside))
            is_lost = done == {lost}
        finally:
            self._ran += loop.time() - begun
            for task in (stop, lost, over, *running, *beside):
                task.cancel()
            await asyncio.gather(over, *running, *beside, return_exceptions=True)
        if self.failed and self.failed.code == _KILLED:
            self.is_out_of_memory = self.failed.usage.is_out_of_memory
        await self.send_metrics()
        return is_lost

    def _limit(self) -> tuple[str, float | None]:
        """Which limit of time comes first, and in how many seconds."""
        runs = self.document.get("StoppingCondition", {}).get("MaxRuntimeInSeconds")
        waits = time_left(self.document)
        if runs is None or (waits is not None and waits < runs - self._ran):
            return "MaxWaitTimeInSeconds", waits
        return "MaxRuntimeInSeconds", max(0.0, runs - self._ran)

    async def _run_on(self, one: ProgramHost) -> int:
        one.usage.begin()
        ended = await self.processes.run(one.process, one.program, one.log)
        await asyncio.to_thread(one.usage.end, ended, folder=one.volume)
        one.code = ended.code
        return one.code

    async def _over(self, running: Mapping[asyncio.Task[int], ProgramHost]) -> None:
        """Return when every program has ended, or one has failed."""
        for ended in asyncio.as_completed(running):
            if await ended:
                self.failed = next(one for one in self.hosts if one.code)
                return

    def _signal(self, running: Mapping[asyncio.Task[int], ProgramHost], number: int) -> bool:
        """Send it to the programs that still run; gives whether there are any."""
        alive = [one for task, one in running.items() if not task.done()]
        for one in alive:
            self.processes.signal(one.process, number)
        return bool(alive)


def _emptied(folder: Path, *, keep: tuple[str, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for entry in folder.iterdir():
        if entry.name not in keep:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
