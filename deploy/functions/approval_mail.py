"""Who is told what by mail: by SES with a picture and links of one's own, else as text to an SNS topic."""

import logging
import os
from email.message import EmailMessage

import approvals
from approval_aws import client
from approval_facts import NotReadable, read_bytes
from approval_links import DECISIONS, TESTS, link
from approval_pages import mail_page
from approval_text import plain_text
from approvals import Approval
from botocore.exceptions import BotoCoreError, ClientError

PICTURE = "confusion-matrix"
_LARGEST_PICTURE = 2 * 1024 * 1024

logger = logging.getLogger(__name__)


class NobodyAsked(Exception):
    """No mail could be sent to anybody."""


def ask(approval: Approval) -> None:
    """Mail the links to those who have not got them yet. Raises NobodyAsked where nobody has them then."""
    _tell_all(approval, "ask", f"{approval.subject}: your decision is asked for.")


def remind(approval: Approval) -> None:
    """Once, those who have not voted."""
    heading = (
        f"{approval.subject}: nobody has decided yet; it expires at {approvals.moment(approval.expires_at)}."
    )
    if approval.votes:
        heading = f"{approval.subject}: {approvals.said(approval)} Your decision is asked for."
    _tell_all(approval, "remind", heading)


def tell_expired(approval: Approval) -> None:
    """That nobody decided in time, and what follows."""
    _tell_all(approval, "expire", f"{approval.subject}: {approvals.said(approval)}")


_SUBJECTS = {"ask": "Approval", "remind": "Reminder", "expire": "Expired"}


def _tell_all(approval: Approval, what: str, heading: str) -> None:
    """Whoever could not be reached is tried again at the next round; nobody is told twice."""
    subject = f"{_SUBJECTS[what]}: {approval.subject}"
    reached = 0
    for number, address in enumerate(_addresses(approval)):
        told = f"{what}/{address}"
        if told in approval.mailed:
            reached += 1
            continue
        if address in [vote.by for vote in approval.votes] and what == "remind":
            continue
        try:
            if address == _topic():
                _publish(subject, plain_text(approval, heading=heading, links=_links(approval, "", what)))
            else:
                _send(address, subject, heading, approval, _links(approval, str(number), what))
        except (ClientError, BotoCoreError) as error:
            logger.warning("mail to %s was not sent: %s", address, error)
            continue
        reached += 1
        approvals.note_mailed(approval.approval_id, told)
    if not reached and what == "ask":
        raise NobodyAsked(f"No mail about approval {approval.approval_id} could be sent; the log says why.")


def _addresses(approval: Approval) -> tuple[str, ...]:
    return approval.rules.approvers if os.environ.get("SENDER") else (_topic(),)


def _topic() -> str:
    return os.environ["APPROVAL_TOPIC_ARN"]


def _links(approval: Approval, approver: str, what: str) -> dict[str, str]:
    if what == "expire":
        return {}
    links = {f"Look and {decision}": decision for decision in DECISIONS}
    if "test_report" in approval.details:
        links["Test report"] = TESTS
    return {
        name: link(
            os.environ["DECISION_URL"],
            approval_id=approval.approval_id,
            decision=decision,
            approver=approver,
            expires_at=approval.expires_at,
        )
        for name, decision in links.items()
    }


def _send(address: str, subject: str, heading: str, approval: Approval, links: dict[str, str]) -> None:
    message = EmailMessage()
    message["From"] = os.environ["SENDER"]
    message["To"] = address
    message["Subject"] = " ".join(subject.split())[:200]
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(plain_text(approval, heading=heading, links=links))
    picture = _picture(approval)
    page = mail_page(approval, heading=heading, links=links, picture=f"cid:{PICTURE}" if picture else "")
    message.add_alternative(page, subtype="html")
    if picture:
        html = message.get_payload()[1]
        assert isinstance(html, EmailMessage)
        html.add_related(
            picture, "image", "png", cid=f"<{PICTURE}>", filename=f"{PICTURE}.png", disposition="inline"
        )
    client("sesv2").send_email(
        FromEmailAddress=os.environ["SENDER"],
        Destination={"ToAddresses": [address]},
        Content={"Raw": {"Data": message.as_bytes(policy=message.policy.clone(linesep="\r\n"))}},
    )


def _picture(approval: Approval) -> bytes:
    """The confusion matrix as the evaluation drew it; a mail without it is better than none."""
    try:
        return read_bytes(approval.details["picture"], largest=_LARGEST_PICTURE)
    except (NotReadable, ClientError, BotoCoreError) as error:
        logger.warning("the mail has no picture: %s", error)
        return b""


def _publish(subject: str, text: str) -> None:
    """SNS takes a subject in ASCII of less than 100 characters, without line breaks."""
    line = " ".join(subject.encode("ascii", "replace").decode().split())[:99]
    client("sns").publish(TopicArn=_topic(), Subject=line, Message=text)
