"""The whole runtime killed with SIGKILL, twice, while an execution does everything that waits."""

import json
import time
from typing import Any

from tests.conftest import Local

ROLE = "arn:aws:iam::111111111111:role/states"


def end_to_end(queue_url: str, child_arn: str) -> dict[str, Any]:
    """A wait, a map, a callback, a retried failure and a nested execution, side by side."""
    failure = [
        {
            "ErrorEquals": ["S3.NoSuchBucketException"],
            "IntervalSeconds": 1,
            "MaxAttempts": 3,
            "BackoffRate": 1,
        }
    ]
    branches = [
        {"Wait": {"Type": "Wait", "Seconds": 2, "End": True}},
        {
            "Each": {
                "Type": "Map",
                "ItemsPath": "$.items",
                "MaxConcurrency": 2,
                "ItemProcessor": {
                    "StartAt": "Pause",
                    "States": {
                        "Pause": {"Type": "Wait", "Seconds": 1, "Next": "Add"},
                        "Add": {"Type": "Pass", "Parameters": {"n.$": "States.MathAdd($, 1)"}, "End": True},
                    },
                },
                "End": True,
            }
        },
        {
            "Ask": {
                "Type": "Task",
                "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
                "Parameters": {"QueueUrl": queue_url, "MessageBody": {"token.$": "$$.Task.Token"}},
                "End": True,
            }
        },
        {
            "Fetch": {
                "Type": "Task",
                "Resource": "arn:aws:states:::aws-sdk:s3:getObject",
                "Parameters": {"Bucket": "no-such-bucket", "Key": "x"},
                "Retry": failure,
                "Catch": [{"ErrorEquals": ["States.TaskFailed"], "ResultPath": None, "Next": "Give up"}],
                "End": True,
            },
            "Give up": {"Type": "Pass", "Result": "given up", "End": True},
        },
        {
            "Nested": {
                "Type": "Task",
                "Resource": "arn:aws:states:::states:startExecution.sync:2",
                "Parameters": {"StateMachineArn": child_arn, "Input": {"from": "parent"}},
                "ResultSelector": {"output.$": "$.Output"},
                "End": True,
            }
        },
    ]
    parallel = [{"StartAt": next(iter(states)), "States": states} for states in branches]
    return {
        "StartAt": "All",
        "States": {"All": {"Type": "Parallel", "Branches": parallel, "End": True}},
    }


class Run:
    """One execution, seen from outside."""

    def __init__(self, local: Local, machine_arn: str) -> None:
        self.states = local.client("stepfunctions")
        started = self.states.start_execution(stateMachineArn=machine_arn, input='{"items": [1, 2, 3]}')
        self.arn: str = started["executionArn"]

    def events(self) -> list[dict[str, Any]]:
        pages = self.states.get_paginator("get_execution_history").paginate(executionArn=self.arn)
        return [event for page in pages for event in page["events"]]

    def wait_for(self, event_type: str, count: int) -> None:
        deadline = time.monotonic() + 30
        while [event["type"] for event in self.events()].count(event_type) < count:
            assert time.monotonic() < deadline, self.events()
            time.sleep(0.02)

    def answer(self) -> None:
        self.wait_for("TaskSubmitted", 2)
        scheduled = (event.get("taskScheduledEventDetails") for event in self.events())
        parameters = next(details for details in scheduled if details and details["resourceType"] == "sqs")
        token = json.loads(parameters["parameters"])["MessageBody"]["token"]
        self.states.send_task_success(taskToken=token, output='"answered"')

    def output(self) -> Any:
        self.wait_for("ExecutionSucceeded", 1)
        return json.loads(self.states.describe_execution(executionArn=self.arn)["output"])


def test_a_job_that_was_running_is_waited_for_and_not_started_again(local: Local) -> None:
    states, sagemaker = local.client("stepfunctions"), local.client("sagemaker")
    entry_point = ["python3", "-c", "import time; time.sleep(2)"]
    cluster = {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}
    job = {
        "Type": "Task",
        "Resource": "arn:aws:states:::sagemaker:createProcessingJob.sync",
        "Parameters": {
            "ProcessingJobName": "nap",
            "RoleArn": ROLE,
            "AppSpecification": {"ImageUri": "image", "ContainerEntrypoint": entry_point},
            "ProcessingResources": {"ClusterConfig": cluster},
        },
        "ResultSelector": {"status.$": "$.ProcessingJobStatus"},
        "End": True,
    }
    definition = json.dumps({"StartAt": "Job", "States": {"Job": job}})
    machine = states.create_state_machine(name="job", definition=definition, roleArn=ROLE)["stateMachineArn"]

    run = Run(local, machine)
    run.wait_for("TaskSubmitted", 1)
    local.kill()
    local.start()

    assert run.output() == {"status": "Completed"}
    assert [event["type"] for event in run.events()] == [
        "ExecutionStarted",
        "TaskStateEntered",
        "TaskScheduled",
        "TaskStarted",
        "TaskSubmitted",
        "TaskSucceeded",
        "TaskStateExited",
        "ExecutionSucceeded",
    ]
    assert len(sagemaker.list_processing_jobs()["ProcessingJobSummaries"]) == 1


def test_nothing_is_lost_and_nothing_happens_twice(local: Local) -> None:
    states = local.client("stepfunctions")
    queue = local.client("sqs").create_queue(QueueName="asked")["QueueUrl"]
    nap = {"StartAt": "Nap", "States": {"Nap": {"Type": "Wait", "Seconds": 2, "End": True}}}
    child = states.create_state_machine(name="child", definition=json.dumps(nap), roleArn=ROLE)[
        "stateMachineArn"
    ]
    definition = json.dumps(end_to_end(queue, child))
    machine = states.create_state_machine(name="parent", definition=definition, roleArn=ROLE)[
        "stateMachineArn"
    ]
    undisturbed = Run(local, machine)
    undisturbed.answer()
    expected = undisturbed.output()

    run = Run(local, machine)
    run.wait_for("TaskSubmitted", 2)
    local.kill()
    local.start()
    run.wait_for("WaitStateExited", 2)
    local.kill()
    local.start()
    run.answer()
    output = run.output()

    assert expected == [
        {"items": [1, 2, 3]},
        [{"n": 2}, {"n": 3}, {"n": 4}],
        "answered",
        "given up",
        {"output": {"from": "parent"}},
    ]
    assert output == expected
    types = [sorted(event["type"] for event in each.events()) for each in (run, undisturbed)]
    assert types[0] == types[1]
    assert [event["id"] for event in run.events()] == list(range(1, len(types[0]) + 1))
    assert len(states.list_executions(stateMachineArn=child)["executions"]) == 2
