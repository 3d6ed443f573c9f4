"""The Step Functions API: state machines and their executions."""

import asyncio
import json
import uuid
from typing import Any

from stagegate.local.service import AWSError, Runtime, Service
from stagegate.local.states import journal
from stagegate.local.states.execution import (
    EXECUTION,
    REVISION,
    Engine,
    begin,
    redrive,
    redrive_status,
    stream_of,
)
from stagegate.local.states.history import as_api_events
from stagegate.local.states.map_runs import MapRuns, of_processor
from stagegate.local.states.requests import (
    check_arn,
    check_definition,
    check_input,
    check_name,
    json_problem,
    now,
    page,
    refuse,
)
from stagegate.local.states.state_tests import StateTests
from stagegate.local.states.validation import report

MACHINE = "stepfunctions/state-machine"
TAGS = "stepfunctions/tags"


class StepFunctions(MapRuns, StateTests, Service):
    """State machines, executions, task tokens."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.store = runtime.store
        self.engine = Engine(runtime, self.spawn)
        runtime.listeners.append(self.engine.job_ends.hear)

    async def start(self) -> None:
        self.engine.start_again()

    async def stop(self) -> None:
        for execution in self.engine.running.values():
            execution.is_stopping = True
            execution.journal.flush()
        await super().stop()

    # State machines

    def create_state_machine(
        self,
        *,
        name: str,
        definition: str,
        roleArn: str,
        type: str = "STANDARD",
        loggingConfiguration: dict[str, Any] | None = None,
        tracingConfiguration: dict[str, Any] | None = None,
        tags: list[dict[str, str]] | None = None,
        publish: bool = False,
        encryptionConfiguration: dict[str, Any] | None = None,
        versionDescription: str | None = None,
    ) -> dict[str, Any]:
        """Idempotent for the same name, definition and settings."""
        refuse(publish=publish, versionDescription=versionDescription)
        check_name(name)
        check_arn(roleArn, "iam")
        arn = self.runtime.arn("states", f"stateMachine:{name}")
        settings = {
            "type": type,
            "roleArn": roleArn,
            "loggingConfiguration": loggingConfiguration or {"level": "OFF", "includeExecutionData": False},
            "tracingConfiguration": tracingConfiguration or {"enabled": False},
            "encryptionConfiguration": encryptionConfiguration or {"type": "AWS_OWNED_KEY"},
        }
        check_definition(definition, type)
        if existing := self.store.get(MACHINE, arn):
            same = {**settings, "definition": definition}
            if any(existing[member] != value for member, value in same.items()):
                raise AWSError("StateMachineAlreadyExists", f"State Machine Already Exists: '{arn}'")
            return {"stateMachineArn": arn, "creationDate": existing["creationDate"]}
        machine = {
            "stateMachineArn": arn,
            "name": name,
            "definition": definition,
            "creationDate": now(),
            **settings,
        }
        self._put_revision(machine)
        if tags:
            self.tag_resource(resourceArn=arn, tags=tags)
        return {"stateMachineArn": arn, "creationDate": machine["creationDate"]}

    def update_state_machine(
        self,
        *,
        stateMachineArn: str,
        definition: str | None = None,
        roleArn: str | None = None,
        loggingConfiguration: dict[str, Any] | None = None,
        tracingConfiguration: dict[str, Any] | None = None,
        publish: bool = False,
        versionDescription: str | None = None,
        encryptionConfiguration: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Executions that run go on with the definition that they started with."""
        refuse(publish=publish, versionDescription=versionDescription)
        changes = {
            "definition": definition,
            "roleArn": roleArn,
            "loggingConfiguration": loggingConfiguration,
            "tracingConfiguration": tracingConfiguration,
            "encryptionConfiguration": encryptionConfiguration,
        }
        changes = {member: value for member, value in changes.items() if value is not None}
        if not changes:
            raise AWSError(
                "MissingRequiredParameter",
                "Either the definition, the role ARN, the LoggingConfiguration, or the TracingConfiguration "
                "must be specified",
            )
        machine = self._machine(stateMachineArn)
        if definition is not None:
            check_definition(definition, machine["type"])
        self._put_revision({**machine, **changes, "updateDate": now()})
        revision = self._machine(stateMachineArn)
        return {"updateDate": revision["updateDate"], "revisionId": revision["revisionId"]}

    def _put_revision(self, machine: dict[str, Any]) -> None:
        machine["revisionId"] = str(uuid.uuid4())
        self.store.put(MACHINE, machine["stateMachineArn"], machine)
        members = (
            "definition",
            "roleArn",
            "name",
            "loggingConfiguration",
            "tracingConfiguration",
            "revisionId",
        )
        revision = {
            member: machine[member] for member in (*members, "encryptionConfiguration", "stateMachineArn")
        }
        revision["updateDate"] = machine.get("updateDate", machine["creationDate"])
        self.store.put(REVISION, machine["revisionId"], revision)

    def describe_state_machine(
        self, *, stateMachineArn: str, includedData: str = "ALL_DATA"
    ) -> dict[str, Any]:
        machine = self._machine(stateMachineArn)
        described = {name: value for name, value in machine.items() if name != "updateDate"}
        if includedData == "METADATA_ONLY":
            del described["definition"]
        return {**described, "status": "ACTIVE"}

    def describe_state_machine_for_execution(
        self, *, executionArn: str, includedData: str = "ALL_DATA"
    ) -> dict[str, Any]:
        """The state machine as it was when the execution started."""
        execution = self._execution(executionArn)
        revision = self.store.get(REVISION, execution["revision"])
        assert revision is not None
        if "processorOf" in execution:
            revision = of_processor(revision, execution)
        if includedData == "METADATA_ONLY":
            del revision["definition"]
        return revision

    def delete_state_machine(self, *, stateMachineArn: str) -> dict[str, Any]:
        """Executions that run go on; as on AWS, deleting what is not there is no error."""
        check_arn(stateMachineArn, "states")
        self.store.delete(MACHINE, stateMachineArn)
        self.store.delete(TAGS, stateMachineArn)
        return {}

    def list_state_machines(self, *, maxResults: int = 100, nextToken: str | None = None) -> dict[str, Any]:
        machines = sorted(self.store.list(MACHINE), key=lambda machine: str(machine["name"]))
        members = ("stateMachineArn", "name", "type", "creationDate")
        listed = [{member: machine[member] for member in members} for machine in machines]
        return page("stateMachines", listed, maxResults, nextToken)

    def validate_state_machine_definition(
        self,
        *,
        definition: str,
        type: str = "STANDARD",
        severity: str = "ERROR",
        maxResults: int = 100,
    ) -> dict[str, Any]:
        found = report(definition, is_express=type == "EXPRESS", severity=severity)
        listed = found[: maxResults or 100]
        return {
            "result": "FAIL" if any(diagnostic.severity == "ERROR" for diagnostic in found) else "OK",
            "diagnostics": [diagnostic.as_members() for diagnostic in listed],
            "truncated": len(listed) < len(found),
        }

    # Tags

    def tag_resource(self, *, resourceArn: str, tags: list[dict[str, str]]) -> dict[str, Any]:
        self._machine(resourceArn, code="ResourceNotFound")
        self._put_tags(
            resourceArn, self._tags(resourceArn) | {tag["key"]: tag.get("value", "") for tag in tags}
        )
        return {}

    def untag_resource(self, *, resourceArn: str, tagKeys: list[str]) -> dict[str, Any]:
        self._machine(resourceArn, code="ResourceNotFound")
        kept = {key: value for key, value in self._tags(resourceArn).items() if key not in tagKeys}
        self._put_tags(resourceArn, kept)
        return {}

    def list_tags_for_resource(self, *, resourceArn: str) -> dict[str, Any]:
        self._machine(resourceArn, code="ResourceNotFound")
        return {"tags": [{"key": key, "value": value} for key, value in self._tags(resourceArn).items()]}

    def _tags(self, arn: str) -> dict[str, str]:
        return (self.store.get(TAGS, arn) or {"tags": {}})["tags"]  # type: ignore[no-any-return]

    def _put_tags(self, arn: str, tags: dict[str, str]) -> None:
        self.store.put(TAGS, arn, {"tags": tags})

    # Executions

    def start_execution(
        self,
        *,
        stateMachineArn: str,
        name: str | None = None,
        input: str = "{}",
        traceHeader: str | None = None,
        clientToken: str | None = None,
    ) -> dict[str, Any]:
        """Idempotent while an execution of this name and input runs."""
        machine = self._machine(stateMachineArn)
        name = name or str(uuid.uuid4())
        check_name(name)
        check_input(input)
        arn = f"{stateMachineArn.replace(':stateMachine:', ':execution:')}:{name}"
        if existing := self.store.get(EXECUTION, arn):
            if existing["status"] != "RUNNING" or existing["input"] != input:
                raise AWSError("ExecutionAlreadyExists", f"Execution Already Exists: '{arn}'")
            return {"executionArn": arn, "startDate": existing["startDate"]}
        document = _new_execution(arn, name, machine, input)
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
        machine = self._machine(stateMachineArn)
        if machine["type"] != "EXPRESS":
            raise AWSError(
                "StateMachineTypeNotSupported",
                "This operation is not supported by this type of state machine",
            )
        check_input(input)
        name = name or str(uuid.uuid4())
        arn = f"{stateMachineArn.replace(':stateMachine:', ':express:')}:{name}:{uuid.uuid4()}"
        document = _new_execution(arn, name, machine, input)
        begin(self.engine, document)
        task = self.engine.running[arn].task
        assert task is not None
        await asyncio.wait([task])
        ended = self._execution(arn)
        members = ("executionArn", "stateMachineArn", "name", "startDate", "stopDate", "status")
        optional = ("error", "cause", "input", "output")
        described = {member: ended[member] for member in (*members, *optional) if member in ended}
        milliseconds = round((ended["stopDate"] - ended["startDate"]).total_seconds() * 1000)
        billing = {"billedMemoryUsedInMB": 64, "billedDurationInMilliseconds": -(-milliseconds // 100) * 100}
        return {**described, **_included(ended), "billingDetails": billing}

    def describe_execution(self, *, executionArn: str, includedData: str = "ALL_DATA") -> dict[str, Any]:
        execution = self._execution(executionArn)
        members = ("executionArn", "stateMachineArn", "name", "status", "startDate", "redriveCount")
        optional = ("stopDate", "input", "output", "error", "cause", "redriveDate", "mapRunArn")
        described = {member: execution[member] for member in (*members, *optional) if member in execution}
        return {**described, **_included(execution), **redrive_status(execution)}

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
        """The latest first."""
        if (stateMachineArn is None) == (mapRunArn is None):
            raise AWSError("ValidationException", "Must provide either a state machine ARN or a Map Run ARN.")
        if mapRunArn is not None:
            found = self.map_run_executions(mapRunArn)
        else:
            assert stateMachineArn is not None
            self._machine(stateMachineArn)
            prefix = stateMachineArn.replace(":stateMachine:", ":execution:") + ":"
            found = self.store.list(EXECUTION, prefix=prefix)
        executions = [
            execution
            for execution in reversed(found)
            if statusFilter in (None, execution["status"])
            and redriveFilter in (None, "REDRIVEN" if execution["redriveCount"] else "NOT_REDRIVEN")
        ]
        members = ("executionArn", "stateMachineArn", "name", "status", "startDate")
        optional = ("stopDate", "redriveCount", "redriveDate", "mapRunArn", "itemCount")
        listed = [
            {member: execution[member] for member in (*members, *optional) if member in execution}
            for execution in executions
        ]
        return page("executions", listed, maxResults, nextToken)

    def stop_execution(
        self, *, executionArn: str, error: str | None = None, cause: str | None = None
    ) -> dict[str, Any]:
        execution = self._execution(executionArn)
        if running := self.engine.running.get(executionArn):
            running.stop(error, cause)
            execution = self._execution(executionArn)
        return {"stopDate": execution["stopDate"]}

    def redrive_execution(self, *, executionArn: str, clientToken: str | None = None) -> dict[str, Any]:
        execution = self._execution(executionArn)
        status = redrive_status(execution)
        if status["redriveStatus"] != "REDRIVABLE":
            reason = status.get("redriveStatusReason", "The execution is redriven with its Map Run")
            raise AWSError("ExecutionNotRedrivable", str(reason))
        redrive(self.engine, execution)
        return {"redriveDate": execution["redriveDate"]}

    def get_execution_history(
        self,
        *,
        executionArn: str,
        maxResults: int = 100,
        reverseOrder: bool = False,
        nextToken: str | None = None,
        includeExecutionData: bool = True,
    ) -> dict[str, Any]:
        self._execution(executionArn)
        if running := self.engine.running.get(executionArn):
            running.journal.flush()
        events = list(journal.events(self.store, stream_of(executionArn)))
        if reverseOrder:
            events.reverse()
        history = page("events", events, maxResults, nextToken)
        history["events"] = as_api_events(history["events"], include_execution_data=includeExecutionData)
        return history

    # Task tokens

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

    # What they share

    def _machine(self, arn: str, *, code: str = "StateMachineDoesNotExist") -> dict[str, Any]:
        check_arn(arn, "states")
        if (machine := self.store.get(MACHINE, arn)) is None:
            if code == "ResourceNotFound":
                raise AWSError(code, f"Resource not found: '{arn}'", resourceName=arn)
            raise AWSError(code, f"State Machine Does Not Exist: '{arn}'")
        return machine

    def _execution(self, arn: str) -> dict[str, Any]:
        check_arn(arn, "states")
        if (execution := self.store.get(EXECUTION, arn)) is None:
            raise AWSError("ExecutionDoesNotExist", f"Execution Does Not Exist: '{arn}'")
        return execution


def _new_execution(arn: str, name: str, machine: dict[str, Any], input: str) -> dict[str, Any]:
    return {
        "executionArn": arn,
        "stateMachineArn": machine["stateMachineArn"],
        "name": name,
        "status": "RUNNING",
        "startDate": now(),
        "input": input,
        "roleArn": machine["roleArn"],
        "revision": machine["revisionId"],
        "redriveCount": 0,
    }


def _included(execution: dict[str, Any]) -> dict[str, Any]:
    details = {"inputDetails": {"included": True}}
    return details | ({"outputDetails": {"included": True}} if "output" in execution else {})
