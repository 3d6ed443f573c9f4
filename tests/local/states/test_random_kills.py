"""The runtime killed with SIGKILL again and again, at random moments, under a load of everything that waits.

    pytest tests/local/states/test_random_kills.py -m slow       # 200 times; about twelve minutes

A failure says the seed: STAGEGATE_SEED=<seed> repeats it.
"""

import io
import itertools
import json
import os
import random
import re
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.conftest import Local

ROLE = "arn:aws:iam::111111111111:role/states"
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


def everything(queue: str, child: str, function_arn: str) -> dict[str, Any]:
    """A state machine with each thing that can be interrupted, side by side."""
    failing: dict[str, Any] = {
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
    silent = {
        **late,
        "TimeoutSeconds": 600,
        "HeartbeatSeconds": 2,
        "Catch": [{"ErrorEquals": ["States.HeartbeatTimeout"], "ResultPath": "$.silent", "Next": "Silent"}],
    }
    fallen_silent = branch(AskSilence=silent, Heard={"Type": "Pass"})
    fallen_silent["States"]["Silent"] = {"Type": "Pass", "Result": "silent", "End": True}
    failing_each = failing | {"Catch": [{**failing["Catch"][0], "ResultPath": "$", "Next": "EachGivenUp"}]}
    fetched_each = branch(FetchEach=failing_each, FetchedEach={"Type": "Pass"})
    fetched_each["States"]["EachGivenUp"] = {"Type": "Pass", "Result": "given up", "End": True}
    function = {"Type": "Task", "Resource": function_arn, "Parameters": {"items.$": "$.items"}}
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
        branch(FailEach=each("Unused", {"Type": "Pass"}, processor=fetched_each, MaxConcurrency=3)),
        branch(Call=function),
        given_up,
        timed_out,
        fallen_silent,
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
        self.machine = self._machine("everything", everything(self.queue, self.child, self._function()))

    def _machine(self, name: str, definition: dict[str, Any]) -> str:
        created = self.states.create_state_machine(name=name, definition=json.dumps(definition), roleArn=ROLE)
        return str(created["stateMachineArn"])

    def _function(self) -> str:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr(
                "count.py", "def handler(event, context):\n    return {'sum': sum(event['items'])}\n"
            )
        created = self.local.client("lambda").create_function(
            FunctionName="count",
            Runtime="python3.12",
            Role=ROLE,
            Handler="count.handler",
            Code={"ZipFile": archive.getvalue()},
        )
        return str(created["FunctionArn"])

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

    def story(self, arn: str) -> tuple[str, Any, Counter[str]]:
        """Status, output, and how often what happened, with its data and what came before it.

        The ids must go on without a gap, and nothing may have ended before its time, or long after it.
        """
        events: list[dict[str, Any]] = []
        for page in self.states.get_paginator("get_execution_history").paginate(executionArn=arn):
            events += page["events"]
        assert [event["id"] for event in events] == list(range(1, len(events) + 1))
        assert all(event["previousEventId"] < event["id"] for event in events)
        assert_all_ended_in_time(events)
        described = self.states.describe_execution(executionArn=arn)
        happened = Counter(in_words(event, events) for event in events if not is_late_question(event, events))
        return described["status"], json.loads(described.get("output", "null")), happened


def name_of(event: dict[str, Any]) -> str:
    """The state that an event is of, or what else tells it from others of its type."""
    details = details_of(event)
    return str(details.get("name") or details.get("resourceType") or "")


def details_of(event: dict[str, Any]) -> dict[str, Any]:
    return next((value for key, value in event.items() if key.endswith("EventDetails")), {})


def is_late_question(event: dict[str, Any], events: list[dict[str, Any]]) -> bool:
    """A question whose time ran out while nothing ran may not have been asked before."""
    if event["type"] != "TaskSubmitted":
        return False
    while not event["type"].endswith("StateEntered"):
        event = events[event["previousEventId"] - 1]
    return name_of(event) in ("AskNobody", "AskSilence")


def in_words(event: dict[str, Any], events: list[dict[str, Any]]) -> str:
    """What happened, without what differs from run to run: names, ids, times, what came first by chance."""
    said = f"{event['type']} {json.dumps(details_of(event), sort_keys=True)}"
    if not BY_CHANCE.fullmatch(event["type"]) and event["previousEventId"]:
        previous = events[event["previousEventId"] - 1]
        said += f" after {previous['type']} {name_of(previous)}"
    return DIFFERS.sub("…", said)


BY_CHANCE = re.compile(r"TaskTimedOut|MapIterationStarted|(Map|Parallel)State(Succeeded|Exited)")
"""What follows upon the last, or the first, of several that go on side by side."""
DIFFERS = re.compile(
    r"\w{3}, \d\d \w{3} \d{4} [\d:]+ GMT|Content-Length\W+\d+|"
    r"[0-9a-f]{32}|run-\d+|undisturbed|AQCg[\w-]+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|\d{4}-\d\d-\d\d[T ][\d:.]+(Z|\+00:00)?|\b0\.\d+(e-\d+)?|\b1\d{9}(\.\d+|\d{3})?\b|\b[0-9A-Za-z]{52}\b"
)
LIMITS = {"Wait": 2, "Pause": 1, "PauseApart": 1, "InnerWait": 1, "AskNobody": 3, "AskSilence": 2}
"""Seconds after which a state must be left."""
_LATE = 15
"""Seconds by which it may be late: while nothing ran, and until it was taken up again."""


def assert_all_ended_in_time(events: list[dict[str, Any]]) -> None:
    for event in events:
        if event["type"].endswith("StateExited") and (seconds := LIMITS.get(name_of(event))):
            entered = event
            while not (entered["type"].endswith("StateEntered") and name_of(entered) == name_of(event)):
                entered = events[entered["previousEventId"] - 1]
            took = (event["timestamp"] - entered["timestamp"]).total_seconds()
            assert seconds - 0.01 <= took < seconds + _LATE, (name_of(event), took)


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
            # A job gets to its end only when it is left in peace for a while.
            time.sleep(chance.uniform(0, 8 if turn % 5 == 4 else 0.7))
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
        status, output, happened = load.story(arn)
        assert (status, output) == expected[:2], f"seed {seed}: {arn}"
        differs = [*(happened - expected[2]), "instead of", *(expected[2] - happened)]
        assert differs == ["instead of"], f"seed {seed}: {arn}: " + "\n".join(differs)
    jobs = local.client("sagemaker").list_processing_jobs(MaxResults=100)["ProcessingJobSummaries"]
    children = load.states.list_executions(stateMachineArn=load.child, maxResults=1000)["executions"]
    count = len(ended) + len(running) + 1
    assert (len(jobs), len(children)) == (count, count)


def seed() -> int:
    return int(os.environ.get("STAGEGATE_SEED", random.randrange(10**6)))


@pytest.mark.slow
def test_five_kills_change_nothing(local: Local) -> None:
    disturb(local, kills=5, seed=seed())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_kills_change_nothing(local: Local) -> None:
    disturb(local, kills=200, seed=seed())
