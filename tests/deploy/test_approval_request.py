"""The mail that asks, and what is kept for the answer."""

import time

import pytest

from tests.deploy.conftest import URL, Functions


def test_the_mail_says_what_is_to_be_approved(functions: Functions) -> None:
    links = functions.ask()

    (mail,) = functions.mails
    assert mail["Subject"] == "Approval: Register the model of run r-1"
    assert mail["Message"].splitlines()[:8] == [
        "Register the model of run r-1: your decision is asked for.",
        "",
        "Accuracy:       0.8712 (the threshold is 0.6)",
        "Endpoint tests: 21 of 21 passed; accuracy 0.87.",
        "Model package:  arn:aws:sagemaker:us-east-1:111111111111:model-package/stagegate-models/3",
        "Run:            r-1",
        "Commit:         3f1c2d",
        f"Data SHA-256:   {'ab' * 32}",
    ]
    assert "street       5     45" in mail["Message"]
    assert set(links) == {"approve", "reject"}
    assert all(link.startswith(f"{URL}?id=") for link in links.values())


def test_the_token_stays_in_the_table(functions: Functions) -> None:
    links = functions.ask("a-secret-token")

    item = functions.item(links["approve"])
    assert item["task_token"] == "a-secret-token"
    assert item["status"] == "pending"
    assert item["run_id"] == "r-1"
    assert abs(int(item["expires_at"]) - time.time() - 3600) < 60
    assert "a-secret-token" not in functions.mails[0]["Message"]


def test_a_repeated_call_with_the_same_token_is_the_same_approval(functions: Functions) -> None:
    first = functions.ask()
    functions.send(first["approve"])

    second = functions.ask()

    assert functions.item(second["approve"])["status"] == "approved"


def test_many_classes_are_told_by_their_confusions(functions: Functions) -> None:
    names = [f"class-{number}" for number in range(20)]
    counts = {name: dict.fromkeys(names, 0) for name in names}
    counts["class-3"]["class-7"] = 9

    functions.ask(ConfusionMatrix=counts)

    assert "  class-3, class-7, 9" in functions.mails[0]["Message"]


def test_a_subject_is_one_line_of_ascii(functions: Functions) -> None:
    functions.ask(Subject="Größe\r\nBcc: someone" + "x" * 200)

    subject = functions.mails[0]["Subject"]
    assert subject.startswith("Approval: Gr??e Bcc: someonex")
    assert len(subject) < 100


def test_with_a_sender_the_mail_is_html_too(functions: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENDER", "releases@example.com")

    functions.request.handler(
        {"TaskToken": "t", "TimeoutSeconds": 60, "Kind": "model", "Subject": "<b>", "RunId": "r-1"}, None
    )

    (mail,) = functions.mails
    assert mail["FromEmailAddress"] == "releases@example.com"
    assert mail["Destination"] == {"ToAddresses": ["approver@example.com"]}
    body = mail["Content"]["Simple"]["Body"]
    assert "<h1>&lt;b&gt;</h1>" in body["Html"]["Data"]
    assert "Look and approve:" in body["Text"]["Data"]
