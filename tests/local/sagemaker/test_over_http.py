"""The registry, endpoints and their invocation as boto3 sees them, with moto behind."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from stagegate.local.endpoint import Endpoint
from stagegate.local.sagemaker.endpoints import Endpoints
from stagegate.local.sagemaker.models import Models
from stagegate.local.sagemaker.registry import Registry
from stagegate.local.sagemaker.runtime import Invocations
from stagegate.local.server import running
from tests.local.sagemaker.fakes import ECHO, archive, variant

CLASSES = {"sagemaker": (Registry, Models, Endpoints), "sagemaker-runtime": (Invocations,)}
CAPTURE = {
    "EnableCapture": True,
    "InitialSamplingPercentage": 100,
    "DestinationS3Uri": "s3://data/capture",
    "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Endpoint]:
    async with running(data=tmp_path, classes=CLASSES) as endpoint:
        yield endpoint


def client(server: Endpoint, service: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=server.runtime.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(retries={"max_attempts": 0}),
    )


def release(server: Endpoint, version: str) -> str:
    """A package that was approved, and an endpoint config for it; gives the package's ARN."""
    sagemaker = client(server, "sagemaker")
    uri = f"s3://data/{version}/model.tar.gz"
    content = archive({"code/inference.py": ECHO.format(version=version)})
    client(server, "s3").put_object(Bucket="data", Key=f"{version}/model.tar.gz", Body=content)
    arn: str = sagemaker.create_model_package(
        ModelPackageGroupName="scenes",
        InferenceSpecification={"Containers": [{"Image": "pytorch:2", "ModelDataUrl": uri}]},
    )["ModelPackageArn"]
    sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")
    sagemaker.create_model(ModelName=version, PrimaryContainer={"ModelPackageName": arn})
    sagemaker.create_endpoint_config(
        EndpointConfigName=version,
        ProductionVariants=[variant(version, "AllTraffic")],
        DataCaptureConfig=CAPTURE,
    )
    return arn


def serve(server: Endpoint) -> list[str]:
    client(server, "s3").create_bucket(Bucket="data")
    sagemaker = client(server, "sagemaker")
    sagemaker.create_model_package_group(ModelPackageGroupName="scenes")
    arns = [release(server, version) for version in ("one", "two")]
    sagemaker.create_endpoint(EndpointName="production", EndpointConfigName="one")
    wait(sagemaker, "endpoint_in_service")
    return arns


def wait(sagemaker: Any, waiter: str) -> None:
    sagemaker.get_waiter(waiter).wait(EndpointName="production", WaiterConfig={"Delay": 1})


def ask(runtime: Any) -> dict[str, Any]:
    answer = runtime.invoke_endpoint(
        EndpointName="production", Body=b"[1]", ContentType="application/json", Accept="application/json"
    )
    body: dict[str, Any] = json.loads(answer["Body"].read())
    return {**body, "variant": answer["InvokedProductionVariant"]}


async def test_packages_are_released_to_an_endpoint_that_is_updated_under_load(server: Endpoint) -> None:
    arns = await asyncio.to_thread(serve, server)
    answers: list[dict[str, Any]] = []
    is_over = asyncio.Event()

    def load() -> None:
        runtime = client(server, "sagemaker-runtime")
        while not is_over.is_set():
            answers.append(ask(runtime))

    def update() -> dict[str, Any]:
        sagemaker = client(server, "sagemaker")
        sagemaker.update_endpoint(EndpointName="production", EndpointConfigName="two")
        wait(sagemaker, "endpoint_in_service")
        described: dict[str, Any] = sagemaker.describe_endpoint(EndpointName="production")
        return described

    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(asyncio.to_thread(load))
        described = await asyncio.to_thread(update)
        is_over.set()

    assert arns == [f"arn:aws:sagemaker:us-east-1:111111111111:model-package/scenes/{n}" for n in (1, 2)]
    assert described["EndpointConfigName"] == "two"
    assert answers[0]["variant"] == "AllTraffic"
    assert {answer["model"] for answer in answers} <= {"one", "two"}
    assert (await asyncio.to_thread(ask, client(server, "sagemaker-runtime")))["model"] == "two"


async def test_errors_are_what_boto3_knows(server: Endpoint) -> None:
    await asyncio.to_thread(serve, server)
    runtime = client(server, "sagemaker-runtime")

    def refused(**members: Any) -> dict[str, Any]:
        given = {"EndpointName": "production", "Body": b"{", "ContentType": "application/json"}
        with pytest.raises(ClientError) as error:
            runtime.invoke_endpoint(**given | members)
        return error.value.response

    unknown = await asyncio.to_thread(refused, EndpointName="none")
    failed = await asyncio.to_thread(refused)

    assert (unknown["Error"]["Code"], unknown["Error"]["Message"]) == (
        "ValidationError",
        "Endpoint none of account 111111111111 not found.",
    )
    assert unknown["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert (failed["Error"]["Code"], failed["ResponseMetadata"]["HTTPStatusCode"]) == ("ModelError", 424)
    assert failed["OriginalStatusCode"] == 500
    assert failed["OriginalMessage"].startswith("Expecting property name enclosed in double quotes")
    assert failed["LogStreamArn"].endswith(":log-group:/aws/sagemaker/Endpoints/production")


async def test_logs_metrics_and_captured_data_arrive(tmp_path: Path) -> None:
    async with running(data=tmp_path, classes=CLASSES) as server:
        await asyncio.to_thread(serve, server)
        await asyncio.to_thread(ask, client(server, "sagemaker-runtime"))

    async with running(data=tmp_path, classes=CLASSES) as server:
        aws = server.runtime.aws
        captured = await aws("s3", "ListObjectsV2", {"Bucket": "data", "Prefix": "capture/production/"})
        metrics = await aws("cloudwatch", "ListMetrics", {"Namespace": "AWS/SageMaker"})
        group = {"logGroupName": "/aws/sagemaker/Endpoints/production"}
        events = await aws("logs", "FilterLogEvents", group)

    assert [entry["Key"].split("/")[:3] for entry in captured["Contents"]] == [
        ["capture", "production", "AllTraffic"]
    ]
    assert sorted({metric["MetricName"] for metric in metrics["Metrics"]}) == [
        "Invocation4XXErrors",
        "Invocation5XXErrors",
        "InvocationModelErrors",
        "Invocations",
        "InvocationsPerInstance",
        "ModelLatency",
        "OverheadLatency",
    ]
    assert events["events"][0]["message"].startswith("loaded from ")


def test_an_empty_body_reaches_the_service(local):
    runtime = local.client("sagemaker-runtime")

    with pytest.raises(runtime.exceptions.ClientError) as caught:
        runtime.invoke_endpoint(EndpointName="absent", Body=b"")

    assert caught.value.response["Error"]["Message"] == "Endpoint absent of account 111111111111 not found."
