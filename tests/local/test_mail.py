"""Mail that SNS and SES send, as it arrives in the inbox and at a server of the user's."""

import asyncio
import email
import email.policy
import json
import time
from email.message import EmailMessage

from aiosmtpd.smtp import SMTP

from stagegate.local.server import running

PATIENCE = 30


def inbox(runtime, *, count):
    """The mails, once there are `count`."""
    deadline = time.monotonic() + PATIENCE
    while len(found := json.loads(runtime.get("/_stagegate/inbox"))) < count:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return [
        email.message_from_bytes(runtime.get(f"/_stagegate/inbox/{mail['id']}"), policy=email.policy.default)
        for mail in found
    ]


def subscribed(runtime, name, *endpoints):
    sns = runtime.client("sns")
    arn = sns.create_topic(Name=name)["TopicArn"]
    for endpoint in endpoints:
        sns.subscribe(TopicArn=arn, Protocol="email", Endpoint=endpoint)
    return sns, arn


def test_each_subscriber_of_a_topic_gets_a_mail(local):
    sns, arn = subscribed(local, "topic", "ada@example.com", "grace@example.com")
    text = "Grüße\nhttps://example.com/?a=1&b=" + "x" * 200

    message_id = sns.publish(TopicArn=arn, Subject="A subject", Message=text)["MessageId"]

    mails = inbox(local, count=2)
    assert sorted(str(mail["To"]) for mail in mails) == ["ada@example.com", "grace@example.com"]
    for mail in mails:
        assert str(mail["Subject"]) == "A subject"
        assert str(mail["From"]) == "AWS Notifications <no-reply@sns.amazonaws.com>"
        assert message_id in str(mail["Message-ID"])
        assert mail.get_content() == f"{text}\n".replace("\n", "\r\n")


def test_ses_sends_html_with_a_plain_text_part(local):
    ses = local.client("sesv2")
    ses.create_email_identity(EmailIdentity="sender@example.com")

    ses.send_email(
        FromEmailAddress="sender@example.com",
        Destination={"ToAddresses": ["ada@example.com"], "CcAddresses": ["grace@example.com"]},
        Content={
            "Simple": {
                "Subject": {"Data": "Both"},
                "Body": {"Text": {"Data": "plain"}, "Html": {"Data": "<p>rich</p>"}},
            }
        },
    )

    (mail,) = inbox(local, count=1)
    assert (str(mail["To"]), str(mail["Cc"])) == ("ada@example.com", "grace@example.com")
    assert mail.get_body(("plain",)).get_content() == "plain\r\n"
    assert mail.get_body(("html",)).get_content() == "<p>rich</p>\r\n"


def test_version_1_of_ses_sends_raw_mail(local):
    ses = local.client("ses")
    ses.verify_email_identity(EmailAddress="sender@example.com")
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "sender@example.com", "ada@example.com", "Raw"
    message.set_content("as it is")

    ses.send_raw_email(RawMessage={"Data": message.as_bytes()})

    (mail,) = inbox(local, count=1)
    assert (str(mail["Subject"]), mail.get_content()) == ("Raw", "as it is\r\n")


def test_mail_that_waits_is_sent_after_a_restart_and_only_once(local):
    sns, arn = subscribed(local, "topic", "ada@example.com")
    for number in range(10):
        sns.publish(TopicArn=arn, Subject=str(number), Message="text")

    local.restart()

    assert sorted(int(str(mail["Subject"])) for mail in inbox(local, count=10)) == list(range(10))
    assert len(inbox(local, count=10)) == 10


class Received:
    """What a mail server of the user's got."""

    def __init__(self):
        self.envelopes = asyncio.Queue()

    async def handle_DATA(self, server, session, envelope):
        self.envelopes.put_nowait(envelope)
        return "250 OK"


async def test_mail_goes_to_the_server_that_is_named(tmp_path):
    received = Received()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: SMTP(received, loop=loop), "127.0.0.1", 0)
    host, port = listening.sockets[0].getsockname()

    async with listening, running(data=tmp_path / "data", smtp=f"{host}:{port}", preload=()) as endpoint:
        topic = (await endpoint.aws("sns", "CreateTopic", {"Name": "topic"}))["TopicArn"]
        subscription = {"TopicArn": topic, "Protocol": "email", "Endpoint": "ada@example.com"}
        await endpoint.aws("sns", "Subscribe", subscription)
        await endpoint.aws("sns", "Publish", {"TopicArn": topic, "Message": "to a server"})
        envelope = await asyncio.wait_for(received.envelopes.get(), PATIENCE)

    assert envelope.rcpt_tos == ["ada@example.com"]
    assert b"to a server" in envelope.content
