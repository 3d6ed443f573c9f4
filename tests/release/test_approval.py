"""Approval as people and programs meet it: mails, links in a browser, the command, and attacks over HTTP."""

import http.client
import json
import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from playwright.sync_api import Page, expect

from stagegate import audit
from stagegate.inbox import Mail, approve_by_link, inbox_page, read_inbox
from tests.release.conftest import Gate

SEED = int(os.environ.get("STAGEGATE_SEED", random.randrange(10**6)))
SCREENSHOTS = os.environ.get("STAGEGATE_SCREENSHOTS")


def links_of(mail: Mail) -> dict[str, str]:
    links = re.findall(r"https?://\S+decision=\S+", mail.text)
    return {dict(parse_qsl(urlsplit(link).query))["decision"]: link for link in links}


def photograph(page: Page, name: str) -> None:
    """For docs/, where they are asked for."""
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS) / f"approval-{name}.png", full_page=True)


def test_a_person_approves_by_mail_in_a_browser(gate: Gate, page: Page) -> None:
    execution, approval, (mail,) = gate.ask("approved")

    page.goto(inbox_page(gate.installation.config))
    page.locator(f'a[href$="{mail.mail_id}"]').click()
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("img", name="Confusion matrix")).to_be_visible()
    page.set_viewport_size({"width": 900, "height": 1900})
    photograph(page, "mail")
    with page.context.expect_page() as opened:
        frame.get_by_role("link", name="Look and approve").click()
    form = opened.value
    expect(form.get_by_text("0.9400 (95 %: 0.9072 to 0.9617, 300 images)")).to_be_visible()
    photograph(form, "page")
    assert gate.now(approval).status == "pending"
    form.get_by_label("Comment").fill("as good as the last one")
    form.get_by_role("button", name="Approve").click()
    expect(form.get_by_role("heading", name="Thank you")).to_be_visible()
    photograph(form, "approved")

    ended = gate.ended(execution)
    answer = json.loads(ended["output"])["Approval"]
    (entry,) = [
        entry
        for entry in audit.read_record(gate.installation.services, gate.installation.platform)
        if entry.content["approval_id"] == approval.approval_id
    ]
    package = gate.installation.services("sagemaker").describe_model_package(ModelPackageName=gate.package)
    assert (ended["status"], answer["decision"], answer["decided_by"]) == (
        *("SUCCEEDED", "approve"),
        "anna@example.com",
    )
    assert answer["record"] == {"number": entry.number, "hash": entry.hash}
    assert entry.content["from"].startswith("127.0.0.1 Mozilla/")
    assert entry.content["comment"] == "as good as the last one"
    assert package["ModelApprovalStatus"] == "Approved"
    assert package["CustomerMetadataProperties"]["ModelDecidedBy"] == "anna@example.com"
    assert package["CustomerMetadataProperties"]["ModelRecord"] == f"{entry.number}:{entry.hash}"
    form.go_back()
    form.reload()
    expect(form.get_by_text("Approved by anna@example.com")).to_be_visible()


def test_a_person_rejects_by_mail_in_a_browser_and_says_why(gate: Gate, page: Page) -> None:
    execution, approval, (mail,) = gate.ask("rejected")
    page.set_viewport_size({"width": 390, "height": 844})

    page.goto(links_of(mail)["reject"])
    photograph(page, "page-reject")
    page.get_by_role("button", name="Reject").click()  # the browser asks for the comment first
    assert gate.now(approval).status == "pending"
    page.get_by_label("Why (needed)").fill("too many streets in the sea")
    page.get_by_role("button", name="Reject").click()
    expect(page.get_by_role("heading", name="Thank you")).to_be_visible()

    ended = gate.ended(execution)
    assert (ended["status"], ended["error"], ended["cause"]) == (
        *("FAILED", "ModelRejected"),
        f"Model package {gate.package} was rejected by anna@example.com: too many streets in the sea",
    )


def test_mail_and_page_read_well_in_the_dark_and_on_a_telephone(gate: Gate, page: Page) -> None:
    _, _, (mail,) = gate.ask("dark")
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 844})

    for name, address in (
        ("mail-dark", f"{inbox_page(gate.installation.config)}/{mail.mail_id}/html"),
        ("page-dark", links_of(mail)["approve"]),
    ):
        page.goto(address)
        photograph(page, name)
        card = page.locator("main, .paper").first
        assert card.evaluate("card => getComputedStyle(card).backgroundColor") == "rgb(27, 33, 45)"
        assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_two_people_have_to_approve_where_the_rules_say_so(gate: Gate) -> None:
    execution, approval, mails = gate.ask(
        "both", Approvers=["anna@example.com", "carl@example.com"], Required=2
    )

    approve_by_link(mails[0], comment="")
    assert [vote.by for vote in gate.now(approval).votes] == ["anna@example.com"]
    approve_by_link(mails[1], comment="")

    answer = json.loads(gate.ended(execution)["output"])["Approval"]
    assert answer["decided_by"] == "anna@example.com, carl@example.com"


def test_nobody_answers_and_it_is_reminded_ended_and_said_so(gate: Gate) -> None:
    gate.ask("before")  # a function's cold start may take longer than until the reminder
    execution, approval, _ = gate.ask("silence", TimeoutSeconds=4, ReminderSeconds=1)

    ended = gate.ended(execution)

    def mails() -> list[str] | None:
        subjects = [
            mail.subject.partition(":")[0]
            for mail in read_inbox(gate.installation.config)
            if approval.approval_id in mail.text or "it counts as rejected" in mail.text
        ]
        return subjects if len(subjects) == 3 else None

    assert gate.installation.wait_for(mails) == ["Approval", "Reminder", "Expired"]
    assert (ended["error"], ended["cause"]) == (
        "ApprovalTimedOut",
        f"Nobody decided about model package {gate.package} within 4 seconds. It is rejected.",
    )
    assert gate.now(approval).status == "expired"


def test_a_command_decides_as_who_its_user_is_to_aws(gate: Gate) -> None:
    iam = gate.installation.services("iam")
    iam.create_user(UserName="carl@example.com")
    key = iam.create_access_key(UserName="carl@example.com")["AccessKey"]
    execution, approval, _ = gate.ask("command")
    environment = {
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
    }

    done = gate.installation.stagegate(
        "approve", approval.approval_id[:12], "--comment", "good", environment=environment
    )
    again = gate.installation.stagegate(
        "reject", approval.approval_id[:12], "--comment", "no", environment=environment, check=False
    )

    answer = json.loads(gate.ended(execution)["output"])["Approval"]
    assert answer["decided_by"] == "arn:aws:iam::111111111111:user/carl@example.com"
    assert "The run has been told." in " ".join(done.stdout.split())
    assert again.returncode == 1
    assert "It is decided already" in again.stderr
    assert "good" in gate.installation.stagegate("audit", "log").stdout
    assert "none changed" in gate.installation.stagegate("audit", "verify").stdout


def test_the_audit_command_finds_a_changed_entry(gate: Gate) -> None:
    _, _, (mail,) = gate.ask("audited")
    approve_by_link(mail, comment="so it was")
    services, platform = gate.installation.services, gate.installation.platform
    last = audit.read_record(services, platform)[-1]
    key = {"log": {"S": "approvals"}, "number": {"N": str(last.number)}}

    def put(body: str) -> None:
        services("dynamodb").put_item(
            TableName=platform.approval_record, Item=key | {"body": {"S": body}, "hash": {"S": last.hash}}
        )

    put(last.body.replace("so it was", "it was not"))
    changed = gate.installation.stagegate("audit", "verify", check=False)
    put(last.body)
    whole = gate.installation.stagegate("audit", "verify", "--expect", f"{last.number}:{last.hash}")

    assert changed.returncode == 1
    assert f"Entry {last.number} was changed" in changed.stdout
    assert f"the last is {last.number}:{last.hash}" in whole.stdout


def test_scanners_that_follow_both_links_decide_nothing(gate: Gate) -> None:
    _, approval, (mail,) = gate.ask("prefetched")
    host = urlsplit(mail.text and links_of(mail)["approve"])
    connection = http.client.HTTPConnection(host.hostname, host.port)

    for method in ("GET", "HEAD", "GET", "OPTIONS", "PROPFIND"):
        for link in links_of(mail).values():
            target = urlsplit(link)
            connection.request(method, f"{target.path}?{target.query}", headers={"Purpose": "prefetch"})
            response = connection.getresponse()
            response.read()
            assert response.status == (200 if method in ("GET", "HEAD") else 405)
    connection.close()

    assert gate.now(approval) == approval


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_thousands_of_malformed_requests_are_no_fault_of_ours(gate: Gate, count: int) -> None:
    print(f"STAGEGATE_SEED={SEED}")
    _, approval, (mail,) = gate.ask(f"fuzzed-{count}")
    links, workers = links_of(mail), 4
    statuses: dict[int, int] = {}
    lock = threading.Lock()

    def attack(worker: int) -> None:
        target = urlsplit(links["approve"])
        connection = http.client.HTTPConnection(target.hostname, target.port, timeout=60)
        chance = random.Random(SEED + worker)
        for number in range(count // workers):
            method, query, body, headers = malformed(chance, chance.choice(list(links.values())))
            if number == 0:  # for certain what is too large, which few of them are
                method, body = "POST", b"x" * 60_000
            connection.request(method, f"{target.path}?{query}", body=body, headers=headers)
            response = connection.getresponse()
            response.read()
            with lock:
                statuses[response.status] = statuses.get(response.status, 0) + 1
            assert response.status < 500, (method, query, body, headers)
        connection.close()

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(attack, range(workers)))

    assert sum(statuses.values()) == count
    assert {200, 400, 403, 405, 413, 415} <= set(statuses), statuses
    assert gate.now(approval) == approval


def malformed(chance: random.Random, link: str) -> tuple[str, str, bytes | None, dict[str, str]]:
    """A request that is wrong somewhere, mostly: its method, its query, its body, its headers."""
    query = dict(parse_qsl(urlsplit(link).query))
    for _ in range(chance.randrange(3)):
        name = chance.choice([*query, "form_token", "x"])
        query[name] = chance.choice(_VALUES)(chance, query.get(name, ""))
    text = chance.choice([urlencode(query), urlencode(list(query.items()) * 7)])
    headers = {"Content-Type": chance.choice(_TYPES)}
    for name, values in _HEADERS.items():
        if chance.random() < 0.2:
            headers[name] = chance.choice(values)
    method = chance.choice(["GET", "HEAD", "POST", "POST", "POST", "PUT", "DELETE", "PATCH"])
    body: bytes | None = None
    if method in ("POST", "PUT", "PATCH"):
        body = chance.choice(
            [
                text.encode(),
                chance.randbytes(chance.randrange(400)),
                text.encode()[: chance.randrange(len(text))] + b"%",
                text.encode() + b"&comment=" + b"x" * chance.choice([10, 900, 20_000, 60_000]),
                json.dumps(query).encode(),
                b"",
            ]
        )
    return method, text if chance.random() < 0.7 else "%%%&&==\xff".encode("latin-1").hex(), body, headers


_VALUES: list[Callable[[random.Random, str], str]] = [
    lambda chance, value: "",
    lambda chance, value: value[:-1],
    lambda chance, value: value[::-1],
    lambda chance, value: value.upper() + "\0",
    lambda chance, value: "é\N{SNOWMAN}\U0001f600" * chance.randrange(1, 30),
    lambda chance, value: str(chance.randrange(-(10**30), 10**30)),
    lambda chance, value: "' OR 1=1 --",
    lambda chance, value: "../" * 30,
    lambda chance, value: "<script>alert(1)</script>",
    lambda chance, value: "A" * chance.choice([100, 3_000]),
]
_TYPES = [
    *["application/x-www-form-urlencoded"] * 4,
    "application/x-www-form-urlencoded; charset=utf-7",
    "application/json",
    "multipart/form-data; boundary=x",
    "text/plain",
    "",
]
_HEADERS = {
    "Cookie": ["stagegate-form=", "stagegate-form=x; stagegate-form=y", "=;;=", "a" * 2000],
    "Sec-Fetch-Site": ["cross-site", "same-origin", "x"],
    "X-Forwarded-Proto": ["https", "gopher"],
    "Expect": [""],
}


@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_of_many_decisions_at_once_one_counts(gate: Gate, count: int) -> None:
    execution, approval, (mail,) = gate.ask(f"contested-{count}")
    forms = [opened(link) for link in links_of(mail).values()]
    before = len(audit.read_record(gate.installation.services, gate.installation.platform))
    begin = threading.Barrier(40)

    def decide(number: int) -> int:
        if number < 40:
            begin.wait()
        target, fields, cookie = forms[number % 2]
        connection = http.client.HTTPConnection(target.hostname, target.port, timeout=120)
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": cookie}
        body = urlencode(fields | {"comment": f"{number}"})
        connection.request("POST", target.path, body=body, headers=headers)
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status

    with ThreadPoolExecutor(40) as pool:
        statuses = list(pool.map(decide, range(count)))

    entries = audit.read_record(gate.installation.services, gate.installation.platform)[before:]
    assert {*statuses} <= {200, 409}
    assert [entry.content["approval_id"] for entry in entries] == [approval.approval_id]
    assert len(gate.now(approval).votes) == 1
    assert gate.ended(execution)["status"] in ("SUCCEEDED", "FAILED")
    assert audit.verify(gate.installation.services, gate.installation.platform) == []


def opened(link: str) -> tuple[Any, dict[str, str], str]:
    """The form behind a link: where it is sent, its fields, and the cookie that goes with it."""
    target = urlsplit(link)
    connection = http.client.HTTPConnection(target.hostname, target.port, timeout=60)
    connection.request("GET", f"{target.path}?{target.query}")
    response = connection.getresponse()
    page, cookie = response.read().decode(), str(response.getheader("set-cookie")).partition(";")[0]
    connection.close()
    return target, dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page)), cookie


def test_a_request_that_lambda_does_not_take_is_refused_before_it(gate: Gate) -> None:
    _, _, (mail,) = gate.ask("large")
    target = urlsplit(links_of(mail)["approve"])
    connection = http.client.HTTPConnection(target.hostname, target.port, timeout=60)

    connection.request("POST", target.path, body=b"x" * (7 * 1024 * 1024))

    response = connection.getresponse()
    response.read()
    connection.close()
    assert response.status == 413


def test_the_functions_package_is_small_and_has_nothing_of_others(gate: Gate) -> None:
    functions = gate.installation.services("lambda")
    sizes = {
        name: functions.get_function_configuration(FunctionName=f"stagegate-approval-{name}")["CodeSize"]
        for name in ("request", "decision")
    }
    folder = Path(__file__).parents[2] / "deploy" / "functions"
    own = {path.stem for path in folder.glob("*.py")}
    found = subprocess.run(
        ["grep", "-hoE", r"^(from|import) \w+", *map(str, folder.glob("*.py"))],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.split()[1] for line in found.stdout.splitlines()}

    assert max(sizes.values()) < 50_000
    assert imported - own - set(sys.stdlib_module_names) == {"botocore", "urllib3"}
