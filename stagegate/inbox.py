"""The mails that the local runtime has delivered, and the answer that a link in one of them asks for."""

import email
import email.policy
import json
import re
import urllib.parse
import urllib.request
from dataclasses import dataclass
from email.message import EmailMessage
from html.parser import HTMLParser
from typing import Any

from stagegate.config import Config
from stagegate.errors import ReleaseFailed


@dataclass(frozen=True, kw_only=True)
class Mail:
    """`mail_id` begins with the mail's number, as in 000003-8c1f…."""

    mail_id: str
    sender: str
    recipient: str
    subject: str
    date: str
    text: str

    @property
    def number(self) -> int:
        return int(self.mail_id.partition("-")[0])


def inbox_page(config: Config) -> str:
    """Where a browser shows it."""
    return f"{config.endpoint_url}/_stagegate/inbox"


def read_inbox(config: Config) -> list[Mail]:
    """Every mail, oldest first."""
    entries = json.loads(_get(f"{config.endpoint_url}/_stagegate/inbox"))
    return [_mail(config, entry["id"]) for entry in entries]


def _mail(config: Config, mail_id: str) -> Mail:
    raw = _get(f"{config.endpoint_url}/_stagegate/inbox/{mail_id}")
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    body = message.get_body(preferencelist=("plain", "html"))
    return Mail(
        mail_id=mail_id,
        sender=str(message["From"]),
        recipient=str(message["To"]),
        subject=str(message["Subject"]).strip(),
        date=str(message["Date"]),
        text=body.get_content() if body else "",
    )


def approve_by_link(mail: Mail, *, comment: str) -> str:
    """Do what a person does: open the mail's link to approve, fill in the form, press the button.

    Gives the link. Raises ReleaseFailed where the mail has no such link or the page refuses.
    """
    link = next((link for link in re.findall(r"https?://\S+", mail.text) if "decision=approve" in link), None)
    if link is None:
        raise ReleaseFailed(f"The mail '{mail.subject}' has no link to approve.")
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    page = _Form()
    try:
        with browser.open(link, timeout=60) as response:
            page.feed(response.read().decode())
        target = urllib.parse.urljoin(link, page.action)
        fields = urllib.parse.urlencode(page.fields | {"comment": comment})
        with browser.open(target, data=fields.encode(), timeout=60):
            return str(link)
    except urllib.error.HTTPError as error:
        raise ReleaseFailed(f"{link} refused the decision: HTTP {error.code}") from error


class _Form(HTMLParser):
    """The page's form: where it is sent, and the fields that it carries along."""

    def __init__(self) -> None:
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] = {}

    def handle_starttag(self, tag: str, attributes: list[tuple[str, Any]]) -> None:
        values = dict(attributes)
        if tag == "form":
            self.action = values.get("action") or ""
        elif tag in ("input", "button") and values.get("name"):
            self.fields[values["name"]] = values.get("value") or ""


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as response:  # noqa: S310
        body: bytes = response.read()
        return body
