"""A release, whole, while things go wrong: throttling, a spot interruption, lost callbacks, events twice."""

import json
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from stagegate import local_server, pipeline
from stagegate.config import load_config
from tests.ports import free_port
from tests.release.conftest import ROOT, Installation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FAULTS = """
seed = 3

[[fault]]
operation = "sagemaker:Create*"
error = "throttled"
calls = [1, 3]
by = "stepfunctions"

[[fault]]
operation = "cloudformation:*"
error = "throttled"
rate = 0.3
times = 4
by = "stepfunctions"

[[fault]]
operation = "s3:*"
error = "SlowDown"
rate = 0.1
times = 10

[[fault]]
operation = "dynamodb:*Item"
error = "ProvisionedThroughputExceededException"
rate = 0.1
times = 5

[[fault]]
operation = "sagemaker:CreateTrainingJob"
interrupt = { after = 3, for = 1 }

[[fault]]
operation = "stepfunctions:SendTaskSuccess"
lose = "request"
calls = [1, 3]

[[fault]]
operation = "codebuild:StartBuild"
lose = "answer"
calls = [1]
by = "stepfunctions"

[[fault]]
event = { source = ["aws.sagemaker"], detail-type = ["SageMaker Model Package State Change"] }
duplicate = 2
"""


@pytest.fixture(scope="module")
def installation(tmp_path_factory):
    """As everywhere, with a runtime in which faults are injected."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "faults.toml").write_text(FAULTS)
    config = replace(
        load_config(ROOT, environment={}),
        endpoint_url=f"http://127.0.0.1:{free_port()}",
        data=folder / "data",
    )
    port = config.endpoint_url.rpartition(":")[2]
    command = [str(Path(sys.executable).parent / "stagegate"), "local", "--port", port]
    process = subprocess.Popen(
        [*command, "--data", str(config.data), "--faults", str(folder / "faults.toml")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )
    installed = Installation(config=config)
    try:
        installed.wait_for(lambda: local_server.is_answering(config.endpoint_url))
        installed.stagegate("up", "--yes")
        yield installed
    finally:
        process.terminate()
        said, _ = process.communicate(timeout=60)
        print(said)


def test_a_release_gets_to_production_once_whatever_passes_by(installation, scenes):
    small = ("--hyperparameter", "epochs=12", "--preprocess", "image-size=48", "--threshold", "0")
    build = installation.start_run(scenes, *small, "--approval", "ReminderSeconds=20")
    installation.follow_until_asked(build)
    job = training_job(installation)
    approve(installation)
    built = installation.follow(build)[-1]

    (deploy,) = installation.wait_for(lambda: deployments(installation))
    installation.follow_until_asked(deploy)
    approve(installation)
    deployed = installation.follow(deploy)[-1]

    assert built.status == "SUCCEEDED", built.cause
    assert deployed.status == "SUCCEEDED", deployed.cause
    assert deployments(installation) == [deploy]
    statuses = [entry["Status"] for entry in job["SecondaryStatusTransitions"]]
    assert statuses.count("Interrupted") == 1
    assert any(line.startswith("resumed at epoch=") for line in log_of(installation, job))
    fired = {one["Fault"]: one["Fired"] for one in counted(installation)}
    assert all(fired.values()), fired
    change_sets = installation.services("cloudformation").list_change_sets(StackName="stagegate-production")
    assert [one["ExecutionStatus"] for one in change_sets["Summaries"]] in ([], ["EXECUTE_COMPLETE"])


def approve(installation):
    """As often as it takes: what a fault keeps from a client is asked for again."""

    def look():
        waiting = json.loads(installation.stagegate("approvals", "--json").stdout)
        return [installation.stagegate("approve", one["approval_id"]) for one in waiting]

    installation.wait_for(look)


def deployments(installation):
    runs = pipeline.list_runs(installation.services, installation.platform)
    return [run.arn for run in runs if run.state_machine == "stagegate-model-deploy"]


def training_job(installation):
    sagemaker = installation.services("sagemaker")
    (job,) = sagemaker.list_training_jobs()["TrainingJobSummaries"]
    return sagemaker.describe_training_job(TrainingJobName=job["TrainingJobName"])


def log_of(installation, job):
    logs = installation.services("logs")
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=job["TrainingJobName"]
    )
    return [event["message"] for page in pages for event in page["events"]]


def counted(installation):
    with urllib.request.urlopen(
        f"{installation.config.endpoint_url}/_stagegate/faults", timeout=10
    ) as answer:
        return json.loads(answer.read())
