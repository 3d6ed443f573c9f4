"""The approval functions as Lambda loads them, and what they work with: moto, and our own Step Functions."""

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

FUNCTIONS = Path(__file__).parents[2] / "deploy" / "functions"
MODULES = ("approvals", "approval_text", "approval_pages", "approval_request", "approval_decision")
URL = "https://decide.example.com/"
DETAILS = {
    "Kind": "model",
    "Subject": "Register the model of run r-1",
    "RunId": "r-1",
    "ModelPackageArn": "arn:aws:sagemaker:us-east-1:111111111111:model-package/stagegate-models/3",
    "Accuracy": 0.8712,
    "AccuracyThreshold": 0.6,
    "ConfusionMatrix": {"sea": {"sea": 48, "street": 2}, "street": {"sea": 5, "street": 45}},
    "Commit": "3f1c2d",
    "DatasetSha256": "ab" * 32,
    "TestReport": {"text": "21 of 21 passed; accuracy 0.87."},
}


@dataclass
class StepFunctions:
    """What was sent to it; `refusals` are the errors that it answers with first."""

    sent: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def send_task_success(self, *, taskToken: str, output: str) -> None:
        if self.refusals:
            code = self.refusals.pop(0)
            raise ClientError({"Error": {"Code": code, "Message": code}}, "SendTaskSuccess")
        self.sent.append((taskToken, json.loads(output)))


@dataclass
class Functions:
    """Both functions, and what they work with."""

    approvals: ModuleType
    request: ModuleType
    decision: ModuleType
    step_functions: StepFunctions
    mails: list[dict[str, Any]]

    def ask(self, token: str = "token-1", *, seconds: int = 3600, **details: Any) -> dict[str, str]:  # noqa: S107
        """Ask for approval; gives the links of the mail by their decision."""
        event = {"TaskToken": token, "TimeoutSeconds": seconds, **DETAILS, **details}
        self.request.handler(event, None)
        return self.links()

    def links(self) -> dict[str, str]:
        lines = [line for line in self.mails[-1]["Message"].splitlines() if line.startswith(URL)]
        return {dict(parse_qsl(urlsplit(line).query))["decision"]: line for line in lines}

    def open(self, link: str, *, method: str = "GET") -> dict[str, Any]:
        return self.http(method, urlsplit(link).query)

    def send(self, link: str, *, headers: dict[str, str] | None = None, **fields: str) -> dict[str, Any]:
        """Send the form of the page behind a link."""
        form = dict(parse_qsl(urlsplit(link).query)) | {"decided_by": "Anna Berg", "comment": ""} | fields
        return self.http("POST", "", body=urlencode(form), headers=headers)

    def http(
        self, method: str, query: str, *, body: str = "", headers: dict[str, str] | None = None, **event: Any
    ) -> dict[str, Any]:
        response: dict[str, Any] = self.decision.handler(
            {
                "version": "2.0",
                "rawPath": "/",
                "rawQueryString": query,
                "headers": {"content-type": "application/x-www-form-urlencoded", **(headers or {})},
                "requestContext": {"http": {"method": method}, "domainName": "decide.example.com"},
                "body": body,
                "isBase64Encoded": False,
                **event,
            },
            None,
        )
        return response

    def item(self, link: str) -> dict[str, Any]:
        approval_id = dict(parse_qsl(urlsplit(link).query))["id"]
        item = boto3.client("dynamodb").get_item(
            TableName="approvals", Key={"approval_id": {"S": approval_id}}
        )
        return {name: next(iter(value.values())) for name, value in item["Item"].items()}


@pytest.fixture
def functions(monkeypatch: pytest.MonkeyPatch) -> Iterator[Functions]:
    environment = {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
        "APPROVAL_TABLE": "approvals",
        "DECISION_URL": URL,
        "APPROVER": "approver@example.com",
        "SENDER": "",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        boto3.client("dynamodb").create_table(
            TableName="approvals",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "approval_id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "approval_id", "KeyType": "HASH"}],
        )
        secret = boto3.client("secretsmanager").create_secret(Name="key", SecretString="k" * 64)
        monkeypatch.setenv("SIGNING_KEY_ARN", secret["ARN"])
        topic = boto3.client("sns").create_topic(Name="approvals")["TopicArn"]
        monkeypatch.setenv("APPROVAL_TOPIC_ARN", topic)
        yield from _loaded(monkeypatch)


def _loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Functions]:
    """A cold start: the modules are imported anew, from the package's top."""
    monkeypatch.syspath_prepend(str(FUNCTIONS))
    modules = {name: importlib.import_module(name) for name in MODULES}
    step_functions, mails = StepFunctions(), []
    real = modules["approvals"]._client
    monkeypatch.setattr(
        modules["approvals"],
        "_client",
        lambda service: step_functions if service == "stepfunctions" else real(service),
    )

    class Topic:
        def publish(self, **mail: Any) -> None:
            mails.append(mail)

        def send_email(self, **mail: Any) -> None:
            mails.append(mail)

    class Boto3:
        @staticmethod
        def client(service: str) -> Any:
            return Topic()

    monkeypatch.setattr(modules["approval_request"], "boto3", Boto3)
    try:
        yield Functions(
            approvals=modules["approvals"],
            request=modules["approval_request"],
            decision=modules["approval_decision"],
            step_functions=step_functions,
            mails=mails,
        )
    finally:
        for name in MODULES:
            sys.modules.pop(name, None)
