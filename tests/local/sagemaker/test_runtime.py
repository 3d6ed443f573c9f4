import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from stagegate.local.sagemaker import runtime
from stagegate.local.service import AWSError
from tests.local.sagemaker.fakes import FakeAws, SageMaker

PICKY = """
import json, os

class Refused(ValueError):
    status_code = 422
    message = "only lists"

def model_fn(model_dir):
    return len(os.listdir(model_dir))

def input_fn(body, content_type, context):
    data = json.loads(body)
    if data == "die":
        os._exit(9)
    if data == "hang":
        while True:
            pass
    if not isinstance(data, list):
        raise Refused(data)
    return data

def predict_fn(data, model):
    return 1 / data[0]

def output_fn(prediction, accept):
    return str(prediction), "text/plain"
"""


@pytest.fixture
async def sagemaker(tmp_path: Path) -> AsyncIterator[SageMaker]:
    async with SageMaker(tmp_path, FakeAws()) as sagemaker:
        yield sagemaker


async def invoke(sagemaker: SageMaker, body: bytes, **members: Any) -> dict[str, Any]:
    return await sagemaker.runtime.invoke_endpoint(
        EndpointName="scenes", Body=body, **{"ContentType": "application/json", **members}
    )


async def refused(sagemaker: SageMaker, body: bytes, **members: Any) -> AWSError:
    with pytest.raises(AWSError) as error:
        await invoke(sagemaker, body, **members)
    return error.value


async def test_the_answer_names_its_variant_and_content_type(sagemaker: SageMaker) -> None:
    await sagemaker.serve("scenes", code=PICKY)

    assert await invoke(sagemaker, b"[4]", Accept="text/plain", InferenceId="i-1") == {
        "Body": b"0.25",
        "ContentType": "text/plain",
        "InvokedProductionVariant": "AllTraffic",
    }


async def test_an_endpoint_that_does_not_exist_is_not_found(sagemaker: SageMaker) -> None:
    error = await refused(sagemaker, b"[1]")

    assert (error.code, error.status, error.message) == (
        "ValidationError",
        400,
        "Endpoint scenes of account 111111111111 not found.",
    )


async def test_an_error_with_a_status_is_a_client_error(sagemaker: SageMaker) -> None:
    await sagemaker.serve("scenes", code=PICKY)

    error = await refused(sagemaker, b'"x"')

    assert (error.code, error.status) == ("ModelError", 424)
    assert error.message == (
        'Received client error (422) from primary with message "only lists". See '
        "https://us-east-1.console.aws.amazon.com/cloudwatch/home?region=us-east-1"
        "#logEventViewer:group=/aws/sagemaker/Endpoints/scenes in account 111111111111 for more information."
    )
    assert error.members == {
        "OriginalStatusCode": 422,
        "OriginalMessage": "only lists",
        "LogStreamArn": "arn:aws:logs:us-east-1:111111111111:log-group:/aws/sagemaker/Endpoints/scenes",
    }


async def test_any_other_error_is_a_server_error_with_its_traceback(sagemaker: SageMaker) -> None:
    await sagemaker.serve("scenes", code=PICKY)

    error = await refused(sagemaker, b"[0]")

    assert error.members["OriginalStatusCode"] == 500
    assert error.members["OriginalMessage"].startswith("division by zero\nTraceback (most recent call last):")


async def test_a_process_that_dies_under_a_request_is_back_for_the_next(sagemaker: SageMaker) -> None:
    await sagemaker.serve("scenes", code=PICKY)

    error = await refused(sagemaker, b'"die"')

    assert (error.code, error.members["OriginalStatusCode"]) == ("ModelError", 0)
    assert (await invoke(sagemaker, b"[2]"))["Body"] == b"0.5"


async def test_a_handler_that_hangs_is_given_up_and_the_next_request_is_answered(
    sagemaker: SageMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sagemaker.model("slow", code=PICKY, SAGEMAKER_MODEL_SERVER_TIMEOUT="0.5")
    sagemaker.config("slow", "slow")
    sagemaker.endpoints.create_endpoint(EndpointName="scenes", EndpointConfigName="slow")
    await sagemaker.settled("scenes")

    error = await refused(sagemaker, b'"hang"')

    assert error.members["OriginalMessage"] == "The prediction took more than 0.5 s"
    async with asyncio.timeout(30):
        while (await answer_or_error(sagemaker)) != b"0.5":
            pass
    monkeypatch.setattr(runtime, "_SECONDS", 0.3)
    await sagemaker.serve("other", code=PICKY)
    with pytest.raises(AWSError, match="Your invocation timed out while waiting for a response") as timed_out:
        await sagemaker.runtime.invoke_endpoint(EndpointName="other", Body=b'"hang"')
    assert timed_out.value.members["OriginalStatusCode"] == 0


async def answer_or_error(sagemaker: SageMaker) -> bytes:
    """A request that is under way when the process goes is lost; that is an error of its own."""
    try:
        return bytes((await invoke(sagemaker, b"[2]"))["Body"])
    except AWSError as error:
        return error.message.encode()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"TargetVariant": "other"}, "Variant other of endpoint scenes of account 111111111111 not found."),
        (
            {"TargetModel": "m.tar.gz"},
            "Endpoint scenes of account 111111111111 is not a multi-model endpoint. Invoke it without "
            "TargetModel.",
        ),
        (
            {"TargetContainerHostname": "c"},
            "TargetContainerHostname c is none of the containers of endpoint scenes of account 111111111111 "
            "that can be invoked directly: [].",
        ),
        ({"SessionId": "NEW_SESSION"}, "SessionId is not supported by the local runtime"),
        ({"body": b"x" * 6_291_457}, "Value at 'body' failed to satisfy constraint"),
    ],
    ids=["variant", "model", "container", "session", "size"],
)
async def test_a_request_that_cannot_be_sent_is_refused(
    sagemaker: SageMaker, members: dict[str, Any], message: str
) -> None:
    await sagemaker.serve("scenes")

    error = await refused(sagemaker, **{"body": b"1", **members})

    assert error.code == "ValidationError"
    assert message in error.message


async def test_captured_data_is_in_s3_as_aws_writes_it(sagemaker: SageMaker) -> None:
    capture = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": "s3://data/capture",
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]},
    }
    await sagemaker.serve("scenes", code=PICKY, DataCaptureConfig=capture)

    await invoke(sagemaker, b"[4]", InferenceId="i-1", CustomAttributes="a=1")
    await invoke(sagemaker, b"[8]")
    await refused(sagemaker, b"[0]")
    await sagemaker.runtime.stop()

    [uri] = [uri for uri in sagemaker.aws.objects if uri.startswith("s3://data/capture/")]
    endpoint, variant, *time, name = uri.removeprefix("s3://data/capture/").split("/")
    assert (endpoint, variant, len(time), name[-6:]) == ("scenes", "AllTraffic", 4, ".jsonl")
    first, second = (json.loads(line) for line in sagemaker.aws.objects[uri].splitlines())
    event_id, inference_time = (first["eventMetadata"].pop(key) for key in ("eventId", "inferenceTime"))
    assert (len(event_id), inference_time[-1]) == (36, "Z")
    assert first == {
        "captureData": {
            "endpointInput": {
                "observedContentType": "application/json",
                "mode": "INPUT",
                "data": "[4]",
                "encoding": "JSON",
            },
            "endpointOutput": {
                "observedContentType": "text/plain",
                "mode": "OUTPUT",
                "data": base64.b64encode(b"0.25").decode(),
                "encoding": "BASE64",
            },
        },
        "eventMetadata": {"customAttributes": ["a=1"], "inferenceId": "i-1"},
        "eventVersion": "0",
    }
    assert second["captureData"]["endpointInput"]["data"] == "[8]"
    described = sagemaker.endpoints.describe_endpoint(EndpointName="scenes")
    assert described["DataCaptureConfig"] == {
        "EnableCapture": True,
        "CaptureStatus": "Started",
        "CurrentSamplingPercentage": 100,
        "DestinationS3Uri": "s3://data/capture",
        "KmsKeyId": "",
    }


async def test_invocations_are_counted_and_timed_in_cloudwatch(sagemaker: SageMaker) -> None:
    await sagemaker.serve("scenes", code=PICKY)

    await invoke(sagemaker, b"[4]")
    await refused(sagemaker, b"[0]")
    await refused(sagemaker, b'"x"')
    await sagemaker.runtime.stop()

    latencies: list[float] = []
    counts: dict[str, dict[str, float]] = {}
    for datum in sagemaker.aws.metrics:
        latencies += datum.get("Values", [])
        if "StatisticValues" in datum:
            assert datum["MetricName"] not in counts  # all of them within one sending
            counts[datum["MetricName"]] = datum["StatisticValues"]
        assert datum["Dimensions"] == [
            {"Name": "EndpointName", "Value": "scenes"},
            {"Name": "VariantName", "Value": "AllTraffic"},
        ]
    assert len(latencies) == 6  # of the model, and over it
    assert all(0 < latency < 60_000_000 for latency in latencies)
    three = {"SampleCount": 3.0, "Minimum": 0.0, "Maximum": 1.0}
    assert counts == {
        "Invocations": {**three, "Minimum": 1.0, "Sum": 3.0},
        "InvocationsPerInstance": {**three, "Minimum": 1.0, "Sum": 3.0},
        "Invocation4XXErrors": {**three, "Sum": 1.0},
        "Invocation5XXErrors": {**three, "Sum": 1.0},
        "InvocationModelErrors": {**three, "Sum": 2.0},
    }
