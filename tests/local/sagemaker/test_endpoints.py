import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from stagegate.local.sagemaker.routing import routes_of
from stagegate.local.service import AWSError
from tests.local.sagemaker.fakes import ECHO, FakeAws, SageMaker, archive, variant

ARN = "arn:aws:sagemaker:us-east-1:111111111111"
ALL_AT_ONCE = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}


@pytest.fixture
async def sagemaker(tmp_path: Path) -> AsyncIterator[SageMaker]:
    async with SageMaker(tmp_path, FakeAws()) as sagemaker:
        yield sagemaker


async def ask(sagemaker: SageMaker, endpoint: str, **members: Any) -> dict[str, Any]:
    answer = await sagemaker.runtime.invoke_endpoint(
        EndpointName=endpoint,
        **{"Body": b'"?"', "ContentType": "application/json", "Accept": "application/json", **members},
    )
    body: dict[str, Any] = json.loads(answer["Body"])
    return body


def statuses(sagemaker: SageMaker) -> list[str]:
    return [event.detail["EndpointStatus"] for event in sagemaker.announcements]


def policy(routing: dict[str, Any], *alarms: str) -> dict[str, Any]:
    rollback = {"Alarms": [{"AlarmName": name} for name in alarms]}
    return {
        "BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing},
        **({"AutoRollbackConfiguration": rollback} if alarms else {}),
    }


def without_times(value: Any) -> Any:
    match value:
        case dict():
            return {name: without_times(member) for name, member in value.items() if "Time" not in name}
        case list():
            return [without_times(member) for member in value]
    return value


async def test_an_endpoint_goes_into_service_and_answers(sagemaker: SageMaker) -> None:
    await sagemaker.serve("scenes")

    assert (await ask(sagemaker, "scenes", Body=b'{"a": 1}'))["data"] == {"a": 1}
    assert without_times(sagemaker.endpoints.describe_endpoint(EndpointName="scenes")) == {
        "EndpointName": "scenes",
        "EndpointArn": f"{ARN}:endpoint/scenes",
        "EndpointConfigName": "scenes-1",
        "EndpointStatus": "InService",
        "ProductionVariants": [
            {
                "VariantName": "AllTraffic",
                "DeployedImages": [{"SpecifiedImage": "pytorch:2", "ResolvedImage": "pytorch:2"}],
                "CurrentWeight": 1.0,
                "DesiredWeight": 1.0,
                "CurrentInstanceCount": 1,
                "DesiredInstanceCount": 1,
            }
        ],
    }
    assert statuses(sagemaker) == ["CREATING", "IN_SERVICE"]
    assert sagemaker.announcements[-1].resources == (f"{ARN}:endpoint/scenes",)


async def test_what_the_handlers_print_is_in_cloudwatch_logs(sagemaker: SageMaker) -> None:
    await sagemaker.serve("scenes")
    await sagemaker.endpoints.stop()

    [(stream, lines)] = sagemaker.aws.logs.items()
    assert stream.startswith("/aws/sagemaker/Endpoints/scenes:AllTraffic/i-")
    assert lines[0].startswith("loaded from ")


async def test_a_model_that_does_not_load_fails_the_endpoint(sagemaker: SageMaker) -> None:
    await sagemaker.model("broken", code="def model_fn(model_dir): raise RuntimeError('no weights here')")
    sagemaker.config("broken", "broken")

    sagemaker.endpoints.create_endpoint(EndpointName="scenes", EndpointConfigName="broken")

    assert await sagemaker.settled("scenes") == "Failed"
    described = sagemaker.endpoints.describe_endpoint(EndpointName="scenes")
    assert described["FailureReason"] == (
        "The primary container for production variant broken did not pass the ping health check. "
        "Please check CloudWatch logs for this endpoint."
    )
    assert "RuntimeError: no weights here" in [
        line for lines in sagemaker.aws.logs.values() for line in lines
    ]
    with pytest.raises(AWSError, match="can only be deleted"):
        sagemaker.endpoints.update_endpoint(EndpointName="scenes", EndpointConfigName="broken")
    sagemaker.endpoints.delete_endpoint(EndpointName="scenes")
    await sagemaker.gone("scenes")


async def test_an_update_under_load_loses_no_request(sagemaker: SageMaker) -> None:
    await sagemaker.serve("scenes")
    await sagemaker.model("scenes-2")
    sagemaker.models.create_endpoint_config(
        EndpointConfigName="scenes-2", ProductionVariants=[variant("scenes-2", "AllTraffic")]
    )
    answers: list[str] = []
    is_over = asyncio.Event()

    async def load() -> None:
        while not is_over.is_set():
            answers.append((await ask(sagemaker, "scenes"))["model"])

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(load())
        sagemaker.endpoints.update_endpoint(EndpointName="scenes", EndpointConfigName="scenes-2")
        pending = sagemaker.endpoints.describe_endpoint(EndpointName="scenes")
        assert await sagemaker.settled("scenes") == "InService"
        is_over.set()

    assert pending["EndpointStatus"] == "Updating"
    assert pending["EndpointConfigName"] == "scenes-1"
    assert pending["PendingDeploymentSummary"]["EndpointConfigName"] == "scenes-2"
    assert answers[0] == "scenes-1"
    assert (await ask(sagemaker, "scenes"))["model"] == "scenes-2"
    described = sagemaker.endpoints.describe_endpoint(EndpointName="scenes")
    assert described["EndpointConfigName"] == "scenes-2"
    assert "PendingDeploymentSummary" not in described
    assert statuses(sagemaker) == ["CREATING", "IN_SERVICE", "UPDATING", "IN_SERVICE"]


async def test_a_request_in_flight_is_answered_by_the_old_fleet(sagemaker: SageMaker) -> None:
    waiting = ECHO.format(version="old").replace(
        "def predict_fn(data, model):",
        "def predict_fn(data, model):\n"
        "    while data == 'wait' and not os.path.exists(os.environ['GATE']): pass",
    )
    gate = sagemaker.endpoints.runtime.data / "gate"
    await sagemaker.model("old", code=waiting, GATE=str(gate))
    await sagemaker.model("new")
    for name in ("old", "new"):
        sagemaker.config(name, name)
    sagemaker.endpoints.create_endpoint(EndpointName="scenes", EndpointConfigName="old")
    await sagemaker.settled("scenes")

    slow = asyncio.create_task(ask(sagemaker, "scenes", Body=b'"wait"'))
    sagemaker.endpoints.update_endpoint(EndpointName="scenes", EndpointConfigName="new")
    assert await sagemaker.settled("scenes") == "InService"
    assert (await ask(sagemaker, "scenes"))["model"] == "new"
    gate.touch()

    assert (await slow)["model"] == "old"


async def test_an_update_that_fails_is_rolled_back(sagemaker: SageMaker) -> None:
    await sagemaker.serve("scenes")
    await sagemaker.model("broken", code="raise SystemExit(3)")
    sagemaker.config("broken", "broken")

    sagemaker.endpoints.update_endpoint(EndpointName="scenes", EndpointConfigName="broken")

    assert await sagemaker.settled("scenes") == "InService"
    described = sagemaker.endpoints.describe_endpoint(EndpointName="scenes")
    assert described["EndpointConfigName"] == "scenes-1"
    assert described["FailureReason"].startswith("The primary container for production variant broken")
    assert statuses(sagemaker)[2:] == ["UPDATING", "ROLLING_BACK", "IN_SERVICE"]
    assert (await ask(sagemaker, "scenes"))["model"] == "scenes-1"


@pytest.mark.parametrize(
    "routing",
    [
        {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 60},
        {
            "Type": "CANARY",
            "WaitIntervalInSeconds": 60,
            "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 10},
        },
    ],
    ids=lambda routing: str(routing["Type"]),
)
async def test_an_alarm_rolls_an_update_back(sagemaker: SageMaker, routing: dict[str, Any]) -> None:
    await sagemaker.serve("scenes")
    await sagemaker.model("slow")
    sagemaker.config("slow", "slow")
    sagemaker.aws.alarms.append("latency")

    sagemaker.endpoints.update_endpoint(
        EndpointName="scenes",
        EndpointConfigName="slow",
        DeploymentConfig=policy(routing, "errors", "latency"),
    )

    assert await sagemaker.settled("scenes") == "InService"
    described = sagemaker.endpoints.describe_endpoint(EndpointName="scenes")
    assert (described["EndpointConfigName"], described["FailureReason"]) == (
        "scenes-1",
        "One or more alarms are in ALARM state: latency. The update was rolled back.",
    )
    assert (await ask(sagemaker, "scenes"))["model"] == "scenes-1"


async def test_a_linear_update_ends_with_all_traffic_on_the_new_fleet(sagemaker: SageMaker) -> None:
    await sagemaker.serve("scenes")
    await sagemaker.model("new")
    sagemaker.config("new", "new")
    size = {"Type": "CAPACITY_PERCENT", "Value": 30}
    config = policy({"Type": "LINEAR", "WaitIntervalInSeconds": 0, "LinearStepSize": size})

    sagemaker.endpoints.update_endpoint(
        EndpointName="scenes", EndpointConfigName="new", DeploymentConfig=config
    )

    assert await sagemaker.settled("scenes") == "InService"
    assert [(await ask(sagemaker, "scenes"))["model"] for _ in range(5)] == ["new"] * 5
    assert sagemaker.endpoints.describe_endpoint(EndpointName="scenes")["LastDeploymentConfig"] == config


async def test_a_pending_variant_bakes_and_a_target_variant_is_found_where_it_is(
    sagemaker: SageMaker,
) -> None:
    await sagemaker.serve("scenes")
    await sagemaker.model("new")
    sagemaker.config("new", "new")
    size = {"Type": "CAPACITY_PERCENT", "Value": 50}
    config = policy({"Type": "CANARY", "WaitIntervalInSeconds": 600, "CanarySize": size})
    moved = asyncio.create_task(routes_of(sagemaker.endpoints.runtime).change())

    sagemaker.endpoints.update_endpoint(
        EndpointName="scenes", EndpointConfigName="new", DeploymentConfig=config
    )
    await asyncio.wait_for(moved, 30)
    described = sagemaker.endpoints.describe_endpoint(EndpointName="scenes")
    [pending] = described["PendingDeploymentSummary"]["ProductionVariants"]
    [status] = pending["VariantStatus"]
    assert (pending["VariantName"], status["Status"], pending["CurrentInstanceCount"]) == ("new", "Baking", 1)

    for name, model in (("AllTraffic", "scenes-1"), ("new", "new")):
        answers = {(await ask(sagemaker, "scenes", TargetVariant=name))["model"] for _ in range(20)}
        assert answers == {model}
    with pytest.raises(AWSError, match="Variant none of endpoint scenes"):
        await ask(sagemaker, "scenes", TargetVariant="none")


async def test_weights_decide_which_variant_answers(sagemaker: SageMaker) -> None:
    await sagemaker.model("a")
    await sagemaker.model("b")
    sagemaker.models.create_endpoint_config(
        EndpointConfigName="ab", ProductionVariants=[variant("a", weight=1), variant("b", weight=0)]
    )
    sagemaker.endpoints.create_endpoint(EndpointName="scenes", EndpointConfigName="ab")
    await sagemaker.settled("scenes")

    assert {(await ask(sagemaker, "scenes"))["model"] for _ in range(10)} == {"a"}
    assert (await ask(sagemaker, "scenes", TargetVariant="b"))["model"] == "b"
    sagemaker.endpoints.update_endpoint_weights_and_capacities(
        EndpointName="scenes",
        DesiredWeightsAndCapacities=[
            {"VariantName": "a", "DesiredWeight": 0},
            {"VariantName": "b", "DesiredWeight": 5, "DesiredInstanceCount": 2},
        ],
    )
    assert await sagemaker.settled("scenes") == "InService"
    assert {(await ask(sagemaker, "scenes"))["model"] for _ in range(10)} == {"b"}
    [_, described] = sagemaker.endpoints.describe_endpoint(EndpointName="scenes")["ProductionVariants"]
    assert (described["CurrentWeight"], described["CurrentInstanceCount"]) == (5, 2)
    with pytest.raises(AWSError, match=r"The variant name\(s\) 'c' is/are not present"):
        sagemaker.endpoints.update_endpoint_weights_and_capacities(
            EndpointName="scenes", DesiredWeightsAndCapacities=[{"VariantName": "c", "DesiredWeight": 1}]
        )


async def test_an_update_retains_the_weights_when_asked(sagemaker: SageMaker) -> None:
    await sagemaker.serve("scenes")
    sagemaker.endpoints.update_endpoint_weights_and_capacities(
        EndpointName="scenes", DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredWeight": 7}]
    )
    await sagemaker.settled("scenes")

    sagemaker.endpoints.update_endpoint(
        EndpointName="scenes", EndpointConfigName="scenes-1", RetainAllVariantProperties=True
    )

    await sagemaker.settled("scenes")
    [described] = sagemaker.endpoints.describe_endpoint(EndpointName="scenes")["ProductionVariants"]
    assert described["CurrentWeight"] == 7


async def test_a_process_that_crashes_is_started_again_and_requests_wait(sagemaker: SageMaker) -> None:
    await sagemaker.serve("scenes")
    first = (await ask(sagemaker, "scenes"))["pid"]

    os.kill(first, signal.SIGKILL)
    answers = [(await ask_again(sagemaker)) for _ in range(3)]

    assert first not in answers


async def ask_again(sagemaker: SageMaker) -> int:
    """The process that answers; a request that was under way when the last one died has failed."""
    try:
        return int((await ask(sagemaker, "scenes"))["pid"])
    except AWSError as error:
        assert error.code == "ModelError"
        return await ask_again(sagemaker)


async def test_endpoints_come_back_after_a_restart(tmp_path: Path) -> None:
    aws = FakeAws()
    async with SageMaker(tmp_path, aws) as before:
        await before.serve("scenes")
        described = before.endpoints.describe_endpoint(EndpointName="scenes")

    async with SageMaker(tmp_path, aws) as after:
        assert (await ask(after, "scenes"))["model"] == "scenes-1"
        assert after.endpoints.describe_endpoint(EndpointName="scenes") == described


async def test_an_update_goes_on_after_a_restart(tmp_path: Path) -> None:
    aws = FakeAws()
    async with SageMaker(tmp_path, aws) as before:
        await before.serve("scenes")
        await before.model("new")
        before.config("new", "new")
        before.endpoints.update_endpoint(EndpointName="scenes", EndpointConfigName="new")

    async with SageMaker(tmp_path, aws) as after:
        assert after.endpoints.describe_endpoint(EndpointName="scenes")["EndpointStatus"] == "Updating"
        assert (await ask(after, "scenes"))["model"] == "scenes-1"
        assert await after.settled("scenes") == "InService"
        assert (await ask(after, "scenes"))["model"] == "new"


async def test_a_creation_and_a_deletion_go_on_after_a_restart(tmp_path: Path) -> None:
    aws = FakeAws()
    async with SageMaker(tmp_path, aws) as before:
        await before.serve("old")
        before.endpoints.delete_endpoint(EndpointName="old")
        before.endpoints.create_endpoint(EndpointName="new", EndpointConfigName="old-1")

    async with SageMaker(tmp_path, aws) as after:
        assert await after.settled("new") == "InService"
        assert [entry["EndpointName"] for entry in after.endpoints.list_endpoints()["Endpoints"]] == ["new"]


async def test_an_endpoint_in_progress_is_not_changed(sagemaker: SageMaker) -> None:
    await sagemaker.model("a")
    sagemaker.config("a", "a")
    sagemaker.endpoints.create_endpoint(EndpointName="scenes", EndpointConfigName="a")

    for change in (
        lambda: sagemaker.endpoints.update_endpoint(EndpointName="scenes", EndpointConfigName="a"),
        lambda: sagemaker.endpoints.delete_endpoint(EndpointName="scenes"),
    ):
        with pytest.raises(AWSError) as error:
            change()
        assert (error.value.code, error.value.message) == (
            "ValidationException",
            f'Cannot update in-progress endpoint "{ARN}:endpoint/scenes".',
        )
    assert await sagemaker.settled("scenes") == "InService"


async def test_a_deleted_endpoint_leaves_nothing(sagemaker: SageMaker) -> None:
    await sagemaker.serve("scenes")
    process = psutil.Process((await ask(sagemaker, "scenes"))["pid"])

    sagemaker.endpoints.delete_endpoint(EndpointName="scenes")
    await sagemaker.gone("scenes")

    assert not process.is_running()
    assert list((sagemaker.endpoints.runtime.data / "endpoints").iterdir()) == []
    with pytest.raises(AWSError) as error:
        sagemaker.endpoints.describe_endpoint(EndpointName="scenes")
    assert error.value.message == f'Could not find endpoint "{ARN}:endpoint/scenes".'


async def test_endpoints_are_listed_by_name_and_status(sagemaker: SageMaker) -> None:
    await sagemaker.serve("staging")
    sagemaker.endpoints.create_endpoint(EndpointName="production", EndpointConfigName="staging-1")

    def listed(**members: Any) -> list[str]:
        answer = sagemaker.endpoints.list_endpoints(**members)
        return [endpoint["EndpointName"] for endpoint in answer["Endpoints"]]

    assert listed() == ["production", "staging"]
    assert listed(SortBy="Name", SortOrder="Descending") == ["staging", "production"]
    assert listed(StatusEquals="InService") == ["staging"]
    assert listed(NameContains="prod") == ["production"]
    await sagemaker.settled("production")


async def test_a_rolling_update_ends_with_the_new_fleet(sagemaker: SageMaker) -> None:
    await sagemaker.serve("scenes")
    await sagemaker.model("new")
    sagemaker.config("new", "new")
    batch = {"Type": "CAPACITY_PERCENT", "Value": 50}
    config = {"RollingUpdatePolicy": {"MaximumBatchSize": batch, "WaitIntervalInSeconds": 0}}

    sagemaker.endpoints.update_endpoint(
        EndpointName="scenes", EndpointConfigName="new", DeploymentConfig=config
    )

    assert await sagemaker.settled("scenes") == "InService"
    assert {(await ask(sagemaker, "scenes"))["model"] for _ in range(5)} == {"new"}
    assert sagemaker.endpoints.describe_endpoint(EndpointName="scenes")["LastDeploymentConfig"] == config


def test_no_process_outlives_a_server_that_is_killed(tmp_path: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(tmp_path), CHILD],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    with server:
        assert server.stdout is not None
        processes = [psutil.Process(pid) for pid in json.loads(server.stdout.readline())]

        server.kill()

        _, alive = psutil.wait_procs(processes, timeout=10)
    assert len(processes) == 2
    assert alive == []


SERVER = """
import asyncio, pathlib, sys
from fakes import FakeAws, SageMaker

async def main():
    async with SageMaker(pathlib.Path(sys.argv[1]), FakeAws()) as sagemaker:
        await sagemaker.serve("scenes", code=sys.argv[2])
        answer = await sagemaker.runtime.invoke_endpoint(EndpointName="scenes", Body=b"?")
        print(answer["Body"].decode(), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
CHILD = """
import json, os, subprocess

def model_fn(model_dir):
    return subprocess.Popen(["sleep", "600"])

def input_fn(body, content_type):
    return body

def predict_fn(data, model):
    return [os.getpid(), model.pid]

def output_fn(prediction, accept):
    return json.dumps(prediction)
"""


async def test_a_model_archive_stays_in_its_folder(sagemaker: SageMaker) -> None:
    await sagemaker.model("evil")
    sagemaker.aws.objects["s3://data/evil/model.tar.gz"] = archive({"../../../../out.txt": "out"})
    sagemaker.config("evil", "evil")

    sagemaker.endpoints.create_endpoint(EndpointName="scenes", EndpointConfigName="evil")

    assert await sagemaker.settled("scenes") == "Failed"
    reason = sagemaker.endpoints.describe_endpoint(EndpointName="scenes")["FailureReason"]
    assert reason == (
        'Failed to extract model data archive from URL "s3://data/evil/model.tar.gz". Please ensure that the '
        "object located at the URL is a valid tar.gz archive."
    )
    assert "out.txt" in str(sagemaker.aws.logs)
