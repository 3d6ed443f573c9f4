"""A decision counts once, by whoever has the link or may invoke; looking changes nothing."""

import base64
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import boto3
import pytest
from moto.dynamodb.responses import DynamoHandler

from tests.deploy.conftest import URL, Functions
from tests.deploy.test_approval_faults import unreachable


def changed(link: str, **values: str) -> str:
    query = dict(parse_qsl(urlsplit(link).query)) | values
    return f"{URL}?{urlencode(query)}"


def sign(functions: Functions, monkeypatch: pytest.MonkeyPatch, arn: str) -> dict[str, str]:
    """STS says that whoever calls is `arn`."""
    monkeypatch.setattr(functions.modules["approval_decision"], "caller_of", lambda identity, **_: arn)
    return {}


def test_looking_changes_nothing(functions: Functions) -> None:
    links = functions.ask()
    before = functions.approval(links["approve"])

    for decision, link in links.items():
        for method in ("GET", "HEAD", "GET"):
            status = 303 if decision == "tests" else 200
            assert functions.open(link, method=method)["statusCode"] == status

    assert functions.approval(links["approve"]) == before
    assert functions.record() == functions.step_functions.taken == []


def test_who_may_invoke_is_shown_what_mail_and_page_show_and_no_token(functions: Functions) -> None:
    link = functions.ask()["approve"]
    approval_id = functions.approval(link).approval_id
    handler = functions.modules["approval_decision"].handler

    shown = json.loads(json.dumps(handler({"approval_id": approval_id, "show": True}, None)))
    with pytest.raises(Exception, match="This approval does not exist"):
        handler({"approval_id": "0" * 32, "show": True}, None)

    assert shown["said"] == "Nobody decided yet."
    assert shown["facts"][0][1].startswith("0.9300 (95 %: 0.8625 to 0.9657, 100 images)")
    assert (shown["class_columns"], shown["classes"][0]) == (["recall"], ["sea", "96.0 %"])
    assert shown["matrix"]["street"] == {"sea": 5, "street": 45}
    assert "token" not in json.dumps(shown).lower()


def test_the_test_report_is_shown_to_whoever_has_a_link(functions: Functions) -> None:
    links = functions.ask()

    answer = functions.open(links["tests"])

    address = urlsplit(answer["headers"]["Location"])
    assert (answer["statusCode"], answer["body"]) == (303, "")
    assert address.path.endswith("/runs/r-1/tests/report.html")
    query = dict(parse_qsl(address.query))
    assert query["response-content-type"] == "text/html; charset=utf-8"
    assert (query["X-Amz-Algorithm"], query["X-Amz-Expires"]) == ("AWS4-HMAC-SHA256", "300")
    assert "decision=tests" in functions.open(links["approve"])["body"]


def test_a_test_report_that_is_gone_is_told(functions: Functions) -> None:
    links = functions.ask()
    boto3.client("s3").delete_object(Bucket="data", Key="runs/r-1/tests/report.html")

    assert functions.open(links["tests"])["statusCode"] == 404


def test_a_service_that_does_not_answer_leaves_the_report_where_it_is(functions: Functions) -> None:
    links, calls = functions.ask(), functions.calls
    began = len(calls.made)
    functions.open(links["tests"])
    before = calls.made[began:].index("s3:head_object")

    calls.fault_at, calls.fault = len(calls.made) + before, unreachable

    assert functions.open(links["tests"])["statusCode"] == 503


def test_a_link_to_the_test_report_decides_nothing(functions: Functions) -> None:
    links = functions.ask()
    page = functions.open(links["approve"])
    token = page["body"].partition('name="form_token" value="')[2].partition('"')[0]
    query = dict(parse_qsl(urlsplit(links["tests"]).query))

    answer = functions.post(query | {"form_token": token}, cookies=page["cookies"])

    assert answer["statusCode"] == 403
    assert functions.approval(links["tests"]).is_pending


def test_head_has_no_body(functions: Functions) -> None:
    assert functions.open(functions.ask()["approve"], method="HEAD")["body"] == ""


def test_the_page_shows_what_is_approved_and_is_shut_off(functions: Functions) -> None:
    event = functions.event() | {"Subject": "<script>alert(1)</script>"}
    functions.request(event)
    page = functions.open(functions.links()["approve"])

    assert "0.9300 (95 %: 0.8625 to 0.9657, 100 images)" in page["body"]
    assert "<td>45</td>" in page["body"]
    assert "You decide as anna@example.com." in page["body"]
    assert "<script>" not in page["body"]
    assert page["headers"]["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert page["headers"]["X-Frame-Options"] == "DENY"
    assert page["headers"]["Referrer-Policy"] == "no-referrer"
    assert page["headers"]["Cache-Control"] == "no-store"
    assert "HttpOnly; SameSite=Strict; Max-Age=3600" in page["cookies"][0]


def test_the_cookie_is_for_https_where_there_is_https(functions: Functions) -> None:
    query = urlsplit(functions.ask()["approve"]).query

    page = functions.http("GET", query, headers={"x-forwarded-proto": "https"})

    assert page["cookies"][0].endswith("; Secure")


def test_the_page_leads_to_the_other_decision(functions: Functions) -> None:
    links = functions.ask()
    page = functions.open(links["approve"])["body"]

    other = page.rpartition('<a href="?')[2].partition('"')[0].replace("&amp;", "&")

    assert f"{URL}?{other}" == links["reject"]


def test_the_form_approves(functions: Functions) -> None:
    links = functions.ask()

    answer = functions.send(links["approve"], comment="looks good")

    assert answer["statusCode"] == 200
    assert "The run has been told." in answer["body"]
    (taken,) = functions.step_functions.taken
    approval = functions.approval(links["approve"])
    assert (taken["decision"], taken["decided_by"], taken["comment"]) == (
        *("approve", "anna@example.com"),
        "looks good",
    )
    assert taken["bound"] == approval.bound
    assert taken["record"] == approval.record
    assert taken["properties"] == {
        "ModelApprovalId": approval.approval_id,
        "ModelDecision": "approved",
        "ModelDecidedBy": "anna@example.com",
        "ModelDecidedAt": taken["decided_at"],
        "ModelRecord": f"1:{approval.record['hash']}",
    }
    assert (approval.status, approval.delivered) == ("approved", True)


def test_who_what_when_from_where_and_why_is_recorded(functions: Functions) -> None:
    link = functions.ask()["reject"]

    functions.send(link, comment="too many streets in the sea")

    (entry,) = functions.record()
    approval = functions.approval(link)
    assert entry == {
        "number": 1,
        "previous": functions.modules["approval_record"].FIRST,
        "approval_id": approval.approval_id,
        "kind": "model",
        "subject": "Register the model of run r-1",
        "execution_arn": approval.execution_arn,
        "model_package_arn": functions.package,
        "bound": approval.bound,
        "decision": "reject",
        "by": "anna@example.com",
        "at": entry["at"],
        "from": "192.0.2.7 a browser",
        "comment": "too many streets in the sea",
        "status": "rejected",
    }


def test_a_rejection_needs_a_reason_and_the_form_comes_back(functions: Functions) -> None:
    link = functions.ask()["reject"]

    refused = functions.send(link, comment=" ")
    too_long = functions.send(link, comment='"><b>' + "x" * 800)
    accepted = functions.send(link, comment="confuses streets with the sea")

    assert (refused["statusCode"], too_long["statusCode"]) == (422, 422)
    assert "Say why it is rejected." in refused["body"]
    assert "&quot;&gt;&lt;b&gt;" in too_long["body"]
    assert accepted["statusCode"] == 200
    assert [taken["decision"] for taken in functions.step_functions.taken] == ["reject"]


def test_a_second_decision_does_not_count(functions: Functions) -> None:
    links = functions.ask()
    approve, cookies = functions.form(links["approve"])
    reject, others = functions.form(links["reject"])
    functions.post(approve, cookies=cookies)

    again = functions.post(approve, cookies=cookies)
    other = functions.post(reject | {"comment": "no"}, cookies=others)

    assert (again["statusCode"], other["statusCode"]) == (409, 409)
    assert "It is decided already: Approved by anna@example.com at " in other["body"]
    assert "Approved by anna@example.com" in functions.open(links["reject"])["body"]
    assert len(functions.step_functions.taken) == len(functions.record()) == 1


def test_of_two_hundred_decisions_at_a_moment_one_counts(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = threading.Lock()  # as DynamoDB: moto does a request in steps
    dispatch = DynamoHandler.call_action

    def one_at_a_time(self: DynamoHandler) -> Any:
        with alone:
            return dispatch(self)

    monkeypatch.setattr(DynamoHandler, "call_action", one_at_a_time)
    links = functions.ask()
    form, cookies = functions.form(links["approve"])
    begin = threading.Barrier(20)

    def send(number: int) -> int:
        if number < 20:
            begin.wait()
        status: int = functions.post(form, cookies=cookies)["statusCode"]
        return status

    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(send, range(200)))

    assert statuses.count(200) >= 1
    assert set(statuses) == {200, 409}
    assert len(functions.record()) == len(functions.step_functions.taken) == 1


@pytest.mark.parametrize("member", ["id", "decision", "approver", "expires", "signature"])
def test_a_link_that_was_changed_is_refused(
    functions: Functions, caplog: pytest.LogCaptureFixture, member: str
) -> None:
    link = functions.ask()["approve"]
    form, cookies = functions.form(link)
    other = {
        "id": "0" * 32,
        "decision": "reject",
        "approver": "1",
        "expires": "99999999999",
        "signature": "0" * 64,
    }[member]

    opened = functions.open(changed(link, **{member: other}))
    sent = functions.post(form | {member: other, "comment": "x"}, cookies=cookies)

    assert (opened["statusCode"], sent["statusCode"]) == (403, 403)
    assert functions.approval(link).is_pending
    assert [record.message.startswith("refused: ") for record in caplog.records[-2:]] == [True, True]
    assert '"from": "192.0.2.7"' in caplog.records[-1].message


def test_the_form_of_another_approval_is_refused(functions: Functions) -> None:
    link = functions.ask()["approve"]
    functions.request(functions.event(execution="another"))
    form, cookies = functions.form(link)
    other, _ = functions.form(functions.links()["approve"])

    answer = functions.post(other | {"form_token": form["form_token"]}, cookies=cookies)

    assert answer["statusCode"] == 403


def test_an_expired_link_is_refused(functions: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    link = functions.ask(TimeoutSeconds=600)["approve"]
    form, cookies = functions.form(link)
    now = time.time()
    monkeypatch.setattr(functions.modules["approval_links"].time, "time", lambda: now + 601)

    opened, sent = functions.open(link), functions.post(form, cookies=cookies)

    assert (opened["statusCode"], sent["statusCode"]) == (410, 410)
    assert functions.approval(link).is_pending


@pytest.mark.parametrize(
    ("cookies", "token", "headers"),
    [
        ([], None, {}),
        (["stagegate-form=another"], None, {}),
        (None, "", {}),
        pytest.param(None, f"{int(time.time())}.{'0' * 64}", {}, id="forged"),
        (None, None, {"Sec-Fetch-Site": "cross-site"}),
        (None, None, {"Sec-Fetch-Site": "same-site"}),
    ],
)
def test_a_form_that_is_not_from_our_page_in_this_browser_is_refused(
    functions: Functions, cookies: list[str] | None, token: str | None, headers: dict[str, str]
) -> None:
    link = functions.ask()["approve"]
    form, ours = functions.form(link)

    answer = functions.post(
        form if token is None else form | {"form_token": token},
        cookies=ours if cookies is None else cookies,
        headers=headers,
    )

    assert answer["statusCode"] == 403
    assert functions.approval(link).is_pending


def test_a_form_is_good_for_an_hour(functions: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    link = functions.ask(TimeoutSeconds=90_000)["approve"]
    form, cookies = functions.form(link)
    now = time.time()
    monkeypatch.setattr(functions.modules["approval_links"].time, "time", lambda: now + 3700)

    answer = functions.post(form, cookies=cookies)

    assert answer["statusCode"] == 403
    assert "open the link again" in answer["body"]


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
    form, cookies = functions.form(functions.ask()["approve"])
    body = base64.b64encode(urlencode(form).encode()).decode()

    assert functions.http("POST", "", body=body, isBase64Encoded=True, cookies=cookies)["statusCode"] == 200


def test_after_a_rotation_the_links_before_it_are_valid_and_those_before_them_not(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = functions.ask()["approve"]
    form, cookies = functions.form(link)
    secrets, links = boto3.client("secretsmanager"), functions.modules["approval_links"]
    statuses = []

    for key in ("1", "2"):
        secrets.put_secret_value(SecretId="key", SecretString=key * 64)
        monkeypatch.setattr(links, "_known", (0.0, []))  # a cold start
        statuses.append(functions.open(link)["statusCode"])
    answer = functions.post(form, cookies=cookies)

    assert statuses == [200, 403]
    assert answer["statusCode"] == 403


def test_a_warm_function_learns_of_a_new_key_by_its_first_link(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions.ask()
    links = functions.modules["approval_links"]
    boto3.client("secretsmanager").put_secret_value(SecretId="key", SecretString="1" * 64)
    asked, keys = links._known
    monkeypatch.setattr(links, "_known", (0.0, []))
    functions.request(functions.event(execution="another"))
    monkeypatch.setattr(links, "_known", (asked - 11, keys))  # as it is in another, warm process

    assert functions.open(functions.links()["approve"])["statusCode"] == 200


def test_a_link_to_look_takes_no_answer(functions: Functions) -> None:
    approval = functions.approval(functions.ask()["approve"])
    look = functions.modules["approval_links"].link(
        URL,
        approval_id=approval.approval_id,
        decision="look",
        approver="",
        expires_at=approval.expires_at,
    )

    page = functions.open(look)
    sent = functions.post(dict(parse_qsl(urlsplit(look).query)), cookies=[])

    assert (page["statusCode"], sent["statusCode"]) == (200, 403)
    assert "<form" not in page["body"]


def test_a_task_that_waits_no_more_is_told(functions: Functions) -> None:
    link = functions.ask()["approve"]
    functions.step_functions.status = "ABORTED"

    answer = functions.send(link)

    assert answer["statusCode"] == 200
    assert "But the run does not wait for it any more: it is ABORTED." in answer["body"]


def test_behind_a_topics_link_somebody_says_who_they_are(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENDER", "")
    functions.request(functions.event())
    text = functions.mailbox.published[0]["Message"]
    link = next(line for line in text.splitlines() if "decision=approve" in line)

    nobody = functions.send(link)
    other = functions.send(link, decided_by="eve@example.com")
    asked = functions.send(link, decided_by=" Anna@Example.com")

    assert (nobody["statusCode"], other["statusCode"], asked["statusCode"]) == (422, 422, 200)
    assert "&#x27;eve@example.com&#x27; is not among those who were asked." in other["body"]
    assert functions.step_functions.taken[0]["decided_by"] == "anna@example.com"


def test_who_may_invoke_needs_no_link(functions: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    approval_id = functions.approval(functions.ask()["approve"]).approval_id
    carl = "arn:aws:sts::111111111111:assumed-role/Release/carl@example.com"
    sign(functions, monkeypatch, carl)
    wish = {"approval_id": approval_id, "decision": "reject", "comment": "no", "source": "carl@laptop"}
    handler = functions.modules["approval_decision"].handler

    answer = handler(wish, None)

    assert answer["message"].startswith(f"Register the model of run r-1: Rejected by {carl} at ")
    assert functions.record()[0]["from"] == "IAM carl@laptop"
    with pytest.raises(Exception, match="It is decided already: Rejected by arn:"):
        handler(wish | {"decision": "approve"}, None)
    with pytest.raises(Exception, match="This approval does not exist"):
        handler(wish | {"approval_id": "0" * 32}, None)


def test_whoever_invokes_without_a_signature_of_theirs_is_refused(functions: Functions) -> None:
    approval_id = functions.approval(functions.ask()["approve"]).approval_id
    handler = functions.modules["approval_decision"].handler
    wish = {"approval_id": approval_id, "decision": "approve"}
    bound = {"x-stagegate-decision": f"{approval_id}/approve"}

    with pytest.raises(Exception, match="signed for another decision"):
        handler(wish, None)
    with pytest.raises(Exception, match="signed for another decision"):
        handler(wish | {"identity": {"X-Stagegate-Decision": f"{approval_id}/reject"}}, None)
    with pytest.raises(Exception, match="does not cover the header"):
        handler(wish | {"identity": {**bound, "Authorization": "AWS4 SignedHeaders=host, x"}}, None)
    with pytest.raises(Exception, match="headers that it should not have: x-other"):
        handler(wish | {"identity": {**bound, "X-Other": "1"}}, None)

    assert functions.record() == []
