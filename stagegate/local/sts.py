"""STS: who somebody is, and sessions of roles; its other operations are moto's."""

import json
import re
import time
from datetime import UTC, datetime
from typing import Any

from stagegate.local import identity
from stagegate.local.identity import Identity
from stagegate.local.service import AWSError, Service, of_sessions

_ROLE = re.compile(r"arn:aws[\w-]*:iam::\d{12}:role/(?:[\w+=,.@/-]*/)?([\w+=,.@-]{1,64})")
_HOUR = 3600


class SecurityTokens(Service):
    """Sessions are in their tokens, so that nothing is kept of them here."""

    async def assume_role(
        self,
        *,
        RoleArn: str,
        RoleSessionName: str,
        Policy: str | None = None,
        DurationSeconds: int = _HOUR,
        ExternalId: str | None = None,
        Tags: list[dict[str, str]] | None = None,
        **rest: Any,
    ) -> dict[str, Any]:
        """Whether the caller may is IAM's to say: `endpoint.py` has asked, before it comes to this."""
        for member, value in rest.items():
            if value:
                raise AWSError(
                    "ValidationError", f"AssumeRole: {member} is not supported by the local runtime"
                )
        if _ROLE.fullmatch(RoleArn) is None:
            raise AWSError("ValidationError", f"{RoleArn} is invalid")
        if Policy is not None:
            _check_policy(Policy)
        session = Identity(
            role_arn=RoleArn,
            session=RoleSessionName,
            policy=Policy,
            expires=int(time.time()) + DurationSeconds,
        )
        return {
            "Credentials": {
                "AccessKeyId": session.access_key,
                "SecretAccessKey": session.environment()["AWS_SECRET_ACCESS_KEY"],
                "SessionToken": session.token,
                "Expiration": datetime.fromtimestamp(session.expires or 0, UTC),
            },
            "AssumedRoleUser": {
                "AssumedRoleId": f"{await self._role_id(session)}:{session.session}",
                "Arn": session.arn,
            },
            "PackedPolicySize": len(Policy or "") * 100 // 2048,
        }

    @of_sessions
    async def get_caller_identity(self) -> dict[str, Any]:
        caller = identity.caller()
        assert caller is not None
        return {
            "UserId": f"{await self._role_id(caller)}:{caller.session}",
            "Account": caller.account_id,
            "Arn": caller.arn,
        }

    async def _role_id(self, session: Identity) -> str:
        """IAM's id of the role; of one that IAM does not have, its name."""
        try:
            answer = await self.runtime.beneath("iam", "GetRole", {"RoleName": session.role_name})
        except AWSError:
            return session.role_name
        return str(answer["Role"]["RoleId"])


def _check_policy(policy: str) -> None:
    try:
        has_statements = bool(json.loads(policy)["Statement"])
    except (ValueError, KeyError, TypeError):
        has_statements = False
    if not has_statements:
        raise AWSError("MalformedPolicyDocument", "This policy contains invalid Json")
