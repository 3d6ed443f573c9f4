"""The file of faults: what it may say, and what is refused, by name."""

import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from stagegate.cli import main
from stagegate.errors import ConfigurationError
from stagegate.local import apis, fault_errors, fault_file
from stagegate.local.fault_file import parse_faults, read_faults

EXAMPLE = Path(__file__).parents[2] / "docs" / "faults.example.toml"


def parsed(text):
    return parse_faults(tomllib.loads(text), name="faults.toml")


def test_the_example_has_one_of_each_kind():
    faults = read_faults(EXAMPLE)

    assert [tally.fault.number for tally in faults.tallies] == list(range(1, 13))
    kinds = {type(tally.fault.effect).__name__ for tally in faults.tallies}
    assert kinds == {"Error", "Delay", "Loss", "Failure", "Interruption", "Duplicate"}


def test_each_key_is_in_the_reference():
    reference = (EXAMPLE.parent / "faults.md").read_text()

    assert [key for key in fault_file.KEYS if f"`{key}`" not in reference] == []


JOB = "operation = 'sagemaker:CreateTrainingJob'\n"
THROTTLED = "error = 'throttled'\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("operations = 's3:*'", "there is no key 'operations': near it are operation; there are operation,"),
        (THROTTLED, "it should have either operation, for calls, or event, for events"),
        (f"{JOB}event = {{source = ['x']}}\n{THROTTLED}", "it should have either operation, for calls"),
        (JOB, "nothing happens; it should have one of error, delay, lose, fail, interrupt, duplicate"),
        (f"{JOB}{THROTTLED}delay = 1", "it has error and delay; it should have one of error"),
        (
            "operation = 'sagemakr:CreateTrainingJob'\n" + THROTTLED,
            "operation is 'sagemakr:CreateTrainingJob'; it should be of a service that docs/emulated.md "
            "lists: near it are sagemaker",
        ),
        (
            "operation = 'states:SendTaskSuccess'\n" + THROTTLED,
            "operation is 'states:SendTaskSuccess'; it should be of a service that docs/emulated.md "
            "lists; do you mean 'stepfunctions'?",
        ),
        (
            "operation = 'sagemaker:CreateTrainJob'\n" + THROTTLED,
            "operation is 'sagemaker:CreateTrainJob'; it should be an operation that sagemaker has: near it "
            "are CreateTrainingJob",
        ),
        ("operation = 'CreateTrainingJob'\n" + THROTTLED, "it should be a service and its operation, as"),
        (
            JOB + "error = 'ThrottledException'",
            "error is 'ThrottledException'; it should be 'throttled', or what sagemaker answers: near it are "
            "ThrottlingException",
        ),
        (
            "operation = '*:*'\nerror = 'SlowDown'",
            "error is 'SlowDown'; it should be 'throttled', or what app",
        ),
        (JOB + THROTTLED + "status = 200", "status is 200; it should be an HTTP status from 400 to 599"),
        (JOB + THROTTLED + "message = 5", "message is 5; it should be a text"),
        (JOB + "delay = 1\nmessage = 'x'", "message goes with error, and not with delay"),
        (JOB + "delay = 0", "delay is 0; it should be a number of seconds above 0"),
        (JOB + "delay = true", "delay is True; it should be a number of seconds above 0"),
        (JOB + "lose = 'event'", "lose is 'event'; it should be 'request' or 'answer'"),
        (
            JOB + "duplicate = 1",
            "duplicate does not go with an operation; error, delay, lose, fail, interrupt",
        ),
        (
            JOB + "fail = 'imgae'",
            "fail is 'imgae'; it should be 'image', 'capacity', 'internal' or 'ClientError: …' (or Algorithm",
        ),
        (
            "operation = 's3:GetObject'\nfail = 'image'",
            "it should be for fail, one of sagemaker:CreateTrain",
        ),
        ("operation = 'sagemaker:*'\nfail = 'image'", "for fail, of jobs, of endpoints or of builds"),
        (
            "operation = 'codebuild:StartBuild'\nfail = 'capacity'",
            "should be 'image', 'internal' or 'STATUS_",
        ),
        (JOB + "interrupt = 30", "interrupt is 30; it should be the seconds after which, and for which: {"),
        (JOB + "interrupt = {after = -1}", "it should be the seconds after which, and for which: {"),
        ("operation = 's3:*'\ninterrupt = {after = 1}", "for interrupt, sagemaker:CreateTrainingJob"),
        (JOB + THROTTLED + "calls = [1]\nrate = 0.5", "it has calls and rate; it should have one of them"),
        (JOB + THROTTLED + "calls = [0]", "calls is [0]; it should be a list of numbers from 1, as [1, 3]"),
        (JOB + THROTTLED + "calls = 1", "calls is 1; it should be a list of numbers from 1, as [1, 3]"),
        (JOB + THROTTLED + "rate = 10", "rate is 10; it should be a number above 0, and at most 1"),
        (JOB + THROTTLED + "times = 0", "times is 0; it should be a whole number from 1"),
        (
            JOB + THROTTLED + "where = {TrainingJob = '*'}",
            "where names 'TrainingJob'; it should be of members that sagemaker:CreateTrainingJob has: "
            "near it are TrainingJobName",
        ),
        (JOB + THROTTLED + "where = {TrainingJobName = 1}", "it should be patterns of members, as {"),
        (
            JOB + THROTTLED + "by = 'me'",
            "by is 'me'; it should be one or several of client, stepfunctions, ev",
        ),
        (JOB + "fail = 'image'\nby = 'client'", "by does not go with fail, which happens whoever started it"),
        ("event = {}\nduplicate = 1", "event is {}; it should be a pattern of EventBridge, as {"),
        ("event = {sources = ['x']}\nduplicate = 1", "which is no 'sources': near it are source"),
        ("event = {source = 'x'}\nduplicate = 1", "it should be a pattern of EventBridge: "),
        ("event = {source = ['x']}\nduplicate = 0", "how many times more it comes, a whole number from 1"),
        ("event = {source = ['x']}\nlose = 'request'", "lose is 'request'; it should be 'event'"),
        (
            "event = {source = ['x']}\ndelay = 1\nby = 'client'",
            "by goes with operation; an event is met by it",
        ),
    ],
)
def test_what_would_never_fire_is_refused_by_its_entry_and_its_key(text, message):
    with pytest.raises(ConfigurationError) as refused:
        parsed(f"[[fault]]\n{JOB}{THROTTLED}\n[[fault]]\n{text}")

    assert str(refused.value).startswith("faults.toml: fault 2: ")
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "faults.toml: there is no fault in it; each should be a table, [[fault]]"),
        ("[fault]\ndelay = 1", "faults.toml: there is no fault in it; each should be a table, [[fault]]"),
        ("faults = []", "faults.toml: there is no key 'faults'; there are seed and [[fault]]"),
        ("seed = 'x'", "faults.toml: seed is 'x'; it should be a whole number"),
    ],
)
def test_a_file_without_faults_is_refused(text, message):
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        parsed(text)


def test_the_command_ends_at_a_file_that_is_wrong(tmp_path):
    file = tmp_path / "faults.toml"
    file.write_text("[[fault]]\noperation = 's3:PutObjct'\nerror = 'throttled'")

    result = CliRunner().invoke(
        main, ["local", "--port", "0", "--data", str(tmp_path / "data"), "--faults", str(file)]
    )

    assert result.exit_code == 1
    assert "faults.toml: fault 1: operation is 's3:PutObjct'" in " ".join(result.output.split())
    assert not (tmp_path / "data").exists()


def test_each_service_has_an_error_for_being_asked_too_often():
    for service in apis.APIS:
        error = fault_errors.error_of(service, "x", fault_errors.THROTTLED)

        assert error.code in fault_errors.codes(service)
        assert error.message
        assert error.status in (400, 429, 503)


@pytest.mark.parametrize(
    ("service", "code", "status", "message"),
    [
        ("sagemaker", "ResourceLimitExceeded", 400, "The account-level service limit for this instance type"),
        ("s3", "SlowDown", 503, "Please reduce your request rate."),
        ("dynamodb", "InternalServerError", 500, "Internal server error"),
        ("lambda", "TooManyRequestsException", 429, "Rate Exceeded."),
        ("lambda", "EC2ThrottledException", 502, "Amazon EC2 throttled Lambda during Lambda function init"),
        (
            "cloudformation",
            "AlreadyExistsException",
            400,
            "The resource with the name requested already exis",
        ),
        (
            "sagemaker",
            "InternalFailure",
            500,
            "The request processing has failed because of an unknown error",
        ),
    ],
)
def test_errors_have_their_services_status_and_words(service, code, status, message):
    error = fault_errors.error_of(service, "x", code)

    assert (error.code, error.status) == (code, status)
    assert error.message.startswith(message)
