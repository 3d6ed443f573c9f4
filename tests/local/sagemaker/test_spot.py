"""Managed spot training: an interruption that a person asks for, and how the job goes on."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from click.testing import CliRunner

from stagegate.cli import main
from stagegate.local.server import running
from tests.local.sagemaker.test_job_processes import CLASSES, Runtime, opened, pipe_of
from tests.local.sagemaker.test_jobs import BUCKET

SPOT = {
    "EnableManagedSpotTraining": True,
    "StoppingCondition": {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 600},
    "CheckpointConfig": {"S3Uri": f"s3://{BUCKET}/checkpoints"},
}


@asynccontextmanager
async def served(data, **settings):
    async with running(data=data, classes=CLASSES, **settings) as endpoint:
        runtime = Runtime(endpoint)
        runtime.endpoint_url = endpoint.runtime.endpoint_url
        yield runtime


@pytest.fixture
async def runtime(tmp_path):
    async with served(tmp_path / "data") as runtime:
        yield runtime


async def interrupt(runtime, *arguments):
    """`stagegate local interrupt`, as a person types it; its exit status and what it said."""
    command = ["--endpoint-url", runtime.endpoint_url, "local", "interrupt", *arguments]
    result = await asyncio.to_thread(CliRunner().invoke, main, command)
    return result.exit_code, " ".join(result.output.split())


def statuses(job):
    return [entry["Status"] for entry in job["SecondaryStatusTransitions"]]


SAVES = """
import os, signal, sys, time
from pathlib import Path

checkpoint = Path("/opt/ml/checkpoints/epoch")
if checkpoint.exists():
    print("resumed at", checkpoint.read_text(), sorted(os.listdir("/opt/ml/model")))
    sys.exit()

def save(*_):
    checkpoint.write_text("3")
    sys.exit()

signal.signal(signal.SIGTERM, save)
Path("/opt/ml/model/of-the-first-instance").touch()
print("loss=0.5")
open({begun!r}, "w").write("x")
time.sleep(600)
"""


async def test_an_interrupted_job_goes_on_from_its_checkpoint_when_there_is_capacity(runtime, tmp_path):
    begun = pipe_of(tmp_path / "begun")
    loss = [{"Name": "loss", "Regex": "loss=([0-9.]+)"}]
    await runtime.train(
        "spot",
        SAVES.format(begun=str(begun)),
        **SPOT,
        AlgorithmSpecification={
            "TrainingImage": "image",
            "TrainingInputMode": "File",
            "MetricDefinitions": loss,
        },
    )
    await opened(begun)

    asked = await interrupt(runtime, "spot", "--for", "1s")
    job = await runtime.ended("spot")

    assert asked == (0, "Interrupted: spot")
    assert job["TrainingJobStatus"] == "Completed", job
    assert await runtime.log("spot") == ["loss=0.5", "resumed at 3 []"]
    assert statuses(job) == [
        *("Starting", "Downloading", "Training", "Interrupted"),
        *("Starting", "Downloading", "Training", "Uploading", "Completed"),
    ]
    checkpoint = await runtime.aws("s3", "GetObject", {"Bucket": BUCKET, "Key": "checkpoints/epoch"})
    assert checkpoint["Body"] == b"3"
    assert job["BillableTimeInSeconds"] < job["TrainingTimeInSeconds"]
    assert [metric["Value"] for metric in job["FinalMetricDataList"]] == [0.5]


async def test_a_job_that_waits_too_long_for_capacity_is_stopped(runtime, tmp_path):
    begun = pipe_of(tmp_path / "begun")
    condition = {"MaxRuntimeInSeconds": 3, "MaxWaitTimeInSeconds": 3}
    await runtime.train("waits", SAVES.format(begun=str(begun)), **SPOT | {"StoppingCondition": condition})
    await opened(begun)

    await interrupt(runtime, "waits", "--for", "10m")
    job = await runtime.ended("waits")

    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxWaitTimeExceeded")
    assert statuses(job) == [
        *("Starting", "Downloading", "Training", "Interrupted", "Stopping", "MaxWaitTimeExceeded")
    ]


async def test_a_job_that_never_gets_capacity_is_stopped(tmp_path):
    begun = pipe_of(tmp_path / "begun")
    condition = {"MaxRuntimeInSeconds": 1, "MaxWaitTimeInSeconds": 1}
    async with served(tmp_path / "data", max_jobs=1) as runtime:
        await runtime.train("in-the-way", SAVES.format(begun=str(begun)))
        await opened(begun)

        await runtime.train("never", "", **SPOT | {"StoppingCondition": condition})
        job = await runtime.ended("never")

    assert job["TrainingJobStatus"] == "Stopped"
    assert statuses(job) == ["Starting", "Stopping", "MaxWaitTimeExceeded"]


async def test_a_job_is_stopped_while_it_waits_for_capacity(runtime, tmp_path):
    begun = pipe_of(tmp_path / "begun")
    await runtime.train("stops", SAVES.format(begun=str(begun)), **SPOT)
    await opened(begun)

    await interrupt(runtime, "stops", "--for", "10m")
    await runtime.aws("sagemaker", "StopTrainingJob", {"TrainingJobName": "stops"})
    job = await runtime.ended("stops")

    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")


async def test_a_job_that_waits_for_capacity_goes_on_with_the_next_server(tmp_path):
    begun, data = pipe_of(tmp_path / "begun"), tmp_path / "data"
    async with served(data) as runtime:
        await runtime.train("survives", SAVES.format(begun=str(begun)), **SPOT)
        await opened(begun)
        await interrupt(runtime, "survives", "--for", "10m")
        await runtime.until("survives", "Interrupted", member="SecondaryStatus")

    async with served(data) as runtime:
        job = await runtime.ended("survives")
        log = await runtime.log("survives")

    assert job["TrainingJobStatus"] == "Completed", job
    assert log[-1] == "resumed at 3 []"


async def test_only_a_spot_job_that_trains_can_be_interrupted(runtime, tmp_path):
    begun = pipe_of(tmp_path / "begun")
    await runtime.train("on-demand", SAVES.format(begun=str(begun)))
    await opened(begun)
    await runtime.train("over", "", **SPOT)
    await runtime.ended("over")

    on_demand = await interrupt(runtime, "on-demand")
    over = await interrupt(runtime, "over")
    unknown = await interrupt(runtime, "unknown")

    assert on_demand == (1, "Error: The training job on-demand does not use managed spot training.")
    assert over == (
        1,
        "Error: The training job over has no instances that could be taken away: its secondary status is "
        "Completed, not Training.",
    )
    assert unknown == (1, "Error: Requested resource not found.")
