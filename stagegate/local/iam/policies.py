"""IAM's policies: what a role may do, by its own policies, its permissions boundary and its session's policy.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
Policies of resources (buckets, functions, keys, topics) are kept by their services, and not evaluated.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from stagegate.local.iam.conditions import Context, are_met, as_list, matches, substituted

Document = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement of a policy, and where it stands."""

    policy: str
    number: int
    """Counted from 1, in its policy."""
    is_allowing: bool
    actions: tuple[str, ...]
    is_for_others: bool
    """NotAction: it is about all actions but those."""
    resources: tuple[str, ...]
    is_of_others: bool
    """NotResource."""
    conditions: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.policy}/{self.number}"

    def applies(self, action: str, resource: str, context: Context) -> bool:
        return (
            self._is_about(action)
            and self._is_about_resource(resource, context)
            and are_met(self.conditions, context)
        )

    def _is_about(self, action: str) -> bool:
        lowered = action.lower()
        return any(matches(pattern.lower(), lowered) for pattern in self.actions) != self.is_for_others

    def _is_about_resource(self, resource: str, context: Context) -> bool:
        patterns = (substituted(pattern, context) for pattern in self.resources)
        found = any(pattern is not None and matches(pattern, resource) for pattern in patterns)
        return found != self.is_of_others


@dataclass(frozen=True, kw_only=True)
class Role:
    """A role, and what it may do."""

    arn: str
    role_id: str
    trust: Document
    statements: tuple[Statement, ...]
    boundary: tuple[Statement, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether a request is allowed: by which statements, or why not, in the words of AWS's message."""

    is_allowed: bool
    statements: tuple[str, ...] = ()
    reason: str = ""


def statements_of(policy: str, document: Document | str) -> tuple[Statement, ...]:
    """The statements of a policy's document."""
    parsed = json.loads(document) if isinstance(document, str) else document
    return tuple(
        Statement(
            policy=policy,
            number=number,
            is_allowing=written["Effect"] == "Allow",
            actions=tuple(as_list(written.get("Action", written.get("NotAction", [])))),
            is_for_others="NotAction" in written,
            resources=tuple(as_list(written.get("Resource", written.get("NotResource", "*")))),
            is_of_others="NotResource" in written,
            conditions=written.get("Condition", {}),
        )
        for number, written in enumerate(as_list(parsed["Statement"]), start=1)
    )


def roles_of(details: Document) -> dict[str, Role]:
    """The roles by their names, from what iam:GetAccountAuthorizationDetails gives."""
    managed = {
        policy["Arn"]: statements_of(policy["Arn"].rsplit("/", 1)[-1], version["Document"])
        for policy in details["Policies"]
        for version in policy["PolicyVersionList"]
        if version["IsDefaultVersion"]
    }
    return {role["RoleName"]: _role(role, managed) for role in details["RoleDetailList"]}


def _role(role: Document, managed: Mapping[str, tuple[Statement, ...]]) -> Role:
    boundary = role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn")
    attached = [policy["PolicyArn"] for policy in role.get("AttachedManagedPolicies", ())]
    inline = [
        statements_of(policy["PolicyName"], policy["PolicyDocument"])
        for policy in role.get("RolePolicyList", ())
    ]
    return Role(
        arn=role["Arn"],
        role_id=role["RoleId"],
        trust=role["AssumeRolePolicyDocument"],
        statements=tuple(chain(*inline, *(managed.get(arn, ()) for arn in attached))),
        boundary=None if boundary is None else managed.get(boundary, ()),
    )


def decide(
    role: Role | None,
    action: str,
    resource: str,
    context: Context,
    *,
    session_policy: Sequence[Statement] | None = None,
) -> Decision:
    """A denial in any of the policies counts; else each kind of policy that there is has to allow it."""
    kinds = [
        ("identity-based", role.statements if role else ()),
        *([("permissions boundary", role.boundary)] if role and role.boundary is not None else []),
        *([("session", session_policy)] if session_policy is not None else []),
    ]
    allowed: dict[str, list[str]] = {}
    for kind, statements in kinds:
        for statement in statements:
            if not statement.applies(action, resource, context):
                continue
            if not statement.is_allowing:
                an = "an identity-based policy" if kind == "identity-based" else f"a {_policy(kind)}"
                return Decision(
                    is_allowed=False, statements=(statement.name,), reason=f"with an explicit deny in {an}"
                )
            allowed.setdefault(kind, []).append(statement.name)
    for kind, _ in kinds:
        if kind not in allowed:
            return Decision(is_allowed=False, reason=f"because no {_policy(kind)} allows the {action} action")
    return Decision(is_allowed=True, statements=tuple(allowed["identity-based"]))


def _policy(kind: str) -> str:
    return kind if kind == "permissions boundary" else f"{kind} policy"


def trusts(trust: Document, principals: Mapping[str, Sequence[str]], action: str, context: Context) -> bool:
    """Whether a role's trust policy lets one of the principals, `{"AWS": […], "Service": […]}`, assume it."""
    allowed = False
    for written in as_list(trust.get("Statement", [])):
        if not any(
            matches(pattern.lower(), action.lower()) for pattern in as_list(written.get("Action", []))
        ):
            continue
        if not _names(written, principals) or not are_met(written.get("Condition", {}), context):
            continue
        if written["Effect"] == "Deny":
            return False
        allowed = True
    return allowed


def _names(written: Document, principals: Mapping[str, Sequence[str]]) -> bool:
    named = written.get("Principal", {})
    if named == "*":
        return True
    return any(_stands_for(kind, one, principals.get(kind, ())) for kind, one in _each(named))


def _each(named: Document) -> Iterator[tuple[str, str]]:
    for kind, ones in named.items():
        for one in as_list(ones):
            yield kind, one


def _stands_for(kind: str, named: str, given: Sequence[str]) -> bool:
    """An account's id stands for its root, and that for everybody in it whose own policies allow it."""
    if kind == "AWS" and named.isdigit():
        named = f"arn:aws:iam::{named}:root"
    return named in given or (named == "*" and bool(given))
