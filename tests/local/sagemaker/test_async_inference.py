import asyncio
import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stagegate.local.sagemaker import model_process
from stagegate.local.service import AWSError
from tests.local.sagemaker.fakes import FakeAws, SageMaker, archive, variant

CODE = """
import json, os, time

def model_fn(model_dir):
    return None

def input_fn(body, content_type):
    return json.loads(body)

def predict_fn(data, model):
    if isinstance(data, str):
        print("waits")
    while isinstance(data, str) and not os.path.exists(data):
        time.sleep(0.01)
    return 1 / data if isinstance(data, int) else data

def output_fn(prediction, accept):
    return json.dumps(prediction)
"""
TOPICS = {
    "SuccessTopic": "arn:aws:sns:us-east-1:111111111111:done",
    "ErrorTopic": "arn:aws:sns:us-east-1:111111111111:failed",
}
CONFIG = {
    "OutputConfig": {
        "S3OutputPath": "s3://data/out",
        "S3FailurePath": "s3://data/failures/",
        "NotificationConfig": {
            **TOPICS,
            "IncludeInferenceResponseIn": ["SUCCESS_NOTIFICATION_TOPIC"],
        },
    },
    "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 1},
}


@pytest.fixture
async def sagemaker(tmp_path: Path) -> AsyncIterator[SageMaker]:
    async with SageMaker(tmp_path / "data", FakeAws()) as sagemaker:
        await sagemaker.serve("scenes", code=CODE, AsyncInferenceConfig=CONFIG)
        yield sagemaker


def put(sagemaker: SageMaker, name: str, value: Any) -> str:
    uri = f"s3://data/in/{name}"
    sagemaker.aws.objects[uri] = json.dumps(value).encode()
    return uri


def invoke(sagemaker: SageMaker, **members: Any) -> dict[str, Any]:
    return sagemaker.queues.invoke_endpoint_async(
        EndpointName="scenes", **{"ContentType": "application/json", "Accept": "application/json", **members}
    )


async def messages(aws: FakeAws, count: int) -> list[tuple[str, dict[str, Any]]]:
    """What the topics were told, the first `count` of it."""
    async with asyncio.timeout(30):
        while len(aws.messages) < count:
            await aws.next_call()
    return aws.messages


async def until_under_way(aws: FakeAws) -> None:
    """Return when a model has begun to wait."""
    async with asyncio.timeout(30):
        while not any("waits" in lines for lines in aws.logs.values()):
            await aws.next_call()


async def test_the_answer_is_put_into_s3_and_a_topic_is_told(sagemaker: SageMaker) -> None:
    uri = put(sagemaker, "one.json", 4)

    answer = invoke(sagemaker, InputLocation=uri, InferenceId="i-1", CustomAttributes="a=1")
    [(topic, message)] = await messages(sagemaker.aws, 1)

    assert answer == {
        "InferenceId": "i-1",
        "OutputLocation": "s3://data/out/i-1.out",
        "FailureLocation": "s3://data/failures/i-1-error.out",
    }
    assert sagemaker.aws.objects["s3://data/out/i-1.out"] == b"0.25"
    assert topic == TOPICS["SuccessTopic"]
    times = [datetime.fromisoformat(message.pop(name)) for name in ("receivedTime", "eventTime")]
    assert times == sorted(times)
    assert message == {
        "awsRegion": "us-east-1",
        "invocationStatus": "Completed",
        "requestParameters": {
            "accept": "application/json",
            "contentType": "application/json",
            "customAttributes": "a=1",
            "endpointName": "scenes",
            "inputLocation": uri,
        },
        "responseParameters": {
            "contentType": "application/json",
            "outputLocation": "s3://data/out/i-1.out",
        },
        "responseBody": {"content": base64.b64encode(b"0.25").decode(), "encoding": "BASE64"},
        "inferenceId": "i-1",
        "eventVersion": "1.0",
        "eventSource": "aws:sagemaker",
        "eventName": "InferenceResult",
    }
    assert sagemaker.endpoints.describe_endpoint(EndpointName="scenes")["AsyncInferenceConfig"] == CONFIG


async def test_a_request_without_a_content_type_has_that_of_its_object(sagemaker: SageMaker) -> None:
    tells = CODE.replace("json.loads(body)", "[content_type]")
    await sagemaker.serve("typed", code=tells, AsyncInferenceConfig=CONFIG)
    uri = put(sagemaker, "typed.json", 4)
    sagemaker.aws.content_types[uri] = "application/json"

    answer = sagemaker.queues.invoke_endpoint_async(EndpointName="typed", InputLocation=uri)
    await messages(sagemaker.aws, 1)

    assert sagemaker.aws.objects[answer["OutputLocation"]] == b'["application/json"]'


async def test_what_fails_is_told_to_the_other_topic_and_kept_in_s3(sagemaker: SageMaker) -> None:
    broken = invoke(sagemaker, Body=b"0", Filename="zero.json", S3OutputPathExtension="tests/")
    missing = invoke(sagemaker, InputLocation="s3://data/in/none")

    [(topic, model), (_, download)] = await messages(sagemaker.aws, 2)

    assert broken["OutputLocation"] == "s3://data/out/tests/zero.json"
    assert topic == TOPICS["ErrorTopic"]
    assert (model["invocationStatus"], model["failureReason"]) == (
        "Failed",
        "ClientError: Received server error (500) from model. See the SageMaker Endpoint logs in your "
        "account for more information.",
    )
    assert "responseParameters" not in model
    assert sagemaker.aws.objects[broken["FailureLocation"]].startswith(b"division by zero\nTraceback")
    assert broken["OutputLocation"] not in sagemaker.aws.objects
    assert download["failureReason"].startswith(
        "ClientError: Failed to download s3://data/in/none: NoSuchKey"
    )
    assert sagemaker.aws.objects[missing["FailureLocation"]].decode() == download["failureReason"]


async def test_requests_wait_for_each_other_and_for_no_longer_than_they_may(
    sagemaker: SageMaker, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    invoke(sagemaker, Body=json.dumps(str(go)).encode(), InferenceId="first")
    expired = invoke(sagemaker, Body=b"1", InferenceId="second", RequestTTLSeconds=60)
    invoke(sagemaker, Body=b"1", InferenceId="third")
    for request in sagemaker.store.list("sagemaker/async-invocation"):
        if request["InferenceId"] == expired["InferenceId"]:
            past = datetime.now(UTC) - timedelta(seconds=61)
            sagemaker.store.put(
                "sagemaker/async-invocation", request["Key"], {**request, "ReceivedTime": past}
            )
    assert sagemaker.aws.messages == []

    go.touch()
    told = await messages(sagemaker.aws, 3)

    assert [(message["inferenceId"], message["invocationStatus"]) for _, message in told] == [
        ("first", "Completed"),
        ("second", "Failed"),
        ("third", "Completed"),
    ]
    assert told[1][1]["failureReason"] == "ClientError: The request expired after 61 seconds in the queue."


async def test_what_was_accepted_is_done_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_process, "_GRACE_SECONDS", 0.1)
    aws = FakeAws()
    go = tmp_path / "go"
    async with SageMaker(tmp_path / "data", aws) as before:
        await before.serve("scenes", code=CODE, AsyncInferenceConfig=CONFIG)
        for number in range(3):
            invoke(before, Body=json.dumps(str(go)).encode(), InferenceId=f"i-{number}")
        await before.store.committed()
        await until_under_way(aws)
    assert aws.messages == []

    go.touch()
    async with SageMaker(tmp_path / "data", aws) as after:
        told = await messages(aws, 3)
        await after.queues.stop()

    assert sorted(message["inferenceId"] for _, message in told) == ["i-0", "i-1", "i-2"]
    assert {f"s3://data/out/i-{number}.out" for number in range(3)} <= aws.objects.keys()


async def test_an_update_takes_over_what_waits_and_a_deletion_drops_it(
    sagemaker: SageMaker, tmp_path: Path
) -> None:
    invoke(sagemaker, Body=b"1", InferenceId="before")
    await sagemaker.model("two", code=CODE)
    sagemaker.models.create_endpoint_config(
        EndpointConfigName="two",
        ProductionVariants=[variant("two", "AllTraffic")],
        AsyncInferenceConfig=CONFIG,
    )
    sagemaker.endpoints.update_endpoint(EndpointName="scenes", EndpointConfigName="two")
    invoke(sagemaker, Body=b"2", InferenceId="meanwhile")
    assert await sagemaker.settled("scenes") == "InService"
    invoke(sagemaker, Body=b"4", InferenceId="after")
    assert [message["invocationStatus"] for _, message in await messages(sagemaker.aws, 3)] == [
        "Completed"
    ] * 3

    go = tmp_path / "go"
    invoke(sagemaker, Body=json.dumps(str(go)).encode(), InferenceId="under way")
    invoke(sagemaker, Body=b"8", InferenceId="waiting")
    sagemaker.endpoints.delete_endpoint(EndpointName="scenes")
    go.touch()
    await sagemaker.gone("scenes")
    await asyncio.gather(
        *(task for task in asyncio.all_tasks() if task.get_name().startswith("asynchronous invocation"))
    )

    assert "s3://data/out/waiting.out" not in sagemaker.aws.objects
    assert sagemaker.store.list("sagemaker/async-invocation") == []


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({}, "Exactly one of Body and InputLocation"),
        ({"Body": b"1", "InputLocation": "s3://data/in"}, "Exactly one of Body and InputLocation"),
        ({"InputLocation": "https://data/in"}, "is not an S3 URI"),
        ({"EndpointName": "none", "Body": b"1"}, "Endpoint none of account 111111111111 not found."),
        ({"EndpointName": "plain", "Body": b"1"}, "is not an asynchronous endpoint"),
    ],
    ids=["nothing", "both", "https", "unknown", "synchronous"],
)
async def test_what_cannot_be_queued_is_refused(
    shared: SageMaker, members: dict[str, Any], message: str
) -> None:
    with pytest.raises(AWSError, match=message) as error:
        shared.queues.invoke_endpoint_async(**{"EndpointName": "scenes", **members})
    assert error.value.code == "ValidationError"


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[SageMaker]:
    """Endpoints in the store only: nothing runs."""
    async with SageMaker(tmp_path / "data", FakeAws()) as sagemaker:
        for name, config in (("scenes", CONFIG), ("plain", None)):
            fleet = {"Variants": [], "AsyncInferenceConfig": config}
            document = {"EndpointName": name, "EndpointStatus": "InService", "Fleet": fleet}
            sagemaker.store.put("sagemaker/endpoint", name, document)
        yield sagemaker


async def test_it_is_not_asked_synchronously(sagemaker: SageMaker) -> None:
    with pytest.raises(AWSError, match=r"is an asynchronous endpoint\. Use InvokeEndpointAsync") as error:
        await sagemaker.runtime.invoke_endpoint(EndpointName="scenes", Body=b"1")
    assert error.value.code == "ValidationError"


def test_an_output_path_that_is_not_in_s3_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AWSError, match="is not an S3 URI"):
        SageMaker(tmp_path / "data", FakeAws()).config(
            "x", AsyncInferenceConfig={"OutputConfig": {"S3OutputPath": "file:///tmp"}}
        )


def test_accepted_requests_survive_a_kill(local: Any, tmp_path: Path) -> None:
    go = tmp_path / "go"
    s3, sagemaker = local.client("s3"), local.client("sagemaker")
    s3.create_bucket(Bucket="data")
    s3.put_object(Bucket="data", Key="model", Body=archive({"code/inference.py": CODE}))
    s3.put_object(Bucket="data", Key="in", Body=json.dumps(str(go)).encode())
    sagemaker.create_model(
        ModelName="m", PrimaryContainer={"Image": "pytorch:2", "ModelDataUrl": "s3://data/model"}
    )
    topic = local.client("sns").create_topic(Name="done")["TopicArn"]
    queue = local.client("sqs").create_queue(QueueName="done")["QueueUrl"]
    local.client("sns").subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint="arn:aws:sqs:us-east-1:111111111111:done"
    )
    output = {"S3OutputPath": "s3://data/out", "NotificationConfig": {"SuccessTopic": topic}}
    sagemaker.create_endpoint_config(
        EndpointConfigName="c",
        ProductionVariants=[variant("m")],
        AsyncInferenceConfig={"OutputConfig": output},
    )
    sagemaker.create_endpoint(EndpointName="scenes", EndpointConfigName="c")
    waiter = sagemaker.get_waiter("endpoint_in_service")
    waiter.wait(EndpointName="scenes", WaiterConfig={"Delay": 0.1, "MaxAttempts": 600})
    answer = local.client("sagemaker-runtime").invoke_endpoint_async(
        EndpointName="scenes", InputLocation="s3://data/in", ContentType="application/json"
    )
    local.kill()
    go.touch()

    local.start()
    sent = local.client("sqs").receive_message(QueueUrl=queue, WaitTimeSeconds=20)["Messages"]

    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert "FailureLocation" not in answer
    message = json.loads(json.loads(sent[0]["Body"])["Message"])
    assert (message["invocationStatus"], message["inferenceId"]) == ("Completed", answer["InferenceId"])
    result = s3.get_object(Bucket="data", Key=f"out/{answer['InferenceId']}.out")
    assert (json.loads(result["Body"].read()), result["ContentType"]) == (str(go), "application/json")
