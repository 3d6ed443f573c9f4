"""Executions and task tokens, as operations; `execution.py` runs them."""

import asyncio
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from stagegate.local.service import AWSError, Json
from stagegate.local.states import journal, map_run
from stagegate.local.states.execution import Engine, begin, forget, redrive, stream_of
from stagegate.local.states.history import as_api_event
from stagegate.local.states.machines import SETTINGS
from stagegate.local.states.map_runs import MapRuns, of_processor
from stagegate.local.states.records import EXECUTION, REVISION
from stagegate.local.states.redrives import redrive_status, redriven_by
from stagegate.local.states.requests import (
    begin_page,
    check_arn,
    check_input,
    check_name,
    end_page,
    json_problem,
    now,
)
from stagegate.local.states.versions import Target, machine_arn, resolve
from stagegate.local.store import Store

_NAME_IS_KEPT = timedelta(days=90)
_DESCRIBED = (
    *("executionArn", "stateMachineArn", "name", "status", "startDate", "redriveCount", "stopDate"),
    *("input", "output", "error", "cause", "redriveDate", "mapRunArn", "traceHeader"),
    *("stateMachineVersionArn", "stateMachineAliasArn"),
)
_LISTED = (
    *("executionArn", "stateMachineArn", "name", "status", "startDate", "stopDate", "redriveCount"),
    *("redriveDate", "mapRunArn", "itemCount", "stateMachineVersionArn", "stateMachineAliasArn"),
)
_DATA = ("input", "output", "error", "cause")


class Executions(MapRuns):
    """Start, describe, list, stop and redrive executions; answer for tasks by their tokens."""

    store: Store
    engine: Engine

    def start_execution(
        self,
        *,
        stateMachineArn: str,
        name: str | None = None,
        input: str = "{}",
        traceHeader: str | None = None,
    ) -> dict[str, Any]:
        """Idempotent while an execution of this name and input runs. An Express one always starts."""
        target = self._startable(stateMachineArn)
        name = name or str(uuid.uuid4())
        check_name(name)
        check_input(input)
        machine = target.machine["stateMachineArn"]
        if target.machine["type"] == "EXPRESS":
            arn = f"{machine.replace(':stateMachine:', ':express:')}:{name}:{uuid.uuid4()}"
            document = _new_execution(arn, name, target, input, traceHeader)
            begin(self.engine, document)
            return {"executionArn": arn, "startDate": document["startDate"]}
        arn = f"{machine.replace(':stateMachine:', ':execution:')}:{name}"
        if (existing := self.store.get(EXECUTION, arn)) is not None and not _is_forgotten(existing, target):
            if existing["status"] != "RUNNING" or not _is_same_json(existing["input"], input):
                raise AWSError("ExecutionAlreadyExists", f"Execution Already Exists: '{arn}'")
            return {"executionArn": arn, "startDate": existing["startDate"]}
        if existing is not None:
            map_run.forget(self.store, existing)
            forget(self.store, arn)
        document = _new_execution(arn, name, target, input, traceHeader)
        begin(self.engine, document)
        return {"executionArn": arn, "startDate": document["startDate"]}

    async def start_sync_execution(
        self,
        *,
        stateMachineArn: str,
        name: str | None = None,
        input: str = "{}",
        traceHeader: str | None = None,
        includedData: str = "ALL_DATA",
    ) -> dict[str, Any]:
        """Run an Express workflow to its end, and give what it comes to."""
        target = self._startable(stateMachineArn)
        if target.machine["type"] != "EXPRESS":
            raise _unsupported()
        name = name or str(uuid.uuid4())
        check_name(name)
        check_input(input)
        express = target.machine["stateMachineArn"].replace(":stateMachine:", ":express:")
        arn = f"{express}:{name}:{uuid.uuid4()}"
        begin(self.engine, _new_execution(arn, name, target, input, traceHeader) | {"isSynchronous": True})
        execution = self.engine.running[arn]
        assert execution.task is not None
        await asyncio.wait([execution.task])
        ended = execution.document
        members = (
            "executionArn",
            "stateMachineArn",
            "name",
            "startDate",
            "stopDate",
            "status",
            "traceHeader",
        )
        described = {member: ended[member] for member in (*members, *_DATA) if member in ended}
        milliseconds = round((ended["stopDate"] - ended["startDate"]).total_seconds() * 1000)
        billing = {"billedMemoryUsedInMB": 64, "billedDurationInMilliseconds": -(-milliseconds // 100) * 100}
        return {**_with_details(described, includedData), "billingDetails": billing}

    def describe_execution(self, *, executionArn: str, includedData: str = "ALL_DATA") -> dict[str, Any]:
        execution = self._execution(executionArn)
        described = {member: execution[member] for member in _DESCRIBED if member in execution}
        return {**_with_details(described, includedData), **self._redrive_status(execution)}

    def describe_state_machine_for_execution(
        self, *, executionArn: str, includedData: str = "ALL_DATA"
    ) -> dict[str, Any]:
        """The state machine as it was when the execution started."""
        execution = self._standard(executionArn)
        revision = self.store.get(REVISION, execution["revision"])
        assert revision is not None
        members = (*SETTINGS, "name", "stateMachineArn", "updateDate")
        described = {member: revision[member] for member in members}
        if revision.get("isUpdated"):
            described["revisionId"] = revision["revisionId"]
        if "processorOf" in execution:
            described = of_processor(described, execution)
        if includedData == "METADATA_ONLY":
            described["definition"] = "{}"
        return described

    def list_executions(
        self,
        *,
        stateMachineArn: str | None = None,
        statusFilter: str | None = None,
        maxResults: int = 100,
        nextToken: str | None = None,
        mapRunArn: str | None = None,
        redriveFilter: str | None = None,
    ) -> dict[str, Any]:
        """The latest first; of a state machine, a version or an alias, or of a Map Run."""
        if (stateMachineArn is None) == (mapRunArn is None):
            raise AWSError("ValidationException", "Must provide either a state machine ARN or a Map Run ARN.")
        before = begin_page(nextToken, of="executions")
        if mapRunArn is not None:
            found = self.map_run_executions(mapRunArn, before=before)
        else:
            found = self._of_machine(str(stateMachineArn), before)
        matching = (
            (at, execution)
            for at, execution in found
            if statusFilter in (None, execution["status"])
            and redriveFilter in (None, "REDRIVEN" if execution["redriveCount"] else "NOT_REDRIVEN")
        )
        listed, token = end_page(matching, maxResults, of="executions")
        executions = [
            {member: execution[member] for member in _LISTED if member in execution} for execution in listed
        ]
        return {"executions": executions, **token}

    def _of_machine(self, arn: str, before: int | None) -> Iterator[tuple[int, dict[str, Any]]]:
        target = resolve(self.store, arn)
        if target.machine["type"] == "EXPRESS":
            raise _unsupported()
        prefix = machine_arn(arn).replace(":stateMachine:", ":execution:") + ":"
        qualified = arn != machine_arn(arn)
        member = "stateMachineAliasArn" if target.alias_arn else "stateMachineVersionArn"
        for at, execution in self.store.newest(EXECUTION, prefix=prefix, before=before):
            if execution["startDate"] < target.machine["creationDate"]:
                return  # of a state machine of this name that was deleted
            if not qualified or execution.get(member) == arn:
                yield at, execution

    def stop_execution(
        self, *, executionArn: str, error: str | None = None, cause: str | None = None
    ) -> dict[str, Any]:
        """Stopping what has ended is no error."""
        execution = self._standard(executionArn)
        if running := self.engine.find_running(executionArn):
            running.stop(error, cause)
            execution = running.document
        return {"stopDate": execution["stopDate"]}

    def redrive_execution(self, *, executionArn: str, clientToken: str | None = None) -> dict[str, Any]:
        """Idempotent for the client tokens of late."""
        execution = self._standard(executionArn)
        if clientToken is not None and (date := redriven_by(execution, clientToken)) is not None:
            return {"redriveDate": date}
        status = self._redrive_status(execution)
        if status["redriveStatus"] != "REDRIVABLE":
            reason = status.get("redriveStatusReason", "The execution is redriven with its Map Run")
            raise AWSError("ExecutionNotRedrivable", str(reason))
        redrive(self.engine, execution, client_token=clientToken)
        return {"redriveDate": execution["redriveDate"]}

    def _redrive_status(self, execution: dict[str, Any]) -> dict[str, Json]:
        machine = execution["stateMachineArn"].partition("/")[0]
        return redrive_status(execution, is_deleting=machine in self.engine.deleting)

    def get_execution_history(
        self,
        *,
        executionArn: str,
        maxResults: int = 100,
        reverseOrder: bool = False,
        nextToken: str | None = None,
        includeExecutionData: bool = True,
    ) -> dict[str, Any]:
        """A token keeps its place while the execution goes on."""
        self._standard(executionArn)
        if running := self.engine.running.get(executionArn):
            running.journal.flush()
        of = f"events {executionArn}"
        beyond = begin_page(nextToken, of=of)
        events = journal.numbered_events(
            self.store, stream_of(executionArn), reverse=reverseOrder, beyond=beyond
        )
        listed, token = end_page(events, maxResults, of=of)
        described = [as_api_event(event, include_execution_data=includeExecutionData) for event in listed]
        return {"events": described, **token}

    def send_task_success(self, *, taskToken: str, output: str) -> dict[str, Any]:
        try:
            json.loads(output)
        except ValueError as error:
            raise AWSError("InvalidOutput", f"Invalid Output: '{json_problem(output, error)}'") from error
        self.engine.tokens.succeed(taskToken, output)
        return {}

    def send_task_failure(
        self, *, taskToken: str, error: str | None = None, cause: str | None = None
    ) -> dict[str, Any]:
        self.engine.tokens.fail(taskToken, error, cause)
        return {}

    def send_task_heartbeat(self, *, taskToken: str) -> dict[str, Any]:
        self.engine.tokens.beat(taskToken)
        return {}

    def _startable(self, arn: str) -> Target:
        target = resolve(self.store, arn)
        if target.machine.get("status") == "DELETING":
            raise AWSError("StateMachineDeleting", f"State Machine Deleting: '{arn}'")
        return target

    def _standard(self, arn: str) -> dict[str, Any]:
        """Of an Express one nothing is known but what describes it."""
        check_arn(arn, "states", "execution")
        return self._execution(arn)

    def _execution(self, arn: str) -> dict[str, Any]:
        """Of Express ones only those that a Map Run has started."""
        check_arn(arn, "states", "execution", "express")
        execution = self.store.get(EXECUTION, arn)
        if execution is None or "mapRunArn" not in execution:
            check_arn(arn, "states", "execution")
        if execution is None:
            raise AWSError("ExecutionDoesNotExist", f"Execution Does Not Exist: '{arn}'")
        return execution


def _new_execution(
    arn: str, name: str, target: Target, input: str, trace_header: str | None
) -> dict[str, Any]:
    given = {
        "stateMachineVersionArn": target.version_arn,
        "stateMachineAliasArn": target.alias_arn,
        "traceHeader": trace_header,
    }
    return {
        "executionArn": arn,
        "stateMachineArn": target.machine["stateMachineArn"],
        "name": name,
        "status": "RUNNING",
        "startDate": now(),
        "input": input,
        "roleArn": target.role_arn,
        "revision": target.revision_id,
        "redriveCount": 0,
        **{member: value for member, value in given.items() if value is not None},
    }


def _is_forgotten(execution: dict[str, Any], target: Target) -> bool:
    """A name is free again 90 days after its execution ended, and when the state machine is another one."""
    stopped = execution.get("stopDate")
    if stopped is None:
        return False
    is_of_another = execution["startDate"] < target.machine["creationDate"]
    return bool(is_of_another or datetime.now(UTC) - stopped > _NAME_IS_KEPT)


def _is_same_json(one: str, other: str) -> bool:
    """Compared as text, since Python takes 1 for true."""
    first, second = (json.dumps(json.loads(text), sort_keys=True) for text in (one, other))
    return first == second


def _with_details(described: dict[str, Any], included: str) -> dict[str, Any]:
    if included == "METADATA_ONLY":
        return {member: value for member, value in described.items() if member not in _DATA}
    details = {
        f"{member}Details": {"included": True} for member in ("input", "output") if member in described
    }
    return described | details


def _unsupported() -> AWSError:
    return AWSError(
        "StateMachineTypeNotSupported", "This operation is not supported by this type of state machine"
    )
