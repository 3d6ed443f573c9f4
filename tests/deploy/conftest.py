"""The approval functions as Lambda loads them, and the cloud around them: moto, with calls that can fail."""

import email
import email.policy
import importlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

FUNCTIONS = Path(__file__).parents[2] / "deploy" / "functions"
MODULES = sorted(path.stem for path in FUNCTIONS.glob("*.py"))
URL = "https://decide.example.com/"
EXECUTION = "arn:aws:states:us-east-1:111111111111:execution:stagegate-model-build:r-1"
RULES = {
    "Approvers": ["anna@example.com"],
    "Required": 1,
    "FourEyes": True,
    "TimeoutSeconds": 3600,
    "ReminderSeconds": 1800,
}
EVALUATION = {
    "multiclass_classification_metrics": {
        "confusion_matrix": {"sea": {"sea": 48, "street": 2}, "street": {"sea": 5, "street": 45}}
    },
    "per_class": {"sea": {"recall": 0.96, "support": 50}, "street": {"recall": 0.9, "support": 50}},
    "dataset": {"sha256": "ab" * 32, "settings": {"image-size": 64}},
}
SUMMARY = {
    "passed": 21,
    "failed": 0,
    "text": "21 of 21 passed; accuracy 0.93.",
    "measured": {},
    "failures": [],
}
PICTURE = b"\x89PNG\r\n\x1a\n a picture"

Failure = Callable[[], None]


@dataclass
class StepFunctions:
    """The task that waits: it takes one answer, by the token of its latest round."""

    token: str = ""
    status: str = "RUNNING"
    taken: list[dict[str, Any]] = field(default_factory=list)

    def send_task_success(self, *, taskToken: str, output: str) -> dict[str, Any]:
        if taskToken != self.token or self.status != "RUNNING":
            error = {"Error": {"Code": "TaskTimedOut", "Message": "Task Timed Out"}}
            raise ClientError(error, "SendTaskSuccess")
        self.token = ""
        self.taken.append(json.loads(output))
        return {}

    def describe_execution(self, *, executionArn: str) -> dict[str, Any]:
        return {"executionArn": executionArn, "status": self.status}


@dataclass
class Mailbox:
    """SES and the SNS topic: what was sent, and who refuses it."""

    mails: list[EmailMessage] = field(default_factory=list)
    published: list[dict[str, str]] = field(default_factory=list)
    refusing: set[str] = field(default_factory=set)

    def send_email(self, *, FromEmailAddress: str, Destination: Any, Content: Any) -> dict[str, Any]:
        (address,) = Destination["ToAddresses"]
        if address in self.refusing:
            raise ClientError({"Error": {"Code": "MessageRejected", "Message": "no"}}, "SendEmail")
        mail = email.message_from_bytes(Content["Raw"]["Data"], policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return {}

    def publish(self, **message: str) -> dict[str, Any]:
        if "topic" in self.refusing:
            raise ClientError({"Error": {"Code": "Throttled", "Message": "no"}}, "Publish")
        self.published.append(message)
        return {}

    def to(self, address: str) -> list[EmailMessage]:
        return [mail for mail in self.mails if mail["To"] == address]


@dataclass
class Calls:
    """Every call that the functions make, with a fault at one of them."""

    real: Callable[[str], Any]
    made: list[str] = field(default_factory=list)
    fault_at: int = -1
    fault: Failure | None = None
    is_after: bool = False
    """The call does its work, and the fault comes before its answer."""

    def client(self, service: str) -> Any:
        return _Client(self, service)


@dataclass
class _Client:
    calls: Calls
    service: str

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.calls.real(self.service), name)
        if not callable(value):
            return value

        def call(**request: Any) -> Any:
            calls, number = self.calls, len(self.calls.made)
            calls.made.append(f"{self.service}:{name}")
            is_faulty = number == calls.fault_at and calls.fault is not None
            if is_faulty and not calls.is_after:
                calls.fault()
            answer = value(**request)
            if is_faulty:
                calls.fault()
            return answer

        return call


@dataclass
class Functions:
    """Both functions, and what they work with."""

    modules: dict[str, ModuleType]
    calls: Calls
    step_functions: StepFunctions
    mailbox: Mailbox
    package: str
    rounds: int = 0

    def event(self, *, execution: str = EXECUTION, **rules: Any) -> dict[str, Any]:
        """What the state machine calls with, in a new round."""
        self.rounds += 1
        self.step_functions.token = f"token-{self.rounds}"
        rules = RULES | rules
        return {
            "Action": "ask",
            "Kind": "model",
            "TaskToken": self.step_functions.token,
            "AskedAt": f"2026-11-23T08:00:{self.rounds:02} 0",
            "ExecutionArn": execution,
            "ModelPackageArn": self.package,
            "StartedBy": "ben@example.com arn:aws:iam::111111111111:user/ben",
            "TemplateUri": "s3://assets/code/0123/deploy/endpoint.yaml",
            "TestReportUri": "s3://data/runs/r-1/tests/summary.json",
            "ExpiresAt": int(time.time()) + rules["TimeoutSeconds"],
            "RemindAt": time.time() + rules["ReminderSeconds"],
            "Rules": rules,
        }

    def ask(self, **rules: Any) -> dict[str, str]:
        """Ask for approval; gives the links of the first approver's latest mail by their decision."""
        approvers = rules.get("Approvers", RULES["Approvers"])
        self.request(self.event(**rules))
        return self.links(approvers[0])

    def request(self, event: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self.modules["approval_request"].handler(event, None)
        return answer

    def expire(self, *, execution: str = EXECUTION) -> dict[str, Any]:
        return self.request({"Action": "expire", "Kind": "model", "ExecutionArn": execution})

    def links(self, address: str = "anna@example.com") -> dict[str, str]:
        asking = [links for mail in self.mailbox.to(address) if (links := links_in(text_of(mail)))]
        return asking[-1]

    def open(self, link: str, *, method: str = "GET") -> dict[str, Any]:
        return self.http(method, urlsplit(link).query)

    def form(self, link: str) -> tuple[dict[str, str], list[str]]:
        """The form of the page behind a link, and the cookies that came with it."""
        page = self.open(link)
        assert page["statusCode"] == 200, page["body"]
        fields = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page["body"])
        return dict(fields), [cookie.partition(";")[0] for cookie in page.get("cookies", ())]

    def send(self, link: str, **fields: str) -> dict[str, Any]:
        """What a person does: open the link, fill in the form, press the button."""
        form, cookies = self.form(link)
        return self.post(form | {"comment": ""} | fields, cookies=cookies)

    def post(
        self, form: dict[str, str], *, cookies: list[str], headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        return self.http("POST", "", body=urlencode(form), headers=headers, cookies=cookies)

    def http(
        self, method: str, query: str, *, body: str = "", headers: dict[str, str] | None = None, **event: Any
    ) -> dict[str, Any]:
        context = {"http": {"method": method, "sourceIp": "192.0.2.7", "userAgent": "a browser"}}
        response: dict[str, Any] = self.modules["approval_decision"].handler(
            {
                "version": "2.0",
                "rawPath": "/",
                "rawQueryString": query,
                "headers": {"content-type": "application/x-www-form-urlencoded", **(headers or {})},
                "requestContext": {**context, "domainName": "decide.example.com"},
                "body": body,
                "isBase64Encoded": False,
                **event,
            },
            None,
        )
        return response

    def approval(self, link: str) -> Any:
        return self.modules["approvals"].find(dict(parse_qsl(urlsplit(link).query))["id"])

    def record(self) -> list[dict[str, Any]]:
        """The bodies of the record's entries."""
        items = boto3.client("dynamodb").scan(TableName="record")["Items"]
        return sorted((json.loads(item["body"]["S"]) for item in items), key=lambda body: body["number"])


def text_of(mail: EmailMessage) -> str:
    body = mail.get_body(("plain",))
    assert body is not None
    text: str = body.get_content()
    return text


def links_in(text: str) -> dict[str, str]:
    found = [line for line in text.splitlines() if line.startswith(URL)]
    return {dict(parse_qsl(urlsplit(line).query))["decision"]: line for line in found}


def put_files(**contents: bytes) -> None:
    """The run's files in S3, or others in their place."""
    s3 = boto3.client("s3")
    keys = {
        "artifact": ("data", "runs/r-1/training/model.tar.gz"),
        "evaluation": ("data", "runs/r-1/evaluation/evaluation.json"),
        "picture": ("data", "runs/r-1/evaluation/confusion_matrix.png"),
        "report": ("data", "runs/r-1/tests/summary.json"),
        "page": ("data", "runs/r-1/tests/report.html"),
        "template": ("assets", "code/0123/deploy/endpoint.yaml"),
    }
    for name, content in contents.items():
        bucket, key = keys[name]
        s3.put_object(Bucket=bucket, Key=key, Body=content)


@pytest.fixture
def functions(monkeypatch: pytest.MonkeyPatch) -> Iterator[Functions]:
    environment = {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
        "PROJECT": "stagegate",
        "DATA_BUCKET": "data",
        "APPROVAL_TABLE": "approvals",
        "RECORD_TABLE": "record",
        "APPROVAL_TOPIC_ARN": "topic",
        "DECISION_URL": URL,
        "SENDER": "releases@example.com",
        "WEBHOOK_URL": "",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        monkeypatch.setenv("SIGNING_KEY_ARN", _set_up())
        yield from _loaded(monkeypatch)


def _set_up() -> str:
    """The platform's tables, files and package; gives the signing key's ARN."""
    dynamodb, s3, sagemaker = boto3.client("dynamodb"), boto3.client("s3"), boto3.client("sagemaker")
    for table, keys in {
        "approvals": {"approval_id": ("S", "HASH")},
        "record": {"log": ("S", "HASH"), "number": ("N", "RANGE")},
    }.items():
        dynamodb.create_table(
            TableName=table,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": name, "AttributeType": kind} for name, (kind, _) in keys.items()
            ],
            KeySchema=[{"AttributeName": name, "KeyType": role} for name, (_, role) in keys.items()],
        )
    for bucket in ("data", "assets"):
        s3.create_bucket(Bucket=bucket)
    put_files(
        artifact=b"a model",
        evaluation=json.dumps(EVALUATION).encode(),
        picture=PICTURE,
        report=json.dumps(SUMMARY).encode(),
        page=b"<!doctype html><title>Endpoint tests</title>",
        template=b"Resources: {}",
    )
    sagemaker.create_model_package_group(ModelPackageGroupName="stagegate-models")
    secret: str = boto3.client("secretsmanager").create_secret(Name="key", SecretString="k" * 64)["ARN"]
    return secret


def register(**properties: str) -> str:
    """A model package of the run; gives its ARN."""
    arn: str = boto3.client("sagemaker").create_model_package(
        ModelPackageGroupName="stagegate-models",
        ModelApprovalStatus="PendingManualApproval",
        InferenceSpecification={
            "Containers": [{"Image": "x", "ModelDataUrl": "s3://data/runs/r-1/training/model.tar.gz"}]
        },
        CustomerMetadataProperties={
            "RunId": "r-1",
            "Commit": "3f1c2d",
            "DatasetUri": "s3://data/datasets/x.zip",
            "DatasetSha256": "ab" * 32,
            "TrainingJobName": "r-1-train",
            "EvaluationPrefix": "runs/r-1/evaluation",
            "AccuracyThreshold": "0.6",
            **properties,
        },
    )["ModelPackageArn"]
    return arn


def _loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Functions]:
    """A cold start: the modules are imported anew, from the package's top."""
    monkeypatch.syspath_prepend(str(FUNCTIONS))
    try:
        aws = importlib.import_module("approval_aws")
        step_functions, mailbox, real = StepFunctions(), Mailbox(), aws.client
        ours = {"stepfunctions": step_functions, "sesv2": mailbox, "sns": mailbox}
        calls = Calls(real=lambda service: ours.get(service) or real(service))
        aws.client = calls.client
        yield Functions(
            modules={name: importlib.import_module(name) for name in MODULES},
            calls=calls,
            step_functions=step_functions,
            mailbox=mailbox,
            package=register(),
        )
    finally:
        for name in MODULES:
            sys.modules.pop(name, None)
