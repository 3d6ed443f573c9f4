"""What retry policies and dead-letter queues make of a target that fails for a while, or for good."""

import json

import pytest

from tests.local.test_events import ROLE, executions, machine, put, rule

QUEUE = "arn:aws:sqs:us-east-1:111111111111"
FAILING = """
[[fault]]
operation = "stepfunctions:StartExecution"
by = "events"
where = { stateMachineArn = "*:passes" }
error = "throttled"
times = 2

[[fault]]
operation = "stepfunctions:StartExecution"
by = "events"
where = { stateMachineArn = "*:stays" }
error = "throttled"
"""


@pytest.fixture
def failing(stopped_local, tmp_path):
    """A runtime whose state machine `passes` is throttled twice, and whose `stays` always."""
    stopped_local.faults = tmp_path / "faults.toml"
    stopped_local.faults.write_text(FAILING)
    stopped_local.start()
    return stopped_local


def letter(runtime, queue):
    """The one message of a dead-letter queue: its body, and its attributes."""
    (message,) = runtime.client("sqs").receive_message(
        QueueUrl=queue, WaitTimeSeconds=20, MessageAttributeNames=["All"]
    )["Messages"]
    attributes = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
    return message["Body"], attributes


def test_a_target_that_is_throttled_is_tried_again_and_has_one_run(failing):
    arn = machine(failing, "passes")
    rule(failing, "passes", {"source": ["passes"]}, {"Arn": arn, "RoleArn": ROLE, "InputPath": "$.detail"})

    put(failing, "passes", {"n": 1})

    assert executions(failing, arn, count=1) == [{"n": 1}]
    assert json.loads(failing.get("/_stagegate/faults"))[0]["Fired"] == 2


def test_after_as_many_retries_as_the_policy_has_the_event_goes_to_the_dead_letter_queue(failing):
    arn = machine(failing, "stays")
    queue = failing.client("sqs").create_queue(QueueName="dead")["QueueUrl"]
    target = {
        "Arn": arn,
        "RoleArn": ROLE,
        "InputPath": "$.detail",
        "RetryPolicy": {"MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 3600},
        "DeadLetterConfig": {"Arn": f"{QUEUE}:dead"},
    }
    rule(failing, "stays", {"source": ["stays"]}, target)

    put(failing, "stays", {"n": 1})

    body, attributes = letter(failing, queue)
    assert body == '{"n": 1}'
    assert attributes["RULE_ARN"].endswith(":rule/stays")
    assert (attributes["TARGET_ARN"], attributes["ERROR_CODE"]) == (arn, "ThrottlingException")
    assert (attributes["RETRY_ATTEMPTS"], attributes["EXHAUSTED_RETRY_CONDITION"]) == (
        "2",
        "MaximumRetryAttempts",
    )
    assert failing.client("stepfunctions").list_executions(stateMachineArn=arn)["executions"] == []
