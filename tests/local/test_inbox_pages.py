"""The inbox in a browser: lists, mails with their pictures, and mails from people who mean no good."""

import urllib.error
import urllib.request
from email.message import EmailMessage
from pathlib import Path

import pytest
from playwright.sync_api import Page

from stagegate.local import inbox_pages
from stagegate.local.inbox import read_inbox
from tests.conftest import Local

PNG = (
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89"
    b"\0\0\0\nIDATx\x9cc\0\x01\0\0\x05\0\x01\r\n-\xb4\0\0\0\0IEND\xaeB`\x82"
)
HOSTILE = """<script>document.title = "taken"; parent.document.title = "taken"</script>
<img src="http://127.0.0.1:9/tracker.png" onerror="parent.document.title='taken'">
<form action="http://127.0.0.1:9/"><button>Send</button></form><h1>Hello</h1>
<p><img id="dot" src="cid:dot" alt="a dot" width="7"></p><a href="https://example.com/">a link</a>"""


def mail(subject: str = "Approval: <b>a model</b>", *, html: str = HOSTILE) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "eve@example.com", "ada@example.com", subject
    message["Date"] = "Mon, 23 Nov 2026 08:00:00 +0000"
    message.set_content("As text: https://example.com/?a=1&b=2 <b>")
    message.add_alternative(html, subtype="html")
    related = message.get_payload()[1]
    assert isinstance(related, EmailMessage)
    related.add_related(PNG, "image", "png", cid="<dot>")
    return message


@pytest.fixture
def inbox(local: Local) -> str:
    """The address of an inbox with one mail in it."""
    folder = local.data / "inbox"
    (folder / "000001-0123456789abcdef.eml").write_bytes(mail().as_bytes())
    return f"{local.endpoint_url}/_stagegate/inbox"


def get(url: str) -> tuple[int, str, dict[str, str]]:
    """As a browser asks."""
    request = urllib.request.Request(url, headers={"Accept": "text/html,*/*"})
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.read().decode(), dict(response.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), dict(error.headers)


def test_a_browser_is_led_from_the_list_to_the_mail_and_its_picture(inbox: str, page: Page) -> None:
    page.goto(inbox)
    page.get_by_role("link", name="Approval: <b>a model</b>").click()

    frame = page.frame_locator("iframe")
    assert frame.get_by_role("heading", name="Hello").is_visible()
    assert frame.locator("#dot").evaluate("picture => picture.naturalWidth") == 1
    assert page.get_by_text("eve@example.com").is_visible()
    page.get_by_text("As plain text").click()
    assert page.get_by_role("link", name="https://example.com/?a=1&b=2").is_visible()


def test_a_mail_runs_nothing_loads_nothing_and_stays_in_its_frame(inbox: str, page: Page) -> None:
    blocked: list[tuple[str, str | None]] = []
    page.on("requestfailed", lambda request: blocked.append((request.url, request.failure)))

    page.goto(f"{inbox}/000001-0123456789abcdef", wait_until="networkidle")

    assert page.title() == "Approval: <b>a model</b>"
    assert blocked == [("http://127.0.0.1:9/tracker.png", "csp")]


def test_a_link_in_a_mail_opens_a_page_of_its_own(inbox: str, page: Page) -> None:
    page.goto(f"{inbox}/000001-0123456789abcdef")
    page.context.route("https://example.com/", lambda route: route.fulfill(body="there"))

    with page.context.expect_page() as opened:
        page.frame_locator("iframe").get_by_role("link", name="a link").click()

    assert opened.value.url == "https://example.com/"
    assert opened.value.evaluate("opener") is None


def test_the_pages_are_shut_off(inbox: str) -> None:
    for path in ("", "/000001-0123456789abcdef", "/000001-0123456789abcdef/html"):
        status, body, headers = get(inbox + path)
        assert status == 200
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["x-content-type-options"] == "nosniff"
        assert "<b>a model</b>" not in body


def test_what_is_not_there_is_said_on_a_page(inbox: str) -> None:
    for path in ("/000009-0", "/../stagegate.db", "/000001-0123456789abcdef/other"):
        status, body, _ = get(inbox + path)
        assert (status, "There is no such mail." in body) == (404, True)


def test_programs_still_get_json_and_the_mail_as_it_came(inbox: str, local: Local) -> None:
    (entry,) = read_inbox(local.data / "inbox")

    assert local.get("/_stagegate/inbox").startswith(b'[{"id":"000001-0123456789abcdef"')
    stored = (local.data / "inbox" / f"{entry['id']}.eml").read_bytes()
    assert local.get(f"/_stagegate/inbox/{entry['id']}") == stored


def test_an_empty_inbox_says_so(tmp_path: Path) -> None:
    assert "No mail yet." in inbox_pages.list_page([])
