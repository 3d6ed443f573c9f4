"""The outgoing webhook: signed, without a link that decides, and never in the way of a release."""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import boto3
import pytest

from tests.deploy.conftest import URL, Functions

SECRET = "c2VjcmV0" * 8


@dataclass
class Chat:
    """Takes what is posted to it."""

    status: int = 200
    posts: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def chat(functions: Functions, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chat]:
    found = Chat()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.posts.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(found.status)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    secret = boto3.client("secretsmanager").create_secret(Name="webhook", SecretString=SECRET)["ARN"]
    monkeypatch.setenv("WEBHOOK_URL", f"http://127.0.0.1:{server.server_port}/hook")
    monkeypatch.setenv("WEBHOOK_SECRET_ARN", secret)
    monkeypatch.setattr(functions.modules["approval_webhook"].time, "sleep", lambda seconds: None)
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_request_and_its_decision_are_announced_and_signed(functions: Functions, chat: Chat) -> None:
    link = functions.ask()["approve"]
    functions.ask()
    functions.send(link, comment="good")

    (first, asked), (second, decided) = chat.posts
    for headers, body in chat.posts:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        digest = hmac.new(base64.b64decode(SECRET), signed, hashlib.sha256).digest()
        assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
    assert first["webhook-id"] != second["webhook-id"]
    assert [json.loads(body)["type"] for body in (asked, decided)] == [
        "approval.requested",
        "approval.decided",
    ]
    data = json.loads(asked)["data"]
    assert data["facts"]["Commit"] == "3f1c2d"
    assert data["answer_with"] == f"stagegate approve {data['approval_id']}"
    assert json.loads(decided)["data"]["said"].startswith("Approved by anna@example.com at ")


def test_its_link_shows_and_takes_no_answer(functions: Functions, chat: Chat) -> None:
    functions.ask()

    look = json.loads(chat.posts[0][1])["data"]["look"]

    assert look.startswith(f"{URL}?")
    assert b"decision=approve" not in chat.posts[0][1]
    assert "<form" not in functions.open(look)["body"]


def test_a_receiver_that_fails_is_tried_three_times_and_holds_up_nothing(
    functions: Functions, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat.status = 500
    link = functions.ask()["approve"]
    tried = len(chat.posts)
    monkeypatch.setenv("WEBHOOK_URL", "http://127.0.0.1:9/")

    answer = functions.send(link)

    assert tried == 3
    assert answer["statusCode"] == 200
    assert len(functions.step_functions.taken) == 1


def test_what_is_no_web_address_is_not_opened(
    functions: Functions, chat: Chat, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WEBHOOK_URL", "file:///etc/passwd")

    functions.ask()

    assert "file:///etc/passwd is no http address" in caplog.text
