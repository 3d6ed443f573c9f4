"""Approvals in the console, in a real browser, and what the console refuses."""

import http.client
import re
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.console.conftest import photograph, serving
from tests.release.conftest import Gate

FORM = "application/x-www-form-urlencoded"


def asked(
    address: str, method: str, path: str, *, body: str = "", headers: dict[str, str] | None = None
) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    try:
        connection.request(method, path, body=body.encode() or None, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())
    finally:
        connection.close()


def form_token(address: str, approval_id: str) -> str:
    _, page, _ = asked(address, "GET", f"/approvals/{approval_id}")
    found = re.search(r'name="form_token" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def test_a_person_approves_in_the_console(gate: Gate, console: str, page: Page) -> None:
    execution, approval, _ = gate.ask("in-the-console")

    page.goto(f"{console}/approvals")
    row = page.get_by_role("row").filter(has_text="anna@example.com")
    expect(row.first).to_contain_text("0 of 1")
    photograph(page, "approvals")
    page.goto(f"{console}/approvals/{approval.approval_id}")
    expect(page.get_by_text("0.9400 (95 %: 0.9072 to 0.9617, 300 images)")).to_be_visible()
    expect(page.get_by_text(approval.bound["artifact"]["sha256"]).first).to_be_visible()
    photograph(page, "approval")
    page.get_by_label("Comment, needed to reject").fill("good")
    page.get_by_role("button", name="Approve").click()

    expect(page.get_by_text("Approved by arn:aws:sts::111111111111:user/moto").first).to_be_visible()
    ended = gate.ended(execution)
    (vote,) = gate.now(approval).votes
    assert ended["status"] == "SUCCEEDED"
    assert (vote.decision, vote.by, vote.comment) == (
        *("approve", "arn:aws:sts::111111111111:user/moto"),
        "good",
    )
    assert page.get_by_role("button").count() == 0
    page.goto(f"{console}/approvals?all=1")
    expect(page.get_by_role("row").filter(has_text="approved").first).to_be_visible()


def test_a_rejection_without_a_word_comes_back_and_then_counts(gate: Gate, console: str, page: Page) -> None:
    execution, approval, _ = gate.ask("rejected-in-the-console")
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark")

    page.goto(f"{console}/approvals/{approval.approval_id[:12]}")
    page.get_by_role("button", name="Reject").click()
    expect(page.get_by_role("alert")).to_have_text("Say why it is rejected.")
    assert gate.now(approval).status == "pending"
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    photograph(page, "approval-telephone")
    page.get_by_label("Comment, needed to reject").fill("<b>streets</b> in the sea")
    page.get_by_role("button", name="Reject").click()

    expect(page.get_by_text("<b>streets</b> in the sea").first).to_be_visible()
    assert gate.ended(execution)["error"] == "ModelRejected"


def test_a_version_is_approved_on_its_own_page(gate: Gate, console: str, page: Page) -> None:
    execution, approval, _ = gate.ask("on-the-page-of-its-version")

    page.goto(f"{console}/models/{gate.package}")
    form = page.locator(f'form[action="/approvals/{approval.approval_id}"]')
    form.get_by_label("Comment, needed to reject").fill("better")
    form.get_by_role("button", name="Approve").click()

    expect(page.get_by_text("Approved by arn:aws:sts::111111111111:user/moto").first).to_be_visible()
    assert gate.ended(execution)["status"] == "SUCCEEDED"
    page.get_by_role("link", name="The model's page").click()
    expect(page.get_by_text("approve by arn:aws:sts::111111111111:user/moto").first).to_be_visible()


@pytest.mark.parametrize(
    ("change", "headers", "status"),
    [
        ({"form_token": "0" * 32}, {}, 403),
        ({"form_token": ""}, {}, 403),
        ({}, {"Sec-Fetch-Site": "cross-site"}, 403),
        ({"comment": "x" * 70_000}, {}, 413),
        ({str(number): "x" for number in range(101)}, {}, 400),
        ({"decision": "maybe"}, {}, 422),
    ],
)
def test_a_form_that_is_not_its_own_decides_nothing(
    gate: Gate, console: str, change: dict[str, str], headers: dict[str, str], status: int
) -> None:
    approval = pending(gate)
    form = {"form_token": form_token(console, approval.approval_id), "decision": "approve"} | change

    answered, _, _ = asked(
        console,
        "POST",
        f"/approvals/{approval.approval_id}",
        body=urlencode(form),
        headers={"Content-Type": FORM, **headers},
    )

    assert answered == status
    assert gate.now(approval).status == "pending"


def pending(gate: Gate) -> Any:
    """One that nobody answers."""
    found = [approval for approval in gate.approvals() if approval.execution_arn.endswith(":refused")]
    return found[0] if found else gate.ask("refused")[1]


def test_pages_have_strict_headers_and_answer_only_to_their_own_name(console: str) -> None:
    status, _, headers = asked(console, "GET", "/approvals")
    missing, text, _ = asked(console, "GET", "/approvals/0123456789")
    elsewhere, _, _ = asked(console, "GET", "/approvals", headers={"Host": "evil.example.com"})

    assert (status, missing, elsewhere) == (200, 404, 400)
    assert "There is no approval &#39;0123456789&#39;" in text
    assert headers["content-security-policy"].startswith("default-src 'none'; style-src 'self';")
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store"


def test_a_console_that_only_shows_decides_nothing(gate: Gate) -> None:
    approval = pending(gate)
    path = f"/approvals/{approval.approval_id}"

    with serving(gate.installation, "--read-only") as console:
        _, page, _ = asked(console, "GET", path)
        status, _, _ = asked(console, "POST", path, body="decision=approve", headers={"Content-Type": FORM})

    assert "<form" not in page
    assert f"stagegate approve {approval.approval_id[:12]}" in page
    assert status == 403
    assert gate.now(approval).status == "pending"


def test_beyond_this_machine_it_asks_for_its_token(gate: Gate) -> None:
    with serving(gate.installation, "--host", "0.0.0.0") as address:
        console, _, query = address.partition("/?")
        without, _, _ = asked(console, "GET", "/approvals")
        wrong, _, _ = asked(console, "GET", "/approvals?token=wrong")
        right, _, headers = asked(console, "GET", f"/?{query}")
        cookie = headers["set-cookie"].partition(";")[0]
        with_cookie, _, _ = asked(console, "GET", "/approvals", headers={"Cookie": cookie})

    assert query.startswith("token=")
    assert (without, wrong, right, with_cookie) == (401, 401, 303, 200)
    assert headers["location"] == "/"
    assert "HttpOnly" in headers["set-cookie"] and "SameSite=strict" in headers["set-cookie"]


def test_services_that_do_not_answer_are_named(gate: Gate) -> None:
    with serving(gate.installation, "--read-only") as console:
        gate.installation.kill()
        try:
            status, page, _ = asked(console, "GET", "/approvals")
        finally:
            gate.installation.start()

    assert status == 503
    assert "Nothing answers at" in page
