"""EventBridge's buses: the default one, which hears the services, and those that are created beside it."""

import json
import re
from datetime import UTC, datetime
from typing import Any

from stagegate.local.pages import page
from stagegate.local.service import AWSError, Runtime, Service

BUS = "events/bus"
DEFAULT = "default"

_NAME = re.compile(r"[.\-_A-Za-z0-9]{1,256}")
_MOST_BUSES = 100
_LONGEST_POLICY = 10_240

Document = dict[str, Any]


class EventBuses(Service):
    """Of EventBridge's API, what is about buses and who may send to them. Permissions are recorded only."""

    def create_event_bus(
        self,
        *,
        Name: str,
        Description: str | None = None,
        KmsKeyIdentifier: str | None = None,
        DeadLetterConfig: Document | None = None,
        Tags: list[dict[str, str]] | None = None,
    ) -> Document:
        if _NAME.fullmatch(Name) is None:
            raise invalid(f"Event bus name '{Name}' should have 1 to 256 of A-Z a-z 0-9 . - _")
        store = self.runtime.store
        if Name == DEFAULT or store.get(BUS, Name):
            raise AWSError("ResourceAlreadyExistsException", f"Event bus {Name} already exists.")
        if sum(bus["Name"] != DEFAULT for bus in store.list(BUS)) >= _MOST_BUSES:
            raise AWSError(
                "LimitExceededException", "The requested resource exceeds the maximum number allowed."
            )
        now = datetime.now(UTC)
        bus = _changed(
            {"Name": Name, "Tags": Tags or [], "CreationTime": now},
            Description=Description,
            KmsKeyIdentifier=KmsKeyIdentifier,
            DeadLetterConfig=DeadLetterConfig,
        )
        store.put(BUS, Name, bus)
        return {"EventBusArn": bus_arn(self.runtime, Name), **_settings(bus)}

    def update_event_bus(
        self,
        *,
        Name: str | None = None,
        Description: str | None = None,
        KmsKeyIdentifier: str | None = None,
        DeadLetterConfig: Document | None = None,
    ) -> Document:
        """Changes what is given; the empty text and the empty object take away."""
        bus = _changed(
            find_bus(self.runtime, Name),
            Description=Description,
            KmsKeyIdentifier=KmsKeyIdentifier,
            DeadLetterConfig=DeadLetterConfig,
        )
        self.runtime.store.put(BUS, bus["Name"], bus)
        return {"Arn": bus_arn(self.runtime, bus["Name"]), "Name": bus["Name"], **_settings(bus)}

    def describe_event_bus(self, *, Name: str | None = None) -> Document:
        bus = find_bus(self.runtime, Name)
        return self._listed(bus) | _settings(bus)

    def list_event_buses(
        self, *, NamePrefix: str = "", NextToken: str | None = None, Limit: int = 100
    ) -> Document:
        created = [bus for bus in self.runtime.store.list(BUS) if bus["Name"] != DEFAULT]
        buses = sorted([find_bus(self.runtime, None), *created], key=lambda bus: str(bus["Name"]))
        found = [self._listed(bus) for bus in buses if bus["Name"].startswith(NamePrefix)]
        return page("EventBuses", found, NextToken, Limit)

    def put_permission(
        self,
        *,
        EventBusName: str | None = None,
        Action: str | None = None,
        Principal: str | None = None,
        StatementId: str | None = None,
        Condition: dict[str, str] | None = None,
        Policy: str | None = None,
    ) -> Document:
        bus = find_bus(self.runtime, EventBusName)
        if Policy is not None:
            if Action or Principal or StatementId or Condition:
                raise invalid("Parameter Policy stands alone, without Action, Principal and StatementId.")
            try:
                json.loads(Policy)
            except ValueError as error:
                raise invalid(f"Parameter Policy is not valid. Reason: {error}") from error
            return self._put_policy(bus, Policy)
        if not (Action and Principal and StatementId):
            raise invalid("Parameters Action, Principal and StatementId, or Policy, must be specified.")
        statement: Document = {
            "Sid": StatementId,
            "Effect": "Allow",
            "Principal": "*" if Principal == "*" else {"AWS": f"arn:aws:iam::{Principal}:root"},
            "Action": Action,
            "Resource": bus_arn(self.runtime, bus["Name"]),
        }
        if Condition:
            statement["Condition"] = {Condition["Type"]: {Condition["Key"]: Condition["Value"]}}
        others = [known for known in _statements(bus) if known.get("Sid") != StatementId]
        return self._put_policy(bus, _policy([*others, statement]))

    def remove_permission(
        self,
        *,
        EventBusName: str | None = None,
        StatementId: str | None = None,
        RemoveAllPermissions: bool = False,
    ) -> Document:
        bus = find_bus(self.runtime, EventBusName)
        if RemoveAllPermissions:
            return self._put_policy(bus, None)
        statements = _statements(bus)
        left = [statement for statement in statements if statement.get("Sid") != StatementId]
        if len(left) == len(statements):
            raise AWSError(
                "ResourceNotFoundException", f"Statement {StatementId} does not exist on {bus['Name']}."
            )
        return self._put_policy(bus, _policy(left) if left else None)

    def _put_policy(self, bus: Document, policy: str | None) -> Document:
        if policy and len(policy) > _LONGEST_POLICY:
            raise AWSError(
                "PolicyLengthExceededException", f"The policy is longer than {_LONGEST_POLICY} characters."
            )
        kept = {member: value for member, value in bus.items() if member != "Policy"}
        if policy is not None:
            kept["Policy"] = policy
        self.runtime.store.put(BUS, bus["Name"], kept)
        return {}

    def _listed(self, bus: Document) -> Document:
        members = ("Name", "Description", "Policy", "CreationTime", "LastModifiedTime")
        return {
            "Arn": bus_arn(self.runtime, bus["Name"]),
            **{member: bus[member] for member in members if member in bus},
        }


def find_bus(runtime: Runtime, name_or_arn: str | None) -> Document:
    """The bus, by its name or ARN; the default one for none."""
    name = DEFAULT if name_or_arn is None else name_or_arn
    if name.startswith("arn:"):
        name = name.partition(":event-bus/")[2]
        there = name_or_arn == bus_arn(runtime, name)
    else:
        there = True
    bus = runtime.store.get(BUS, name) if there else None
    if bus is None and there and name == DEFAULT:
        return {"Name": DEFAULT, "Tags": []}
    if bus is None:
        raise AWSError("ResourceNotFoundException", f"Event bus {name_or_arn} does not exist.")
    return bus


def bus_arn(runtime: Runtime, name: str) -> str:
    return runtime.arn("events", f"event-bus/{name}")


def invalid(message: str) -> AWSError:
    return AWSError("ValidationException", message)


def _changed(bus: Document, **settings: Any) -> Document:
    given = {member: value for member, value in settings.items() if value is not None}
    changed = {**bus, **given, "LastModifiedTime": datetime.now(UTC)}
    return {member: value for member, value in changed.items() if member not in given or value}


def _settings(bus: Document) -> Document:
    members = ("Description", "KmsKeyIdentifier", "DeadLetterConfig")
    return {member: bus[member] for member in members if member in bus}


def _statements(bus: Document) -> list[Document]:
    statements = json.loads(bus["Policy"])["Statement"] if "Policy" in bus else []
    return statements if isinstance(statements, list) else [statements]


def _policy(statements: list[Document]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})
