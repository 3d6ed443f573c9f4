"""What the state machines call (workflows/approval.py): ask, end the waiting, check what was approved.

`Action` is "ask" (with a task token: in each round of the waiting, so also to remind, and to deliver what was
decided between two rounds), "expire" (the time is over) or "check" (is it still what was approved?).
"""

import hashlib
import logging
import os
import time
from typing import Any

import approval_mail
import approval_record
import approval_webhook
import approvals
from approval_facts import NotReadable, bind, files_of, gather, read_package, sha256_of
from approvals import Approval, Rules
from botocore.exceptions import BotoCoreError, ClientError

MOST_APPROVERS = 20

logger = logging.getLogger()
logger.setLevel(logging.INFO)

Json = dict[str, Any]


class ServiceFailed(Exception):
    """A service that the function needs did not answer, or not now: the state machine tries again."""


class InvalidRules(Exception):
    """The rules of the state machine's input cannot be kept."""


def handler(event: Json, context: object) -> Json:
    actions = {"ask": ask, "expire": expire, "check": check}
    try:
        return actions[event["Action"]](event)
    except (ClientError, BotoCoreError, TimeoutError) as error:
        raise ServiceFailed(f"{type(error).__name__}: {error}") from error


def ask(event: Json) -> Json:
    """Keep first, mail then: a link that is in a mailbox always has its approval behind it."""
    approval_id = approval_id_of(event)
    known = approvals.find(approval_id)
    if known is None:
        approvals.store(new_approval(event), asked_at=event["AskedAt"])
    else:
        approvals.renew_token(approval_id, event["TaskToken"], asked_at=event["AskedAt"])
    approval = found(approval_id)
    if not approval.is_pending:
        approvals.deliver(approval)
        return {"approval_id": approval_id}
    approval_mail.ask(approval)
    if known is None:
        approval_webhook.announce(approval, "approval.requested")
    elif time.time() >= approval.remind_at:
        approval_mail.remind(approval)
    return {"approval_id": approval_id}


def expire(event: Json) -> Json:
    """The decision, which is that nobody decided, unless somebody did at the last moment."""
    approval_id = approval_id_of(event)
    approval = found(approval_id)
    while approval.is_pending:
        try:
            approvals.write_expiry(approval, at=int(time.time()))
        except approval_record.Changed:
            logger.info("approval %s was changed while it expired", approval_id)
        approval = found(approval_id)
        if not approval.is_pending:
            approval_webhook.announce(approval, "approval.decided")
    if approval.decision == "expire":
        approval_mail.tell_expired(approval)
    approvals.note_delivered(approval_id)
    return approvals.output_of(approval)


def check(event: Json) -> Json:
    """`matches`: whether package and files are still those of the approval; `differences`: what is not."""
    approval = approvals.find(event["ApprovalId"])
    package = read_package(event["ModelPackageArn"])
    if approval is None:
        return _answer([f"There is no approval {event['ApprovalId']}."])
    differences = []
    if approval.decision != "approve":
        differences.append(f"Approval {approval.approval_id} is {approval.status}.")
    if approval.model_package_arn != package.arn:
        differences.append(f"{approval.model_package_arn} was approved, not {package.arn}.")
    # What is deployed now, beside what was bound: also a file that is named otherwise, or not named any more.
    now = files_of(package, event)
    for what, file in approval.bound.items():
        uri = now.get(what, file["uri"])
        sha256 = _sha256_or_none(uri)
        if sha256 != file["sha256"]:
            differences.append(
                f"The {what} {uri} has the SHA-256 {sha256}; the one that was approved has {file['sha256']}."
            )
    return _answer(differences)


def _answer(differences: list[str]) -> Json:
    if differences:
        logger.error("not what was approved: %s", " ".join(differences))
    return {"matches": not differences, "differences": " ".join(differences)}


def _sha256_or_none(uri: str) -> str:
    try:
        return sha256_of(uri)
    except NotReadable:
        return "none: it cannot be read"


def approval_id_of(event: Json) -> str:
    """One for each kind of approval of an execution, in all its rounds, tries and redrives."""
    return hashlib.sha256(f"{event['ExecutionArn']}/{event['Kind']}".encode()).hexdigest()[:32]


def found(approval_id: str) -> Approval:
    approval = approvals.find(approval_id)
    if approval is None:
        raise LookupError(f"There is no approval {approval_id}.")
    return approval


def new_approval(event: Json) -> Approval:
    """Raises InvalidRules, and NotReadable where something that is to be approved is not there."""
    rules = read_rules(event["Rules"])
    package = read_package(event["ModelPackageArn"])
    bound = bind(files_of(package, event))
    now = int(time.time())
    # A state machine of an older version, which is still under way or gets a share of the runs, says none.
    remind_at = event.get("RemindAt", now + event["Rules"]["ReminderSeconds"])
    run_id = package.properties.get("RunId", package.version)
    subjects = {
        "model": f"Register the model of run {run_id}",
        "production": f"Release the model of run {run_id} to production",
    }
    return Approval(
        approval_id=approval_id_of(event),
        kind=event["Kind"],
        subject=event.get("Subject") or subjects.get(event["Kind"], f"{event['Kind']}: run {run_id}"),
        run_id=run_id,
        execution_arn=event["ExecutionArn"],
        model_package_arn=package.arn,
        details=gather(package, bound) | {"changes": event.get("Changes", "")},
        bound=bound,
        rules=rules,
        started_by=event.get("StartedBy") or package.properties.get("StartedBy", ""),
        requested_at=now,
        expires_at=int(event["ExpiresAt"]),
        remind_at=int(remind_at),
        task_token=event["TaskToken"],
    )


def read_rules(given: Json) -> Rules:
    """The rules of the input. Raises InvalidRules, which says what would be right."""
    approvers = [address.strip().lower() for address in given["Approvers"] if address.strip()]
    if len(set(approvers)) != len(approvers) or not 0 < len(approvers) <= MOST_APPROVERS:
        raise InvalidRules(
            f"Approvers is {given['Approvers']}; it should be 1 to {MOST_APPROVERS} different addresses"
        )
    if wrong := [address for address in approvers if address.count("@") != 1 or len(address.split()) != 1]:
        raise InvalidRules(f"Approvers has {wrong}; each should be a mail address")
    required = given["Required"]
    if isinstance(required, bool) or not isinstance(required, int) or not 1 <= required <= len(approvers):
        raise InvalidRules(
            f"Required is {required!r}; it should be 1 to {len(approvers)}, as many as there are Approvers"
        )
    if required > 1 and not os.environ.get("SENDER"):
        raise InvalidRules(
            f"Required is {required}, and without a sender in SES all approvers get the same links, which do "
            "not tell them apart; set up the sender, or let Required be 1"
        )
    if not isinstance(given["FourEyes"], bool):
        raise InvalidRules(f"FourEyes is {given['FourEyes']!r}; it should be true or false")
    return Rules(approvers=tuple(approvers), required=required, four_eyes=given["FourEyes"])
