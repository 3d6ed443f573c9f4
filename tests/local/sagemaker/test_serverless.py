import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from stagegate.local.sagemaker import serverless
from stagegate.local.sagemaker.serverless import ServerlessProcess
from stagegate.local.service import AWSError
from tests.local.sagemaker.fakes import FakeAws, SageMaker, variant

CODE = """
import json, os, time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    print("asked")
    path = json.loads(data)
    while path and not os.path.exists(path):
        time.sleep(0.01)
    return str(os.getpid()), "text/plain"
"""


def serverless_variant(model: str, **members: Any) -> dict[str, Any]:
    config = {"MemorySizeInMB": 2048, "MaxConcurrency": 2, **members}
    return {"VariantName": "AllTraffic", "ModelName": model, "ServerlessConfig": config}


async def serve(sagemaker: SageMaker, **members: Any) -> None:
    await sagemaker.model("scenes", code=CODE)
    sagemaker.models.create_endpoint_config(
        EndpointConfigName="scenes", ProductionVariants=[serverless_variant("scenes", **members)]
    )
    sagemaker.endpoints.create_endpoint(EndpointName="scenes", EndpointConfigName="scenes")
    assert await sagemaker.settled("scenes") == "InService"


@pytest.fixture
async def sagemaker(tmp_path: Path) -> AsyncIterator[SageMaker]:
    async with SageMaker(tmp_path / "data", FakeAws()) as sagemaker:
        yield sagemaker


async def ask(sagemaker: SageMaker, wait_for: Path | None = None) -> psutil.Process:
    """The process that answers."""
    answer = await sagemaker.runtime.invoke_endpoint(
        EndpointName="scenes",
        Body=json.dumps(wait_for and str(wait_for)).encode(),
        ContentType="application/json",
    )
    return psutil.Process(int(answer["Body"]))


async def ended(process: psutil.Process) -> None:
    """Return when it has ended; the kernel says when."""
    end = asyncio.Event()
    loop = asyncio.get_running_loop()
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    loop.add_reader(descriptor, end.set)
    try:
        await asyncio.wait_for(end.wait(), 30)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def test_it_ends_when_nobody_asks_and_is_started_by_the_next_request(
    sagemaker: SageMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await serve(sagemaker)
    first = await ask(sagemaker)
    monkeypatch.setattr(serverless, "_IDLE_SECONDS", 0.2)
    assert await ask(sagemaker) == first

    await ended(first)
    monkeypatch.setattr(serverless, "_IDLE_SECONDS", 300)
    second = await ask(sagemaker)

    assert second != first
    [described] = sagemaker.endpoints.describe_endpoint(EndpointName="scenes")["ProductionVariants"]
    del described["DeployedImages"]
    config = {"MemorySizeInMB": 2048, "MaxConcurrency": 2}
    assert described == {
        "VariantName": "AllTraffic",
        "CurrentWeight": 1.0,
        "DesiredWeight": 1.0,
        "CurrentInstanceCount": 0,
        "CurrentServerlessConfig": config,
        "DesiredServerlessConfig": config,
    }


async def test_more_requests_than_it_takes_at_once_are_throttled(
    sagemaker: SageMaker, tmp_path: Path
) -> None:
    await serve(sagemaker)
    go = tmp_path / "go"

    async with asyncio.TaskGroup() as group:
        answers = [group.create_task(ask(sagemaker, go)) for _ in range(2)]
        await asyncio.sleep(0)  # both are under way
        with pytest.raises(AWSError) as error:
            await ask(sagemaker)
        sagemaker.endpoints.update_endpoint_weights_and_capacities(
            EndpointName="scenes",
            DesiredWeightsAndCapacities=[
                {"VariantName": "AllTraffic", "ServerlessUpdateConfig": {"MaxConcurrency": 3}}
            ],
        )
        assert await sagemaker.settled("scenes") == "InService"
        answers.append(group.create_task(ask(sagemaker)))
        await asyncio.sleep(0)
        go.touch()

    assert error.value.code == "ThrottlingException"
    assert len({answer.result().pid for answer in answers}) == 1
    [described] = sagemaker.endpoints.describe_endpoint(EndpointName="scenes")["ProductionVariants"]
    assert described["CurrentServerlessConfig"]["MaxConcurrency"] == 3


async def test_provisioned_concurrency_keeps_it_awake(
    sagemaker: SageMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serverless, "_IDLE_SECONDS", 0)
    await serve(sagemaker, ProvisionedConcurrency=1)

    first = await ask(sagemaker)
    await asyncio.sleep(0.05)  # the timer, which must do nothing

    assert await ask(sagemaker) == first


async def test_after_a_restart_it_waits_for_the_first_request(tmp_path: Path) -> None:
    aws = FakeAws()
    async with SageMaker(tmp_path / "data", aws) as before:
        await serve(before)

    async with SageMaker(tmp_path / "data", aws) as after:
        await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "resume scenes"))
        [(fleet, _)] = after.endpoints._routes.get("scenes").fleets
        process = fleet.variants["AllTraffic"]
        assert isinstance(process, ServerlessProcess)
        assert process.pid is None
        assert (await ask(after)).pid == process.pid


async def test_a_model_that_does_not_stand_up_fails_the_endpoint(sagemaker: SageMaker) -> None:
    await sagemaker.model("broken", code="raise RuntimeError")
    sagemaker.models.create_endpoint_config(
        EndpointConfigName="broken", ProductionVariants=[serverless_variant("broken")]
    )

    sagemaker.endpoints.create_endpoint(EndpointName="scenes", EndpointConfigName="broken")

    assert await sagemaker.settled("scenes") == "Failed"
    reason = sagemaker.endpoints.describe_endpoint(EndpointName="scenes")["FailureReason"]
    assert reason.startswith(
        "Unable to successfully stand up your model within the allotted 180 second timeout."
    )


@pytest.mark.parametrize(
    ("variants", "members", "message"),
    [
        ([{**variant("a"), "ServerlessConfig": {}}], {}, "InstanceType cannot be specified together"),
        ([serverless_variant("a", MemorySizeInMB=1500)], {}, "MemorySizeInMB must be one of 1024, 2048"),
        ([serverless_variant("a", ProvisionedConcurrency=3)], {}, "must not exceed MaxConcurrency"),
        ([serverless_variant("a"), variant("a", "b")], {}, "Only one production variant"),
        (
            [serverless_variant("a")],
            {"EnableNetworkIsolation": True},
            "EnableNetworkIsolation is not supported",
        ),
        (
            [serverless_variant("a")],
            {"AsyncInferenceConfig": {"OutputConfig": {}}},
            "AsyncInferenceConfig is not supported",
        ),
    ],
    ids=["instances", "memory", "provisioned", "two", "isolation", "async"],
)
async def test_what_aws_does_not_do_without_servers_is_refused(
    sagemaker: SageMaker, variants: list[Any], members: dict[str, Any], message: str
) -> None:
    await sagemaker.model("a")
    with pytest.raises(AWSError, match=message) as error:
        sagemaker.models.create_endpoint_config(
            EndpointConfigName="scenes", ProductionVariants=variants, **members
        )
    assert error.value.code == "ValidationException"
