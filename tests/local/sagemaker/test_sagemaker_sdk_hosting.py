"""Asynchronous and serverless endpoints by SageMaker's own Python SDK."""

import threading

import pytest

from tests.local.sagemaker import test_sagemaker_sdk as given

pytestmark = given.pytestmark
sdk, source, data, trained = given.sdk, given.source, given.data, given.trained


@pytest.fixture
def model(sdk, source, trained):
    from sagemaker.pytorch import PyTorchModel

    return PyTorchModel(
        model_data=trained.model_data,
        role=given.ROLE,
        entry_point="inference.py",
        source_dir=str(source),
        framework_version="2.3",
        py_version="py311",
        sagemaker_session=sdk,
    )


@pytest.fixture
def as_json():
    from sagemaker.deserializers import JSONDeserializer
    from sagemaker.serializers import JSONSerializer

    return {"serializer": JSONSerializer(), "deserializer": JSONDeserializer()}


@pytest.fixture
def failures(sdk):
    """The places where failures of asynchronous requests would lie. The SDK looks for each in a thread
    that goes on when the answer is there, and would outlive the server: these are let find one."""
    places = []
    events = sdk.sagemaker_runtime_client.meta.events
    event = "after-call.sagemaker-runtime.InvokeEndpointAsync"

    def noted(parsed, **_):
        places.append(parsed["FailureLocation"])

    events.register(event, noted)
    yield places
    events.unregister(event, noted)
    for place in places:
        bucket, key = place.removeprefix("s3://").split("/", 1)
        sdk.upload_string_as_file_body("ended", bucket, key)
    for thread in threading.enumerate():
        if "check_failure_file" in thread.name:
            thread.join()


def test_a_model_is_asked_through_s3(sdk, model, as_json, failures):
    from sagemaker.async_inference import AsyncInferenceConfig, WaiterConfig

    soon = WaiterConfig(max_attempts=100, delay=1)
    predictor = model.deploy(
        initial_instance_count=1,
        instance_type="ml.m5.large",
        async_inference_config=AsyncInferenceConfig(output_path=f"s3://{given.BUCKET}/answers"),
        **as_json,
    )
    answer = predictor.predict([1, 2], waiter_config=soon)
    later = predictor.predict_async([3])
    result = later.get_result(soon)
    predictor.delete_endpoint()

    assert answer == [2.5, 5.0]
    assert result == [7.5]
    assert later.output_path.startswith(f"s3://{given.BUCKET}/answers/")
    assert len(failures) == 2


def test_a_model_is_served_without_instances(sdk, model, as_json):
    from sagemaker.serverless import ServerlessInferenceConfig

    predictor = model.deploy(
        serverless_inference_config=ServerlessInferenceConfig(memory_size_in_mb=2048, max_concurrency=2),
        **as_json,
    )
    answer = predictor.predict([1, 2])
    endpoint = sdk.sagemaker_client.describe_endpoint(EndpointName=predictor.endpoint_name)
    predictor.delete_endpoint()

    (variant,) = endpoint["ProductionVariants"]
    assert answer == [2.5, 5.0]
    assert variant["CurrentServerlessConfig"] == {"MemorySizeInMB": 2048, "MaxConcurrency": 2}


def test_a_model_transforms_a_data_set(sdk, model, capsys):
    transformer = model.transformer(
        instance_count=1,
        instance_type="ml.m5.large",
        output_path=f"s3://{given.BUCKET}/transformed",
        accept="application/json",
        strategy="SingleRecord",
        assemble_with="Line",
    )
    data = f"s3://{given.BUCKET}/to-transform"
    sdk.upload_string_as_file_body("[1, 2]\n[3]\n", given.BUCKET, "to-transform/lines.jsonl")

    transformer.transform(data, content_type="application/json", split_type="Line", wait=False)
    sdk.wait_for_transform_job(transformer.latest_transform_job.name, poll=0.2)
    sdk.logs_for_transform_job(transformer.latest_transform_job.name, wait=False)

    assert sdk.read_s3_file(given.BUCKET, "transformed/lines.jsonl.out") == "[2.5, 5.0]\n[7.5]\n"
    assert "MaxConcurrentTransforms=1, MaxPayloadInMB=6" in capsys.readouterr().out


def test_one_endpoint_serves_many_models(sdk, model, as_json):
    from sagemaker.multidatamodel import MultiDataModel

    many = MultiDataModel(
        name="many",
        model_data_prefix=f"s3://{given.BUCKET}/many/",
        model=model,
        sagemaker_session=sdk,
    )
    predictor = many.deploy(initial_instance_count=1, instance_type="ml.m5.large", **as_json)
    many.add_model(model.repacked_model_data, "first.tar.gz")

    answer = predictor.predict([1, 2], target_model="first.tar.gz")
    listed = list(many.list_models())
    predictor.delete_endpoint()

    assert answer == [2.5, 5.0]
    assert listed == ["first.tar.gz"]


def test_models_in_a_row_answer_together(sdk, model, as_json):
    from sagemaker.pipeline import PipelineModel
    from sagemaker.predictor import Predictor

    row = PipelineModel(
        models=[model, model], role=given.ROLE, predictor_cls=Predictor, sagemaker_session=sdk
    )
    predictor = row.deploy(initial_instance_count=1, instance_type="ml.m5.large", **as_json)

    answer = predictor.predict([1, 2])
    predictor.delete_endpoint()

    assert answer == [6.25, 12.5]
