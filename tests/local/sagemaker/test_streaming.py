"""InvokeEndpointWithResponseStream, read by boto3 as its users do."""

import contextlib
import os

import pytest
from botocore.exceptions import ClientError, EventStreamError

from tests.local.sagemaker.fakes import archive, variant

CODE = """
import json, os

def model_fn(model_dir):
    return None

def input_fn(body, content_type):
    return json.loads(body)

def predict_fn(data, model):
    return data

def output_fn(data, accept):
    if "refuses" in data:
        raise ValueError("no stream of this")
    return parts(data)

def parts(data):
    yield "first "
    if "gate" in data:
        open(data["gate"]).read()
    if "dies" in data:
        os._exit(1)
    if "raises" in data:
        raise ValueError("broken")
    yield b"second"
"""


@pytest.fixture(scope="module")
def endpoint(shared_local):
    s3, sagemaker = shared_local.client("s3"), shared_local.client("sagemaker")
    s3.create_bucket(Bucket="streams")
    s3.put_object(Bucket="streams", Key="model.tar.gz", Body=archive({"code/inference.py": CODE}))
    container = {"Image": "pytorch", "ModelDataUrl": "s3://streams/model.tar.gz"}
    role = "arn:aws:iam::111111111111:role/serving"
    sagemaker.create_model(ModelName="words", PrimaryContainer=container, ExecutionRoleArn=role)
    sagemaker.create_endpoint_config(
        EndpointConfigName="words",
        ProductionVariants=[variant("words")],
        DataCaptureConfig={
            "InitialSamplingPercentage": 100,
            "DestinationS3Uri": "s3://streams/captured",
            "CaptureOptions": [{"CaptureMode": "InputAndOutput"}],
        },
    )
    sagemaker.create_endpoint(EndpointName="words", EndpointConfigName="words")
    sagemaker.get_waiter("endpoint_in_service").wait(
        EndpointName="words", WaiterConfig={"Delay": 0.2, "MaxAttempts": 300}
    )
    return shared_local.client("sagemaker-runtime")


def stream(endpoint, body):
    return endpoint.invoke_endpoint_with_response_stream(
        EndpointName="words", Body=body, ContentType="application/json", Accept="text/plain"
    )


def texts(answer):
    with contextlib.closing(answer["Body"]) as events:
        for event in events:
            yield event["PayloadPart"]["Bytes"].decode()


def test_a_part_arrives_before_the_next_one_is_made(endpoint, tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    answer = stream(endpoint, f'{{"gate": "{gate}"}}'.encode())
    parts = texts(answer)
    assert next(parts) == "first "
    gate.open("w").close()  # the model waits for it
    assert list(parts) == ["second"]

    assert answer["ContentType"] == "text/plain"
    assert answer["InvokedProductionVariant"] == "words"


def test_a_stream_is_one_body_for_who_asks_for_one(endpoint):
    answer = endpoint.invoke_endpoint(EndpointName="words", Body=b"{}", ContentType="application/json")

    assert answer["Body"].read() == b"first second"


def test_an_answer_that_is_refused_is_a_model_error(endpoint):
    with pytest.raises(ClientError) as error:
        stream(endpoint, b'{"refuses": true}')

    assert error.value.response["Error"]["Code"] == "ModelError"
    assert error.value.response["OriginalStatusCode"] == 500
    assert "no stream of this" in error.value.response["OriginalMessage"]


@pytest.mark.parametrize("fault", ["raises", "dies"])
def test_a_stream_that_breaks_off_ends_with_an_error_of_its_own(endpoint, fault):
    parts = texts(stream(endpoint, f'{{"{fault}": true}}'.encode()))

    assert next(parts) == "first "
    with pytest.raises(EventStreamError) as error:
        next(parts)
    assert error.value.response["Error"]["Code"] == "ModelStreamError"
    assert list(texts(stream(endpoint, b"{}"))) == ["first ", "second"]


def test_a_client_that_hangs_up_leaves_the_model_to_others(endpoint, tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    parts = texts(stream(endpoint, f'{{"gate": "{gate}"}}'.encode()))
    assert next(parts) == "first "
    with gate.open("w"):  # the handler is there, and waits
        parts.close()

    assert list(texts(stream(endpoint, b"{}"))) == ["first ", "second"]
