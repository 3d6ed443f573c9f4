"""State machines, as operations. `versions.py` has their versions and aliases."""

import re
import uuid
from collections.abc import Mapping
from typing import Any

from stagegate.local.service import AWSError, Json, Runtime
from stagegate.local.states import managed_rules
from stagegate.local.states.execution import Engine
from stagegate.local.states.map_runs import labelled_processor
from stagegate.local.states.records import ALIAS, MACHINE, REVISION, VERSION
from stagegate.local.states.requests import (
    check_arn,
    check_definition,
    check_encryption,
    check_name,
    check_tags,
    now,
    page,
)
from stagegate.local.states.tags import Tags
from stagegate.local.states.validation import report
from stagegate.local.states.versions import Versions, labelled, resolve
from stagegate.local.store import Store

SETTINGS = (
    "definition",
    "roleArn",
    "loggingConfiguration",
    "tracingConfiguration",
    "encryptionConfiguration",
)
_LOG_GROUP = re.compile(r"arn:aws[\w-]*:logs:[\w-]+:\d{12}:log-group:[^:*]+:\*")


class StateMachines(Versions, Tags):
    """Create, update, describe, list, delete and validate state machines."""

    runtime: Runtime
    store: Store
    engine: Engine

    async def authorize(self, operation: str, members: Mapping[str, Any]) -> None:
        """Ask for what Step Functions does under the role before any task runs."""
        if operation not in ("CreateStateMachine", "UpdateStateMachine"):
            return
        machine = {**(self.store.get(MACHINE, members.get("stateMachineArn", "")) or {}), **members}
        role = self.runtime.as_role(machine.get("roleArn"), session="StepFunctions")
        logging = machine.get("loggingConfiguration", {})
        await managed_rules.authorize(role, machine.get("definition", ""), logging)

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
        """Idempotent for the same name and settings; another role or other tags change nothing, as on AWS."""
        check_name(name)
        check_arn(roleArn, "iam")
        _check_version_description(publish, versionDescription)
        check_tags(arn := self.runtime.arn("states", f"stateMachine:{name}"), tags or [])
        settings = {
            "type": type,
            "definition": definition,
            "loggingConfiguration": _logging(loggingConfiguration),
            "tracingConfiguration": tracingConfiguration or {"enabled": False},
            "encryptionConfiguration": check_encryption(encryptionConfiguration),
        }
        check_definition(definition, type)
        if self.store.get(MACHINE, arn) is not None:
            machine = self.machine(arn)
            if any(machine[member] != value for member, value in settings.items()):
                raise AWSError("StateMachineAlreadyExists", f"State Machine Already Exists: '{arn}'")
        else:
            machine = {
                "stateMachineArn": arn,
                "name": name,
                "roleArn": roleArn,
                "creationDate": now(),
                **settings,
            }
            self._put_revision(machine, is_updated=False)
            if tags:
                self.tag_resource(resourceArn=arn, tags=tags)
        created = {"stateMachineArn": arn, "creationDate": machine["creationDate"]}
        return created | (self._published(machine, versionDescription) if publish else {})

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
        given = {
            "definition": definition,
            "roleArn": roleArn,
            "loggingConfiguration": loggingConfiguration,
            "tracingConfiguration": tracingConfiguration,
            "encryptionConfiguration": encryptionConfiguration,
        }
        changes = {member: value for member, value in given.items() if value is not None}
        if not changes:
            raise AWSError(
                "MissingRequiredParameter",
                "Either the definition, the role ARN, the LoggingConfiguration, or the TracingConfiguration "
                "must be specified",
            )
        machine = self.machine(stateMachineArn)
        _check_version_description(publish, versionDescription)
        if definition is not None:
            check_definition(definition, machine["type"])
        if roleArn is not None:
            check_arn(roleArn, "iam")
        if loggingConfiguration is not None:
            changes["loggingConfiguration"] = _logging(loggingConfiguration)
        is_changed = any(machine[member] != value for member, value in changes.items())
        machine = {**machine, **changes, "updateDate": now()}
        if is_changed and publish:
            self.check_version_quota(stateMachineArn)
        if is_changed:
            self._put_revision(machine, is_updated=True)
        else:
            self.store.put(MACHINE, stateMachineArn, machine)
        updated = {"updateDate": machine["updateDate"]}
        if machine.get("isUpdated"):
            updated["revisionId"] = machine["revisionId"]
        return updated | (self._published(machine, versionDescription) if publish else {})

    def _published(self, machine: dict[str, Any], description: str | None) -> dict[str, str]:
        return {"stateMachineVersionArn": self.publish(machine, description)["stateMachineVersionArn"]}

    def _put_revision(self, machine: dict[str, Any], *, is_updated: bool) -> None:
        """Keep what the machine is now, for the executions that start with it."""
        machine |= {"revisionId": str(uuid.uuid4()), "isUpdated": is_updated}
        self.store.put(MACHINE, machine["stateMachineArn"], machine)
        members = (*SETTINGS, "name", "type", "revisionId", "isUpdated", "stateMachineArn")
        revision = {member: machine[member] for member in members}
        revision["updateDate"] = machine.get("updateDate", machine["creationDate"])
        self.store.put(REVISION, machine["revisionId"], revision)

    def describe_state_machine(
        self, *, stateMachineArn: str, includedData: str = "ALL_DATA"
    ) -> dict[str, Any]:
        """Of a version's ARN what the version has; of a distributed Map's what it does with each item."""
        arn, _, label = stateMachineArn.partition("/")
        target = resolve(self.store, arn)
        machine, revision = target.machine, self.store.get(REVISION, target.revision_id)
        assert revision is not None
        described = {
            "stateMachineArn": target.version_arn or machine["stateMachineArn"],
            "name": machine["name"],
            "status": machine.get("status", "ACTIVE"),
            "type": machine["type"],
            "creationDate": target.creation_date,
            **{member: revision[member] for member in SETTINGS},
        }
        if label:
            described |= self._of_map(stateMachineArn, label, revision)
        if revision.get("isUpdated"):
            described["revisionId"] = revision["revisionId"]
        if target.description is not None:
            described["description"] = target.description
        if includedData == "METADATA_ONLY":
            described["definition"] = "{}"
        return described

    def _of_map(self, arn: str, label: str, revision: dict[str, Any]) -> dict[str, Any]:
        if (processor := labelled_processor(revision["definition"], label)) is None:
            raise AWSError("StateMachineDoesNotExist", f"State Machine Does Not Exist: '{arn}'")
        return {"stateMachineArn": arn, "label": label, "definition": processor}

    def delete_state_machine(self, *, stateMachineArn: str) -> dict[str, Any]:
        """With its versions and aliases. Executions that run end with their next transition, as on AWS.

        Deleting what is not there is no error.
        """
        check_arn(stateMachineArn, "states", "stateMachine")
        if "/" in stateMachineArn:
            raise labelled(stateMachineArn)
        if (machine := self.store.get(MACHINE, stateMachineArn)) is None:
            return {}
        for kind in (VERSION, ALIAS):
            for document in self.store.list(kind, prefix=f"{stateMachineArn}:"):
                self.store.delete(kind, document["arn"])
        if self.engine.begin_deletion(stateMachineArn):
            self.store.put(MACHINE, stateMachineArn, {**machine, "status": "DELETING"})
        else:
            self.store.delete(MACHINE, stateMachineArn)
        self.forget_tags(stateMachineArn)
        return {}

    def list_state_machines(self, *, maxResults: int = 100, nextToken: str | None = None) -> dict[str, Any]:
        """By their names."""
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


def _check_version_description(publish: bool, description: str | None) -> None:
    if description is not None and not publish:
        raise AWSError(
            "ValidationException",
            "Version description can only be set when publish is true",
        )


def _logging(configuration: dict[str, Any] | None) -> dict[str, Json]:
    """A logging configuration with its defaults. Raises InvalidLoggingConfiguration."""
    given = {"level": "OFF", "includeExecutionData": False, **(configuration or {})}
    destinations = given.get("destinations", [])
    groups = [place.get("cloudWatchLogsLogGroup", {}).get("logGroupArn") for place in destinations]
    problem = None
    if given["level"] != "OFF" and len(destinations) != 1:
        problem = "Must specify exactly one Log Destination."
    elif any(group is None or not _LOG_GROUP.fullmatch(group) for group in groups):
        problem = "Log Destination has invalid CloudWatchLogs LogGroup Arn"
    if problem is not None:
        raise AWSError("InvalidLoggingConfiguration", f"Invalid Logging Configuration: {problem}")
    return given
