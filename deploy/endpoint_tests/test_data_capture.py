"""What is asked and answered is captured, as sent and as answered: monitoring lives on it."""

import base64
import json
import math
import os
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from endpoint import NPY, Endpoint, Sample, npy
from limits import Limits

CERTAINTY = 1e-6
"""So many are sent that none of them is captured, by chance, no more often than this."""
ALL = 3
"""Requests where each one is captured."""
CLOCKS = timedelta(minutes=5)
"""By so much may the clocks of this machine and of the service differ."""
POLL_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Capture:
    """Where an endpoint's requests and answers are kept, which of the two, and what share."""

    bucket: str
    prefix: str
    share: float
    modes: frozenset[str]

    @property
    def requests(self) -> int:
        """How many to send, so that at least one is captured."""
        return ALL if self.share == 1 else math.ceil(math.log(CERTAINTY) / math.log(1 - self.share))


@pytest.fixture
def capture(endpoint: Endpoint) -> Capture:
    sagemaker = boto3.client("sagemaker")
    description = sagemaker.describe_endpoint(EndpointName=endpoint.name)
    state = description.get("DataCaptureConfig", {})
    if not state.get("EnableCapture"):
        pytest.skip("DescribeEndpoint says that data capture is not enabled")
    if not state["CurrentSamplingPercentage"]:
        pytest.skip("DescribeEndpoint says that 0 % of the requests are captured")
    assert state["CaptureStatus"] == "Started", f"data capture is enabled, and {state['CaptureStatus']}"
    config = sagemaker.describe_endpoint_config(EndpointConfigName=description["EndpointConfigName"])
    destination = urlsplit(state["DestinationS3Uri"])
    return Capture(
        bucket=destination.netloc,
        prefix=f"{destination.path.strip('/')}/{endpoint.name}/".lstrip("/"),
        share=state["CurrentSamplingPercentage"] / 100,
        modes=frozenset(option["CaptureMode"] for option in config["DataCaptureConfig"]["CaptureOptions"]),
    )


def test_requests_and_answers_are_captured(
    endpoint: Endpoint, sample: Sample, limits: Limits, capture: Capture
) -> None:
    began = datetime.now(UTC)
    sent = {
        f"endpoint-test-{uuid.uuid4()}": sample.images[n % len(sample.images)]
        for n in range(capture.requests)
    }
    bodies = {name: npy(image) for name, image in sent.items()}
    with ThreadPoolExecutor(8) as pool:
        answers = dict(
            zip(
                bodies,
                pool.map(lambda one: endpoint.answer(one[1], NPY, InferenceId=one[0]), bodies.items()),
                strict=True,
            )
        )

    needed = len(bodies) if capture.share == 1 else 1
    found = _wait_for(capture, set(bodies), needed, since=began, seconds=limits.CaptureWaitSeconds)

    assert len(found) >= needed, (
        f"{len(found)} of {len(bodies)} requests were in s3://{capture.bucket}/{capture.prefix} within "
        f"{limits.CaptureWaitSeconds:g} s, at {capture.share:.0%} sampling at least {needed} have to be"
    )
    for name, event in found.items():
        if capture.modes & {"Input", "InputAndOutput"}:
            assert _content(event, "endpointInput") == bodies[name], f"{name}: the input is not as sent"
        if capture.modes & {"Output", "InputAndOutput"}:
            assert _content(event, "endpointOutput") == answers[name], (
                f"{name}: the output is not as answered"
            )


def _wait_for(
    capture: Capture, names: set[str], needed: int, *, since: datetime, seconds: float
) -> dict[str, dict[str, Any]]:
    """The captured events of these inference ids, once there are as many as needed, or when time is up."""
    deadline = time.monotonic() + seconds
    found: dict[str, dict[str, Any]] = {}
    seen: set[str] = set()
    while True:
        for event in _new_events(capture, seen, since):
            name = event.get("eventMetadata", {}).get("inferenceId")
            if name in names:
                found[name] = event
        left = deadline - time.monotonic()
        if len(found) >= needed or left <= 0:
            return found
        time.sleep(min(POLL_SECONDS, left))


def _new_events(capture: Capture, seen: set[str], since: datetime) -> Iterator[dict[str, Any]]:
    """Those of the files that came since it was last asked: a file is written once, and whole."""
    s3 = boto3.client("s3")
    earliest = since - CLOCKS
    for folder in _folders(capture, earliest):
        for answer in s3.get_paginator("list_objects_v2").paginate(Bucket=capture.bucket, Prefix=folder):
            for entry in answer.get("Contents", ()):
                if entry["Key"] in seen or entry["LastModified"] < earliest:
                    continue
                seen.add(entry["Key"])
                body = s3.get_object(Bucket=capture.bucket, Key=entry["Key"])["Body"].read()
                yield from (json.loads(line) for line in body.splitlines() if line.strip())


def _folders(capture: Capture, earliest: datetime) -> list[str]:
    """`prefix/endpoint/variant/yyyy/mm/dd/hh/` of each variant, and of each hour that may be meant."""
    description = boto3.client("sagemaker").describe_endpoint(EndpointName=os.environ["ENDPOINT_NAME"])
    hour, latest = earliest, datetime.now(UTC) + CLOCKS
    hours = []
    while hour.replace(minute=0, second=0, microsecond=0) <= latest:
        hours.append(f"{hour:%Y/%m/%d/%H}")
        hour += timedelta(hours=1)
    return [
        f"{capture.prefix}{variant['VariantName']}/{one}/"
        for variant in description["ProductionVariants"]
        for one in hours
    ]


def _content(event: dict[str, Any], side: str) -> bytes:
    captured = event["captureData"][side]
    data: str = captured["data"]
    return base64.b64decode(data) if captured["encoding"] == "BASE64" else data.encode()
