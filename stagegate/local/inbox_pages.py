"""The inbox for people: a list of the mails, and each of them as a mail program would show it.

A mail may come from anybody. Its HTML is a document of its own in a sandbox, without scripts and without
anything from elsewhere; its pictures are in it.
"""

import base64
import hashlib
import re
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from html import escape
from typing import Any

PATH = "/_stagegate/inbox"

STYLE = """
:root { color-scheme: light dark; --text: #1d2433; --soft: #5c6679; --line: #d9dee8; --paper: #fff;
  --ground: #f3f5f9 }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9f0; --soft: #9aa4b8; --line: #333c4e;
  --paper: #1b212d; --ground: #11151d } }
* { box-sizing: border-box }
body { margin: 0; padding: 2rem 1rem; background: var(--ground); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif }
main { max-width: 60rem; margin: auto }
h1 { font-size: 1.35rem; margin: 0 0 1rem; overflow-wrap: anywhere }
a { color: inherit }
.mails { list-style: none; margin: 0; padding: 0; background: var(--paper); border: 1px solid var(--line);
  border-radius: .75rem; overflow: hidden }
.mails li + li { border-top: 1px solid var(--line) }
.mails a { display: grid; grid-template-columns: 1fr max-content; gap: 0 1rem; padding: .75rem 1.25rem;
  text-decoration: none }
.mails a:hover { background: var(--ground) }
.mails strong { font-weight: 600; overflow-wrap: anywhere }
.soft { color: var(--soft) }
.mails .soft { font-size: .9rem; overflow-wrap: anywhere }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0 0 1rem }
dt { color: var(--soft) } dd { margin: 0; overflow-wrap: anywhere }
iframe { width: 100%; height: 75vh; border: 1px solid var(--line); border-radius: .75rem; background: #fff }
pre { padding: 1rem 1.25rem; white-space: pre-wrap; overflow-wrap: anywhere; background: var(--paper);
  border: 1px solid var(--line); border-radius: .75rem; font: 14px/1.5 ui-monospace, monospace }
@media (max-width: 34rem) { body { padding: 1rem .5rem } .mails a { grid-template-columns: 1fr } }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
_COMMON = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
HEADERS = _COMMON | {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-src 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
}
BODY_HEADERS = _COMMON | {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "frame-ancestors 'self'; sandbox allow-popups allow-popups-to-escape-sandbox"
    )
}


def list_page(mails: list[dict[str, Any]]) -> str:
    """The mails, newest first."""
    rows = "".join(
        f'<li><a href="{PATH}/{escape(mail["id"])}"><strong>{escape(mail["subject"])}</strong>'
        f'<span class="soft">{escape(_time(mail["date"]))}</span>'
        f'<span class="soft">{escape(mail["from"])} to {escape(mail["to"])}</span></a></li>'
        for mail in reversed(mails)
    )
    body = f'<ul class="mails">{rows}</ul>' if rows else '<p class="soft">No mail yet.</p>'
    return _page("Inbox", f"<h1>Inbox</h1>{body}")


def mail_page(mail_id: str, message: EmailMessage) -> str:
    """A mail's headers, and its HTML in a frame or else its text."""
    address = f"{PATH}/{escape(mail_id)}"
    headers = "".join(
        f"<dt>{name}</dt><dd>{escape(value)}</dd>"
        for name, value in (
            ("From", str(message["From"])),
            ("To", str(message["To"])),
            ("Date", _time(str(message["Date"]))),
            ("Attached", ", ".join(_attached(message))),
        )
        if value
    )
    text = f"<pre>{_linked(_text(message))}</pre>"
    if message.get_body(("html",)) is not None:
        frame = (
            f'<iframe src="{address}/html" title="The mail" '
            'sandbox="allow-popups allow-popups-to-escape-sandbox"></iframe>'
        )
        text = f"{frame}<details><summary>As plain text</summary>{text}</details>"
    return _page(
        str(message["Subject"]),
        f'<p><a href="{PATH}">Inbox</a> · <a href="{address}/raw">As it came</a></p>'
        f"<h1>{escape(str(message['Subject']))}</h1><dl>{headers}</dl>{text}",
    )


def html_body(message: EmailMessage) -> str | None:
    """A mail's HTML as a document for the frame: links open a page of their own, pictures are in it."""
    body = message.get_body(("html",))
    if body is None:
        return None
    html: str = body.get_content()
    for part in message.walk():
        name, kind = str(part.get("Content-ID", "")).strip("<> "), part.get_content_type()
        if name and kind.startswith("image/"):
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            html = html.replace(f"cid:{name}", f"data:{kind};base64,{base64.b64encode(content).decode()}")
    base = '<base target="_blank">'
    opened, found = re.subn(r"(?i)<head[^>]*>", lambda head: head.group() + base, html, count=1)
    return opened if found else base + html


def missing_page() -> str:
    return _page("Not found", f'<h1>There is no such mail.</h1><p><a href="{PATH}">Inbox</a></p>')


def _text(message: EmailMessage) -> str:
    body = message.get_body(("plain",))
    return str(body.get_content()) if body is not None else ""


def _linked(text: str) -> str:
    return re.sub(
        r"https?://[^\s<>&\"]+(?:&amp;[^\s<>&\"]+)*",
        lambda address: f'<a href="{address.group()}" target="_blank" rel="noreferrer">{address.group()}</a>',
        escape(text, quote=False),
    )


def _attached(message: EmailMessage) -> list[str]:
    return [part.get_filename() or part.get_content_type() for part in message.iter_attachments()]


def _time(date: str) -> str:
    try:
        return f"{parsedate_to_datetime(date).astimezone():%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return date


def _page(title: str, body: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body><main>{body}</main></body>
</html>
"""
