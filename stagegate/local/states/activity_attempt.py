"""The Task state with an activity: a worker somewhere fetches the task, and answers it by its token."""

from stagegate.local.service import Json
from stagegate.local.states.activity_tasks import ScheduledTask
from stagegate.local.states.definition import Task
from stagegate.local.states.errors import RUNTIME, StateFailed
from stagegate.local.states.jsontext import to_text
from stagegate.local.states.records import ACTIVITY
from stagegate.local.states.strand import Outcome, Visit
from stagegate.local.states.task import Attempt, perform_task


async def perform_activity(visit: Visit, state: Task) -> Outcome:
    return await perform_task(visit, state, ActivityAttempt)


class ActivityAttempt(Attempt):
    """Scheduled, started when a worker has fetched it, and then succeeded, failed or timed out."""

    def __init__(self, visit: Visit, state: Task, *, timeout: int | None, heartbeat: int | None) -> None:
        super().__init__(visit, state, timeout=timeout, heartbeat=heartbeat)
        self.prefix = "Activity"
        self.common = {}
        self.task: ScheduledTask | None = None

    def _schedule(self, parameters: Json, credentials: Json) -> float:
        is_new = not self.scope.is_replaying
        details = {"input": to_text(parameters), "resource": self.resource.arn, **self.limits()}
        scheduled = self.scope.event("ActivityScheduled", details)
        is_known = self.engine.runtime.store.get(ACTIVITY, self.resource.arn) is not None
        if self.scope.next_type() == "ActivityScheduleFailed" or (is_new and not is_known):
            cause = f"The activity '{self.resource.arn}' does not exist."
            self.scope.event("ActivityScheduleFailed", {"error": RUNTIME, "cause": cause})
            raise StateFailed(RUNTIME, cause)
        return scheduled.timestamp

    async def _work(self, parameters: Json) -> Json:
        if self.scope.next_type() == "ActivityStarted":
            self.scope.event("ActivityStarted")
            return await self._step("Succeeded", lambda: self._token_answer(parameters, None))
        return await self._step("Succeeded", lambda: self._fetched_and_answered(parameters))

    async def _fetched_and_answered(self, parameters: Json) -> Json:
        token, tokens = str(self.visit.token), self.engine.tokens
        if not tokens.is_taken(token):
            self.task = ScheduledTask(activity_arn=self.resource.arn, token=token, input=to_text(parameters))
            self.engine.activities.schedule(self.task)
            await self.task.taken.wait()
        worker = tokens.worker(token)
        self.scope.event("ActivityStarted", None if worker is None else {"workerName": worker})
        return await self._token_answer(parameters, None)

    def _forget(self) -> None:
        super()._forget()
        if self.task is not None:
            self.engine.activities.withdraw(self.task)
