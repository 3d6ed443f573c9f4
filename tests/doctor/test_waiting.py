"""What is waited for without end, and jobs that were stopped."""

from typing import Any

import pytest

from stagegate.doctor import Finding
from tests.doctor.examples import COMPLETED, COUNTED, JOB, call, machine, named, task


@pytest.mark.parametrize(
    "fields",
    [
        {"Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken"},
        {"Resource": "arn:aws:states:us-east-1:123456789012:activity:label"},
        {"Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken", "TimeoutSeconds": 99_999_999},
    ],
)
def test_a_token_that_is_waited_for_without_end_is_found(fields: dict[str, Any]) -> None:
    assert named("token-without-timeout", machine(task(**{"resource": "", **fields})))


@pytest.mark.parametrize(
    "limit", [{"TimeoutSeconds": 60}, {"TimeoutSecondsPath": "$.Seconds"}, {"HeartbeatSeconds": 60}]
)
def test_a_token_with_a_limit_is_none(limit: dict[str, Any]) -> None:
    assert named("token-without-timeout", machine(call("lambda:invoke.waitForTaskToken", **limit))) == []


def test_a_machine_with_a_limit_waits_no_longer() -> None:
    waiting = machine(call("lambda:invoke.waitForTaskToken")) | {"TimeoutSeconds": 3600}

    assert named("token-without-timeout", waiting) == []


def after_training(next_: dict[str, Any] | None, **states: dict[str, Any]) -> list[Finding]:
    first = task(JOB, Parameters={"TrainingJobName.$": COUNTED})
    if next_ is None:
        return named("stopped-not-handled", machine(first, **states))
    first = {key: value for key, value in first.items() if key != "End"} | {"Next": "Second"}
    return named("stopped-not-handled", machine(first, Second=next_, Done={"Type": "Succeed"}, **states))


def test_a_job_whose_status_nobody_looks_at_is_found() -> None:
    other = {
        "Type": "Choice",
        "Choices": [{"Variable": "$.Accuracy", "NumericGreaterThan": 1, "Next": "Done"}],
    }
    job = task(JOB, Next="Third")

    assert after_training(None)
    assert after_training({"Type": "Pass", "Next": "Done"})
    assert after_training(other)
    assert len(after_training({key: job[key] for key in job if key != "End"}, Third=COMPLETED)) == 1


def test_a_job_whose_status_is_asked_for_is_none() -> None:
    assert after_training(COMPLETED) == []
    assert after_training({"Type": "Pass", "Next": "Third"}, Third=COMPLETED) == []


def test_a_status_may_get_another_name_first() -> None:
    choice = {"Type": "Choice", "Choices": [{"Variable": "$.Job.Ended", "StringEquals": "Completed"}]}
    renamed = {"ResultSelector": {"Ended.$": "$.TrainingJobStatus"}, "ResultPath": "$.Job", "Next": "Second"}
    first = {key: value for key, value in task(JOB).items() if key != "End"} | renamed

    assert named("stopped-not-handled", machine(first, Second=choice)) == []


def test_a_status_may_be_asked_for_behind_the_branches() -> None:
    parallel = {"Type": "Parallel", "Branches": [machine(task(JOB))]}

    assert named("stopped-not-handled", machine(parallel | {"Next": "Second"}, Second=COMPLETED)) == []
    assert named("stopped-not-handled", machine(parallel | {"End": True}))


def test_a_status_may_be_asked_for_in_jsonata() -> None:
    output = "{% $states.result.TrainingJobStatus = 'Completed' ? $states.result : $error('stopped') %}"

    assert named("stopped-not-handled", machine(task(JOB, QueryLanguage="JSONata", Output=output))) == []
