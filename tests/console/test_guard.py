"""Who may speak to the console, and what its pages may do: tokens, forms, cookies, names, policies."""

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page
from starlette.routing import Route

from stagegate.aws import Services
from stagegate.config import Config
from stagegate.console.app import application
from stagegate.console.pages import NAVIGATION
from tests.conftest import ROOT
from tests.console.conftest import Runs, serving
from tests.console.test_approvals import FORM, asked

ASKS = "/endpoints"
"""The one form that changes nothing: a picture for both stages."""


def changing() -> list[str]:
    """The paths of all routes that take a form, with something in place of their parameters."""
    app = application(Services(Config(root=ROOT)), allows_changes=False)
    routes = [route for route in app.routes if isinstance(route, Route)]
    paths = [route.path for route in routes if (route.methods or set()) - {"GET", "HEAD"}]
    return [re.sub(r"\{\w+(:\w+)?\}", "x", path) for path in paths if path != ASKS]


def test_there_are_routes_that_change_something() -> None:
    assert "/runs/x/stop" in changing() and "/approvals/x" in changing()


def test_a_console_that_only_shows_refuses_every_change(runs: Runs) -> None:
    with serving(runs, "--read-only") as address:
        answers = [
            asked(address, "POST", path, body="form_token=x", headers={"Content-Type": FORM})
            for path in changing()
        ]

    assert {status for status, _, _ in answers} == {403}
    assert all("This console only shows" in html for _, html, _ in answers)


@pytest.mark.parametrize(
    "headers", [{}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}]
)
def test_every_change_wants_a_form_of_its_own(runs_console: str, headers: dict[str, str]) -> None:
    body = urlencode({"form_token": "0" * 32})

    answers = [
        asked(runs_console, "POST", path, body=body, headers={"Content-Type": FORM, **headers})
        for path in changing()
    ]

    assert {status for status, _, _ in answers} == {403}
    assert all("not from this console" in html for _, html, _ in answers)


@pytest.mark.parametrize("path", [path for path, _ in NAVIGATION])
def test_no_page_has_a_script_or_a_style_within_and_none_is_allowed(runs_console: str, path: str) -> None:
    _, html, headers = asked(runs_console, "GET", path)

    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy and "*" not in policy
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", html) == []
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("name", ["evil.example.com", "127.0.0.1.evil.example.com", "10.0.0.1", "", "[::"])
def test_another_name_of_this_machine_is_refused(runs_console: str, name: str) -> None:
    """By DNS, a page of evil.example.com could be at 127.0.0.1 a moment later."""
    status, _, headers = asked(runs_console, "GET", "/runs", headers={"Host": name})

    assert status == 400
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_beyond_this_machine_the_token_is_taken_once_and_never_written_down(host: str) -> None:
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "stagegate"), "console", "--host", host, "--port", "0"],
        cwd=ROOT,
        env=os.environ | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        printed = process.stdout.readline()
        address, _, token = printed.split()[-1].partition("/?token=")
        own = address.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")
        css = "/static/console.css"
        without, _, _ = asked(own, "GET", css)
        wrong, _, _ = asked(own, "GET", f"{css}?token={token[:-1]}")
        posted, _, _ = asked(own, "POST", f"/runs/x/stop?token={token}")
        right, _, entered = asked(own, "GET", f"{css}?token={token}")
        cookie, _, flags = entered["set-cookie"].partition(";")
        other_port = re.sub(r"-\d+=", "-1=", cookie)
        with_cookie, _, headers = asked(own, "GET", css, headers={"Cookie": cookie})
        of_another, _, _ = asked(own, "GET", css, headers={"Cookie": other_port})
        failed, page, _ = asked(own, "GET", "/runs", headers={"Cookie": cookie})
    finally:
        process.terminate()
        rest, _ = process.communicate(timeout=30)

    assert len(token) == 32
    assert (without, wrong, posted, right, with_cookie, of_another) == (401, 401, 401, 303, 200, 401)
    assert entered["location"] == css
    assert entered["referrer-policy"] == headers["referrer-policy"] == "no-referrer"
    assert {flag.strip().lower() for flag in flags.split(";")} == {"httponly", "path=/", "samesite=strict"}
    assert (failed, token in page) == (503, False)
    assert token not in rest


def test_the_token_leaves_the_address_bar_and_opens_the_pages(runs: Runs, page: Page) -> None:
    with serving(runs, "--host", "0.0.0.0") as address:
        page.goto(address.replace("0.0.0.0", "127.0.0.1"))

        assert page.url.endswith("/runs")
        assert page.evaluate("document.referrer") == ""
        assert page.evaluate("document.cookie") == ""
        assert page.get_by_role("heading", name="Runs").is_visible()
