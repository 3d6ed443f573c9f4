"""Requests for a person's decision: kept in DynamoDB, decided once, and delivered to Step Functions.

The task token never leaves the table but to Step Functions. A decision is written first and delivered then;
where Step Functions does not have it afterwards, the state machine's next round takes it
(workflows/approval.py).
"""

import json
import os
import time
from dataclasses import dataclass, field
from typing import Any

import approval_record
from approval_aws import client, error_code
from botocore.exceptions import ClientError

PENDING = "pending"
STATUS = {"approve": "approved", "reject": "rejected", "expire": "expired"}
"""What an approval's status becomes by a decision."""
KEPT_SECONDS = 90 * 24 * 3600
"""How long an approval is kept after it has expired; the record of decisions is kept for good."""
ENDED = ("TaskTimedOut", "TaskDoesNotExist", "InvalidToken")
"""What Step Functions answers where the task does not wait any more."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Who is asked, and what it takes."""

    approvers: tuple[str, ...]
    """Mail addresses; none where a topic's subscribers are asked."""
    required: int = 1
    """How many have to approve; one rejection is enough."""
    four_eyes: bool = True
    """Whoever started the run does not decide about it."""


@dataclass(frozen=True, kw_only=True)
class Vote:
    """What one person decided. `by` is a mail address, an IAM ARN, or what somebody called themselves."""

    decision: str
    by: str
    at: int
    source: str
    """From where: an IP address and a browser, or "IAM"."""
    comment: str


@dataclass(frozen=True, kw_only=True)
class Approval:
    """A request as it is in the table. Times are seconds since 1970."""

    approval_id: str
    kind: str
    subject: str
    run_id: str
    execution_arn: str
    model_package_arn: str
    details: dict[str, Any]
    """What is shown: see approval_facts."""
    bound: dict[str, dict[str, str]]
    """What is approved: `artifact`, `evaluation`, `template` …, each with its `uri` and its `sha256`."""
    rules: Rules
    started_by: str
    requested_at: int
    expires_at: int
    remind_at: int
    task_token: str
    status: str = PENDING
    version: int = 0
    """Counts the votes and the decision: whoever changes the approval names the version that they saw."""
    votes: tuple[Vote, ...] = ()
    decided_at: int = 0
    delivered: bool = False
    """Whether Step Functions has the decision."""
    mailed: frozenset[str] = frozenset()
    """Who was told what: `ask/anna@example.com`."""
    record: dict[str, Any] = field(default_factory=dict)
    """Where the decision stands in the record: `number` and `hash`."""

    @property
    def is_pending(self) -> bool:
        return self.status == PENDING

    @property
    def decision(self) -> str:
        """ "approve", "reject" or "expire"; "" while it is pending."""
        return next((word for word, status in STATUS.items() if status == self.status), "")

    @property
    def deciders(self) -> list[Vote]:
        """Those whose votes made the decision."""
        return [vote for vote in self.votes if vote.decision == self.decision]


def store(approval: Approval, *, asked_at: str) -> None:
    """Keep a new approval; one that is there already stays as it is."""
    item = {
        "approval_id": {"S": approval.approval_id},
        "kind": {"S": approval.kind},
        "subject": {"S": approval.subject},
        "run_id": {"S": approval.run_id},
        "execution_arn": {"S": approval.execution_arn},
        "model_package_arn": {"S": approval.model_package_arn},
        "details": {"S": json.dumps(approval.details)},
        "bound": {"S": json.dumps(approval.bound)},
        "rules": {"S": json.dumps(vars(approval.rules))},
        "started_by": {"S": approval.started_by},
        "status": {"S": approval.status},
        "version": {"N": "0"},
        "votes": {"S": "[]"},
        "requested_at": {"N": str(approval.requested_at)},
        "expires_at": {"N": str(approval.expires_at)},
        "remind_at": {"N": str(approval.remind_at)},
        "delete_at": {"N": str(approval.expires_at + KEPT_SECONDS)},
        "task_token": {"S": approval.task_token},
        "asked_at": {"S": asked_at},
    }
    _unless_refused(
        client("dynamodb").put_item,
        TableName=_table(),
        Item=item,
        ConditionExpression="attribute_not_exists(approval_id)",
    )


def find(approval_id: str) -> Approval | None:
    response = client("dynamodb").get_item(
        TableName=_table(), Key={"approval_id": {"S": approval_id}}, ConsistentRead=True
    )
    if "Item" not in response:
        return None
    item = {name: next(iter(value.values())) for name, value in response["Item"].items()}
    rules = json.loads(item["rules"])
    return Approval(
        approval_id=item["approval_id"],
        kind=item["kind"],
        subject=item["subject"],
        run_id=item["run_id"],
        execution_arn=item["execution_arn"],
        model_package_arn=item["model_package_arn"],
        details=json.loads(item["details"]),
        bound=json.loads(item["bound"]),
        rules=Rules(**rules | {"approvers": tuple(rules["approvers"])}),
        started_by=item["started_by"],
        requested_at=int(item["requested_at"]),
        expires_at=int(item["expires_at"]),
        remind_at=int(item["remind_at"]),
        task_token=item["task_token"],
        status=item["status"],
        version=int(item["version"]),
        votes=tuple(Vote(**vote) for vote in json.loads(item["votes"])),
        decided_at=int(item.get("decided_at", 0)),
        delivered=bool(item.get("delivered", False)),
        mailed=frozenset(item.get("mailed", ())),
        record={"number": int(item.get("record_number", 0)), "hash": item.get("record_hash", "")},
    )


def renew_token(approval_id: str, token: str, *, asked_at: str) -> None:
    """Take the token of a later round or try; one that was asked for earlier does not replace it."""
    _unless_refused(
        client("dynamodb").update_item,
        TableName=_table(),
        Key={"approval_id": {"S": approval_id}},
        UpdateExpression="SET task_token = :token, asked_at = :asked",
        ConditionExpression="asked_at < :asked",
        ExpressionAttributeValues={":token": {"S": token}, ":asked": {"S": asked_at}},
    )


def note_mailed(approval_id: str, what: str) -> None:
    """Write down that somebody was told: `ask/anna@example.com`, `remind/…`, `expire/…`."""
    client("dynamodb").update_item(
        TableName=_table(),
        Key={"approval_id": {"S": approval_id}},
        UpdateExpression="ADD mailed :what",
        ExpressionAttributeValues={":what": {"SS": [what]}},
    )


def write_vote(approval: Approval, vote: Vote, *, status: str) -> None:
    """Count a vote, with its entry in the record. Raises Changed where somebody was faster."""
    _write(
        approval,
        _told(approval) | _of_vote(vote) | {"status": status},
        votes=(*approval.votes, vote),
        status=status,
        at=vote.at,
        condition=" AND expires_at > :at",
    )


def write_expiry(approval: Approval, *, at: int) -> None:
    """Nobody decided. Raises Changed where somebody did at the last moment."""
    told = _told(approval) | {"decision": "expire", "at": timestamp(at), "status": STATUS["expire"]}
    _write(approval, told, votes=approval.votes, status=STATUS["expire"], at=at)


def deliver(approval: Approval) -> bool:
    """Tell Step Functions the decision; False where the task does not wait any more."""
    try:
        client("stepfunctions").send_task_success(
            taskToken=approval.task_token, output=json.dumps(output_of(approval))
        )
    except ClientError as error:
        if error_code(error) not in ENDED:
            raise
        return False
    note_delivered(approval.approval_id)
    return True


def note_delivered(approval_id: str) -> None:
    client("dynamodb").update_item(
        TableName=_table(),
        Key={"approval_id": {"S": approval_id}},
        UpdateExpression="SET delivered = :yes",
        ExpressionAttributeValues={":yes": {"BOOL": True}},
    )


def output_of(approval: Approval) -> dict[str, Any]:
    """The decision as the state machine gets it; `description` and `properties` fit into a model package."""
    by = ", ".join(vote.by for vote in approval.deciders)
    at = timestamp(approval.decided_at)
    comment = "; ".join(vote.comment for vote in approval.deciders if vote.comment)
    prefix = approval.kind.capitalize()
    properties = {
        f"{prefix}ApprovalId": approval.approval_id,
        f"{prefix}Decision": approval.status,
        f"{prefix}DecidedBy": by or "nobody",
        f"{prefix}DecidedAt": at,
        f"{prefix}Record": f"{approval.record.get('number', 0)}:{approval.record.get('hash', '')}",
    }
    return {
        "approval_id": approval.approval_id,
        "decision": approval.decision,
        "decided_by": by,
        "decided_at": at,
        "comment": comment,
        "votes": [_of_vote(vote) for vote in approval.votes],
        "record": approval.record,
        "bound": approval.bound,
        "description": said(approval)[:1024],
        "properties": {name: _as_property(value) for name, value in properties.items()},
    }


def said(approval: Approval) -> str:
    """What has become of it, as a sentence."""
    if approval.is_pending:
        missing = approval.rules.required - len(approval.votes)
        return (
            f"{len(approval.votes)} approved; {missing} more to go."
            if approval.votes
            else "Nobody decided yet."
        )
    when = moment(approval.decided_at)
    if approval.status == STATUS["expire"]:
        so_far = (
            f" {len(approval.votes)} of {approval.rules.required} had approved." if approval.votes else ""
        )
        return f"Nobody decided until {when}: it counts as rejected.{so_far}"
    by = " and ".join(vote.by for vote in approval.deciders)
    comments = " ".join(vote.comment for vote in approval.deciders if vote.comment)
    return f"{approval.status.capitalize()} by {by} at {when}." + (
        f" Comment: {comments}" if comments else ""
    )


def timestamp(seconds: int) -> str:
    """For programs."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def moment(seconds: int) -> str:
    """For people."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _write(
    approval: Approval,
    told: dict[str, Any],
    *,
    votes: tuple[Vote, ...],
    status: str,
    at: int,
    condition: str = "",
) -> None:
    approval_record.write(
        told,
        changing={
            "TableName": _table(),
            "Key": {"approval_id": {"S": approval.approval_id}},
            "UpdateExpression": (
                "SET #status = :status, votes = :votes, version = :next, decided_at = :at, "
                "record_number = :number, record_hash = :hash"
            ),
            "ConditionExpression": f"#status = :pending AND version = :seen{condition}",
            "ExpressionAttributeNames": {"#status": "status"},
            "ExpressionAttributeValues": {
                ":status": {"S": status},
                ":pending": {"S": PENDING},
                ":votes": {"S": json.dumps([vars(vote) for vote in votes])},
                ":seen": {"N": str(approval.version)},
                ":next": {"N": str(approval.version + 1)},
                ":at": {"N": str(at)},
            },
        },
    )


def _told(approval: Approval) -> dict[str, Any]:
    """What the record says of an approval: what was decided about."""
    return {
        "approval_id": approval.approval_id,
        "kind": approval.kind,
        "subject": approval.subject,
        "execution_arn": approval.execution_arn,
        "model_package_arn": approval.model_package_arn,
        "bound": approval.bound,
    }


def _of_vote(vote: Vote) -> dict[str, Any]:
    at = timestamp(vote.at)
    return {"decision": vote.decision, "by": vote.by, "at": at, "from": vote.source, "comment": vote.comment}


def _as_property(value: str) -> str:
    """As CustomerMetadataProperties take it: 1 to 256 letters, digits, spaces and `_.:/=+-@`."""
    kept = "".join(letter if letter.isalnum() or letter in " _.:/=+-@" else "-" for letter in value)
    return kept[:256] or "-"


def _unless_refused(call: Any, **request: Any) -> None:
    """A condition that does not hold is no failure: what was to be so is so already."""
    try:
        call(**request)
    except ClientError as error:
        if error_code(error) != "ConditionalCheckFailedException":
            raise


def _table() -> str:
    return os.environ["APPROVAL_TABLE"]
