"""Executions: their life from StartExecution to their end, and across restarts of the server."""

import asyncio
import hashlib
import logging
import string
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from stagegate.local.service import Announcement, Aws, AWSError, Json, Runtime
from stagegate.local.states import journal as journals
from stagegate.local.states.activity_tasks import ActivityTasks
from stagegate.local.states.definition import Program, find_map
from stagegate.local.states.errors import RUNTIME, StateFailed
from stagegate.local.states.execution_logs import ExecutionLogs
from stagegate.local.states.job_ends import JobEnds
from stagegate.local.states.journal import Journal
from stagegate.local.states.jsontext import from_text, to_text
from stagegate.local.states.parser import parse_definition
from stagegate.local.states.records import EXECUTION, MACHINE, REVISION, RUNNING
from stagegate.local.states.redrives import redrive_status, with_token
from stagegate.local.states.strand import Strand, timestamp
from stagegate.local.states.tokens import Tokens
from stagegate.local.store import Store

log = logging.getLogger(__name__)

_END_EVENTS = {
    "SUCCEEDED": "ExecutionSucceeded",
    "FAILED": "ExecutionFailed",
    "TIMED_OUT": "ExecutionTimedOut",
    "ABORTED": "ExecutionAborted",
}
_EXPRESS_SECONDS = 300
_LETTERS = string.ascii_letters
_STARTS_BEFORE_OTHERS = 20


class MapRun(Protocol):
    """A Map Run, which waits for the ends of its child executions."""

    def child_ended(self, child: dict[str, Any]) -> None: ...


class Engine:
    """What all executions share: the programs, the tokens, who waits for which job."""

    def __init__(self, runtime: Runtime, spawn: Callable[..., asyncio.Task[Any]]) -> None:
        self.runtime = runtime
        self.spawn = spawn
        self.tokens = Tokens(runtime.store)
        self.job_ends = JobEnds()
        self.running: dict[str, Execution] = {}
        self.map_runs: dict[str, MapRun] = {}
        self.activities = ActivityTasks()
        self.logs = ExecutionLogs(runtime.aws, spawn)
        self.deleting: dict[str, int] = {}
        """State machines whose executions end with their next transition, and how many of these there are."""
        for machine in runtime.store.list(MACHINE):
            if machine.get("status") == "DELETING":
                self.begin_deletion(machine["stateMachineArn"])
        self._programs: dict[str, Program] = {}
        self._logging: dict[str, dict[str, Any]] = {}

    def program(self, revision: str) -> Program:
        if revision not in self._programs:
            document = self.runtime.store.get(REVISION, revision)
            assert document is not None
            self._programs[revision] = parse_definition(from_text(document["definition"]))
            self._logging[revision] = document["loggingConfiguration"]
        return self._programs[revision]

    def logging(self, revision: str) -> dict[str, Any]:
        """The logging configuration of a revision whose program is known."""
        return self._logging[revision]

    def program_of(self, document: dict[str, Any]) -> Program:
        """What an execution runs: its state machine, or what a distributed Map does with each item."""
        program = self.program(document["revision"])
        if (name := document.get("processorOf")) is None:
            return program
        found = find_map(program, name)
        assert found is not None
        return found.item_processor

    def start(self, document: dict[str, Any]) -> "Execution":
        """Run a new execution, or one that was running when the server ended."""
        execution = Execution(self, document)
        self.running[execution.arn] = execution
        execution.task = self.spawn(execution.run(), name=execution.arn)
        return execution

    async def start_again(self) -> None:
        """Take up every execution that was running when the server ended; requests go on in between."""
        store = self.runtime.store
        for count, running in enumerate(store.list(RUNNING)):
            if running.get("isSynchronous"):  # who waited for it is gone
                forget(store, running["executionArn"])
                self.ended(running["machine"])
            else:
                self.find_running(running["executionArn"])
            if count % _STARTS_BEFORE_OTHERS == 0:
                await asyncio.sleep(0)

    def find_running(self, arn: str) -> "Execution | None":
        """The execution that runs, also when it has not been taken up yet after a restart."""
        if (execution := self.running.get(arn)) is not None:
            return execution
        store = self.runtime.store
        if store.get(RUNNING, arn) is None:
            return None
        document = store.get(EXECUTION, arn)
        assert document is not None
        return self.start(document)

    def begin_deletion(self, machine: str) -> bool:
        """End the executions of a state machine with their next transitions. False where none runs."""
        running = [one for one in self.runtime.store.list(RUNNING) if one.get("machine") == machine]
        if running:
            self.deleting[machine] = len(running)
        return bool(running)

    def ended(self, machine: str) -> None:
        """The last execution of a state machine that is being deleted takes it along."""
        if machine in self.deleting:
            self.deleting[machine] -= 1
            if not self.deleting[machine]:
                del self.deleting[machine]
                self.runtime.store.delete(MACHINE, machine)

    def stop_job(self, aws: Aws, service: str, operation: str, request: dict[str, Any]) -> None:
        self.spawn(self._stop_job(aws, service, operation, request), name=f"{operation} {request}")

    async def _stop_job(self, aws: Aws, service: str, operation: str, request: dict[str, Any]) -> None:
        try:
            await aws(service, operation, request)
        except AWSError as error:
            log.info("%s %s: %s", operation, request, error)  # it has ended by itself


class Execution:
    """One execution that runs. What is known of it beyond its run is its document in the store."""

    def __init__(self, engine: Engine, document: dict[str, Any]) -> None:
        self.engine = engine
        self.document = document
        self.arn: str = document["executionArn"]
        self.stream = stream_of(self.arn)
        self.journal = Journal.load(engine.runtime.store, self.stream)
        self.task: asyncio.Task[Any] | None = None
        self.is_stopping = False
        """The server stops; the execution goes on when it starts again."""
        program = engine.program_of(document)
        self.timeout_seconds = program.timeout_seconds
        if self.is_express:
            self.timeout_seconds = min(self.timeout_seconds or _EXPRESS_SECONDS, _EXPRESS_SECONDS)
        engine.logs.follow(self.journal, document, engine.logging(document["revision"]))
        self.is_taken_up = bool(self.journal.last_id)
        if not self.is_taken_up:
            members = ("input", "roleArn", "stateMachineVersionArn", "stateMachineAliasArn")
            details = {member: document[member] for member in members if member in document}
            self.journal.event("ExecutionStarted", details, previous_id=0)
        self.strand = Strand(self, program, self.journal.scope("", 0), variables={}, context={})
        self.input = from_text(document["input"])
        self._role = engine.runtime.as_role(document["roleArn"], session=self.session)
        self._context = self._make_context()

    @property
    def session(self) -> str:
        """The name of the session in which its tasks call: 32 letters, the same for all of an execution."""
        digest = hashlib.sha256(self.arn.encode()).digest()
        return "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest)

    def as_role(self) -> Runtime:
        """The runtime as its state machine's role sees it."""
        return self._role

    @property
    def is_express(self) -> bool:
        return ":express:" in self.arn

    @property
    def is_deleted(self) -> bool:
        """Whether its state machine is being deleted."""
        return self.document["stateMachineArn"] in self.engine.deleting

    def context(self) -> dict[str, Json]:
        """What the context object has of the execution and its state machine."""
        return self._context

    def _make_context(self) -> dict[str, Json]:
        document = self.document
        execution = {
            "Id": self.arn,
            "Input": self.input,
            "Name": document["name"].partition(":")[0],
            "RoleArn": document["roleArn"],
            "StartTime": timestamp(document["startDate"].timestamp()),
            "RedriveCount": document["redriveCount"],
        }
        if "redriveDate" in document:
            execution["RedriveTime"] = timestamp(document["redriveDate"].timestamp())
        machine = document["stateMachineArn"]
        name = machine.rpartition(":")[2].partition("/")[0]  # a child's has the Map's label behind it
        return {"Execution": execution, "StateMachine": {"Id": machine, "Name": name}}

    async def run(self) -> None:
        try:
            async with asyncio.timeout(self._seconds_left()) as limit:
                output = await self.strand.run(self.input)
        except StateFailed as failed:
            self.end("FAILED", error=failed.error, cause=failed.cause)
        except TimeoutError:
            if not limit.expired():
                raise
            self.end("TIMED_OUT")
        except asyncio.CancelledError:
            raise
        except Exception as defect:
            self.end("FAILED", error=RUNTIME, cause=f"{type(defect).__name__}: {defect}")
            raise
        else:
            self.end("SUCCEEDED", output=to_text(output))

    def _seconds_left(self) -> float | None:
        if self.timeout_seconds is None:
            return None
        began = self.document.get("redriveDate") or self.document["startDate"]
        return float(began.timestamp() + self.timeout_seconds - time.time())

    def stop(self, error: str | None, cause: str | None) -> None:
        """StopExecution."""
        self.end("ABORTED", error=error, cause=cause)
        assert self.task is not None
        self.task.cancel()

    def end(self, status: str, **outcome: str | None) -> None:
        """Write how it ended, stop what still runs, and tell the world, all in one step."""
        outcome = {name: text for name, text in outcome.items() if text is not None}
        is_inside = status in ("SUCCEEDED", "FAILED")
        previous_id = self.strand.scope.last_id if is_inside else 0
        event = self.journal.event(_END_EVENTS[status], dict(outcome), previous_id=previous_id)
        self.journal.flush()
        self.journal.is_closed = True
        self.strand.stop_work()
        store = self.engine.runtime.store
        self.document |= {"status": status, "stopDate": _moment(event.timestamp), **outcome}
        self.document["eventCount"] = event.id
        if self.is_express and "mapRunArn" not in self.document:
            forget(store, self.arn)  # what it came to is in its log
        else:
            store.put(EXECUTION, self.arn, self.document)
            store.delete(RUNNING, self.arn)
        del self.engine.running[self.arn]
        if self.is_taken_up and status in ("ABORTED", "TIMED_OUT"):
            self._abandon_map_runs()
        self.engine.ended(self.document["stateMachineArn"])
        if (map_run := self.engine.map_runs.get(self.document.get("mapRunArn", ""))) is not None:
            map_run.child_ended(self.document)
        announce(self.engine.runtime, self.document)

    def _abandon_map_runs(self) -> None:
        from stagegate.local.states.map_run import abandon

        abandon(self.engine, self.document)


def begin(engine: Engine, document: dict[str, Any]) -> None:
    """Write down a new execution, run it, and tell the world."""
    store = engine.runtime.store
    store.put(EXECUTION, document["executionArn"], document)
    running = {"executionArn": document["executionArn"], "machine": document["stateMachineArn"]}
    store.put(RUNNING, document["executionArn"], running | _synchronous(document))
    engine.start(document)
    announce(engine.runtime, document)


def redrive(engine: Engine, document: dict[str, Any], *, client_token: str | None = None) -> None:
    """Run an execution again from where it failed; what succeeded stays as it is."""
    store, stream = engine.runtime.store, stream_of(document["executionArn"])
    for member in ("stopDate", "error", "cause"):
        document.pop(member, None)
    count, date = document["redriveCount"] + 1, _moment(time.time())
    document |= {"status": "RUNNING", "redriveCount": count, "redriveDate": date}
    if client_token is not None:
        document["redriveTokens"] = with_token(document, client_token, date)
    journals.redrive(store, stream, count)
    journal = Journal.load(store, stream)
    journal.event("ExecutionRedriven", {"redriveCount": count}, previous_id=journal.last_id)
    journal.flush()
    begin(engine, document)


def _synchronous(document: Mapping[str, Any]) -> dict[str, Json]:
    return {"isSynchronous": True} if document.get("isSynchronous") else {}


def forget(store: Store, arn: str) -> None:
    """Delete what is kept of an execution."""
    store.delete(EXECUTION, arn)
    store.delete(RUNNING, arn)
    store.delete_stream(stream_of(arn))


def stream_of(execution_arn: str) -> str:
    return f"stepfunctions/journal/{execution_arn}"


def announce(runtime: Runtime, document: dict[str, Any]) -> None:
    """ "Step Functions Execution Status Change", as EventBridge has it.

    Neither of a Map Run's children nor of Express executions, of which AWS sends none.
    """
    if "mapRunArn" in document or ":express:" in document["executionArn"]:
        return
    members = ("executionArn", "stateMachineArn", "name", "status", "input", "output", "error", "cause")
    detail: dict[str, Json] = {member: document.get(member) for member in members}
    for member in ("startDate", "stopDate", "redriveDate"):
        moment = document.get(member)
        detail[member] = None if moment is None else round(moment.timestamp() * 1000)
    detail |= {
        "inputDetails": {"included": True},
        "outputDetails": {"included": True} if "output" in document else None,
        "redriveCount": document["redriveCount"],
        "stateMachineVersionArn": document.get("stateMachineVersionArn"),
        "stateMachineAliasArn": document.get("stateMachineAliasArn"),
        "redriveStatusReason": None,
        **redrive_status(document),
    }
    runtime.announce(
        Announcement(
            source="aws.states",
            detail_type="Step Functions Execution Status Change",
            detail=detail,
            resources=(document["executionArn"],),
        )
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(round(seconds, 3), UTC)
