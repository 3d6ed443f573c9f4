"""A decision counts once, by whoever has the link or may invoke; looking changes nothing."""

import base64
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from moto.dynamodb.responses import DynamoHandler

from tests.deploy.conftest import URL, Functions


def changed(link: str, **values: str) -> str:
    query = dict(parse_qsl(urlsplit(link).query)) | values
    return f"{URL}?{urlencode(query)}"


def test_looking_changes_nothing(functions: Functions) -> None:
    links = functions.ask()

    for link in links.values():
        for method in ("GET", "HEAD"):
            assert functions.open(link, method=method)["statusCode"] == 200

    assert functions.item(links["approve"])["status"] == "pending"
    assert functions.step_functions.sent == []


def test_the_page_shows_what_is_approved_and_is_shut_off(functions: Functions) -> None:
    page = functions.open(functions.ask(Commit="<script>alert(1)</script>")["approve"])

    assert "0.8712 (the threshold is 0.6)" in page["body"]
    assert "<td>45</td>" in page["body"]
    assert "<script>" not in page["body"]
    assert page["headers"]["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert page["headers"]["X-Frame-Options"] == "DENY"
    assert page["headers"]["Referrer-Policy"] == "no-referrer"
    assert page["headers"]["Cache-Control"] == "no-store"


def test_the_page_leads_to_the_other_decision(functions: Functions) -> None:
    page = functions.open(functions.ask()["approve"])

    other = re.search(r'<a href="\?([^"]+)">Reject instead', page["body"])

    assert other
    answer = functions.http("GET", other.group(1).replace("&amp;", "&"))
    assert 'button class="reject"' in answer["body"]


def test_the_form_approves(functions: Functions) -> None:
    links = functions.ask()

    answer = functions.send(links["approve"], decided_by=" Anna  Berg ", comment="looks good")

    assert answer["statusCode"] == 200
    ((token, output),) = functions.step_functions.sent
    assert token == "token-1"
    assert output | {"decided_at": ""} == {
        "decision": "approve",
        "decided_by": "Anna Berg",
        "comment": "looks good",
        "decided_at": "",
    }
    item = functions.item(links["approve"])
    assert (item["status"], item["decided_by"], item["delivered"]) == ("approved", "Anna Berg", True)


def test_a_rejection_needs_a_reason(functions: Functions) -> None:
    link = functions.ask()["reject"]

    refused = functions.send(link, decided_by='"><b>', comment=" ")
    accepted = functions.send(link, comment="confuses streets with the sea")

    assert refused["statusCode"] == 422
    assert "Say why it is rejected." in refused["body"]
    assert 'value="&quot;&gt;&lt;b&gt;"' in refused["body"]
    assert accepted["statusCode"] == 200
    ((_, output),) = functions.step_functions.sent
    assert output["decision"] == "reject"


def test_a_decision_needs_a_name(functions: Functions) -> None:
    link = functions.ask()["approve"]

    assert functions.send(link, decided_by="")["statusCode"] == 422
    assert functions.send(link, decided_by="x" * 101)["statusCode"] == 422
    assert functions.item(link)["status"] == "pending"


def test_a_second_decision_does_not_count(functions: Functions) -> None:
    links = functions.ask()
    functions.send(links["approve"])

    again = functions.send(links["approve"], decided_by="Ben")
    other = functions.send(links["reject"], decided_by="Ben", comment="no")

    assert (again["statusCode"], other["statusCode"]) == (409, 409)
    assert "Approved by Anna Berg" in other["body"]
    assert len(functions.step_functions.sent) == 1
    assert functions.open(links["reject"])["statusCode"] == 200
    assert "<form" not in functions.open(links["reject"])["body"]


def test_of_many_at_the_same_moment_one_counts(functions: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each request is one step for DynamoDB; for moto, among threads, it is several.
    call, one_at_a_time = DynamoHandler.call_action, threading.Lock()

    def call_alone(handler: DynamoHandler) -> Any:
        with one_at_a_time:
            return call(handler)

    monkeypatch.setattr(DynamoHandler, "call_action", call_alone)
    links = functions.ask()

    def answer(number: int) -> int:
        link = links["approve" if number % 2 else "reject"]
        return int(functions.send(link, decided_by=f"person {number}", comment="now")["statusCode"])

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(answer, range(24)))

    item = functions.item(links["approve"])
    decisions = {output["decided_by"] for _, output in functions.step_functions.sent}
    assert decisions == {item["decided_by"]}
    assert set(statuses) <= {200, 409}


@pytest.mark.parametrize("member", ["id", "decision", "expires", "signature"])
def test_a_link_that_was_changed_is_refused(functions: Functions, member: str) -> None:
    link = functions.ask()["approve"]
    other = {"id": "0" * 32, "decision": "reject", "expires": "99999999999", "signature": "0" * 64}[member]

    opened = functions.open(changed(link, **{member: other}))
    sent = functions.send(changed(link, **{member: other}), comment="x")

    assert (opened["statusCode"], sent["statusCode"]) == (403, 403)
    assert functions.item(link)["status"] == "pending"


def test_an_expired_link_is_refused(functions: Functions) -> None:
    link = functions.ask(seconds=-1)["approve"]

    opened, sent = functions.open(link), functions.send(link)

    assert (opened["statusCode"], sent["statusCode"]) == (410, 410)
    assert functions.item(link)["status"] == "pending"


def test_a_form_from_another_site_is_refused(functions: Functions) -> None:
    link = functions.ask()["approve"]

    answer = functions.send(link, headers={"Sec-Fetch-Site": "cross-site"})

    assert answer["statusCode"] == 403
    assert functions.item(link)["status"] == "pending"


def test_odd_requests_are_the_callers_fault(functions: Functions) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    statuses = [
        functions.http("GET", "")["statusCode"],
        functions.http("DELETE", "")["statusCode"],
        functions.http("POST", "", body="{}", headers={"content-type": "application/json"})["statusCode"],
        functions.http("POST", "", body="a=" + "x" * 20_000, headers=form)["statusCode"],
        functions.http("POST", "", body="x" * 100_000, headers=form)["statusCode"],
        functions.http("POST", "", body="?", headers=form, isBase64Encoded=True)["statusCode"],
        functions.http("POST", "", body="&".join(f"f{n}=1" for n in range(99)), headers=form)["statusCode"],
        functions.http("POST", "", body="id=%ff%fe&signature=é&decision=approve", headers=form)["statusCode"],
    ]

    assert statuses == [403, 405, 415, 413, 413, 400, 400, 403]


def test_a_form_may_come_in_base64(functions: Functions) -> None:
    link = functions.ask()["approve"]
    body = base64.b64encode(f"{urlsplit(link).query}&decided_by=Anna".encode()).decode()

    assert functions.http("POST", "", body=body, isBase64Encoded=True)["statusCode"] == 200


def test_a_decision_that_step_functions_did_not_get_is_sent_again(functions: Functions) -> None:
    link = functions.ask()["approve"]
    functions.step_functions.refusals = ["ThrottlingException"]

    first = functions.send(link, decided_by="Anna")
    opposite = functions.send(changed(link), decided_by="Ben")

    assert first["statusCode"] == 503
    assert opposite["statusCode"] == 200
    ((_, output),) = functions.step_functions.sent
    assert output["decided_by"] == "Anna"


def test_a_task_that_waits_no_more_is_told(functions: Functions) -> None:
    link = functions.ask()["approve"]
    functions.step_functions.refusals = ["TaskTimedOut"]

    answer = functions.send(link)

    assert answer["statusCode"] == 410
    assert "the run does not wait for it any more" in answer["body"]


def test_who_may_invoke_needs_no_signature(functions: Functions) -> None:
    link = functions.ask()["approve"]
    approval_id = dict(parse_qsl(urlsplit(link).query))["id"]
    wish = {"approval_id": approval_id, "decision": "reject", "comment": "no", "decided_by": "arn:anna"}

    answer = functions.decision.handler(wish, None)

    assert answer["message"].startswith("Register the model of run r-1: Rejected by arn:anna at ")
    with pytest.raises(Exception, match="It is decided already: Rejected by arn:anna"):
        functions.decision.handler(wish | {"decision": "approve"}, None)
    with pytest.raises(Exception, match="This approval does not exist"):
        functions.decision.handler(wish | {"approval_id": "0" * 32}, None)
