"""The tasks of activities that wait for a worker, and the workers that wait for a task."""

import asyncio
from collections import defaultdict, deque


class ScheduledTask:
    """A task of an activity, which waits for a worker."""

    def __init__(self, *, activity_arn: str, token: str, input: str) -> None:
        self.activity_arn = activity_arn
        self.token = token
        self.input = input
        self.taken = asyncio.Event()


class ActivityTasks:
    """The tasks that wait for a worker, by activity, and the workers that wait for a task."""

    def __init__(self) -> None:
        self._scheduled: dict[str, deque[ScheduledTask]] = defaultdict(deque)
        self._workers: dict[str, deque[asyncio.Future[None]]] = defaultdict(deque)

    def schedule(self, task: ScheduledTask) -> None:
        self._scheduled[task.activity_arn].append(task)
        self._wake(task.activity_arn)

    def withdraw(self, task: ScheduledTask) -> None:
        """No worker is to get it any more."""
        if task in self._scheduled[task.activity_arn]:
            self._scheduled[task.activity_arn].remove(task)

    async def take(self, activity_arn: str, *, seconds: float) -> ScheduledTask | None:
        """The task that has waited longest; None when none came in time."""
        try:
            async with asyncio.timeout(seconds):
                while not self._scheduled[activity_arn]:
                    waiting = asyncio.get_running_loop().create_future()
                    self._workers[activity_arn].append(waiting)
                    try:
                        await waiting
                    finally:
                        if waiting in self._workers[activity_arn]:
                            self._workers[activity_arn].remove(waiting)
        except TimeoutError:
            return None
        task = self._scheduled[activity_arn].popleft()
        if self._scheduled[activity_arn]:
            self._wake(activity_arn)
        return task

    def _wake(self, activity_arn: str) -> None:
        workers = self._workers[activity_arn]
        while workers:
            if not (worker := workers.popleft()).done():
                worker.set_result(None)
                return
