"""Mail that SNS and SES send: queued with the request, and delivered over SMTP, after a restart too.

moto answers the requests; what it would keep in memory goes out from here, to the server that `--smtp`
names or else to the inbox in the data directory. A subscription by mail is confirmed at once, as moto has
it; on AWS its owner follows a link first.
"""

import asyncio
import json
import logging
import smtplib
from collections.abc import Iterable
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import format_datetime, getaddresses
from typing import Any

from stagegate.local.inbox import ADDRESS, Inbox
from stagegate.local.service import AWSError, Runtime, Service

_LOGGER = logging.getLogger(__name__)
_SNS_SENDER = "AWS Notifications <no-reply@sns.amazonaws.com>"
_RETRY_SECONDS = (0.1, 0.5, 2, 10, 60)
_TIMEOUT = 30

Document = dict[str, Any]


class Mail(Service):
    """Queues mail in the store and delivers it from there, in order."""

    queue: str

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._queued = asyncio.Event()

    async def start(self) -> None:
        self._queued.set()
        self.spawn(self._deliver(), name=self.queue)

    def send(self, message: EmailMessage, *, sender: str, recipients: Iterable[str], message_id: str) -> None:
        """Queue a message. It is delivered at least once, and in an inbox of ours only once."""
        document = {
            "id": message_id,
            "sender": sender,
            "recipients": list(recipients),
            "message": message.as_bytes(policy=policy.SMTP),
        }
        self.runtime.store.put(self.queue, message_id, document)
        self._queued.set()

    async def _deliver(self) -> None:
        failures = 0
        while True:
            await self._queued.wait()
            self._queued.clear()
            await self.runtime.store.committed()
            for mail in self.runtime.store.list(self.queue):
                try:
                    await asyncio.to_thread(_transmit, self._server(), mail)
                    failures = 0
                except smtplib.SMTPResponseException as error:
                    if error.smtp_code < 500:
                        failures += 1
                        break
                    _LOGGER.error("mail to %s was refused: %s", ", ".join(mail["recipients"]), error)
                except smtplib.SMTPRecipientsRefused as error:
                    _LOGGER.error("mail to %s was refused: %s", ", ".join(mail["recipients"]), error)
                except OSError as error:
                    _LOGGER.warning("mail waits: %s: %s", self._server(), error)
                    failures += 1
                    break
                self.runtime.store.delete(self.queue, mail["id"])
            if failures:
                await asyncio.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS)) - 1])
                self._queued.set()

    def _server(self) -> str:
        """HOST:PORT."""
        if self.runtime.smtp is not None:
            return self.runtime.smtp
        address = self.runtime.store.get(*ADDRESS) or {"address": "127.0.0.1:0"}
        return str(address["address"])


class SNSMail(Mail):
    """A topic's subscribers by mail. The inbox is started here."""

    queue = "mail/sns"

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self._inbox = Inbox(runtime.data / "inbox")

    async def start(self) -> None:
        address = await self._inbox.start()
        self.runtime.store.put(*ADDRESS, {"address": address})
        await super().start()

    async def stop(self) -> None:
        await super().stop()
        await self._inbox.stop()

    async def publish(self, **members: Any) -> Document:
        answer = await self.runtime.beneath("sns", "Publish", members)
        if topic := members.get("TopicArn") or members.get("TargetArn"):
            await self._tell(topic, members, answer["MessageId"])
            if topic.endswith(".fifo"):
                number = self.runtime.store.next_number("sns/sequence-number")
                answer = {**answer, "SequenceNumber": f"1{number:019d}"}
        return answer

    async def publish_batch(self, *, TopicArn: str, PublishBatchRequestEntries: list[Document]) -> Document:
        answer = await self.runtime.beneath(
            "sns",
            "PublishBatch",
            {"TopicArn": TopicArn, "PublishBatchRequestEntries": PublishBatchRequestEntries},
        )
        ids = {entry["Id"]: entry["MessageId"] for entry in answer.get("Successful", [])}
        for entry in PublishBatchRequestEntries:
            if message_id := ids.get(entry["Id"]):
                await self._tell(TopicArn, entry, message_id)
        return answer

    async def _tell(self, topic: str, published: Document, message_id: str) -> None:
        if ":endpoint/" in topic:  # a telephone's
            return
        for subscription in await self._subscriptions(topic):
            protocol, recipient = subscription["Protocol"], subscription["Endpoint"]
            if protocol in ("email", "email-json"):
                message = _notification(topic, published, protocol=protocol, message_id=message_id)
                message["To"] = recipient
                self.send(
                    message,
                    sender="no-reply@sns.amazonaws.com",
                    recipients=[recipient],
                    message_id=f"{message_id}/{recipient}",
                )

    async def _subscriptions(self, topic: str) -> list[Document]:
        found: list[Document] = []
        token: str | None = None
        while True:
            page = await self.runtime.aws(
                "sns", "ListSubscriptionsByTopic", {"TopicArn": topic, "NextToken": token}
            )
            found += page["Subscriptions"]
            token = page.get("NextToken")
            if not token:
                return found


class SESMail(Mail):
    """SES, version 1."""

    queue = "mail/ses"

    async def send_email(self, **members: Any) -> Document:
        answer = await self.runtime.beneath("ses", "SendEmail", members)
        content = members["Message"]
        message = _composed(content["Subject"], content["Body"])
        _address(message, members["Source"], members["Destination"], members.get("ReplyToAddresses", []))
        self._send(message, members["Source"], members["Destination"], answer["MessageId"])
        return answer

    async def send_raw_email(self, **members: Any) -> Document:
        answer = await self.runtime.beneath("ses", "SendRawEmail", members)
        message = _parsed(members["RawMessage"]["Data"])
        recipients = members.get("Destinations") or _recipients_of(message)
        sender = members.get("Source") or str(message["From"])
        self._send(message, sender, {"ToAddresses": recipients}, answer["MessageId"])
        return answer

    def _send(self, message: EmailMessage, source: str, destination: Document, message_id: str) -> None:
        _sign(message, message_id, "email.amazonses.com")
        self.send(
            message,
            sender=getaddresses([source])[0][1],
            recipients=[address for _, address in getaddresses(_all(destination))],
            message_id=message_id,
        )


class SESv2Mail(SESMail):
    """SES, version 2."""

    queue = "mail/sesv2"

    async def send_email(self, **members: Any) -> Document:
        content = members["Content"]
        if "Template" in content:
            raise AWSError("BadRequestException", "Content.Template is not supported by the local runtime")
        answer = await self.runtime.beneath("sesv2", "SendEmail", members)
        destination = members.get("Destination", {})
        if "Simple" in content:
            source = members["FromEmailAddress"]
            message = _composed(content["Simple"]["Subject"], content["Simple"]["Body"])
            _address(message, source, destination, members.get("ReplyToAddresses", []))
        else:
            message = _parsed(content["Raw"]["Data"])
            source = members.get("FromEmailAddress") or str(message["From"])
            destination = destination or {"ToAddresses": _recipients_of(message)}
        self._send(message, source, destination, answer["MessageId"])
        return answer

    async def get_email_identity(self, **members: Any) -> Document:
        """An identity is verified at once: nobody reads its mailbox."""
        answer = await self.runtime.beneath("sesv2", "GetEmailIdentity", members)
        return {**answer, "VerifiedForSendingStatus": True, "VerificationStatus": "SUCCESS"}


def _notification(topic: str, published: Document, *, protocol: str, message_id: str) -> EmailMessage:
    """A mail as SNS writes it."""
    text = published["Message"]
    if published.get("MessageStructure") == "json":
        texts = json.loads(text)
        text = texts.get(protocol, texts["default"])
    subject = published.get("Subject") or "AWS Notification Message"
    if protocol == "email-json":
        text = json.dumps(
            {
                "Type": "Notification",
                "MessageId": message_id,
                "TopicArn": topic,
                "Subject": subject,
                "Message": text,
                "Timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
            },
            indent=2,
        )
    message = EmailMessage()
    message["From"] = _SNS_SENDER
    message["Subject"] = subject
    message.set_content(text)
    _sign(message, message_id, "sns.amazonaws.com")
    return message


def _composed(subject: Document, body: Document) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = subject["Data"]
    if "Text" in body:
        message.set_content(body["Text"]["Data"])
        if "Html" in body:
            message.add_alternative(body["Html"]["Data"], subtype="html")
    else:
        message.set_content(body["Html"]["Data"], subtype="html")
    return message


def _address(message: EmailMessage, source: str, destination: Document, reply_to: list[str]) -> None:
    message["From"] = source
    for header, member in (("To", "ToAddresses"), ("Cc", "CcAddresses")):
        if destination.get(member):
            message[header] = ", ".join(destination[member])
    if reply_to:
        message["Reply-To"] = ", ".join(reply_to)


def _sign(message: EmailMessage, message_id: str, domain: str) -> None:
    if "Date" not in message:
        message["Date"] = format_datetime(datetime.now(UTC))
    del message["Message-ID"]
    message["Message-ID"] = f"<{message_id}@{domain}>"


def _parsed(raw: bytes) -> EmailMessage:
    message = message_from_bytes(raw, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def _recipients_of(message: EmailMessage) -> list[str]:
    headers = [str(value) for name in ("To", "Cc", "Bcc") for value in message.get_all(name, [])]
    return [address for _, address in getaddresses(headers)]


def _all(destination: Document) -> list[str]:
    return [
        address
        for member in ("ToAddresses", "CcAddresses", "BccAddresses")
        for address in destination.get(member, [])
    ]


def _transmit(server: str, mail: Document) -> None:
    host, _, port = server.rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=_TIMEOUT) as smtp:
        smtp.sendmail(mail["sender"], mail["recipients"], mail["message"])
