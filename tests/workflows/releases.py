"""Releases by model-deploy that the tests share: what CloudFormation says in them, and how one is run."""

import json
from pathlib import Path
from typing import Any

from stagegate.local.service import AWSError
from tests.workflows.simulation import PACKAGE, Cloud, Ended, execute

DONE, UNDER_WAY = "UPDATE_COMPLETE", "UPDATE_IN_PROGRESS"
NOTHING_TO_DO = {
    "Status": "FAILED",
    "StatusReason": "The submitted information didn't contain changes. Submit different information to "
    "create a change set.",
    "Changes": [],
}
EVENTS = {
    "StackEvents": [
        {
            "StackId": "s",
            "EventId": "e",
            "StackName": "x",
            "Timestamp": "2026-11-23T08:00:00Z",
            "LogicalResourceId": "Endpoint",
            "ClientRequestToken": f"stagegate-{stage}",
            "ResourceStatus": status,
            "ResourceStatusReason": reason,
        }
        for stage in ("staging", "production", "before")
        for status, reason in [
            ("UPDATE_FAILED", "no capacity" if stage != "before" else "another time"),
            ("UPDATE_FAILED", "Resource update cancelled"),
            ("UPDATE_COMPLETE", "fine"),
        ]
    ]
}
FAILED_SUMMARY = {"Body": json.dumps({"text": "2 of 3 passed; test_latency: too slow."}).encode()}
REFUSED = AWSError("AccessDenied", "not allowed", status=403)
ALWAYS = (REFUSED,) * 6
"""As often as a state asks, since most errors come under the name that throttling has too."""
STAGING, PRODUCTION = "arn:change-set/stagegate-staging", "arn:change-set/stagegate-production"


def asked(cloud: Cloud) -> dict[str, Any]:
    """What the approval function was asked to show."""
    payloads = [json.loads(call["Payload"]) for call in cloud.of("Invoke")]
    (payload,) = [payload for payload in payloads if payload["Action"] == "ask"]
    found: dict[str, Any] = payload
    return found


async def deploy(folder: Path, cloud: Cloud, **given: object) -> Ended:
    return await execute(folder, "model-deploy", cloud, {"ModelPackageArn": PACKAGE} | given)


def values_of(parameters: list[dict[str, str]]) -> dict[str, str]:
    return {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in parameters}
