"""`stagegate local prune` on the data of a runtime that was stopped: what ended goes, what runs stays."""

import json
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.conftest import ROOT, Local

ROLE = "arn:aws:iam::111111111111:role/states"
WAIT = {"StartAt": "A", "States": {"A": {"Type": "Wait", "Seconds": 1000, "End": True}}}
MAP = {
    "StartAt": "Map",
    "States": {
        "Map": {
            "Type": "Map",
            "End": True,
            "ItemProcessor": {
                "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
                "StartAt": "Echo",
                "States": {"Echo": {"Type": "Pass", "End": True}},
            },
        }
    },
}


def prune(local: Local, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "stagegate", "local", "--data", str(local.data), "prune", *arguments],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


def machine(states: Any, name: str, definition: Any) -> str:
    created = states.create_state_machine(name=name, definition=json.dumps(definition), roleArn=ROLE)
    return str(created["stateMachineArn"])


def until(local: Local, client: str, operation: str, ended: Any, **arguments: Any) -> None:
    deadline = time.monotonic() + 60
    while not ended(described := getattr(local.client(client), operation)(**arguments)):
        assert time.monotonic() < deadline, described
        time.sleep(0.05)


@pytest.fixture
def used(local: Local) -> Local:
    """A runtime with executions and a build that ended, and one execution that waits."""
    states = local.client("stepfunctions")
    waits, maps = machine(states, "waits", WAIT), machine(states, "maps", MAP)
    states.start_execution(stateMachineArn=waits, name="waits")
    for name in ("first", "second"):
        text = json.dumps(["x" * 2_000] * 20)
        execution = states.start_execution(stateMachineArn=maps, name=name, input=text)["executionArn"]
        until(
            local,
            "stepfunctions",
            "describe_execution",
            lambda found: found["status"] == "SUCCEEDED",
            executionArn=execution,
        )
    states.update_state_machine(stateMachineArn=maps, definition=json.dumps(WAIT))
    builds = local.client("codebuild")
    builds.create_project(
        name="project",
        source={"type": "NO_SOURCE", "buildspec": "version: 0.2\nphases: {build: {commands: [echo built]}}"},
        artifacts={"type": "NO_ARTIFACTS"},
        environment={"type": "LINUX_CONTAINER", "image": "image", "computeType": "BUILD_GENERAL1_SMALL"},
        serviceRole=ROLE,
    )
    build = builds.start_build(projectName="project")["build"]["id"]
    until(
        local,
        "codebuild",
        "batch_get_builds",
        lambda found: found["builds"][0]["buildComplete"],
        ids=[build],
    )
    local.client("cloudwatch").put_metric_data(
        Namespace="Prune", MetricData=[{"MetricName": "loss", "Value": 0.5}]
    )
    return local


def names(local: Local) -> dict[str, list[str]]:
    states = local.client("stepfunctions")
    return {
        found["name"]: [
            execution["name"]
            for execution in states.list_executions(stateMachineArn=found["stateMachineArn"])["executions"]
        ]
        for found in states.list_state_machines()["stateMachines"]
    }


def test_what_ended_goes_and_what_runs_stays(used: Local) -> None:
    used.stop()
    counted = (
        "executions: 2, their events: 16, definitions in no use: 1, folders of jobs and builds: 1 (0.0 MB), "
        "data of metrics: 1\n"
    )

    recent = prune(used, "--older-than", "1h")
    assert (recent.returncode, recent.stderr) == (0, "")
    assert recent.stdout.startswith("Gone: executions: 0, their events: 0, definitions in no use: 0, folders")

    before = (used.data / "stagegate.db").stat().st_size
    assert prune(used, "--older-than", "0m", "--dry-run").stdout == f"Would go: {counted}"
    assert (used.data / "stagegate.db").stat().st_size >= before
    assert len(list((used.data / "builds").iterdir())) == 1

    pruned = prune(used, "--older-than", "0m")
    assert pruned.stdout.startswith(f"Gone: {counted}The database is "), pruned.stdout
    assert list((used.data / "builds").iterdir()) == []
    assert (used.data / "stagegate.db").stat().st_size < before

    used.restart()
    assert names(used) == {"maps": [], "waits": ["waits"]}
    states = used.client("stepfunctions")
    (waits,) = (found for found in states.list_state_machines()["stateMachines"] if found["name"] == "waits")
    (execution,) = states.list_executions(stateMachineArn=waits["stateMachineArn"])["executions"]
    assert states.stop_execution(executionArn=execution["executionArn"])["stopDate"]
    (build,) = used.client("codebuild").list_builds()["ids"]
    (described,) = used.client("codebuild").batch_get_builds(ids=[build])["builds"]
    assert described["buildStatus"] == "SUCCEEDED"


def test_a_runtime_that_runs_is_not_pruned(used: Local) -> None:
    refused = prune(used, "--older-than", "0m")

    assert refused.returncode == 1
    assert f"Another local runtime uses the data directory {used.data}" in " ".join(refused.stderr.split())
    assert names(used)["maps"] == ["second", "first"]


@pytest.mark.parametrize("age", ["3x", "-1d", "d", "1.5h", "", "999999d", "٣d"])
def test_an_age_that_is_none_is_refused(stopped_local: Local, age: str) -> None:
    refused = prune(stopped_local, "--older-than", age)

    assert refused.returncode == 2
    assert f"'{age}' is no length of time such as 90m, 12h, 30d or 4w" in refused.stderr


def test_a_directory_without_data_is_not_made(stopped_local: Local) -> None:
    refused = prune(stopped_local, "--older-than", "1d")

    assert refused.returncode == 1
    assert "There is no data of a local runtime in " in refused.stderr
    assert not stopped_local.data.exists()
