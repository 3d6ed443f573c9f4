import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from stagegate.local.sagemaker import shadowing
from stagegate.local.service import AWSError
from tests.local.sagemaker.fakes import FakeAws, SageMaker, variant

CAPTURE = {
    "EnableCapture": True,
    "InitialSamplingPercentage": 100,
    "DestinationS3Uri": "s3://data/capture",
    "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
}
SHADOW = """
import os, time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    if data == '"die"':
        os._exit(1)
    while data == '"hang"':
        time.sleep(0.01)
    return "shadow", "text/plain"
"""


@pytest.fixture
async def sagemaker(tmp_path: Path) -> AsyncIterator[SageMaker]:
    async with SageMaker(tmp_path, FakeAws()) as sagemaker:
        await sagemaker.model("old")
        await sagemaker.model("new", code=SHADOW)
        sagemaker.models.create_endpoint_config(
            EndpointConfigName="scenes",
            ProductionVariants=[variant("old", weight=2)],
            ShadowProductionVariants=[variant("new", weight=2)],
            DataCaptureConfig=CAPTURE,
        )
        sagemaker.endpoints.create_endpoint(EndpointName="scenes", EndpointConfigName="scenes")
        assert await sagemaker.settled("scenes") == "InService"
        yield sagemaker


async def ask(sagemaker: SageMaker, body: bytes = b'"?"') -> str:
    answer = await sagemaker.runtime.invoke_endpoint(
        EndpointName="scenes", Body=body, ContentType="application/json"
    )
    assert answer["InvokedProductionVariant"] == "old"
    return str(json.loads(answer["Body"])["model"])


async def shadows() -> None:
    """Return when no copy is under way."""
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "shadow scenes"))


def invocations(aws: FakeAws, name: str) -> float:
    counted = 0.0
    for datum in aws.metrics:
        of = {dimension["Name"]: dimension["Value"] for dimension in datum["Dimensions"]}
        if datum["MetricName"] == "Invocations" and of["VariantName"] == name:
            counted += datum["StatisticValues"]["Sum"]
    return counted


async def test_copies_of_requests_reach_the_shadow_and_its_answers_are_only_captured(
    sagemaker: SageMaker,
) -> None:
    assert [await ask(sagemaker) for _ in range(3)] == ["old"] * 3
    await shadows()
    await sagemaker.runtime.stop()

    captured = {"old": 0, "new": 0}
    for uri, lines in sagemaker.aws.objects.items():
        if uri.startswith("s3://data/capture/scenes/"):
            captured[uri.split("/")[5]] += len(lines.splitlines())
    assert captured == {"old": 3, "new": 3}
    assert (invocations(sagemaker.aws, "old"), invocations(sagemaker.aws, "new")) == (3, 3)
    described = sagemaker.endpoints.describe_endpoint(EndpointName="scenes")
    [production], [shadow] = described["ProductionVariants"], described["ShadowProductionVariants"]
    assert (production["VariantName"], shadow["VariantName"]) == ("old", "new")
    assert (shadow["CurrentWeight"], shadow["CurrentInstanceCount"]) == (2, 1)
    with pytest.raises(AWSError, match="Variant new of endpoint scenes of account 111111111111 not found"):
        await sagemaker.runtime.invoke_endpoint(EndpointName="scenes", Body=b"1", TargetVariant="new")


async def test_the_weight_says_how_many_requests_are_copied(sagemaker: SageMaker) -> None:
    sagemaker.endpoints.update_endpoint_weights_and_capacities(
        EndpointName="scenes", DesiredWeightsAndCapacities=[{"VariantName": "new", "DesiredWeight": 0.5}]
    )
    assert await sagemaker.settled("scenes") == "InService"

    for _ in range(200):
        await ask(sagemaker)
    await shadows()
    await sagemaker.runtime.stop()

    assert invocations(sagemaker.aws, "old") == 200
    assert 20 < invocations(sagemaker.aws, "new") < 90  # a quarter; further off once in a hundred million


async def test_a_shadow_that_hangs_or_dies_costs_no_answer(
    sagemaker: SageMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadowing, "_MOST_UNDER_WAY", 5)

    assert [await ask(sagemaker, body) for body in (b'"die"', *[b'"hang"'] * 20)] == ["old"] * 21

    under_way = [task for task in asyncio.all_tasks() if task.get_name() == "shadow scenes"]
    assert 0 < len(under_way) <= 5


async def test_an_update_replaces_the_shadow_too(sagemaker: SageMaker) -> None:
    sagemaker.config("plain", "old")

    sagemaker.endpoints.update_endpoint(EndpointName="scenes", EndpointConfigName="plain")
    assert await sagemaker.settled("scenes") == "InService"

    assert await ask(sagemaker) == "old"
    assert "ShadowProductionVariants" not in sagemaker.endpoints.describe_endpoint(EndpointName="scenes")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"ShadowProductionVariants": [variant("a", "b"), variant("a", "c")]}, "Only one of Production"),
        ({"ShadowProductionVariants": [variant("a")]}, "Duplicate variant name"),
        (
            {"ShadowProductionVariants": [variant("a", "b")], "AsyncInferenceConfig": {"OutputConfig": {}}},
            "not supported with AsyncInferenceConfig",
        ),
    ],
    ids=["two", "same", "async"],
)
async def test_shadows_that_aws_does_not_take_are_refused(
    tmp_path: Path, members: dict[str, Any], message: str
) -> None:
    async with SageMaker(tmp_path, FakeAws()) as sagemaker:
        await sagemaker.model("a")
        with pytest.raises(AWSError, match=message):
            sagemaker.config("scenes", "a", **members)
