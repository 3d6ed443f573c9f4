"""The mail that asks, what is kept for the answer, and the rounds of the waiting."""

import hashlib
import json
import time
from typing import Any

import boto3
import pytest

from tests.deploy.conftest import EVALUATION, PICTURE, URL, Functions, put_files, register, text_of


def lines_of(functions: Functions) -> list[str]:
    (mail,) = functions.mailbox.mails
    return text_of(mail).splitlines()


def test_the_mail_says_what_is_to_be_approved(functions: Functions) -> None:
    links = functions.ask()

    (mail,) = functions.mailbox.mails
    lines = lines_of(functions)
    assert mail["Subject"] == "Approval: Register the model of run r-1"
    assert mail["From"] == "releases@example.com"
    assert lines[:13] == [
        "Register the model of run r-1: your decision is asked for.",
        "",
        "Accuracy:       0.9300 (95 %: 0.8625 to 0.9657, 100 images), at or above the threshold of 0.6",
        "Champion:       none: nothing serves in production",
        "Endpoint tests: 21 of 21 passed; accuracy 0.93.",
        "Test report:    s3://data/runs/r-1/tests/report.html",
        "Started by:     ben@example.com arn:aws:iam::111111111111:user/ben",
        "Run:            r-1",
        "Commit:         3f1c2d",
        "Data set:       s3://data/datasets/x.zip",
        f"Data SHA-256:   {'ab' * 32}",
        f"Model package:  {functions.package}",
        f"Model SHA-256:  {hashlib.sha256(b'a model').hexdigest()}",
    ]
    assert "  street, sea, 5" in lines
    assert all(link.startswith(f"{URL}?id=") for link in links.values())
    assert set(links) == {"approve", "reject", "tests"}


def test_the_mail_says_what_would_change_in_production(functions: Functions) -> None:
    functions.request(functions.event() | {"Changes": "replaced: Model (PrimaryContainer)"})

    assert "Changes:        replaced: Model (PrimaryContainer)" in lines_of(functions)


def test_the_mail_is_html_too_with_the_confusion_matrix_in_it(functions: Functions) -> None:
    functions.ask()

    (mail,) = functions.mailbox.mails
    (picture,) = [part for part in mail.walk() if part.get_content_type() == "image/png"]
    html = mail.get_body(("html",)).get_content()
    assert (picture["Content-ID"], picture.get_content_disposition()) == ("<confusion-matrix>", "inline")
    assert picture.get_content() == PICTURE
    assert 'src="cid:confusion-matrix"' in html
    assert "prefers-color-scheme: dark" in html
    assert "Look and reject" in html


def test_without_the_picture_there_is_still_a_mail(functions: Functions) -> None:
    boto3.client("s3").delete_object(Bucket="data", Key="runs/r-1/evaluation/confusion_matrix.png")

    functions.ask()

    assert "cid:" not in functions.mailbox.mails[0].get_body(("html",)).get_content()


@pytest.mark.parametrize("account", ["", "222222222222"])
def test_the_champion_is_what_production_serves(
    functions: Functions, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whichever account production is."""
    keys: dict[str, str] = {}
    if account:
        role = f"arn:aws:iam::{account}:role/stagegate-stage-reader"
        monkeypatch.setenv("PRODUCTION_ROLE_ARN", role)
        given = boto3.client("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
        keys = {
            "aws_access_key_id": given["AccessKeyId"],
            "aws_secret_access_key": given["SecretAccessKey"],
            "aws_session_token": given["SessionToken"],
        }
    old = json.loads(json.dumps(EVALUATION))
    old["multiclass_classification_metrics"]["confusion_matrix"]["street"] = {"sea": 9, "street": 41}
    old["per_class"]["street"]["recall"] = 0.82
    s3, sagemaker = boto3.client("s3"), boto3.client("sagemaker", **keys)
    s3.put_object(Bucket="data", Key="runs/r-0/evaluation.json", Body=json.dumps(old).encode())
    champion = register(EvaluationPrefix="runs/r-0")
    sagemaker.create_model(
        ModelName="m",
        PrimaryContainer={"ModelPackageName": champion},
        ExecutionRoleArn="arn:aws:iam::111111111111:role/x",
    )
    variant = {"VariantName": "a", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="stagegate-production", EndpointConfigName="c")

    functions.ask()

    lines = lines_of(functions)
    assert lines[3] == (
        "Champion:       version 2 has 0.8900 on the same test data; the difference is +4.0 points "
        "(95 %: \N{MINUS SIGN}4.3 to +12.4)"
    )
    assert "  street    90.0 %    82.0 %      +8.0" in lines


def test_what_is_asked_about_is_kept_by_its_hashes(functions: Functions) -> None:
    approval = functions.approval(functions.ask()["approve"])

    assert {what: file["sha256"] for what, file in approval.bound.items()} == {
        "artifact": hashlib.sha256(b"a model").hexdigest(),
        "evaluation": hashlib.sha256(json.dumps(EVALUATION).encode()).hexdigest(),
        "test report": approval.bound["test report"]["sha256"],
        "template": hashlib.sha256(b"Resources: {}").hexdigest(),
    }
    assert approval.model_package_arn == functions.package


def test_the_token_stays_in_the_table(functions: Functions) -> None:
    event = functions.event() | {"TaskToken": "a-secret-token"}

    functions.request(event)

    assert functions.approval(functions.links()["approve"]).task_token == "a-secret-token"
    (mail,) = functions.mailbox.mails
    assert b"a-secret-token" not in mail.as_bytes()


def test_a_link_is_as_long_valid_as_the_request(functions: Functions) -> None:
    links = functions.ask(TimeoutSeconds=7200)

    approval = functions.approval(links["approve"])
    assert abs(approval.expires_at - time.time() - 7200) < 60
    assert f"expires={approval.expires_at}" in links["approve"]


def test_each_approver_gets_links_of_their_own(functions: Functions) -> None:
    functions.ask(Approvers=["anna@example.com", "Carl@Example.com"], Required=2)

    anna, carl = functions.links("anna@example.com"), functions.links("carl@example.com")
    assert anna["approve"] != carl["approve"]
    assert "2 of them must approve" in text_of(functions.mailbox.mails[0])


def test_another_round_mails_nobody_twice_and_takes_the_new_token(functions: Functions) -> None:
    links = functions.ask()

    functions.ask()

    assert len(functions.mailbox.mails) == 1
    assert functions.approval(links["approve"]).task_token == "token-2"


def test_a_call_that_was_late_does_not_bring_an_old_token_back(functions: Functions) -> None:
    early, late = functions.event(), functions.event()
    functions.request(late)

    functions.request(early)

    assert functions.approval(functions.links()["approve"]).task_token == "token-2"


def test_whoever_was_not_reached_is_mailed_at_the_next_round(functions: Functions) -> None:
    functions.mailbox.refusing = {"carl@example.com"}
    functions.ask(Approvers=["anna@example.com", "carl@example.com"])
    functions.mailbox.refusing = set()

    functions.ask(Approvers=["anna@example.com", "carl@example.com"])

    assert [str(mail["To"]) for mail in functions.mailbox.mails] == ["anna@example.com", "carl@example.com"]


def test_where_nobody_can_be_reached_the_run_is_told(functions: Functions) -> None:
    functions.mailbox.refusing = {"anna@example.com"}

    with pytest.raises(Exception, match="could be sent") as raised:
        functions.ask()

    assert type(raised.value).__name__ == "NobodyAsked"


def test_a_reminder_goes_once_to_those_who_have_not_answered(functions: Functions) -> None:
    rules: dict[str, Any] = {
        "Approvers": ["anna@example.com", "carl@example.com"],
        "Required": 2,
        "ReminderSeconds": 0,
    }
    functions.ask(**rules)
    functions.send(functions.links("anna@example.com")["approve"])

    functions.ask(**rules)
    functions.ask(**rules)

    assert [
        (str(mail["To"]), str(mail["Subject"]).split(":")[0]) for mail in functions.mailbox.mails[2:]
    ] == [("carl@example.com", "Reminder")]
    assert "1 approved; 1 more to go. Your decision is asked for." in text_of(functions.mailbox.mails[2])


def test_a_reminder_is_due_when_the_state_machine_says_so(functions: Functions) -> None:
    due = {"RemindAt": time.time()}

    functions.request(functions.event() | due)
    functions.request(functions.event() | due)

    subjects = [str(mail["Subject"]).split(":")[0] for mail in functions.mailbox.mails]
    assert subjects == ["Approval", "Reminder"]


@pytest.mark.parametrize(("seconds", "expected"), [(0, ["Approval", "Reminder"]), (1800, ["Approval"])])
def test_a_state_machine_of_before_that_does_not_say_when_is_reminded_by_its_rules(
    functions: Functions, seconds: int, expected: list[str]
) -> None:
    for _ in range(2):
        event = functions.event(ReminderSeconds=seconds)
        del event["RemindAt"]
        functions.request(event)

    assert [str(mail["Subject"]).split(":")[0] for mail in functions.mailbox.mails] == expected


def test_a_request_that_nobody_answers_is_rejected_and_said_so(functions: Functions) -> None:
    link = functions.ask()["approve"]

    answer = functions.expire()

    assert (answer["decision"], answer["decided_by"]) == ("expire", "")
    assert answer["description"].startswith("Nobody decided until ")
    assert answer["properties"]["ModelDecision"] == "expired"
    assert functions.mailbox.mails[-1]["Subject"] == "Expired: Register the model of run r-1"
    assert "it counts as rejected" in functions.open(link)["body"]
    assert [entry["decision"] for entry in functions.record()] == ["expire"]


def test_a_request_that_expires_twice_is_told_once(functions: Functions) -> None:
    functions.ask()

    assert functions.expire() == functions.expire()

    assert len(functions.mailbox.mails) == 2
    assert len(functions.record()) == 1


def test_what_was_decided_at_the_last_moment_counts(functions: Functions) -> None:
    link = functions.ask()["approve"]
    functions.step_functions.token = "another"
    functions.send(link)

    answer = functions.expire()

    assert (answer["decision"], answer["decided_by"]) == ("approve", "anna@example.com")


def test_what_was_decided_between_two_rounds_is_delivered_by_the_next(functions: Functions) -> None:
    link = functions.ask()["approve"]
    functions.step_functions.token = "the round is over"
    page = functions.send(link)
    assert "The run takes it in a moment." in page["body"]

    functions.request(functions.event())

    assert [taken["decision"] for taken in functions.step_functions.taken] == ["approve"]
    assert len(functions.mailbox.mails) == 1


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"Required": 2}, "Required is 2; it should be 1 to 1"),
        ({"Required": "1"}, "Required is '1'"),
        ({"Required": True}, "Required is True"),
        ({"Approvers": []}, "it should be 1 to 20 different addresses"),
        ({"Approvers": ["a@x.org", "A@x.org"]}, "it should be 1 to 20 different addresses"),
        ({"Approvers": ["anna"]}, r"Approvers has \['anna'\]; each should be a mail address"),
        ({"Approvers": ["a@x.org b@x.org"]}, "each should be a mail address"),
        ({"FourEyes": "no"}, "FourEyes is 'no'; it should be true or false"),
    ],
)
def test_rules_that_cannot_be_kept_are_named(functions: Functions, rules: Any, said: str) -> None:
    with pytest.raises(Exception, match=said):
        functions.request(functions.event(**rules))

    assert functions.mailbox.mails == []


def test_without_a_sender_the_topic_gets_plain_text(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENDER", "")

    functions.request(functions.event() | {"Subject": "Größe\r\nBcc: someone" + "x" * 200})

    (published,) = functions.mailbox.published
    assert published["Subject"].startswith("Approval: Gr??e Bcc: someonex")
    assert len(published["Subject"]) < 100
    assert "Look and approve:" in published["Message"]
    with pytest.raises(Exception, match="set up the sender, or let Required be 1"):
        two = ["anna@example.com", "carl@example.com"]
        functions.request(functions.event(execution="another", Approvers=two, Required=2))


def test_what_was_approved_is_what_is_deployed(functions: Functions) -> None:
    link = functions.ask()["approve"]
    approval_id = functions.approval(link).approval_id
    check = functions.event() | {"Action": "check", "ApprovalId": approval_id}
    functions.step_functions.token = functions.approval(link).task_token

    before = functions.request(check)
    functions.send(link)
    after = functions.request(check)

    assert before == {"matches": False, "differences": f"Approval {approval_id} is pending."}
    assert after == {"matches": True, "differences": ""}


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("artifact", "artifact"),
        ("evaluation", "evaluation"),
        ("report", "test report"),
        ("template", "template"),
    ],
)
def test_what_was_changed_after_the_approval_is_not_deployed(
    functions: Functions, name: str, what: str
) -> None:
    link = functions.ask()["approve"]
    functions.send(link)
    check = functions.event() | {"Action": "check", "ApprovalId": functions.approval(link).approval_id}
    put_files(**{name: b"something else"})

    answer = functions.request(check)

    assert answer["matches"] is False
    assert answer["differences"].startswith(f"The {what} s3://")
    assert hashlib.sha256(b"something else").hexdigest() in answer["differences"]


def test_another_package_and_another_template_are_not_deployed(functions: Functions) -> None:
    link = functions.ask()["approve"]
    functions.send(link)
    boto3.client("s3").put_object(Bucket="assets", Key="other.yaml", Body=b"Resources: {Own: {}}")
    other = register()
    check = functions.event() | {"Action": "check", "ApprovalId": functions.approval(link).approval_id}

    answers = [
        functions.request(check | {"ModelPackageArn": other}),
        functions.request(check | {"TemplateUri": "s3://assets/other.yaml"}),
        functions.request(check | {"TemplateUri": "s3://assets/not-there.yaml"}),
        functions.request(check | {"ApprovalId": "0" * 32}),
    ]

    assert [answer["matches"] for answer in answers] == [False] * 4
    assert f"was approved, not {other}." in answers[0]["differences"]
    assert "none: it cannot be read" in answers[2]["differences"]
    assert answers[3]["differences"] == f"There is no approval {'0' * 32}."


def test_what_is_not_there_cannot_be_asked_about(functions: Functions) -> None:
    boto3.client("s3").delete_object(Bucket="data", Key="runs/r-1/evaluation/evaluation.json")

    with pytest.raises(Exception, match=r"evaluation\.json cannot be read: NoSuchKey"):
        functions.ask()
    put_files(evaluation=b"{")
    with pytest.raises(Exception, match=r"evaluation\.json is no JSON"):
        functions.ask()

    assert functions.mailbox.mails == []


def test_many_classes_are_told_by_their_confusions(functions: Functions) -> None:
    names = [f"class-{number}" for number in range(20)]
    counts = {name: dict.fromkeys(names, 0) for name in names}
    counts["class-3"]["class-7"] = 9
    evaluation = EVALUATION | {"multiclass_classification_metrics": {"confusion_matrix": counts}}
    put_files(evaluation=json.dumps(evaluation).encode())

    links = functions.ask()

    assert "  class-3, class-7, 9" in lines_of(functions)
    assert "Most frequent confusions" in functions.open(links["approve"])["body"]
