"""A person's decision under the rules: who may, how many it takes, and what is so afterwards."""

import time
from dataclasses import dataclass, replace

import approvals
from approval_aws import client, error_code
from approval_pages import COMMENT_LENGTH, NAME_LENGTH
from approval_record import Changed
from approvals import PENDING, STATUS, Approval, Vote, deliver, find, moment, said
from botocore.exceptions import BotoCoreError, ClientError

DECISIONS = ("approve", "reject")
_TRIES = 30


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What somebody wants. `by` is a mail address or an IAM ARN, `source` from where it came."""

    decision: str
    by: str
    source: str
    comment: str


class Refused(Exception):
    """A decision that does not count, a link that shows nothing: the HTTP status, and why, for a person."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def decide(approval: Approval, wish: Wish) -> str:
    """Make the decision count, once, and tell Step Functions; gives a sentence that says what is so.

    Raises Refused where it does not count.
    """
    wish = _checked(wish)
    for _ in range(_TRIES):
        if not approval.is_pending:
            return _decided_before(approval, wish)
        vote = _vote(approval, wish)
        try:
            approvals.write_vote(approval, vote, status=_status_with(approval, vote))
        except Changed:
            approval = _again(approval)
            continue
        return _told(_again(approval))
    raise Refused(503, "Many decide at this moment: send your decision again.")


def _checked(wish: Wish) -> Wish:
    by, comment = " ".join(wish.by.split()), wish.comment.strip()
    if wish.decision not in DECISIONS:
        raise Refused(422, f"The decision is '{wish.decision[:20]}'; it should be 'approve' or 'reject'.")
    if not 0 < len(by) <= NAME_LENGTH and not by.startswith("arn:"):
        raise Refused(422, f"Say who decides, in at most {NAME_LENGTH} characters.")
    if wish.decision == "reject" and not comment:
        raise Refused(422, "Say why it is rejected.")
    if len(comment) > COMMENT_LENGTH:
        raise Refused(422, f"The comment has {len(comment)} characters; at most {COMMENT_LENGTH} fit.")
    return replace(wish, by=by, comment=comment)


def _vote(approval: Approval, wish: Wish) -> Vote:
    """The wish as a vote. Raises Refused where the rules do not let it count."""
    now = int(time.time())
    if approval.expires_at <= now:
        raise Refused(410, f"The request expired at {moment(approval.expires_at)}. Nothing was decided.")
    is_asked = wish.by in approval.rules.approvers or wish.by.startswith("arn:")
    if not is_asked:
        raise Refused(422, f"'{wish.by}' is not among those who were asked.")
    if approval.rules.four_eyes and names(wish.by) & names(approval.started_by):
        raise Refused(
            403, f"You ({wish.by}) started this run: under the rule of four eyes somebody else decides."
        )
    for vote in approval.votes:
        if names(vote.by) & names(wish.by):
            raise Refused(409, f"You have answered already. {said(approval)}")
    return Vote(decision=wish.decision, by=wish.by, at=now, source=wish.source, comment=wish.comment)


def names(identity: str) -> set[str]:
    """What a person is known by: each word of it, and the last part of an ARN, often a mail address."""
    words = identity.lower().split()
    return {*words, *(word.rpartition("/")[2] for word in words if word.startswith("arn:"))}


def _status_with(approval: Approval, vote: Vote) -> str:
    if vote.decision == "reject":
        return STATUS["reject"]
    is_enough = len(approval.votes) + 1 >= approval.rules.required
    return STATUS["approve"] if is_enough else PENDING


def _again(approval: Approval) -> Approval:
    found = find(approval.approval_id)
    assert found is not None, "approvals are kept until long after their end"
    return found


def _decided_before(approval: Approval, wish: Wish) -> str:
    """Raises Refused, unless it is what the same person decided before: then it is sent on once more."""
    mine = [vote for vote in approval.deciders if vote.by == wish.by and vote.decision == wish.decision]
    if mine and not approval.delivered:
        return _told(approval)
    raise Refused(409, f"It is decided already: {said(approval)}")


def _told(approval: Approval) -> str:
    """Tell Step Functions where it is decided now; what is so, in words."""
    if approval.is_pending:
        return f"{approval.subject}: your approval counts. {said(approval)}"
    decided = f"{approval.subject}: {said(approval)}"
    try:
        if approval.delivered or deliver(approval):
            return f"{decided} The run has been told."
        status = _execution_status(approval)
    except (ClientError, BotoCoreError):
        # It is written: the state machine's next round takes it from the table.
        return (
            f"{decided} Step Functions does not answer just now; the run takes the decision by itself, soon."
        )
    if status == "RUNNING":
        return f"{decided} The run takes it in a moment."
    return f"{decided} But the run does not wait for it any more: it is {status}."


def _execution_status(approval: Approval) -> str:
    try:
        found = client("stepfunctions").describe_execution(executionArn=approval.execution_arn)
    except ClientError as error:
        if error_code(error) != "ExecutionDoesNotExist":
            raise
        return "gone"
    return str(found["status"])
