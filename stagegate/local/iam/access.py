"""What roles may do, asked at each call that one makes: always recorded, refused where that is enforced.

Whoever calls without a role's session (the developer's own keys) may do everything, and is not recorded.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from stagegate.local import apis
from stagegate.local.iam import policies
from stagegate.local.iam.actions import passed_roles, requests_of
from stagegate.local.iam.policies import Decision, Role
from stagegate.local.iam.record import Record
from stagegate.local.iam.resources import Place, Request
from stagegate.local.iam.s3_actions import listing_of
from stagegate.local.identity import Identity
from stagegate.local.service import AWSError

Details = Callable[[], Awaitable[Mapping[str, Any]]]

_ALWAYS = {"sts:GetCallerIdentity"}
"""What needs no permission."""
_AUTHORIZATION_CODES = {
    apis.QUERY: ("AccessDenied", 403),
    apis.EC2: ("UnauthorizedOperation", 403),
    apis.REST_XML: ("AccessDenied", 403),
    apis.REST_JSON: ("AccessDeniedException", 403),
}
_OWN_CODES = {"sns": ("AuthorizationError", 403), "sqs": ("AccessDenied", 403)}
_NOT_ASSUMED = {
    "codebuild": (
        "InvalidInputException",
        "CodeBuild is not authorized to perform: sts:AssumeRole on {role}",
    ),
    "cloudformation": ("ValidationError", "Role {role} is invalid or cannot be assumed"),
    "events": ("ValidationException", "Provided role '{role}' cannot be assumed by principal '{principal}'."),
    "lambda": (
        "InvalidParameterValueException",
        "The role defined for the function cannot be assumed by Lambda.",
    ),
    "sagemaker": (
        "ValidationException",
        "Could not assume role {role}. Please ensure that the role exists and allows principal "
        "'{principal}' to assume the role.",
    ),
    "scheduler": (
        "ValidationException",
        "The execution role you provide must allow AWS EventBridge Scheduler to assume the role.",
    ),
    "stepfunctions": (
        "AccessDeniedException",
        "Neither the global service principal {principal}, nor the regional one is authorized to assume the "
        "provided role.",
    ),
}
"""How a service says that a role which it is handed does not trust it."""


class Access:
    """The roles as IAM has them, read anew when IAM has changed, and the record of what they asked for."""

    def __init__(self, record: Record, details: Details, *, place: Place, is_enforced: bool) -> None:
        self.record = record
        self.is_enforced = is_enforced
        self._details = details
        self._place = place
        self._roles: dict[str, Role] | None = None
        self._changes = 0

    def forget(self) -> None:
        """IAM has changed."""
        self._roles = None
        self._changes += 1

    async def roles(self) -> dict[str, Role]:
        if (known := self._roles) is None:
            changes = self._changes
            known = policies.roles_of(await self._details())
            if changes == self._changes:  # else they may be of before the change
                self._roles = known
        return known

    async def check(
        self, identity: Identity | None, service: str, operation: str, members: Mapping[str, Any]
    ) -> None:
        """Raises the service's own AWSError where the caller may not do it, or hands on a role that the
        service cannot assume."""
        if service == "sts" and operation == "AssumeRole":
            await self._check_assuming(identity, members)
        elif identity is not None:
            for request in requests_of(service, operation, members, self._place):
                if request.action not in _ALWAYS:
                    await self.ask(identity, request, service)
        if self.is_enforced:
            for passed in passed_roles(service, operation, members):
                asked = requests_of(service, operation, members, self._place)
                await self._check_trust(passed, service, [request.resource for request in asked])

    async def check_action(self, identity: Identity, action: str, resource: str) -> None:
        """The same for what a service does under a role by itself, without an operation."""
        prefix = action.partition(":")[0]
        service = {"states": "stepfunctions"}.get(prefix, prefix)
        await self.ask(identity, Request(action=action, resource=resource), service)

    async def ask(self, identity: Identity, request: Request, service: str) -> None:
        if identity.is_expired:
            code = "ExpiredToken" if service in ("s3", "sts") else "ExpiredTokenException"
            raise AWSError(code, "The security token included in the request is expired", status=403)
        decision = await self._decide(identity, request)
        self.record.add(identity.role_arn, request, decision)
        if not decision.is_allowed and self.is_enforced:
            raise _refusal(identity, request, decision, service)

    async def check_listing(self, identity: Identity | None, members: Mapping[str, Any]) -> None:
        """S3 tells only who may list a bucket that an object is not there; it may not be read otherwise."""
        if identity is None:
            return
        request = listing_of(members)
        decision = await self._decide(identity, request)
        if not decision.is_allowed:
            decision = replace(decision, reason=f"{decision.reason}: a missing object is AccessDenied then")
        self.record.add(identity.role_arn, request, decision)
        if self.is_enforced and not decision.is_allowed:
            raise AWSError("AccessDenied", "Access Denied", status=403)

    async def _decide(self, identity: Identity, request: Request) -> Decision:
        role = (await self.roles()).get(identity.role_name)
        session = None if identity.policy is None else policies.statements_of("session", identity.policy)
        context = {**self._context(identity, role), **request.context}
        return policies.decide(role, request.action, request.resource, context, session_policy=session)

    def _context(self, identity: Identity, role: Role | None) -> dict[str, list[str]]:
        """The global condition keys, as on AWS: by TLS, though all comes from this machine."""
        now = time.time()
        return {
            "aws:currenttime": [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))],
            "aws:epochtime": [str(int(now))],
            "aws:principalaccount": [identity.account_id],
            "aws:principalarn": [identity.role_arn],
            "aws:principaltype": ["AssumedRole"],
            "aws:requestedregion": [self._place.region],
            "aws:securetransport": ["true"],
            "aws:sourceip": ["127.0.0.1"],
            "aws:userid": [f"{role.role_id if role else ''}:{identity.session}"],
        }

    async def _check_assuming(self, identity: Identity | None, members: Mapping[str, Any]) -> None:
        """A role's trust policy has to name who assumes it; or the account, whose policies then decide."""
        [request] = requests_of("sts", "AssumeRole", members, self._place)
        root = f"arn:aws:iam::{self._place.account_id}:root"
        roles = await self.roles()
        role = roles.get(request.resource.rsplit("/", 1)[-1])
        if identity is not None:
            caller = self._context(identity, roles.get(identity.role_name))
            request = replace(request, context={**caller, **request.context})
        trusts_account = self._trusts(role, {"AWS": [root]}, request)
        if identity is None:
            if self.is_enforced and not trusts_account:
                raise _not_assumed(root, request.resource)
            return
        decision = await self._decide(identity, request)
        if self._trusts(role, {"AWS": [identity.role_arn, identity.arn]}, request):
            decision = Decision(is_allowed=not decision.statements or decision.is_allowed)
        elif not trusts_account:
            decision = Decision(is_allowed=False, reason="because its trust policy does not name the caller")
        self.record.add(identity.role_arn, request, decision)
        if self.is_enforced and not decision.is_allowed:
            raise _not_assumed(identity.arn, request.resource)

    def _trusts(self, role: Role | None, principals: Mapping[str, list[str]], request: Request) -> bool:
        return role is not None and policies.trusts(role.trust, principals, request.action, request.context)

    async def _check_trust(self, passed: Request, service: str, sources: list[str]) -> None:
        """`sources`: for what the service will assume the role."""
        [principal] = passed.context["iam:passedtoservice"]
        role = (await self.roles()).get(passed.resource.rsplit("/", 1)[-1])
        if role is not None and policies.trusts(
            role.trust,
            {"Service": [principal]},
            "sts:AssumeRole",
            {"aws:sourceaccount": [self._place.account_id], "aws:sourcearn": sources},
        ):
            return
        code, message = _NOT_ASSUMED[service]
        raise AWSError(code, message.format(role=passed.resource, principal=principal))


def _not_assumed(who: str, role_arn: str) -> AWSError:
    message = f"User: {who} is not authorized to perform: sts:AssumeRole on resource: {role_arn}"
    return AWSError("AccessDenied", message, status=403)


def _refusal(identity: Identity, request: Request, decision: Decision, service: str) -> AWSError:
    """The service's refusal, in AWS's words."""
    protocol = apis.APIS[service].protocol if service in apis.APIS else apis.JSON
    code, status = _OWN_CODES.get(service, _AUTHORIZATION_CODES.get(protocol, ("AccessDeniedException", 400)))
    resource = f'"{request.resource}"' if service == "s3" else request.resource
    message = (
        f"User: {identity.arn} is not authorized to perform: {request.action} on resource: {resource} "
        f"{decision.reason}"
    )
    return AWSError(code, message, status=status)
