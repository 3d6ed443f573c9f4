"""What waits for a person's decision, the answers to it, and the key that signs its links."""

import getpass
import json
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stagegate.aws import Services
from stagegate.deployment import Platform
from stagegate.errors import NotFound, ReleaseFailed

_SHOWN = (
    *("approval_id", "subject", "status", "run_id", "started_by", "model_package_arn", "execution_arn"),
    *("requested_at", "expires_at", "decided_at", "rules", "votes", "bound", "record_number", "record_hash"),
)
"""What is read of an approval: never its task token."""
_IDENTITY = "x-stagegate-decision"


@dataclass(frozen=True, kw_only=True)
class Vote:
    """What one person decided, when and from where."""

    decision: str
    by: str
    at: datetime
    source: str
    comment: str


@dataclass(frozen=True, kw_only=True)
class Approval:
    """A request for a person's decision, as the approvals table has it."""

    approval_id: str
    subject: str
    status: str
    run_id: str
    started_by: str
    model_package_arn: str
    execution_arn: str
    requested: datetime
    expires: datetime
    decided: datetime | None
    approvers: tuple[str, ...]
    required: int
    votes: tuple[Vote, ...]
    bound: dict[str, dict[str, str]]
    """What is approved: each file's `uri` and `sha256`."""
    record_number: int
    """The entry of the record that has the last vote; 0 where nobody voted."""
    record_hash: str


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a person needs to know for a decision, in the words of mail and page."""

    said: str
    """What has become of it so far, as a sentence."""
    facts: list[tuple[str, str]]
    class_columns: list[str]
    classes: list[list[str]]
    """Each class with a value for each column."""
    matrix: dict[str, dict[str, int]] | None
    """By what the image shows, then by what the model said; None where there are too many classes."""
    confusions: list[tuple[str, str, int]]
    """The most frequent ones: shown, said, how often."""


def list_approvals(services: Services, platform: Platform, *, pending: bool = True) -> list[Approval]:
    """The approvals, oldest first; only those that still wait for a decision where `pending`."""
    names = {f"#{number}": name for number, name in enumerate(_SHOWN)}
    pages = (
        services("dynamodb")
        .get_paginator("scan")
        .paginate(
            TableName=platform.approval_table,
            ProjectionExpression=", ".join(names),
            ExpressionAttributeNames=names,
            ConsistentRead=True,
        )
    )
    approvals = [_approval(item) for page in pages for item in page["Items"]]
    waiting = [approval for approval in approvals if not pending or _is_waiting(approval)]
    return sorted(waiting, key=lambda approval: approval.requested)


def find_approval(services: Services, platform: Platform, name: str) -> Approval:
    """The approval whose id begins with `name`. Raises NotFound where none does, or several do."""
    found = [
        approval
        for approval in list_approvals(services, platform, pending=False)
        if approval.approval_id.startswith(name)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise NotFound(f"{len(found)} approvals begin with '{name}': give more of the id.")
    raise NotFound(f"There is no approval '{name}': see `stagegate approvals`.")


def show(services: Services, approval_id: str) -> Shown:
    """What is to be approved. Raises ReleaseFailed where the function does not say."""
    answer = _call(services, {"approval_id": approval_id, "show": True})
    return Shown(**answer)


def decide(services: Services, approval_id: str, *, decision: str, comment: str) -> str:
    """Answer an approval as who we are to AWS; gives the function's message.

    `decision` is "approve" or "reject". Raises ReleaseFailed where the decision does not count.
    """
    answer = _call(
        services,
        {
            "approval_id": approval_id,
            "decision": decision,
            "comment": comment,
            "identity": services.signed_identity(_IDENTITY, f"{approval_id}/{decision}"),
            "source": f"{getpass.getuser()}@{socket.gethostname()}",
        },
    )
    return str(answer["message"])


def rotate_key(services: Services, platform: Platform) -> None:
    """A new key signs from now on; links of the one before stay valid, older ones do not."""
    secrets = services("secretsmanager")
    password = secrets.get_random_password(PasswordLength=64, ExcludePunctuation=True)["RandomPassword"]
    secrets.put_secret_value(SecretId=platform.signing_key_arn, SecretString=password)


def _call(services: Services, event: dict[str, Any]) -> dict[str, Any]:
    response = services("lambda").invoke(
        FunctionName=f"{services.config.project}-approval-decision", Payload=json.dumps(event).encode()
    )
    answer: dict[str, Any] = json.loads(response["Payload"].read())
    if "FunctionError" in response:
        raise ReleaseFailed(answer.get("errorMessage", str(answer)))
    return answer


def _is_waiting(approval: Approval) -> bool:
    return approval.status == "pending" and approval.expires > datetime.now(UTC)


def _approval(item: dict[str, Any]) -> Approval:
    values = {name: next(iter(value.values())) for name, value in item.items()}
    rules = json.loads(values["rules"])
    decided = float(values.get("decided_at", 0)) if values["status"] != "pending" else 0.0
    return Approval(
        approval_id=values["approval_id"],
        subject=values["subject"],
        status=values["status"],
        run_id=values.get("run_id", ""),
        started_by=values["started_by"],
        model_package_arn=values["model_package_arn"],
        execution_arn=values["execution_arn"],
        requested=_time(values["requested_at"]),
        expires=_time(values["expires_at"]),
        decided=_time(decided) if decided else None,
        approvers=tuple(rules["approvers"]),
        required=rules["required"],
        votes=tuple(
            Vote(**vote | {"at": _time(vote["at"])}) for vote in json.loads(values.get("votes", "[]"))
        ),
        bound=json.loads(values["bound"]),
        record_number=int(values.get("record_number", 0)),
        record_hash=values.get("record_hash", ""),
    )


def _time(seconds: Any) -> datetime:
    return datetime.fromtimestamp(float(seconds), UTC)
