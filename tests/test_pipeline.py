"""What the commands read of an execution's history."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from moto import mock_aws

from stagegate.aws import Services
from stagegate.config import Config
from stagegate.deployment import Platform
from stagegate.errors import ConfigurationError, NotFound
from stagegate.pipeline import (
    History,
    RunEnded,
    StateEntered,
    StateExited,
    TaskStarted,
    find_run,
    list_runs,
    new_run_id,
    trigger_of,
    upload_dataset,
)

START = datetime(2026, 11, 23, 7, 15, tzinfo=UTC)
PLATFORM = Platform(
    data_bucket="data",
    model_build_arn="arn:aws:states:us-east-1:123456789012:stateMachine:stagegate-model-build",
    model_deploy_arn="arn:aws:states:us-east-1:123456789012:stateMachine:stagegate-model-deploy",
    model_package_group="stagegate-models",
    approval_table="approvals",
    approval_record="record",
    signing_key_arn="key",
    decision_url="http://127.0.0.1/",
    ci_arn="",
    clone_url="",
)


class Recorded:
    """A Step Functions client that knows one history, which grows."""

    def __init__(self, events):
        self.events = events
        self.shown = 0

    def get_paginator(self, operation):
        assert operation == "get_execution_history"
        return self

    def paginate(self, executionArn):
        return [{"events": self.events[: self.shown]}]


def event(number, kind, *, after=0.0, previous=None, **details):
    return {
        "id": number,
        "previousEventId": number - 1 if previous is None else previous,
        "type": kind,
        "timestamp": START + timedelta(seconds=after),
        **details,
    }


def history_of(events):
    client = Recorded(events)
    return client, History(lambda service: client, "arn")


def test_a_history_is_told_once_as_it_grows():
    client, history = history_of(
        [
            event(1, "ExecutionStarted"),
            event(2, "TaskStateEntered", after=1, stateEnteredEventDetails={"name": "Train"}),
            event(
                3,
                "TaskScheduled",
                after=1,
                taskScheduledEventDetails={
                    "resourceType": "sagemaker",
                    "resource": "createTrainingJob.sync",
                    "parameters": '{"TrainingJobName": "r-1-train-0"}',
                },
            ),
            event(4, "TaskSucceeded", after=9),
            event(5, "TaskStateExited", after=9.5, stateExitedEventDetails={"name": "Train"}),
            event(6, "ExecutionSucceeded", after=10, executionSucceededEventDetails={"output": "{}"}),
        ]
    )

    client.shown = 3
    first = list(history.advance())
    client.shown = 6
    second = list(history.advance())

    assert first == [
        StateEntered(name="Train", time=START + timedelta(seconds=1)),
        TaskStarted(
            state="Train",
            resource_type="sagemaker",
            resource="createTrainingJob.sync",
            job_name="r-1-train-0",
        ),
    ]
    assert second == [
        StateExited(name="Train", seconds=8.5, outcome="succeeded"),
        RunEnded(status="SUCCEEDED", error="", cause="", seconds=10.0),
    ]
    assert history.ended


def test_a_caught_failure_marks_its_state_and_an_uncaught_one_ends_it():
    client, history = history_of(
        [
            event(1, "ExecutionStarted"),
            event(2, "TaskStateEntered", stateEnteredEventDetails={"name": "Train"}),
            event(3, "TaskFailed", taskFailedEventDetails={"error": "States.TaskFailed"}),
            event(4, "TaskStateExited", after=2, stateExitedEventDetails={"name": "Train"}),
            event(5, "FailStateEntered", after=2, stateEnteredEventDetails={"name": "TrainingFailed"}),
            event(
                6,
                "ExecutionFailed",
                after=3,
                executionFailedEventDetails={"error": "TrainingFailed", "cause": "why"},
            ),
        ]
    )
    client.shown = 6

    assert list(history.advance()) == [
        StateEntered(name="Train", time=START),
        StateExited(name="Train", seconds=2.0, outcome="caught"),
        StateEntered(name="TrainingFailed", time=START + timedelta(seconds=2)),
        StateExited(name="TrainingFailed", seconds=1.0, outcome="failed"),
        RunEnded(status="FAILED", error="TrainingFailed", cause="why", seconds=3.0),
    ]


def test_a_timed_out_run_has_the_status_that_the_api_gives():
    client, history = history_of([event(1, "ExecutionStarted"), event(2, "ExecutionTimedOut", after=5)])
    client.shown = 2

    assert list(history.advance()) == [RunEnded(status="TIMED_OUT", error="", cause="", seconds=5.0)]


def test_a_run_id_fits_into_the_names_of_jobs():
    assert len(new_run_id()) == len("r-20261123-071500-1a2b")


@pytest.fixture
def services(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with mock_aws():
        yield Services(Config(target="aws"))


def test_a_dataset_is_uploaded_and_an_uri_taken_as_it_is(services, tmp_path):
    services("s3").create_bucket(Bucket="data")
    (tmp_path / "scenes.zip").write_bytes(b"zip")

    assert upload_dataset(services, PLATFORM, str(tmp_path / "scenes.zip")) == "s3://data/uploads/scenes.zip"
    assert services("s3").get_object(Bucket="data", Key="uploads/scenes.zip")["Body"].read() == b"zip"
    assert upload_dataset(services, PLATFORM, "s3://elsewhere/x.zip") == "s3://elsewhere/x.zip"


def test_a_dataset_that_is_not_there_is_named(services):
    with pytest.raises(ConfigurationError, match=r"'none\.zip' is neither a file nor an s3:// URI"):
        upload_dataset(services, PLATFORM, "none.zip")


@pytest.fixture
def machines(services):
    build, deploy = (
        services("stepfunctions").create_state_machine(
            name=name,
            definition='{"StartAt": "A", "States": {"A": {"Type": "Succeed"}}}',
            roleArn="arn:aws:iam::123456789012:role/states",
        )["stateMachineArn"]
        for name in ("model-build", "model-deploy")
    )
    return replace(PLATFORM, model_build_arn=build, model_deploy_arn=deploy)


def start(services, platform, name, **given):
    services("stepfunctions").start_execution(
        stateMachineArn=platform.model_build_arn, name=name, input=json.dumps(given)
    )


def test_a_run_that_is_not_there_is_named(services, machines):
    with pytest.raises(NotFound, match="There is no run 'r-9'"):
        find_run(services, machines, "r-9")


def test_a_run_is_found_by_the_beginning_of_its_name(services, machines):
    for name in ("84636ade-0989_1", "84636ade-1111_2"):
        start(services, machines, name)

    assert find_run(services, machines, "84636ade-1").name == "84636ade-1111_2"
    with pytest.raises(NotFound, match="2 runs begin with '84636ade': give more of the name"):
        find_run(services, machines, "84636ade")


def test_a_run_knows_what_started_it(services, machines):
    start(services, machines, "by-an-event", Trigger="new data")
    start(services, machines, "by-an-older-version")

    by_name = {run.name: trigger_of(services, run) for run in list_runs(services, machines)}
    assert by_name == {"by-an-event": "new data", "by-an-older-version": ""}
