"""The tasks of activities that wait for a worker, and the workers that wait for a task."""

import asyncio
from collections import OrderedDict, defaultdict

from stagegate.local.service import AWSError

_MAXIMUM_WORKERS = 1_000
"""How many wait for the tasks of one activity."""


class ScheduledTask:
    """A task of an activity, which waits for a worker."""

    def __init__(self, *, activity_arn: str, token: str, input: str) -> None:
        self.activity_arn = activity_arn
        self.token = token
        self.input = input
        self.taken = asyncio.Event()


class ActivityTasks:
    """Each task goes to one worker, first come, first served."""

    def __init__(self) -> None:
        self._scheduled: dict[str, OrderedDict[str, ScheduledTask]] = defaultdict(OrderedDict)
        self._turns: dict[str, OrderedDict[asyncio.Future[None], None]] = defaultdict(OrderedDict)
        self._is_closed = False

    def schedule(self, task: ScheduledTask) -> None:
        self._scheduled[task.activity_arn][task.token] = task
        self._wake(task.activity_arn)

    def withdraw(self, task: ScheduledTask) -> None:
        """No worker is to get it any more."""
        self._scheduled[task.activity_arn].pop(task.token, None)

    async def take(self, activity_arn: str, *, seconds: float) -> ScheduledTask | None:
        """The task that has waited longest; None when none came in time, or the server stops."""
        if len(self._turns[activity_arn]) >= _MAXIMUM_WORKERS:
            message = (
                f"Activity Worker Limit Exceeded: '{activity_arn}' has {_MAXIMUM_WORKERS} workers that wait"
            )
            raise AWSError("ActivityWorkerLimitExceeded", message)
        scheduled = self._scheduled[activity_arn]
        try:
            async with asyncio.timeout(seconds):
                while not scheduled and not self._is_closed:
                    await self._turn(activity_arn)
        except TimeoutError:
            return None
        if self._is_closed:
            return None
        _, task = scheduled.popitem(last=False)
        if scheduled:
            self._wake(activity_arn)
        return task

    def close(self) -> None:
        """Send away the workers that wait: the server stops."""
        self._is_closed = True
        for turns in self._turns.values():
            for turn in turns:
                if not turn.done():
                    turn.set_result(None)
            turns.clear()

    async def _turn(self, activity_arn: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._turns[activity_arn][turn] = None
        try:
            await turn
        except asyncio.CancelledError:
            self._turns[activity_arn].pop(turn, None)
            if not turn.cancelled():  # woken, and gone at the same moment: the task is the next worker's
                self._wake(activity_arn)
            raise

    def _wake(self, activity_arn: str) -> None:
        turns = self._turns[activity_arn]
        while turns:
            turn, _ = turns.popitem(last=False)
            if not turn.done():
                turn.set_result(None)
                return
