"""Requests for a person's decision: kept in DynamoDB, signed for the mail, answered once.

The task token never leaves the table but to Step Functions. A link carries the approval's id, the decision,
when it expires, and a signature over these three.
"""

import functools
import hashlib
import hmac
import json
import os
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

STATUS = {"approve": "approved", "reject": "rejected"}
"""What an approval's status becomes by a decision; before, it is `pending`."""
KEPT_SECONDS = 90 * 24 * 3600
"""How long an approval is kept after it has expired."""
ENDED = ("TaskTimedOut", "TaskDoesNotExist", "InvalidToken")
"""What Step Functions answers when the task doesn't wait any more."""
NAME_LENGTH = 100
COMMENT_LENGTH = 800


@dataclass(frozen=True, kw_only=True)
class Approval:
    """A request as it is in the table. Times are seconds since 1970."""

    approval_id: str
    kind: str
    subject: str
    run_id: str
    details: dict[str, Any]
    status: str
    requested_at: int
    expires_at: int
    task_token: str
    decided_by: str = ""
    decided_at: int = 0
    comment: str = ""
    delivered: bool = False
    """Whether Step Functions has the decision."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What somebody wants: `decision` is "approve" or "reject"."""

    decision: str
    decided_by: str
    comment: str


class Refused(Exception):
    """A decision that does not count, a link that shows nothing: the HTTP status, and why, for a person."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def store(approval: Approval) -> None:
    """Keep a new approval; one that is there already stays as it is."""
    item = {
        "approval_id": {"S": approval.approval_id},
        "kind": {"S": approval.kind},
        "subject": {"S": approval.subject},
        "run_id": {"S": approval.run_id},
        "details": {"S": json.dumps(approval.details)},
        "status": {"S": approval.status},
        "requested_at": {"N": str(approval.requested_at)},
        "expires_at": {"N": str(approval.expires_at)},
        "delete_at": {"N": str(approval.expires_at + KEPT_SECONDS)},
        "task_token": {"S": approval.task_token},
    }
    try:
        _client("dynamodb").put_item(
            TableName=_table(), Item=item, ConditionExpression="attribute_not_exists(approval_id)"
        )
    except ClientError as error:
        if _code(error) != "ConditionalCheckFailedException":
            raise


def load(approval_id: str) -> Approval:
    """Raises Refused for an id that is unknown."""
    response = _client("dynamodb").get_item(
        TableName=_table(), Key={"approval_id": {"S": approval_id}}, ConsistentRead=True
    )
    if "Item" not in response:
        raise Refused(404, "This approval does not exist, or it was removed long after it had ended.")
    item = {name: next(iter(value.values())) for name, value in response["Item"].items()}
    return Approval(
        approval_id=item["approval_id"],
        kind=item["kind"],
        subject=item["subject"],
        run_id=item["run_id"],
        details=json.loads(item["details"]),
        status=item["status"],
        requested_at=int(item["requested_at"]),
        expires_at=int(item["expires_at"]),
        task_token=item["task_token"],
        decided_by=item.get("decided_by", ""),
        decided_at=int(item.get("decided_at", 0)),
        comment=item.get("comment", ""),
        delivered=bool(item.get("delivered", False)),
    )


def decide(approval: Approval, wish: Decision) -> str:
    """Make the decision count, once, and tell Step Functions; gives a sentence that says what is so.

    The decision is written down first. Where Step Functions could not be told then, the same wish again
    tells it. Raises Refused where the decision does not count.
    """
    wish = _checked(wish)
    try:
        _record(approval, wish)
    except ClientError as error:
        if _code(error) != "ConditionalCheckFailedException":
            raise
        approval = load(approval.approval_id)
        if approval.status == "pending":
            raise Refused(410, f"The request expired at {moment(approval.expires_at)}.") from error
        if approval.delivered or approval.status != STATUS[wish.decision]:
            raise Refused(409, f"It is decided already: {decided(approval)}") from error
    approval = load(approval.approval_id)
    _deliver(approval)
    return f"{approval.subject}: {decided(approval)} The run has been told."


def decided(approval: Approval) -> str:
    """The decision as a sentence."""
    comment = f" Comment: {approval.comment}" if approval.comment else ""
    word = approval.status.capitalize()
    return f"{word} by {approval.decided_by} at {moment(approval.decided_at)}.{comment}"


def moment(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def link(base: str, approval: Approval, decision: str) -> str:
    """The address that shows the approval with the form for this decision."""
    query = {
        "id": approval.approval_id,
        "decision": decision,
        "expires": str(approval.expires_at),
        "signature": signature(approval.approval_id, decision, str(approval.expires_at)),
    }
    return f"{base}?{urlencode(query)}"


def signature(approval_id: str, decision: str, expires: str) -> str:
    """HMAC-SHA-256 over the three; the lengths keep one from running into the next."""
    parts = [approval_id.encode(), decision.encode(), expires.encode()]
    message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hmac.new(_signing_key(), message, hashlib.sha256).hexdigest()


def is_signed(query: dict[str, str]) -> bool:
    """Whether a link's query is one of ours, untouched."""
    expected = signature(query.get("id", ""), query.get("decision", ""), query.get("expires", ""))
    return query.get("decision") in STATUS and hmac.compare_digest(
        expected.encode(), query.get("signature", "").encode()
    )


def _checked(wish: Decision) -> Decision:
    by, comment = " ".join(wish.decided_by.split()), wish.comment.strip()
    if wish.decision not in STATUS:
        raise Refused(422, f"The decision is '{wish.decision[:20]}'; it should be 'approve' or 'reject'.")
    if not 0 < len(by) <= NAME_LENGTH:
        raise Refused(422, f"Say who decides, in at most {NAME_LENGTH} characters.")
    if wish.decision == "reject" and not comment:
        raise Refused(422, "Say why it is rejected.")
    if len(comment) > COMMENT_LENGTH:
        raise Refused(422, f"The comment has {len(comment)} characters; at most {COMMENT_LENGTH} fit.")
    return Decision(decision=wish.decision, decided_by=by, comment=comment)


def _record(approval: Approval, wish: Decision) -> None:
    now = int(time.time())
    _client("dynamodb").update_item(
        TableName=_table(),
        Key={"approval_id": {"S": approval.approval_id}},
        UpdateExpression="SET #status = :status, decided_by = :by, decided_at = :now, #comment = :comment",
        ConditionExpression="#status = :pending AND expires_at > :now",
        ExpressionAttributeNames={"#status": "status", "#comment": "comment"},
        ExpressionAttributeValues={
            ":status": {"S": STATUS[wish.decision]},
            ":by": {"S": wish.decided_by},
            ":now": {"N": str(now)},
            ":comment": {"S": wish.comment},
            ":pending": {"S": "pending"},
        },
    )


def _deliver(approval: Approval) -> None:
    decision = next(word for word, status in STATUS.items() if status == approval.status)
    output = {
        "decision": decision,
        "decided_by": approval.decided_by,
        "decided_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(approval.decided_at)),
        "comment": approval.comment,
    }
    try:
        _client("stepfunctions").send_task_success(taskToken=approval.task_token, output=json.dumps(output))
    except ClientError as error:
        if _code(error) not in ENDED:
            raise
        raise Refused(410, f"{decided(approval)} But the run does not wait for it any more.") from error
    _client("dynamodb").update_item(
        TableName=_table(),
        Key={"approval_id": {"S": approval.approval_id}},
        UpdateExpression="SET delivered = :yes",
        ExpressionAttributeValues={":yes": {"BOOL": True}},
    )


def _code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


def _table() -> str:
    return os.environ["APPROVAL_TABLE"]


@functools.cache
def _client(service: str) -> Any:
    return boto3.client(service, config=Config(retries={"mode": "standard", "max_attempts": 5}))


@functools.cache
def _signing_key() -> bytes:
    secret = _client("secretsmanager").get_secret_value(SecretId=os.environ["SIGNING_KEY_ARN"])
    return str(secret["SecretString"]).encode()
