"""Multi-model endpoints: models that are loaded when they are asked for, and make room for each other."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from stagegate.local.sagemaker import multi_model
from stagegate.local.service import AWSError
from tests.local.sagemaker.fakes import ECHO, FakeAws, SageMaker, archive, variant

PREFIX = "s3://data/models"


@pytest.fixture
async def sagemaker(tmp_path: Path) -> AsyncIterator[SageMaker]:
    async with SageMaker(tmp_path / "data", FakeAws()) as sagemaker:
        yield sagemaker


def put(sagemaker: SageMaker, name: str, code: str | None = None) -> None:
    files = {"code/inference.py": code or ECHO.format(version=name)}
    sagemaker.aws.objects[f"{PREFIX}/{name}.tar.gz"] = archive(files)


async def serve(sagemaker: SageMaker, **members: Any) -> None:
    container = {"Image": "pytorch:2", "Mode": "MultiModel", "ModelDataUrl": f"{PREFIX}/", **members}
    await sagemaker.models.create_model(ModelName="many", PrimaryContainer=container)
    sagemaker.models.create_endpoint_config(
        EndpointConfigName="many", ProductionVariants=[variant("many", "AllTraffic")]
    )
    sagemaker.endpoints.create_endpoint(EndpointName="many", EndpointConfigName="many")
    assert await sagemaker.settled("many") == "InService"


async def ask(sagemaker: SageMaker, target: str | None, **members: Any) -> dict[str, Any]:
    if target is not None:
        members["TargetModel"] = f"{target}.tar.gz"
    answer = await sagemaker.runtime.invoke_endpoint(
        EndpointName="many", Body=b"[1]", ContentType="application/json", **members
    )
    said: dict[str, Any] = json.loads(answer["Body"])
    return said


async def test_each_model_answers_for_itself_and_is_loaded_once(sagemaker: SageMaker) -> None:
    await serve(sagemaker)
    put(sagemaker, "cats")  # after the endpoint
    put(sagemaker, "below/dogs")

    cats, dogs, again = await asyncio.gather(
        ask(sagemaker, "cats"), ask(sagemaker, "below/dogs"), ask(sagemaker, "cats")
    )

    assert (cats["model"], dogs["model"]) == ("cats", "below/dogs")
    assert again["pid"] == cats["pid"] != dogs["pid"]


async def test_the_model_that_was_not_asked_for_the_longest_makes_room(
    sagemaker: SageMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multi_model, "_MOST_LOADED", 2)
    await serve(sagemaker)
    for name in ("a", "b", "c"):
        put(sagemaker, name)

    first = {name: (await ask(sagemaker, name))["pid"] for name in ("a", "b")}
    assert (await ask(sagemaker, "a"))["pid"] == first["a"]
    await ask(sagemaker, "c")
    second = {name: (await ask(sagemaker, name))["pid"] for name in ("a", "b")}

    assert second["a"] == first["a"]
    assert second["b"] != first["b"]
    await sagemaker.endpoints.stop()
    assert not any(psutil.pid_exists(pid) for pid in (*first.values(), *second.values()))


async def test_without_a_cache_a_model_goes_when_it_has_answered(sagemaker: SageMaker) -> None:
    await serve(sagemaker, MultiModelConfig={"ModelCacheSetting": "Disabled"})
    put(sagemaker, "once")

    first, second = await ask(sagemaker, "once"), await ask(sagemaker, "once")

    assert first["pid"] != second["pid"]


async def test_a_model_that_is_not_there_or_does_not_load_says_so(sagemaker: SageMaker) -> None:
    await serve(sagemaker)
    put(sagemaker, "broken", "def model_fn(model_dir):\n    raise OSError('no weights')\n")

    with pytest.raises(AWSError) as absent:
        await ask(sagemaker, "late")
    with pytest.raises(AWSError) as broken:
        await ask(sagemaker, "broken")
    put(sagemaker, "late")

    assert (absent.value.code, absent.value.message) == (
        "ValidationError",
        "Failed to download model data(bucket: data, key: models/late.tar.gz). Please ensure that there is "
        "an object located at the URL and that the role passed to CreateModel has permissions to download "
        "the model.",
    )
    assert broken.value.code == "ModelError"
    assert broken.value.members["OriginalStatusCode"] == 500
    assert "Failed to load the model broken.tar.gz" in broken.value.members["OriginalMessage"]
    assert (await ask(sagemaker, "late"))["model"] == "late"


async def test_a_target_model_is_asked_for_where_there_are_several_and_only_there(
    sagemaker: SageMaker,
) -> None:
    await serve(sagemaker)
    await sagemaker.serve("one")

    for endpoint, target, kind in (("many", {}, "a"), ("one", {"TargetModel": "x.tar.gz"}, "not a")):
        with pytest.raises(AWSError, match=f"Endpoint {endpoint} of .* is {kind} multi-model endpoint"):
            await sagemaker.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"", **target)
    with pytest.raises(AWSError, match="TargetModel must name a model of this multi-model endpoint"):
        await ask(sagemaker, "../secrets")
    with pytest.raises(AWSError, match="A model with Mode MultiModel goes with none of AsyncInferenceConfig"):
        sagemaker.models.create_endpoint_config(
            EndpointConfigName="async",
            ProductionVariants=[variant("many", "AllTraffic")],
            AsyncInferenceConfig={"OutputConfig": {"S3OutputPath": "s3://data/answers"}},
        )
