"""Versions of state machines, which never change, and aliases, which lead to one or two of them."""

import random
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from stagegate.local.service import AWSError
from stagegate.local.states.records import ALIAS, MACHINE, VERSION
from stagegate.local.states.requests import check_arn, check_name, now, page
from stagegate.local.store import Store

_MAXIMUM_VERSIONS = 1_000
_MAXIMUM_ALIASES = 100
_INITIAL = "INITIAL"
"""The revision of a state machine that was never updated."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What an ARN of a state machine, of a version or of an alias stands for."""

    machine: dict[str, Any]
    revision_id: str
    role_arn: str
    creation_date: datetime
    version_arn: str | None = None
    alias_arn: str | None = None
    description: str | None = None


def machine_arn(arn: str) -> str:
    """The state machine's ARN in that of a version or an alias."""
    return ":".join(arn.split(":")[:7])


def labelled(arn: str) -> AWSError:
    """What an operation says that takes no ARN of a distributed Map's state machine."""
    return AWSError(
        "ValidationException",
        f"The operation does not support an ARN with the label of a Map state: '{arn}'",
        reason="API_DOES_NOT_SUPPORT_LABELED_ARNS",
    )


def resolve(store: Store, arn: str) -> Target:
    """What `arn` stands for; an alias with two versions gives one of them by its weight."""
    check_arn(arn, "states", "stateMachine")
    if "/" in arn:
        raise labelled(arn)
    if (machine := store.get(MACHINE, machine_arn(arn))) is not None:
        if arn == machine["stateMachineArn"]:
            return Target(
                machine=machine,
                revision_id=machine["revisionId"],
                role_arn=machine["roleArn"],
                creation_date=machine["creationDate"],
            )
        alias_arn, version_arn = None, arn
        if (alias := store.get(ALIAS, arn)) is not None:
            routes = alias["routingConfiguration"]
            (route,) = random.choices(routes, [route["weight"] for route in routes])
            alias_arn, version_arn = arn, route["stateMachineVersionArn"]
        if (version := store.get(VERSION, version_arn)) is not None:
            return Target(
                machine=machine,
                revision_id=version["revisionId"],
                role_arn=version["roleArn"],
                creation_date=version["creationDate"],
                version_arn=version_arn,
                alias_arn=alias_arn,
                description=version.get("description"),
            )
    raise AWSError("StateMachineDoesNotExist", f"State Machine Does Not Exist: '{arn}'")


class Versions:
    """Publish, list and delete versions; create, update, describe, list and delete aliases."""

    store: Store

    def publish_state_machine_version(
        self, *, stateMachineArn: str, revisionId: str | None = None, description: str | None = None
    ) -> dict[str, Any]:
        """The revision that the state machine has now. Idempotent for the same revision."""
        machine = self.machine(stateMachineArn)
        current = machine["revisionId"] if machine.get("isUpdated") else _INITIAL
        if revisionId not in (None, current):
            raise AWSError(
                "ConflictException",
                f"Failed to publish the State Machine version for revision {revisionId}. "
                f"The current State Machine revision is {current}.",
            )
        version = self.publish(machine, description)
        return {
            "creationDate": version["creationDate"],
            "stateMachineVersionArn": version["stateMachineVersionArn"],
        }

    def publish(self, machine: dict[str, Any], description: str | None) -> dict[str, Any]:
        versions = self._versions(machine["stateMachineArn"])
        if versions and versions[-1]["revisionId"] == machine["revisionId"]:
            if description not in (None, versions[-1].get("description")):
                raise AWSError(
                    "ConflictException",
                    "A version of this revision exists already, with another description: "
                    f"{versions[-1]['stateMachineVersionArn']}",
                )
            return versions[-1]
        self.check_version_quota(machine["stateMachineArn"])
        number = machine.get("versions", 0) + 1
        arn = f"{machine['stateMachineArn']}:{number}"
        version = {
            "arn": arn,
            "stateMachineVersionArn": arn,
            "creationDate": now(),
            "revisionId": machine["revisionId"],
            "roleArn": machine["roleArn"],
        }
        if description is not None:
            version["description"] = description
        self.store.put(VERSION, arn, version)
        self.store.put(MACHINE, machine["stateMachineArn"], {**machine, "versions": number})
        return version

    def check_version_quota(self, arn: str) -> None:
        if len(self._versions(arn)) >= _MAXIMUM_VERSIONS:
            raise AWSError(
                "ServiceQuotaExceededException", f"A state machine has at most {_MAXIMUM_VERSIONS} versions"
            )

    def delete_state_machine_version(self, *, stateMachineVersionArn: str) -> dict[str, Any]:
        """Deleting what is not there is no error."""
        check_arn(stateMachineVersionArn, "states", "stateMachine")
        users = [
            alias["name"]
            for alias in self.store.list(ALIAS, prefix=f"{machine_arn(stateMachineVersionArn)}:")
            if stateMachineVersionArn in _routed(alias["routingConfiguration"])
        ]
        if users:
            raise AWSError(
                "ConflictException",
                "Version to be deleted must not be referenced by an alias. Current list of aliases "
                f"referencing this version: [{', '.join(users)}]",
            )
        self.store.delete(VERSION, stateMachineVersionArn)
        return {}

    def list_state_machine_versions(
        self, *, stateMachineArn: str, nextToken: str | None = None, maxResults: int = 100
    ) -> dict[str, Any]:
        """The latest first."""
        check_arn(stateMachineArn, "states", "stateMachine")
        listed = [
            {member: version[member] for member in ("stateMachineVersionArn", "creationDate")}
            for version in reversed(self._versions(stateMachineArn))
        ]
        return page("stateMachineVersions", listed, maxResults, nextToken)

    def create_state_machine_alias(
        self, *, name: str, routingConfiguration: list[dict[str, Any]], description: str | None = None
    ) -> dict[str, Any]:
        """Idempotent for the same description and routes."""
        check_name(name)
        if name.isdigit():
            raise AWSError("InvalidName", f"Invalid Name: '{name}'")
        machine = self._check_routes(routingConfiguration)
        arn = f"{machine}:{name}"
        given = {"description": description, "routingConfiguration": routingConfiguration}
        if (existing := self.store.get(ALIAS, arn)) is not None:
            if any(existing.get(member) != value for member, value in given.items()):
                raise AWSError(
                    "ConflictException",
                    "Failed to create alias because an alias with the same name and a different routing "
                    "configuration already exists.",
                )
            return {"stateMachineAliasArn": arn, "creationDate": existing["creationDate"]}
        if len(self.store.list(ALIAS, prefix=f"{machine}:")) >= _MAXIMUM_ALIASES:
            raise AWSError(
                "ServiceQuotaExceededException", f"A state machine has at most {_MAXIMUM_ALIASES} aliases"
            )
        moment = now()
        alias = {"arn": arn, "name": name, **given, "creationDate": moment, "updateDate": moment}
        self.store.put(ALIAS, arn, alias)
        return {"stateMachineAliasArn": arn, "creationDate": moment}

    def update_state_machine_alias(
        self,
        *,
        stateMachineAliasArn: str,
        description: str | None = None,
        routingConfiguration: list[dict[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """Executions that start from now on take the new routes."""
        alias = self._alias(stateMachineAliasArn)
        if description is None and routingConfiguration is None:
            raise AWSError(
                "ValidationException",
                "Either description or routingConfiguration must be specified",
                reason="MISSING_REQUIRED_PARAMETER",
            )
        if routingConfiguration is not None:
            if (machine := self._check_routes(routingConfiguration)) != machine_arn(stateMachineAliasArn):
                raise _invalid_routes(
                    f"The alias is not one of the state machine of the versions: '{machine}'"
                )
            alias["routingConfiguration"] = routingConfiguration
        if description is not None:
            alias["description"] = description
        alias["updateDate"] = now()
        self.store.put(ALIAS, stateMachineAliasArn, alias)
        return {"updateDate": alias["updateDate"]}

    def describe_state_machine_alias(self, *, stateMachineAliasArn: str) -> dict[str, Any]:
        alias = self._alias(stateMachineAliasArn)
        members = ("name", "description", "routingConfiguration", "creationDate", "updateDate")
        described = {member: alias[member] for member in members if alias.get(member) is not None}
        return {"stateMachineAliasArn": stateMachineAliasArn, **described}

    def delete_state_machine_alias(self, *, stateMachineAliasArn: str) -> dict[str, Any]:
        self._alias(stateMachineAliasArn)
        self.store.delete(ALIAS, stateMachineAliasArn)
        return {}

    def list_state_machine_aliases(
        self, *, stateMachineArn: str, nextToken: str | None = None, maxResults: int = 100
    ) -> dict[str, Any]:
        """Of a state machine, or of one of its versions; the latest first."""
        self.machine(machine_arn(stateMachineArn))
        aliases = self.store.list(ALIAS, prefix=f"{machine_arn(stateMachineArn)}:")
        if stateMachineArn != machine_arn(stateMachineArn):
            aliases = [
                alias for alias in aliases if stateMachineArn in _routed(alias["routingConfiguration"])
            ]
        listed = [
            {"stateMachineAliasArn": alias["arn"], "creationDate": alias["creationDate"]}
            for alias in reversed(aliases)
        ]
        return page("stateMachineAliases", listed, maxResults, nextToken)

    def _check_routes(self, routes: list[dict[str, Any]]) -> str:
        """The ARN of the state machine that the routes lead to."""
        versions = _routed(routes)
        weights = [route["weight"] for route in routes]
        if not 1 <= len(routes) <= 2:
            raise _invalid_routes(f"A routing configuration has one version or two, not {len(routes)}.")
        if sum(weights) != 100:
            raise _invalid_routes(f"Sum of routing configuration weights must equal 100. Received: {weights}")
        if len(set(versions)) < len(versions):
            raise _invalid_routes(
                "Routing configuration must contain distinct state machine version ARNs. "
                f"Received: [{', '.join(versions)}]"
            )
        if len({machine_arn(version) for version in versions}) > 1:
            raise _invalid_routes(
                "Routing configuration must contain versions of the same state machine. "
                f"Received: [{', '.join(versions)}]"
            )
        for version in versions:
            check_arn(version, "states", "stateMachine")
            if self.store.get(VERSION, version) is None:
                raise AWSError(
                    "ResourceNotFound", f"Request references a resource that does not exist: '{version}'"
                )
        return machine_arn(versions[0])

    def _versions(self, arn: str) -> list[dict[str, Any]]:
        return self.store.list(VERSION, prefix=f"{arn}:")

    def _alias(self, arn: str) -> dict[str, Any]:
        check_arn(arn, "states", "stateMachine")
        if (alias := self.store.get(ALIAS, arn)) is None:
            raise AWSError("ResourceNotFound", f"Request references a resource that does not exist: '{arn}'")
        return alias

    def machine(self, arn: str) -> dict[str, Any]:
        """The document of a state machine, which is not being deleted."""
        check_arn(arn, "states", "stateMachine")
        if "/" in arn:
            raise labelled(arn)
        if (machine := self.store.get(MACHINE, arn)) is None:
            raise AWSError("StateMachineDoesNotExist", f"State Machine Does Not Exist: '{arn}'")
        if machine.get("status") == "DELETING":
            raise AWSError("StateMachineDeleting", f"State Machine Deleting: '{arn}'")
        return machine


def _invalid_routes(message: str) -> AWSError:
    return AWSError("ValidationException", message, reason="INVALID_ROUTING_CONFIGURATION")


def _routed(routes: list[dict[str, Any]]) -> list[str]:
    return [route["stateMachineVersionArn"] for route in routes]
