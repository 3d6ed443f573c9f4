"""Task: calls, jobs and callbacks, with their events, errors, retries and time limits."""

import asyncio
import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from stagegate.local.service import Announcement, AWSError
from tests.local.states.conftest import Machines, only

FUNCTION = "arn:aws:lambda:us-east-1:111111111111:function:score"
INVOKE = {
    "Type": "Task",
    "Resource": "arn:aws:states:::lambda:invoke",
    "Parameters": {"FunctionName": "score", "Payload.$": "$"},
}
CALLBACK = {
    "Type": "Task",
    "Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken",
    "Parameters": {"FunctionName": "ask", "Payload": {"token.$": "$$.Task.Token"}},
}


def echo(*, Payload: bytes, **_: Any) -> dict[str, Any]:
    return {"StatusCode": 200, "ExecutedVersion": "$LATEST", "Payload": Payload}


def failing(error: str, times: int = 10**6) -> Any:
    """A function that raises `error` so many times, and then returns its input."""
    calls = []

    def invoke(*, Payload: bytes, **_: Any) -> dict[str, Any]:
        calls.append(Payload)
        if len(calls) > times:
            return echo(Payload=Payload)
        failure = {"errorType": error, "errorMessage": "no"}
        return {"StatusCode": 200, "FunctionError": "Unhandled", "Payload": json.dumps(failure).encode()}

    return invoke


async def test_a_function_by_its_arn(machines: Machines) -> None:
    machines.operations["lambda", "Invoke"] = echo

    ended = await machines.run(only({"Type": "Task", "Resource": FUNCTION, "TimeoutSeconds": 9}), {"n": 1})

    assert ended.output == {"n": 1}
    assert ended.links[1:-1] == [
        (2, 0, "TaskStateEntered"),
        (3, 2, "LambdaFunctionScheduled"),
        (4, 3, "LambdaFunctionStarted"),
        (5, 4, "LambdaFunctionSucceeded"),
        (6, 5, "TaskStateExited"),
    ]
    assert ended.details("LambdaFunctionScheduled") == [
        {
            "input": '{"n":1}',
            "inputDetails": {"truncated": False},
            "resource": FUNCTION,
            "timeoutInSeconds": 9,
        }
    ]


async def test_a_function_by_the_lambda_integration(machines: Machines) -> None:
    machines.operations["lambda", "Invoke"] = echo

    ended = await machines.run(
        only({**INVOKE, "ResultSelector": {"n.$": "$.Payload.n", "code.$": "$.StatusCode"}}), {"n": 1}
    )

    assert ended.output == {"n": 1, "code": 200}
    assert ended.types[2:5] == ["TaskScheduled", "TaskStarted", "TaskSucceeded"]
    assert ended.details("TaskScheduled") == [
        {
            "parameters": '{"FunctionName":"score","Payload":{"n":1}}',
            "region": "us-east-1",
            "resource": "invoke",
            "resourceType": "lambda",
        }
    ]
    assert ended.details("TaskStarted") == [{"resource": "invoke", "resourceType": "lambda"}]
    result = json.loads(ended.details("TaskSucceeded")[0]["output"])
    assert set(result) == {
        "ExecutedVersion",
        "Payload",
        "SdkHttpMetadata",
        "SdkResponseMetadata",
        "StatusCode",
    }


async def test_an_error_in_a_function_has_its_own_name(machines: Machines) -> None:
    machines.operations["lambda", "Invoke"] = failing("TooDark")

    ended = await machines.run(only(INVOKE))

    assert (ended.error, ended.cause) == ("TooDark", '{"errorType":"TooDark","errorMessage":"no"}')
    assert ended.details("TaskFailed") == [
        {"error": ended.error, "cause": ended.cause, "resource": "invoke", "resourceType": "lambda"}
    ]


REQUIRED: dict[str, dict[str, Any]] = {
    "lambda:invoke": {"FunctionName": "f"},
    "sagemaker:createModel": {"ModelName": "m"},
    "sns:publish": {"Message": "m"},
    "dynamodb:putItem": {"TableName": "t", "Item": {}},
    "states:startExecution": {"StateMachineArn": "arn"},
}


@pytest.mark.parametrize(
    ("resource", "code", "error"),
    [
        ("lambda:invoke", "ResourceNotFoundException", "Lambda.ResourceNotFoundException"),
        ("lambda:invoke", "Unheard", "Lambda.AWSLambdaException"),
        ("sagemaker:createModel", "ResourceLimitExceeded", "SageMaker.ResourceLimitExceededException"),
        ("sagemaker:createModel", "ThrottlingException", "SageMaker.AmazonSageMakerException"),
        ("sns:publish", "NotFound", "SNS.NotFoundException"),
        ("dynamodb:putItem", "ValidationException", "DynamoDB.AmazonDynamoDBException"),
        (
            "states:startExecution",
            "StateMachineDoesNotExist",
            "StepFunctions.StateMachineDoesNotExistException",
        ),
        ("aws-sdk:s3:getObject", "NoSuchKey", "S3.NoSuchKeyException"),
        (
            "aws-sdk:sagemaker:createModel",
            "ResourceLimitExceeded",
            "SageMaker.ResourceLimitExceededException",
        ),
        (
            "aws-sdk:cloudformation:createStack",
            "AlreadyExistsException",
            "CloudFormation.AlreadyExistsException",
        ),
        (
            "aws-sdk:cloudformation:describeStacks",
            "ValidationError",
            "CloudFormation.CloudFormationException",
        ),
        ("aws-sdk:dynamodb:putItem", "ValidationException", "DynamoDb.DynamoDbException"),
        ("aws-sdk:sfn:sendTaskSuccess", "InvalidToken", "Sfn.InvalidTokenException"),
    ],
)
async def test_errors_of_services_are_named_as_step_functions_names_them(
    machines: Machines, resource: str, code: str, error: str
) -> None:
    async def refuse(*_: Any, **__: Any) -> dict[str, Any]:
        raise AWSError(code, "It is so", status=400)

    machines.runtime.__dict__["aws"] = refuse
    parameters = REQUIRED.get(resource, {})

    named, cause = await machines.failure(
        {"Type": "Task", "Resource": f"arn:aws:states:::{resource}", "Parameters": parameters}
    )

    assert named == error
    assert cause is not None and cause.startswith("It is so (Service: ")


async def test_a_job_that_can_not_be_started_was_not_submitted(machines: Machines) -> None:
    def refuse(**_: Any) -> dict[str, Any]:
        raise AWSError("ResourceLimitExceeded", "No instances left")

    machines.operations["sagemaker", "CreateTrainingJob"] = refuse

    ended = await machines.run(only(TRAIN))

    assert ended.error == "SageMaker.ResourceLimitExceededException"
    assert ended.types[2:] == ["TaskScheduled", "TaskStarted", "TaskSubmitFailed", "ExecutionFailed"]


async def test_parameters_that_the_api_does_not_have_fail(machines: Machines) -> None:
    machines.operations["sagemaker", "CreateModel"] = echo
    state = {
        "Type": "Task",
        "Resource": "arn:aws:states:::sagemaker:createModel",
        "Parameters": {"ModelName": "m", "PrimaryContainer.$": "$"},
    }

    assert await machines.failure(state, {"Picture": "x"}) == (
        "States.Runtime",
        "An error occurred while executing the state 'State' (entered at the event id #2). The Parameters "
        '\'{"ModelName":"m","PrimaryContainer":{"Picture":"x"}}\' could not be used to start the Task: '
        '[The field "Picture" is not supported by Step Functions]',
    )


async def test_a_retry_tries_again_and_counts(machines: Machines) -> None:
    machines.operations["lambda", "Invoke"] = failing("Busy", times=2)
    state = {
        "Type": "Task",
        "Resource": FUNCTION,
        "Parameters": {"attempt.$": "$$.State.RetryCount"},
        "Retry": [
            {"ErrorEquals": ["Other"]},
            {"ErrorEquals": ["Busy"], "IntervalSeconds": 1, "MaxAttempts": 2, "JitterStrategy": "FULL"},
        ],
    }

    ended = await machines.run(only(state))

    assert ended.output == {"attempt": 2}
    assert ended.types.count("LambdaFunctionFailed") == 2
    assert ended.links[5:8] == [
        (6, 5, "LambdaFunctionScheduled"),
        (7, 6, "LambdaFunctionStarted"),
        (8, 7, "LambdaFunctionFailed"),
    ]


async def test_the_delay_before_a_retry_grows_up_to_its_maximum(machines: Machines) -> None:
    machines.operations["lambda", "Invoke"] = failing("Busy", times=2)
    retry = {
        "ErrorEquals": ["States.TaskFailed"],
        "IntervalSeconds": 1,
        "BackoffRate": 9.0,
        "MaxDelaySeconds": 1,
    }
    began = time.monotonic()

    await machines.output({"Type": "Task", "Resource": FUNCTION, "Retry": [retry]})

    assert 2 <= time.monotonic() - began < 4


@pytest.mark.parametrize(
    ("names", "is_caught"),
    [
        (["Busy"], True),
        (["States.TaskFailed"], True),
        (["States.ALL"], True),
        (["States.Timeout"], False),
        (["busy"], False),
    ],
)
async def test_which_names_catch_an_error(machines: Machines, names: list[str], is_caught: bool) -> None:
    machines.operations["lambda", "Invoke"] = failing("Busy")
    definition = {
        "StartAt": "Work",
        "States": {
            "Work": {
                "Type": "Task",
                "Resource": FUNCTION,
                "Catch": [{"ErrorEquals": names, "ResultPath": "$.failure", "Next": "Caught"}],
                "End": True,
            },
            "Caught": {"Type": "Pass", "OutputPath": "$.failure.Error", "End": True},
        },
    }

    ended = await machines.run(definition)

    assert (ended.status, ended.output) == (("SUCCEEDED", "Busy") if is_caught else ("FAILED", None))


async def test_a_runtime_error_is_not_caught(machines: Machines) -> None:
    definition = {
        "StartAt": "Work",
        "States": {
            "Work": {
                **INVOKE,
                "InputPath": "$.missing",
                "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Caught"}],
                "End": True,
            },
            "Caught": {"Type": "Pass", "End": True},
        },
    }

    ended = await machines.run(definition)

    assert (ended.status, ended.error) == ("FAILED", "States.Runtime")


async def test_a_result_that_is_too_large_is_an_error(machines: Machines) -> None:
    machines.operations["lambda", "Invoke"] = lambda **_: {"Payload": json.dumps("x" * 262_143).encode()}

    error, cause = await machines.failure({"Type": "Task", "Resource": FUNCTION})

    assert error == "States.DataLimitExceeded"
    assert cause == (
        f"The state/task '{FUNCTION}' returned a result with a size exceeding "
        "the maximum number of bytes service limit."
    )


async def test_a_task_that_takes_too_long_times_out(machines: Machines) -> None:
    async def sleep(**_: Any) -> dict[str, Any]:
        await asyncio.sleep(60)
        return {}

    machines.operations["lambda", "Invoke"] = sleep

    ended = await machines.run(only({**INVOKE, "TimeoutSecondsPath": "$.limit"}), {"limit": 1})

    assert (ended.error, ended.cause) == ("States.Timeout", None)
    assert ended.details("TaskTimedOut") == [
        {"error": "States.Timeout", "resource": "invoke", "resourceType": "lambda"}
    ]


async def asked(machines: Machines, state: dict[str, Any]) -> tuple[str, str]:
    """Start an execution of `state`; give its ARN and the token that the function was given."""
    tokens = list[str]()

    def ask(*, Payload: bytes, **_: Any) -> dict[str, Any]:
        tokens.append(json.loads(Payload)["token"])
        return {"StatusCode": 200, "Payload": b"null"}

    machines.operations["lambda", "Invoke"] = ask
    execution = machines.start(only(state), name=f"asked-{len(machines.announced)}")
    await machines.reaches(execution, "TaskSubmitted")
    return execution, tokens[0]


async def test_a_token_is_answered_with_success(machines: Machines) -> None:
    execution, token = await asked(machines, CALLBACK)

    machines.api.send_task_success(taskToken=token, output='{"approved": true}')
    ended = await machines.end(execution)

    assert ended.output == {"approved": True}
    assert ended.types[2:6] == ["TaskScheduled", "TaskStarted", "TaskSubmitted", "TaskSucceeded"]
    assert ended.details("TaskSucceeded") == [
        {
            "output": '{"approved":true}',
            "outputDetails": {"truncated": False},
            "resource": "invoke.waitForTaskToken",
            "resourceType": "lambda",
        }
    ]


async def test_a_token_is_answered_with_failure(machines: Machines) -> None:
    execution, token = await asked(machines, CALLBACK)

    machines.api.send_task_failure(taskToken=token, error="Rejected", cause="too dark")
    ended = await machines.end(execution)

    assert (ended.error, ended.cause) == ("Rejected", "too dark")


async def test_a_token_is_answered_once(machines: Machines) -> None:
    execution, token = await asked(machines, CALLBACK)
    machines.api.send_task_success(taskToken=token, output="1")

    for _ in range(2):
        with pytest.raises(AWSError) as raised:
            machines.api.send_task_success(taskToken=token, output="2")
        assert raised.value.code == "TaskTimedOut"
        await machines.end(execution)
    with pytest.raises(AWSError) as raised:
        machines.api.send_task_heartbeat(taskToken="made up")
    assert (raised.value.code, raised.value.message) == ("InvalidToken", "Invalid Token: 'Invalid token'")


async def test_what_is_no_json_is_no_output(machines: Machines) -> None:
    _, token = await asked(machines, CALLBACK)

    with pytest.raises(AWSError) as raised:
        machines.api.send_task_success(taskToken=token, output="yes")

    assert raised.value.code == "InvalidOutput"


async def test_without_heartbeats_a_token_times_out(machines: Machines) -> None:
    execution, token = await asked(machines, {**CALLBACK, "HeartbeatSeconds": 1, "TimeoutSeconds": 60})
    began = time.monotonic()
    await asyncio.sleep(0.6)
    machines.api.send_task_heartbeat(taskToken=token)

    ended = await machines.end(execution)

    assert 1.5 < time.monotonic() - began < 4
    assert (ended.status, ended.error) == ("FAILED", "States.Timeout")
    with pytest.raises(AWSError):
        machines.api.send_task_success(taskToken=token, output="1")


class Training:
    """A SageMaker of one training job."""

    def __init__(self, machines: Machines) -> None:
        self.machines = machines
        self.job: dict[str, Any] | None = None
        self.calls: list[str] = []
        self.stopped = asyncio.Event()
        for operation, answer in (
            ("CreateTrainingJob", self.create),
            ("DescribeTrainingJob", self.describe),
            ("StopTrainingJob", self.stop),
        ):
            machines.operations["sagemaker", operation] = answer

    def create(self, *, TrainingJobName: str, **_: Any) -> dict[str, Any]:
        self.calls.append("create")
        if self.job is not None:
            raise AWSError("ResourceInUse", "Training job names must be unique")
        self.job = {
            "TrainingJobName": TrainingJobName,
            "TrainingJobArn": "arn:job",
            "TrainingJobStatus": "InProgress",
        }
        return {"TrainingJobArn": "arn:job"}

    def describe(self, *, TrainingJobName: str) -> dict[str, Any]:
        self.calls.append("describe")
        if self.job is None:
            raise AWSError("ValidationException", "Requested resource not found.")
        return self.job

    def stop(self, *, TrainingJobName: str) -> dict[str, Any]:
        self.calls.append("stop")
        self.stopped.set()
        self.end("Stopped")
        return {}

    def end(self, status: str, **members: Any) -> None:
        assert self.job is not None
        self.job |= {"TrainingJobStatus": status, **members}
        self.machines.runtime.announce(
            Announcement(
                source="aws.sagemaker",
                detail_type="SageMaker Training Job State Change",
                detail={"TrainingJobName": self.job["TrainingJobName"], "TrainingJobStatus": status},
            )
        )


TRAIN = {
    "Type": "Task",
    "Resource": "arn:aws:states:::sagemaker:createTrainingJob.sync",
    "Parameters": {
        "TrainingJobName": "job",
        "RoleArn": "arn:aws:iam::111111111111:role/training",
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/models"},
    },
}


async def test_a_job_is_waited_for(machines: Machines) -> None:
    training = Training(machines)
    execution = machines.start(only(TRAIN))
    await machines.reaches(execution, "TaskSubmitted")

    training.end("Completed", BillableTimeInSeconds=3)
    ended = await machines.end(execution)

    assert ended.output == {
        "TrainingJobName": "job",
        "TrainingJobArn": "arn:job",
        "TrainingJobStatus": "Completed",
        "BillableTimeInSeconds": 3,
    }
    assert ended.types[2:6] == ["TaskScheduled", "TaskStarted", "TaskSubmitted", "TaskSucceeded"]
    assert training.calls == ["create", "describe", "describe"]


async def test_a_job_that_fails_fails_its_task_with_its_description(machines: Machines) -> None:
    training = Training(machines)
    execution = machines.start(only(TRAIN))
    await machines.reaches(execution, "TaskSubmitted")

    training.end("Failed", FailureReason="AlgorithmError: exit code 1")
    ended = await machines.end(execution)

    assert ended.error == "States.TaskFailed"
    assert json.loads(ended.cause or "") == training.job


async def test_a_stopped_job_is_a_result_with_its_status(machines: Machines) -> None:
    training = Training(machines)
    execution = machines.start(only(TRAIN))
    await machines.reaches(execution, "TaskSubmitted")

    training.stop(TrainingJobName="job")

    assert (await machines.end(execution)).output["TrainingJobStatus"] == "Stopped"


async def test_a_stopped_execution_stops_its_job(machines: Machines) -> None:
    training = Training(machines)
    execution = machines.start(only(TRAIN))
    await machines.reaches(execution, "TaskSubmitted")

    machines.api.stop_execution(executionArn=execution, error="Enough", cause="of that")
    ended = await machines.end(execution)

    assert (ended.status, ended.error, ended.cause) == ("ABORTED", "Enough", "of that")
    assert ended.links[-1] == (6, 0, "ExecutionAborted")
    async with asyncio.timeout(5):
        await training.stopped.wait()


async def test_an_execution_that_takes_too_long_stops_its_job(machines: Machines) -> None:
    training = Training(machines)

    ended = await machines.run({**only(TRAIN), "TimeoutSeconds": 1})

    assert ended.status == "TIMED_OUT"
    async with asyncio.timeout(5):
        await training.stopped.wait()


async def test_a_job_whose_sibling_failed_is_stopped_once(machines: Machines) -> None:
    training = Training(machines)
    failing_soon = {
        "StartAt": "W",
        "States": {"W": {"Type": "Wait", "Seconds": 1, "Next": "F"}, "F": {"Type": "Fail"}},
    }
    train = {"StartAt": "Train", "States": {"Train": {**TRAIN, "End": True}}}

    ended = await machines.run(only({"Type": "Parallel", "Branches": [train, failing_soon]}))

    assert ended.status == "FAILED"
    async with asyncio.timeout(5):
        await training.stopped.wait()
    assert training.calls.count("stop") == 1


async def test_a_job_that_takes_too_long_is_stopped(machines: Machines) -> None:
    training = Training(machines)

    ended = await machines.run(only({**TRAIN, "TimeoutSeconds": 1}))

    assert ended.error == "States.Timeout"
    async with asyncio.timeout(5):
        await training.stopped.wait()


@pytest.mark.parametrize(("pattern", "output"), [(".sync", '{"n":1}'), (".sync:2", {"n": 1})])
async def test_a_nested_execution_is_waited_for(machines: Machines, pattern: str, output: Any) -> None:
    child = machines.create(only({"Type": "Pass"}), name="child")
    state = {
        "Type": "Task",
        "Resource": f"arn:aws:states:::states:startExecution{pattern}",
        "Parameters": {"StateMachineArn": child, "Input.$": "$", "Name": "nested"},
    }

    result = await machines.output(state, {"n": 1})

    assert (result["Name"], result["Status"], result["Output"]) == ("nested", "SUCCEEDED", output)
    assert isinstance(result["StartDate"], int)


async def test_the_sdk_integration_converts_what_goes_in_and_what_comes_out(machines: Machines) -> None:
    requests = []

    def put(**request: Any) -> dict[str, Any]:
        requests.append(request)
        return {
            "ETag": '"x"',
            "Body": b"text",
            "LastModified": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            "VersionId": None,
        }

    machines.operations["s3", "PutObject"] = put
    machines.operations["s3", "GetObject"] = put
    machines.operations["stepfunctions", "StartExecution"] = put
    state = {"Type": "Task", "Resource": "arn:aws:states:::aws-sdk:s3:getObject"}

    output = await machines.output({**state, "Parameters": {"Bucket": "b", "Key": "k", "VersionId": None}})
    await machines.output(
        {**state, "Resource": state["Resource"].replace("get", "put"), "Parameters": {"Body": {"a": 1}}}
    )

    upload = {"Body": b'{"a":1}', "ChecksumAlgorithm": "CRC32", "ChecksumCRC32": "Vhusrw=="}
    assert requests == [{"Bucket": "b", "Key": "k"}, upload]
    assert output == {"ETag": '"x"', "Body": "text", "LastModified": "2026-01-02T03:04:05Z"}
