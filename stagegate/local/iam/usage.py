"""What the record says of each role beside its policies: calls, refusals, and what nothing has used."""

from collections.abc import Iterable, Mapping
from typing import Any

from stagegate.local.iam.conditions import matches
from stagegate.local.iam.policies import Role, Statement

Document = dict[str, Any]


def usage_of(roles: Mapping[str, Role], asked: Iterable[Mapping[str, Any]]) -> list[Document]:
    """One entry for each role that IAM has or that has asked, in the order of their names."""
    by_role: dict[str, list[Mapping[str, Any]]] = {role.arn: [] for role in roles.values()}
    for one in asked:
        by_role.setdefault(one["Role"], []).append(one)
    known = {role.arn: role for role in roles.values()}
    return [
        {
            "Role": arn,
            "Exists": arn in known,
            "Calls": sorted(map(_call, calls), key=lambda call: (call["Action"], call["Resource"])),
            "Unused": _unused(known[arn], calls) if arn in known else [],
        }
        for arn, calls in sorted(by_role.items())
    ]


def _call(asked: Mapping[str, Any]) -> Document:
    return {name: asked[name] for name in ("Action", "Resource", "IsAllowed", "Statements", "Reason")}


def _unused(role: Role, calls: list[Mapping[str, Any]]) -> list[Document]:
    """The actions and the resources of statements that allow, which no call needed."""
    found = []
    for statement in role.statements:
        if statement.is_allowing:
            used = [call for call in calls if statement.name in call["Statements"]]
            actions, resources = _unused_actions(statement, used), _unused_resources(statement, used)
            if actions or resources:
                found.append({"Statement": statement.name, "Actions": actions, "Resources": resources})
    return found


def _unused_actions(statement: Statement, used: list[Mapping[str, Any]]) -> list[str]:
    if statement.is_for_others:
        return []
    asked = {call["Action"].lower() for call in used}
    return [action for action in statement.actions if not any(matches(action.lower(), one) for one in asked)]


def _unused_resources(statement: Statement, used: list[Mapping[str, Any]]) -> list[str]:
    """Of a statement that was used at all: else its actions say it."""
    if statement.is_of_others or not used:
        return []
    asked = {call["Resource"] for call in used}
    return [
        resource
        for resource in statement.resources
        if "${" not in resource and not any(matches(resource, one) for one in asked)
    ]
