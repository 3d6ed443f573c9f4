"""What failed in a run, and why: the state, its error, what the job behind it says, the end of its log.

Where the state has started another run, or a Map Run with an execution that failed, what failed there, too.
"""

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

from botocore.exceptions import ClientError
from starlette.exceptions import HTTPException

from stagegate.aws import Services, error_code
from stagegate.builds import build_log_tail, find_build
from stagegate.console.calls import Call
from stagegate.console.execution import Execution, read_execution
from stagegate.console.run_history import Told, history_of
from stagegate.console.visits import Story, Visit, last_visit
from stagegate.errors import NotFound
from stagegate.job_logs import log_tail

LOG_LINES = 20
DEEPEST = 4
"""How many runs inside each other are looked into."""
_SAME_ANSWER_SECONDS = 60
_SAME_END_SECONDS = 1.0
_THREADS = ThreadPoolExecutor(8, thread_name_prefix="jobs")
_JOBS = {
    "createTrainingJob": ("TrainingJob", "describe_training_job"),
    "createProcessingJob": ("ProcessingJob", "describe_processing_job"),
    "createTransformJob": ("TransformJob", "describe_transform_job"),
    "createHyperParameterTuningJob": ("HyperParameterTuningJob", "describe_hyper_parameter_tuning_job"),
}
"""The jobs of SageMaker by the operation that starts them: their kind, and what describes one.
Of a tuning job no log is found: its training jobs have theirs."""


@dataclass(frozen=True, kw_only=True)
class Job:
    name: str
    page: str
    """The console's own, "" without one."""
    status: str
    reason: str
    log_group: str
    log: list[str]
    """Its last lines."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    execution_arn: str
    name: str
    """Of the run."""
    status: str
    state: str
    visit: Visit | None
    """None where it is not known, or not known yet."""
    error: str
    cause: str
    job: Job | None
    inner: "Failure | None"
    """Of the run that the state has started, or of an execution of its Map Run."""
    is_incomplete: bool
    """More is still to be read: the state, or what is behind it."""


@dataclass(frozen=True, kw_only=True)
class Behind:
    """What a state that failed has started."""

    job: Job | None = None
    inner: Failure | None = None


def explain_failure(
    services: Services, execution: Execution, told: Told, *, seconds: float
) -> Failure | None:
    """None for a run that has not failed. It waits at most so long for what is behind the state."""
    if not execution.has_failed:
        return None
    visit, story = _failed(execution, told)
    behind, is_incomplete = Behind(), visit is None and not told.is_whole
    if visit:
        question = _question(services, execution.arn, visit.id, told.is_whole, _period())
        visits = _telling_visits(visit, story)
        try:
            behind = question.answer(lambda: _behind(services, visits, depth=1), seconds)
        except TimeoutError:
            is_incomplete = True
    return _failure(execution, visit, behind, is_incomplete=is_incomplete)


def bare_failure(execution: Execution, told: Told) -> Failure | None:
    """The same without what is behind the state."""
    if not execution.has_failed:
        return None
    return _failure(execution, _failed(execution, told)[0], Behind(), is_incomplete=True)


def _failure(
    execution: Execution, visit: Visit | None, behind: Behind, *, is_incomplete: bool = False
) -> Failure:
    return Failure(
        execution_arn=execution.arn,
        name=execution.described["name"],
        status=execution.status,
        state=visit.name if visit else "",
        visit=visit,
        error=execution.described.get("error", ""),
        cause=execution.described.get("cause", ""),
        job=behind.job,
        inner=behind.inner,
        is_incomplete=is_incomplete,
    )


def _failed(execution: Execution, told: Told) -> tuple[Visit | None, Story]:
    """The innermost state that failed, or was stopped; of a long history by its latest events."""
    if told.is_whole:
        return last_visit(told.events, told.story), told.story
    is_this_end = (
        bool(told.latest)
        and abs((told.latest[-1]["timestamp"] - execution.until).total_seconds()) < _SAME_END_SECONDS
    )  # a redriven execution ends more than once
    visit = last_visit(told.latest, told.latest_story) if is_this_end else None
    return visit, told.latest_story


def _telling_visits(failed: Visit, story: Story) -> list[Visit]:
    """The failed state, and the one whose failure led to it: the last that was caught before."""
    caught = [visit for visit in story.visits if visit.status == "caught" and visit.id < failed.id]
    return [failed, *caught[-1:]]


class _Question:
    """What AWS is asked in a thread of its own; who can't wait for the answer finds it later."""

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._asked: Future[Behind] | None = None

    def answer(self, ask: Callable[[], Behind], seconds: float) -> Behind:
        """Raises TimeoutError where it takes longer, and what `ask` raises."""
        with self._asking:
            if self._asked is None or (self._asked.done() and self._asked.exception()):
                self._asked = _THREADS.submit(ask)
        return self._asked.result(timeout=max(seconds, 0))


@lru_cache(maxsize=64)
def _question(services: Services, execution_arn: str, visit: int, is_whole: bool, period: int) -> _Question:
    """The same for all looks of a minute: the last lines of a log may come late."""
    return _Question()


def _period() -> int:
    return int(time.time() // _SAME_ANSWER_SECONDS)


def _behind(services: Services, visits: list[Visit], *, depth: int) -> Behind:
    jobs = (_described(services, visit.calls[-1]) for visit in visits if visit.calls)
    if job := next((job for job in jobs if job), None):
        return Behind(job=job)
    if depth > DEEPEST:
        return Behind()
    runs = (_inner(services, arn, depth=depth) for visit in visits if (arn := _started(services, visit)))
    return Behind(inner=next((inner for inner in runs if inner), None))


def _started(services: Services, visit: Visit) -> str:
    """The ARN of the run that it has started, or of an execution of its Map Run that failed; "" for none."""
    if visit.map_runs:
        return _failed_execution(services, visit.map_runs[-1])
    started = visit.calls[-1].started if visit.calls else None
    return started.id if started and started.kind == "execution" else ""


def _failed_execution(services: Services, map_run_arn: str) -> str:
    """One that failed by itself; "" where none did."""
    try:
        for status in ("FAILED", "TIMED_OUT"):
            listed = services("stepfunctions").list_executions(
                mapRunArn=map_run_arn, statusFilter=status, maxResults=1
            )["executions"]
            if listed:
                return str(listed[0]["executionArn"])
    except ClientError as error:
        if error_code(error) != "ResourceNotFound":
            raise
    return ""


def _inner(services: Services, execution_arn: str, *, depth: int) -> Failure | None:
    """None for a run that has not failed, and for one of which nothing is to be known."""
    try:
        execution = read_execution(services, execution_arn)
    except HTTPException:
        return None
    if not execution.has_failed:
        return None
    told = history_of(services, execution_arn).look(seconds=math.inf)
    visit, story = _failed(execution, told)
    behind = _behind(services, _telling_visits(visit, story), depth=depth + 1) if visit else Behind()
    return _failure(execution, visit, behind)


def _described(services: Services, call: Call) -> Job | None:
    """None for what is no job, and for one that is gone, or never came to be."""
    try:
        if call.started and call.started.kind == "build":
            return _build(services, call.started.id)
        kind, operation = _JOBS.get(call.operation.partition(".")[0], ("", ""))
        if call.service != "sagemaker" or not kind:
            return None
        job = getattr(services("sagemaker"), operation)(**{f"{kind}Name": call.name})
    except ClientError as error:
        if error_code(error) in ("ResourceNotFound", "ResourceNotFoundException", "ValidationException"):
            return None
        raise
    lines = log_tail(services, f"{kind}s", call.name, lines=LOG_LINES)
    return Job(
        name=call.name,
        page=call.page,
        status=job[f"{kind}Status"],
        reason=job.get("FailureReason") or job.get("ExitMessage", ""),
        log_group=f"/aws/sagemaker/{kind}s",
        log=[line.text for line in lines],
    )


def _build(services: Services, build_id: str) -> Job | None:
    try:
        build = find_build(services, build_id)
    except NotFound:
        return None
    return Job(
        name=build.id,
        page=f"/builds/{quote(build.id)}",
        status=build.status,
        reason=build.failure_reason,
        log_group=build.log_group,
        log=[line.text for line in build_log_tail(services, build, lines=LOG_LINES)],
    )
