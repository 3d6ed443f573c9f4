"""The inbox: an SMTP server of our own, which keeps what it is given as files, and what is read of them."""

import asyncio
import email
import email.policy
import hashlib
import threading
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

ADDRESS = ("mail/inbox", "address")
"""Where in the store it stands at which address the inbox takes mail."""


class Inbox:
    """Mail as `.eml` files, numbered in the order in which they came; one that comes twice is kept once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: asyncio.Server | None = None
        self._numbering = threading.Lock()
        """Mails that come at the same time have different numbers."""

    async def start(self) -> str:
        """Listen on a free port; gives HOST:PORT."""
        self._folder.mkdir(parents=True, exist_ok=True)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: SMTP(self, hostname="localhost", loop=loop, enable_SMTPUTF8=True), "127.0.0.1", 0
        )
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.content
        assert isinstance(content, bytes)
        await asyncio.to_thread(self._keep, content, envelope.rcpt_tos)
        return "250 Message accepted for delivery"

    def _keep(self, content: bytes, recipients: list[str]) -> None:
        message_id = email.message_from_bytes(content)["Message-ID"] or content.decode(errors="replace")
        digest = hashlib.sha256("\n".join([message_id, *recipients]).encode()).hexdigest()[:16]
        with self._numbering:
            if list(self._folder.glob(f"*-{digest}.eml")):
                return
            number = len(list(self._folder.glob("*.eml"))) + 1
            partial = self._folder / f"{digest}.partial"
            partial.write_bytes(content)
            partial.rename(self._folder / f"{number:06}-{digest}.eml")


def read_inbox(folder: Path) -> list[dict[str, Any]]:
    """What is in the inbox, oldest first: id, from, to, subject, date."""
    return [_summary(path) for path in sorted(folder.glob("*.eml"))]


def read_mail(folder: Path, mail_id: str) -> bytes | None:
    """A mail as it came."""
    path = folder / f"{mail_id}.eml"
    if not mail_id.replace("-", "").isalnum() or not path.is_file():
        return None
    return path.read_bytes()


def read_message(folder: Path, mail_id: str) -> EmailMessage | None:
    """A mail, read."""
    content = read_mail(folder, mail_id)
    return None if content is None else _parsed(content)


def _parsed(content: bytes) -> EmailMessage:
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def _summary(path: Path) -> dict[str, Any]:
    message = _parsed(path.read_bytes())
    return {
        "id": path.stem,
        "from": str(message["From"]),
        "to": str(message["To"]),
        "subject": str(message["Subject"]),
        "date": str(message["Date"]),
    }
