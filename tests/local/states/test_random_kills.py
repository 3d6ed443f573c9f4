"""The runtime killed with SIGKILL again and again, at random moments, under a load of everything that waits.

    pytest tests/local/states/test_random_kills.py -m slow       # 200 times; about seven minutes

A failure says the seed: STAGEGATE_SEED=<seed> repeats it.
"""

import itertools
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.conftest import Local

ROLE = "arn:aws:iam::000000000000:role/states"
ITEMS = [1, 2, 3, 4]


def branch(**states: dict[str, Any]) -> dict[str, Any]:
    """States, one after the other."""
    names = list(states)
    chained = {
        name: state | ({"End": True} if after is None else {"Next": after})
        for (name, state), after in itertools.zip_longest(states.items(), names[1:])
    }
    return {"StartAt": names[0], "States": chained}


def each(name: str, state: dict[str, Any], **fields: Any) -> dict[str, Any]:
    processor = branch(**{name: state}) | fields.pop("processor", {})
    return {"Type": "Map", "ItemsPath": "$.items", "ItemProcessor": processor, **fields}


def everything(queue: str, child: str) -> dict[str, Any]:
    """A state machine with each thing that can be interrupted, side by side."""
    failing = {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:s3:getObject",
        "Parameters": {"Bucket": "no-such-bucket", "Key": "x"},
        "Retry": [{"ErrorEquals": ["States.ALL"], "IntervalSeconds": 1, "MaxAttempts": 2, "BackoffRate": 1}],
        "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "GivenUp"}],
    }
    given_up = branch(Fetch=failing, Fetched={"Type": "Pass"})
    given_up["States"]["GivenUp"] = {"Type": "Pass", "Result": "given up", "End": True}
    asking = {
        "Type": "Task",
        "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
        "Parameters": {"QueueUrl": queue, "MessageBody": {"token.$": "$$.Task.Token"}},
        "TimeoutSeconds": 600,
    }
    late = {
        **asking,
        "Parameters": {"QueueUrl": queue, "MessageBody": {"nobody.$": "$$.Task.Token"}},
        "TimeoutSeconds": 3,
        "Catch": [{"ErrorEquals": ["States.Timeout"], "ResultPath": "$.late", "Next": "Late"}],
    }
    timed_out = branch(AskNobody=late, Answered={"Type": "Pass"})
    timed_out["States"]["Late"] = {"Type": "Pass", "Result": "late", "End": True}
    job = {
        "Type": "Task",
        "Resource": "arn:aws:states:::sagemaker:createProcessingJob.sync",
        "Parameters": {
            "ProcessingJobName.$": "$$.Execution.Name",
            "RoleArn": ROLE,
            "AppSpecification": {"ImageUri": "none", "ContainerEntrypoint": ["sleep", "1"]},
            "ProcessingResources": {
                "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}
            },
        },
        "ResultSelector": {"job.$": "$.ProcessingJobStatus"},
    }
    nested = {
        "Type": "Task",
        "Resource": "arn:aws:states:::states:startExecution.sync:2",
        "Parameters": {"StateMachineArn": child, "Name.$": "$$.Execution.Name", "Input": {"n": 1}},
        "ResultSelector": {"nested.$": "$.Output"},
    }
    distributed = {"ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}}
    jsonata = {
        "Type": "Pass",
        "QueryLanguage": "JSONata",
        "Output": "{% $sum($states.input.items) + $drawn * 0 %}",
    }
    drawn = {"Type": "Pass", "QueryLanguage": "JSONata", "Assign": {"drawn": "{% $random() %}"}}
    inner = [
        branch(InnerWait={"Type": "Wait", "Seconds": 1}),
        branch(InnerPass={"Type": "Pass", "Result": 7}),
    ]
    branches = [
        branch(Wait={"Type": "Wait", "Seconds": 2}, Waited={"Type": "Pass", "Result": "waited"}),
        branch(Each=each("Pause", {"Type": "Wait", "Seconds": 1}, MaxConcurrency=2)),
        branch(
            Apart=each("PauseApart", {"Type": "Wait", "Seconds": 1}, processor=distributed, MaxConcurrency=3)
        ),
        branch(Inner={"Type": "Parallel", "Branches": inner}),
        branch(Ask=asking),
        branch(Draw=drawn, Sum=jsonata),
        branch(Job=job),
        branch(Nested=nested),
        given_up,
        timed_out,
    ]
    return branch(All={"Type": "Parallel", "Branches": branches})


class Load:
    """Executions that run while the runtime is killed, and the client that does not give up."""

    def __init__(self, local: Local) -> None:
        self.local = local
        self.states = local.client("stepfunctions", read_timeout=5)
        self.sqs = local.client("sqs", read_timeout=5)
        self.queue = self.sqs.create_queue(QueueName="asked")["QueueUrl"]
        self.child = self._machine("child", branch(Nap={"Type": "Wait", "Seconds": 1}))
        self.machine = self._machine("everything", everything(self.queue, self.child))

    def _machine(self, name: str, definition: dict[str, Any]) -> str:
        created = self.states.create_state_machine(name=name, definition=json.dumps(definition), roleArn=ROLE)
        return str(created["stateMachineArn"])

    def start(self, name: str) -> str:
        """As a careful client does: by name, so that it may be asked again when the answer did not come."""
        started = self.sure(
            lambda: self.states.start_execution(
                stateMachineArn=self.machine, name=name, input=json.dumps({"items": ITEMS})
            )
        )
        return str(started["executionArn"])

    def sure(self, call: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + 120
        while True:
            try:
                return call()
            except BotoCoreError:  # the runtime is just not there
                assert time.monotonic() < deadline
                time.sleep(0.05)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Somebody answers each token that comes to the queue."""
        over = threading.Event()

        def listen() -> None:
            while not over.is_set():
                try:
                    for message in self.sqs.receive_message(QueueUrl=self.queue).get("Messages", ()):
                        body = json.loads(message["Body"])
                        if "token" in body:
                            self._answer(body["token"])
                        self.sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
                except (BotoCoreError, ClientError):  # a token that is answered already, or nobody there
                    pass
                over.wait(0.05)

        listener = threading.Thread(target=listen)
        listener.start()
        try:
            yield
        finally:
            over.set()
            listener.join()

    def _answer(self, token: str) -> None:
        try:
            self.states.send_task_success(taskToken=token, output='"answered"')
        except ClientError as error:
            assert error.response["Error"]["Code"] == "TaskTimedOut"  # it was answered before

    def is_over(self, arn: str) -> bool:
        return self.sure(lambda: self.states.describe_execution(executionArn=arn))["status"] != "RUNNING"

    def story(self, arn: str) -> tuple[str, Any, Counter[tuple[str, str]]]:
        """Status, output, and how often what happened; the ids must go on without a gap."""
        events: list[dict[str, Any]] = []
        for page in self.states.get_paginator("get_execution_history").paginate(executionArn=arn):
            events += page["events"]
        assert [event["id"] for event in events] == list(range(1, len(events) + 1))
        assert all(event["previousEventId"] < event["id"] for event in events)
        assert_nothing_ended_early(events)
        described = self.states.describe_execution(executionArn=arn)
        happened = Counter((event["type"], name_of(event)) for event in events)
        return described["status"], json.loads(described.get("output", "null")), happened


def name_of(event: dict[str, Any]) -> str:
    """The state that an event is of, or what else tells it from others of its type."""
    details = next((value for key, value in event.items() if key.endswith("EventDetails")), {})
    return str(details.get("name") or details.get("resourceType") or "")


def assert_nothing_ended_early(events: list[dict[str, Any]]) -> None:
    entered: dict[str, list[float]] = {}
    for event in events:
        moment = event["timestamp"].timestamp()
        if event["type"] == "WaitStateEntered":
            entered.setdefault(name_of(event), []).append(moment)
        elif event["type"] == "WaitStateExited":
            seconds = 2 if name_of(event) == "Wait" else 1
            assert moment - entered[name_of(event)][0] >= seconds - 0.01


def disturb(local: Local, *, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    load = Load(local)
    with load.answering():
        undisturbed = load.start("undisturbed")
        while not load.is_over(undisturbed):
            time.sleep(0.1)
        expected = load.story(undisturbed)
        running: list[str] = []
        ended: list[str] = []
        for turn in range(kills):
            if len(running) < 3:
                running.append(load.start(f"run-{turn}"))
            time.sleep(chance.uniform(0, 0.7))
            local.kill()
            local.start()
            over = [arn for arn in running if load.is_over(arn)]
            running = [arn for arn in running if arn not in over]
            ended += over
        deadline = time.monotonic() + 60
        while not all(load.is_over(arn) for arn in running):
            assert time.monotonic() < deadline, f"seed {seed}: {running} do not end"
            time.sleep(0.1)
    assert expected[0] == "SUCCEEDED"
    for arn in (*ended, *running):
        assert load.story(arn) == expected, f"seed {seed}: {arn}"
    jobs = local.client("sagemaker").list_processing_jobs(MaxResults=100)["ProcessingJobSummaries"]
    children = load.states.list_executions(stateMachineArn=load.child, maxResults=1000)["executions"]
    count = len(ended) + len(running) + 1
    assert (len(jobs), len(children)) == (count, count)


def seed() -> int:
    return int(os.environ.get("STAGEGATE_SEED", random.randrange(10**6)))


def test_six_kills_change_nothing(local: Local) -> None:
    disturb(local, kills=6, seed=seed())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_kills_change_nothing(local: Local) -> None:
    disturb(local, kills=200, seed=seed())
