"""What a Task can do: the table of service integrations, and how a Resource names them.

arn:aws:states:::sagemaker:createTrainingJob.sync       an optimised integration, with its pattern
arn:aws:states:::aws-sdk:s3:getObject                   any operation of an AWS service
arn:aws:lambda:us-east-1:111111111111:function:name     a function, by its own ARN
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stagegate.local import apis
from stagegate.local.service import Json

REQUEST_RESPONSE = ""
SYNC = ".sync"
SYNC_2 = ".sync:2"
TASK_TOKEN = ".waitForTaskToken"  # noqa: S105 (no password: the pattern's name)

_ONLY_CALL = (REQUEST_RESPONSE,)
_JOB = (REQUEST_RESPONSE, SYNC)
_CALLBACK = (REQUEST_RESPONSE, TASK_TOKEN)


class UnknownResource(ValueError):
    """The Resource names no integration that this runtime has."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What `.sync` waits for: how it is found, when it has ended, how it is stopped.

    `identify` gives what describes the job from the request and the response that started it, `name` its
    name in the announcement of its end.
    """

    describe: str
    identify: Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]
    name: Callable[[Mapping[str, Any]], str]
    described: Callable[[Mapping[str, Any]], dict[str, Any]]
    """The description without what wraps it, as `status` finds the status in it."""
    status: str
    succeeded: frozenset[str]
    ended: frozenset[str]
    stop: str
    stop_by: Callable[[Mapping[str, Any]], dict[str, Any]]
    detail_type: str
    announced_name: Callable[[Mapping[str, Any]], str]
    response: Callable[[Mapping[str, Any]], dict[str, Any]]
    """What the call that started the job would have answered, from the description of a job found again."""
    wrapped_as: str | None = None
    """The member under which the result has the description."""


@dataclass(frozen=True, kw_only=True)
class Optimised:
    """An integration that Step Functions has of its own. `service` is botocore's name."""

    service: str
    operation: str
    patterns: tuple[str, ...] = _ONLY_CALL
    job: Job | None = None


@dataclass(frozen=True, kw_only=True)
class ErrorNames:
    """How an optimised integration names errors: `DynamoDB.AmazonDynamoDBException`."""

    prefix: str
    base: str
    service: str


ERROR_NAMES = {
    "lambda": ErrorNames(prefix="Lambda", base="AWSLambdaException", service="AWSLambda"),
    "sagemaker": ErrorNames(prefix="SageMaker", base="AmazonSageMakerException", service="AmazonSageMaker"),
    "codebuild": ErrorNames(prefix="CodeBuild", base="AWSCodeBuildException", service="AWSCodeBuild"),
    "sns": ErrorNames(prefix="SNS", base="AmazonSNSException", service="AmazonSNS"),
    "sqs": ErrorNames(prefix="SQS", base="AmazonSQSException", service="AmazonSQS"),
    "dynamodb": ErrorNames(prefix="DynamoDB", base="AmazonDynamoDBException", service="AmazonDynamoDBv2"),
    "events": ErrorNames(
        prefix="EventBridge", base="AmazonEventBridgeException", service="AmazonEventBridge"
    ),
    "states": ErrorNames(
        prefix="StepFunctions", base="AWSStepFunctionsException", service="AWSStepFunctions"
    ),
}


def _sagemaker_job(kind: str, detail_type: str) -> Job:
    name = f"{kind}JobName"
    return Job(
        describe=f"Describe{kind}Job",
        identify=lambda request, response: {name: request[name]},
        name=lambda identity: str(identity[name]),
        described=dict,
        status=f"{kind}JobStatus",
        # Stopped (by StopTrainingJob, a time limit, a lack of spot capacity) is no failure to SageMaker:
        # its own waiters, TrainingJobCompletedOrStopped and their like in the service's model, end well
        # with it, and what the job saved is kept. Step Functions documents neither; a definition must look
        # at the status, and catch the error too.
        succeeded=frozenset({"Completed", "Stopped"}),
        ended=frozenset({"Completed", "Failed", "Stopped"}),
        stop=f"Stop{kind}Job",
        stop_by=lambda identity: {name: identity[name]},
        detail_type=detail_type,
        announced_name=lambda detail: str(detail[name]),
        response=lambda description: {f"{kind}JobArn": description[f"{kind}JobArn"]},
    )


def _build_job() -> Job:
    return Job(
        describe="BatchGetBuilds",
        identify=lambda request, response: {"ids": [response["build"]["id"]]},
        name=lambda identity: str(identity["ids"][0]),
        described=lambda response: dict(response["builds"][0]),
        status="buildStatus",
        succeeded=frozenset({"SUCCEEDED"}),
        ended=frozenset({"SUCCEEDED", "FAILED", "FAULT", "TIMED_OUT", "STOPPED"}),
        stop="StopBuild",
        stop_by=lambda identity: {"id": identity["ids"][0]},
        detail_type="CodeBuild Build State Change",
        announced_name=lambda detail: (
            str(detail["build-id"]).partition(":build/")[2] or str(detail["build-id"])
        ),
        response=lambda description: {"build": description},
        wrapped_as="Build",
    )


def _execution_job() -> Job:
    return Job(
        describe="DescribeExecution",
        identify=lambda request, response: {"executionArn": response["executionArn"]},
        name=lambda identity: str(identity["executionArn"]),
        described=dict,
        status="status",
        succeeded=frozenset({"SUCCEEDED"}),
        ended=frozenset({"SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"}),
        stop="StopExecution",
        stop_by=lambda identity: dict(identity),
        detail_type="Step Functions Execution Status Change",
        announced_name=lambda detail: str(detail["executionArn"]),
        response=lambda description: {
            "executionArn": description["executionArn"],
            "startDate": description["startDate"],
        },
    )


def _sagemaker(operation: str, job: Job | None = None) -> Optimised:
    return Optimised(service="sagemaker", operation=operation, patterns=_JOB if job else _ONLY_CALL, job=job)


OPTIMISED: dict[tuple[str, str], Optimised] = {
    ("lambda", "invoke"): Optimised(service="lambda", operation="Invoke", patterns=_CALLBACK),
    ("sagemaker", "createTrainingJob"): _sagemaker(
        "CreateTrainingJob", _sagemaker_job("Training", "SageMaker Training Job State Change")
    ),
    ("sagemaker", "createProcessingJob"): _sagemaker(
        "CreateProcessingJob", _sagemaker_job("Processing", "SageMaker Processing Job State Change")
    ),
    ("sagemaker", "createTransformJob"): _sagemaker(
        "CreateTransformJob", _sagemaker_job("Transform", "SageMaker Transform Job State Change")
    ),
    ("sagemaker", "createHyperParameterTuningJob"): _sagemaker(
        "CreateHyperParameterTuningJob",
        _sagemaker_job("HyperParameterTuning", "SageMaker HyperParameter Tuning Job State Change"),
    ),
    ("sagemaker", "createModel"): _sagemaker("CreateModel"),
    ("sagemaker", "createEndpointConfig"): _sagemaker("CreateEndpointConfig"),
    ("sagemaker", "createEndpoint"): _sagemaker("CreateEndpoint"),
    ("sagemaker", "updateEndpoint"): _sagemaker("UpdateEndpoint"),
    ("codebuild", "startBuild"): Optimised(
        service="codebuild", operation="StartBuild", patterns=_JOB, job=_build_job()
    ),
    ("codebuild", "stopBuild"): Optimised(service="codebuild", operation="StopBuild"),
    ("codebuild", "batchDeleteBuilds"): Optimised(service="codebuild", operation="BatchDeleteBuilds"),
    ("codebuild", "batchGetReports"): Optimised(service="codebuild", operation="BatchGetReports"),
    ("sns", "publish"): Optimised(service="sns", operation="Publish", patterns=_CALLBACK),
    ("sqs", "sendMessage"): Optimised(service="sqs", operation="SendMessage", patterns=_CALLBACK),
    ("dynamodb", "getItem"): Optimised(service="dynamodb", operation="GetItem"),
    ("dynamodb", "putItem"): Optimised(service="dynamodb", operation="PutItem"),
    ("dynamodb", "updateItem"): Optimised(service="dynamodb", operation="UpdateItem"),
    ("dynamodb", "deleteItem"): Optimised(service="dynamodb", operation="DeleteItem"),
    ("events", "putEvents"): Optimised(service="events", operation="PutEvents", patterns=_CALLBACK),
    ("states", "startExecution"): Optimised(
        service="stepfunctions",
        operation="StartExecution",
        patterns=(REQUEST_RESPONSE, SYNC, SYNC_2, TASK_TOKEN),
        job=_execution_job(),
    ),
}

SDK_SERVICES = {
    "applicationautoscaling": "application-autoscaling",
    "budgets": "budgets",
    "cloudformation": "cloudformation",
    "cloudwatch": "cloudwatch",
    "cloudwatchlogs": "logs",
    "codebuild": "codebuild",
    "codecommit": "codecommit",
    "dynamodb": "dynamodb",
    "dynamodbstreams": "dynamodbstreams",
    "ec2": "ec2",
    "ecr": "ecr",
    "eventbridge": "events",
    "iam": "iam",
    "kms": "kms",
    "lambda": "lambda",
    "s3": "s3",
    "sagemaker": "sagemaker",
    "sagemakermetrics": "sagemaker-metrics",
    "sagemakerruntime": "sagemaker-runtime",
    "scheduler": "scheduler",
    "secretsmanager": "secretsmanager",
    "ses": "ses",
    "sesv2": "sesv2",
    "sfn": "stepfunctions",
    "sns": "sns",
    "sqs": "sqs",
    "ssm": "ssm",
    "sts": "sts",
}
"""The services that "aws-sdk:" reaches, by the name that Step Functions has for them, with botocore's."""

SDK_ERROR_PREFIXES = {
    "applicationautoscaling": "ApplicationAutoScaling",
    "cloudformation": "CloudFormation",
    "cloudwatch": "CloudWatch",
    "cloudwatchlogs": "CloudWatchLogs",
    "codebuild": "CodeBuild",
    "codecommit": "CodeCommit",
    "dynamodb": "DynamoDb",
    "dynamodbstreams": "DynamoDbStreams",
    "eventbridge": "EventBridge",
    "sagemaker": "SageMaker",
    "sagemakermetrics": "SageMakerMetrics",
    "sagemakerruntime": "SageMakerRuntime",
    "secretsmanager": "SecretsManager",
    "sesv2": "SesV2",
}
"""How errors are named where it is not the service's name with a capital first letter."""


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A Task's Resource, taken apart."""

    arn: str
    service: str
    """The service as Step Functions names it."""
    botocore: str
    operation: str
    api: str
    """The operation as the Resource names it, without its pattern."""
    pattern: str = REQUEST_RESPONSE
    job: Job | None = None
    is_sdk: bool = False
    is_function: bool = False
    is_activity: bool = False

    @property
    def takes_anything(self) -> bool:
        """Whether there is no API that the parameters must suit."""
        return self.is_function or self.is_activity

    @property
    def starts(self) -> Job | None:
        """The job that the call starts, whether or not the task waits for it."""
        called = (self.botocore, self.operation)
        return next((one.job for one in OPTIMISED.values() if (one.service, one.operation) == called), None)

    @property
    def event_type(self) -> dict[str, Json]:
        """What every event of the task says of it."""
        prefix = "aws-sdk:" if self.is_sdk else ""
        return {"resource": self.api + self.pattern, "resourceType": prefix + self.service}

    @property
    def has_token(self) -> bool:
        """Whether there is a task token; a job's can be used too, to end the task before the job does."""
        return self.is_activity or self.pattern != REQUEST_RESPONSE

    @property
    def is_sync(self) -> bool:
        return self.pattern in (SYNC, SYNC_2)


def parse_resource(arn: str) -> Resource:
    """Raise `UnknownResource` for what this runtime does not have."""
    if arn.startswith("arn:aws:states:::"):
        return _parse_integration(arn, arn.removeprefix("arn:aws:states:::"))
    parts = arn.split(":")
    if len(parts) >= 7 and parts[:3] == ["arn", "aws", "lambda"] and parts[5] == "function":
        return Resource(
            arn=arn, service="lambda", botocore="lambda", operation="Invoke", api="invoke", is_function=True
        )
    if len(parts) == 7 and parts[:3] == ["arn", "aws", "states"] and parts[5] == "activity":
        return Resource(
            arn=arn,
            service="activity",
            botocore="stepfunctions",
            operation="GetActivityTask",
            api="activity",
            is_activity=True,
        )
    raise UnknownResource(f"The resource '{arn}' is not an ARN of an integration")


def _parse_integration(arn: str, text: str) -> Resource:
    is_sdk = text.startswith("aws-sdk:")
    service, _, rest = text.removeprefix("aws-sdk:").partition(":")
    api, pattern = _split_pattern(rest)
    if is_sdk:
        return _parse_sdk(arn, service, api, pattern)
    optimised = OPTIMISED.get((service, api))
    if optimised is None:
        raise UnknownResource(f"The resource '{arn}' is not an integration that is supported here")
    if pattern not in optimised.patterns:
        raise UnknownResource(f"The pattern '{pattern}' is not supported by '{service}:{api}'")
    return Resource(
        arn=arn,
        service=service,
        botocore=optimised.service,
        operation=optimised.operation,
        api=api,
        pattern=pattern,
        job=optimised.job if pattern in (SYNC, SYNC_2) else None,
    )


def _parse_sdk(arn: str, service: str, api: str, pattern: str) -> Resource:
    if service not in SDK_SERVICES:
        raise UnknownResource(f"The service '{service}' of the resource '{arn}' is not supported here")
    if pattern not in _CALLBACK:
        raise UnknownResource(f"The pattern '{pattern}' is not supported by 'aws-sdk:{service}'")
    operation = api[:1].upper() + api[1:]
    if operation not in apis.model(SDK_SERVICES[service]).operation_names:
        raise UnknownResource(f"The service '{service}' has no operation '{api}': {arn}")
    return Resource(
        arn=arn,
        service=service,
        botocore=SDK_SERVICES[service],
        operation=operation,
        api=api,
        pattern=pattern,
        is_sdk=True,
    )


def _split_pattern(text: str) -> tuple[str, str]:
    for pattern in (SYNC_2, SYNC, TASK_TOKEN):
        if text.endswith(pattern):
            return text.removesuffix(pattern), pattern
    return text, REQUEST_RESPONSE
