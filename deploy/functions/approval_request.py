"""Asks a person for a decision: a task with `.waitForTaskToken` calls it, it keeps the token and mails links.

The state machine's payload: TaskToken, TimeoutSeconds, Kind ("model" or "production"), Subject, RunId, and
the facts that `approval_text` shows.
"""

import hashlib
import os
import time
from typing import Any

import boto3
from approval_pages import mail
from approval_text import plain_text
from approvals import Approval, link, store

PRIVATE = ("TaskToken", "TimeoutSeconds", "Kind", "Subject", "RunId")


def handler(event: dict[str, Any], context: object) -> dict[str, str]:
    """Keep first, mail then: a link that is in a mailbox always has its approval behind it."""
    approval = new_approval(event, now=int(time.time()))
    store(approval)
    send(approval)
    return {"approval_id": approval.approval_id}


def new_approval(event: dict[str, Any], *, now: int) -> Approval:
    """The id comes from the token, so that a repeated call with the same token is the same approval."""
    return Approval(
        approval_id=hashlib.sha256(event["TaskToken"].encode()).hexdigest()[:32],
        kind=event["Kind"],
        subject=event["Subject"],
        run_id=event["RunId"],
        details={name: value for name, value in event.items() if name not in PRIVATE},
        status="pending",
        requested_at=now,
        expires_at=now + int(event["TimeoutSeconds"]),
        task_token=event["TaskToken"],
    )


def send(approval: Approval) -> None:
    """By SES where a sender is set up, else through the topic, which is plain text."""
    base = os.environ["DECISION_URL"]
    links = {decision: link(base, approval, decision) for decision in ("approve", "reject")}
    text = plain_text(approval, **links)
    subject = _one_line(f"Approval: {approval.subject}")
    if sender := os.environ.get("SENDER"):
        boto3.client("sesv2").send_email(
            FromEmailAddress=sender,
            Destination={"ToAddresses": [os.environ["APPROVER"]]},
            Content={
                "Simple": {
                    "Subject": {"Data": subject, "Charset": "UTF-8"},
                    "Body": {
                        "Text": {"Data": text, "Charset": "UTF-8"},
                        "Html": {"Data": mail(approval, **links), "Charset": "UTF-8"},
                    },
                }
            },
        )
    else:
        boto3.client("sns").publish(TopicArn=os.environ["APPROVAL_TOPIC_ARN"], Subject=subject, Message=text)


def _one_line(text: str) -> str:
    """SNS takes ASCII of less than 100 characters, without line breaks."""
    return " ".join(text.encode("ascii", "replace").decode().split())[:99]
