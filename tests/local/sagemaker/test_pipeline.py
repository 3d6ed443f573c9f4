"""Models of several containers: in a row, or asked for by name."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from stagegate.local.service import AWSError
from tests.local.sagemaker.fakes import FakeAws, SageMaker, archive, variant

STEP = """
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    data = data if isinstance(data, str) else data.decode()
    if "bad" in data:
        raise Refused("{name} refuses " + data)
    return f"{name}({{data}}:{{content_type}}:{{accept}})", "{type}"

class Refused(Exception):
    status_code = 422
"""


@pytest.fixture
async def sagemaker(tmp_path: Path) -> AsyncIterator[SageMaker]:
    async with SageMaker(tmp_path / "data", FakeAws()) as sagemaker:
        yield sagemaker


def container(sagemaker: SageMaker, name: str, kind: str, **members: Any) -> dict[str, Any]:
    code = STEP.replace("{name}", name).replace("{type}", kind).replace("{{", "{").replace("}}", "}")
    uri = f"s3://data/{name}.tar.gz"
    sagemaker.aws.objects[uri] = archive({"code/inference.py": code})
    return {"Image": f"{name}:1", "ModelDataUrl": uri, **members}


async def serve(sagemaker: SageMaker, containers: list[dict[str, Any]], mode: str | None = None) -> None:
    execution = {"InferenceExecutionConfig": {"Mode": mode}} if mode else {}
    await sagemaker.models.create_model(ModelName="row", Containers=containers, **execution)
    sagemaker.models.create_endpoint_config(
        EndpointConfigName="row", ProductionVariants=[variant("row", "AllTraffic")]
    )
    sagemaker.endpoints.create_endpoint(EndpointName="row", EndpointConfigName="row")
    assert await sagemaker.settled("row") == "InService"


async def ask(sagemaker: SageMaker, body: bytes = b"x", **members: Any) -> str:
    answer = await sagemaker.runtime.invoke_endpoint(
        EndpointName="row", Body=body, ContentType="text/csv", **members
    )
    return str(answer["Body"].decode())


async def test_in_a_row_each_container_reads_what_the_one_before_has_written(sagemaker: SageMaker) -> None:
    environment = {"SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "a/b"}
    first = container(sagemaker, "first", "text/csv", Environment=environment)
    second = container(sagemaker, "second", "text/plain")
    await serve(sagemaker, [first, second])

    answer = await ask(sagemaker, Accept="image/png")
    with pytest.raises(AWSError) as refused:
        await ask(sagemaker, b"bad")
    streamed = await sagemaker.runtime.invoke_endpoint_with_response_stream(EndpointName="row", Body=b"x")
    parts = [part["PayloadPart"]["Bytes"] async for part in streamed["Body"]]

    assert answer == "second(first(x:text/csv:a/b):text/csv:image/png)"
    assert refused.value.members["OriginalStatusCode"] == 422
    assert refused.value.members["OriginalMessage"] == "first refuses bad"
    assert parts == [b"second(first(x:application/octet-stream:a/b):text/csv:application/json)"]
    described = sagemaker.endpoints.describe_endpoint(EndpointName="row")["ProductionVariants"][0]
    assert [image["SpecifiedImage"] for image in described["DeployedImages"]] == ["first:1", "second:1"]


async def test_a_container_is_asked_for_by_name_where_they_are_direct(sagemaker: SageMaker) -> None:
    cats = container(sagemaker, "cats", "text/plain", ContainerHostname="cats")
    dogs = container(sagemaker, "dogs", "text/plain", ContainerHostname="dogs")
    await serve(sagemaker, [cats, dogs], mode="Direct")

    answers = [await ask(sagemaker, TargetContainerHostname=name, Accept="a/b") for name in ("cats", "dogs")]

    assert answers == ["cats(x:text/csv:a/b)", "dogs(x:text/csv:a/b)"]
    for target in ({}, {"TargetContainerHostname": "birds"}):
        with pytest.raises(AWSError, match=r"is none of the containers of endpoint row .*'cats', 'dogs'"):
            await ask(sagemaker, **target)
    described = sagemaker.models.describe_model(ModelName="row")
    assert described["InferenceExecutionConfig"] == {"Mode": "Direct"}
    assert [one["ContainerHostname"] for one in described["Containers"]] == ["cats", "dogs"]


async def test_containers_that_do_not_go_together_are_refused(sagemaker: SageMaker) -> None:
    one = container(sagemaker, "one", "text/plain")
    named = {**one, "ContainerHostname": "one"}

    for containers, mode, message in (
        ([one, one], "Direct", "needs a ContainerHostname where the Mode is Direct"),
        ([named, named], "Serial", "must be unique"),
        ([one, {**one, "Mode": "MultiModel"}], "Serial", "Mode MultiModel is for a model of one container"),
        ([one] * 16, "Serial", "at most 15 containers, not 16"),
    ):
        with pytest.raises(AWSError, match=message):
            await sagemaker.models.create_model(
                ModelName="row", Containers=containers, InferenceExecutionConfig={"Mode": mode}
            )


async def test_a_container_that_does_not_start_fails_the_endpoint(sagemaker: SageMaker) -> None:
    good = container(sagemaker, "good", "text/plain")
    bad = container(sagemaker, "bad", "text/plain")
    sagemaker.aws.objects["s3://data/bad.tar.gz"] = archive({"code/inference.py": "1 / 0"})
    await sagemaker.models.create_model(ModelName="row", Containers=[good, bad])
    sagemaker.models.create_endpoint_config(
        EndpointConfigName="row", ProductionVariants=[variant("row", "AllTraffic")]
    )
    sagemaker.endpoints.create_endpoint(EndpointName="row", EndpointConfigName="row")

    assert await sagemaker.settled("row") == "Failed"
    assert json.dumps(dict(sagemaker.aws.logs)).count("ZeroDivisionError: division by zero") == 1
