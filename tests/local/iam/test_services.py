"""What services do under the roles that they are given, where the runtime enforces IAM."""

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Local
from tests.local.iam.roles import ACCOUNT, allow, create_role, put_policy, trusting

READS = """
import os

import boto3

def handler(event, context):
    who = boto3.client("sts").get_caller_identity()["Arn"]
    body = boto3.client("s3").get_object(Bucket="data", Key=event["key"])["Body"].read().decode()
    return {"who": who, "body": body, "key": os.environ["AWS_ACCESS_KEY_ID"][:4]}
"""


def zipped(source: str) -> bytes:
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("main.py", source)
    return package.getvalue()


def wait_for(look: Callable[[], Any]) -> Any:
    """What `look` gives once it gives something; each look is a request."""
    while not (found := look()):
        pass
    return found


@pytest.fixture(scope="module")
def reading(enforcing: Local) -> str:
    """A function that reads from S3 by its role, which may read what is public."""
    role = create_role(
        enforcing,
        "function",
        allow("s3:GetObject", "arn:aws:s3:::data/public/*"),
        trust=trusting(Service="lambda.amazonaws.com"),
    )
    arn: str = enforcing.client("lambda").create_function(
        FunctionName="reading",
        Runtime="python3.13",
        Handler="main.handler",
        Role=role,
        Code={"ZipFile": zipped(READS)},
        Timeout=60,
    )["FunctionArn"]
    return arn


def invoke(local: Local, function: str, key: str) -> Any:
    answer = local.client("lambda").invoke(FunctionName=function, Payload=json.dumps({"key": key}))
    return json.loads(answer["Payload"].read())


def test_a_function_calls_by_its_role(enforcing: Local, reading: str) -> None:
    assert invoke(enforcing, reading, "public/a") == {
        "who": f"arn:aws:sts::{ACCOUNT}:assumed-role/function/reading",
        "body": "a",
        "key": "ASIA",
    }
    refused = invoke(enforcing, reading, "secret/b")
    assert refused["errorType"] == "AccessDenied"
    assert "(AccessDenied)" in refused["errorMessage"]
    assert (
        "assumed-role/function/reading is not authorized to perform: s3:GetObject" in refused["errorMessage"]
    )


def test_a_functions_role_has_to_trust_lambda(enforcing: Local) -> None:
    role = create_role(enforcing, "not-of-lambda")
    lambdas = enforcing.client("lambda")

    with pytest.raises(
        lambdas.exceptions.InvalidParameterValueException, match="cannot be assumed by Lambda"
    ):
        lambdas.create_function(
            FunctionName="none",
            Runtime="python3.13",
            Handler="main.handler",
            Role=role,
            Code={"ZipFile": zipped(READS)},
        )


def test_a_job_reads_and_writes_by_its_role(enforcing: Local) -> None:
    role = create_role(
        enforcing,
        "jobs",
        allow("s3:ListBucket", "arn:aws:s3:::data"),
        allow(["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"]),
        trust=trusting(Service="sagemaker.amazonaws.com"),
    )
    sagemaker = enforcing.client("sagemaker")

    def process(name: str) -> dict[str, Any]:
        sagemaker.create_processing_job(
            ProcessingJobName=name,
            RoleArn=role,
            AppSpecification={"ImageUri": "python", "ContainerEntrypoint": ["true"]},
            ProcessingInputs=[
                {
                    "InputName": "in",
                    "S3Input": {
                        "S3Uri": "s3://data/public",
                        "LocalPath": "/opt/ml/processing/input/in",
                        "S3DataType": "S3Prefix",
                        "S3InputMode": "File",
                    },
                }
            ],
            ProcessingResources={
                "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}
            },
        )

        def ended() -> dict[str, Any] | None:
            job = sagemaker.describe_processing_job(ProcessingJobName=name)
            return job if job["ProcessingJobStatus"] in ("Completed", "Failed") else None

        job: dict[str, Any] = wait_for(ended)
        return job

    failed = process("without-permission")
    put_policy(
        enforcing,
        "jobs",
        allow("s3:ListBucket", "arn:aws:s3:::data"),
        allow("s3:GetObject", "arn:aws:s3:::data/public/*"),
        allow("cloudwatch:PutMetricData"),
    )
    completed = process("with-permission")

    assert failed["ProcessingJobStatus"] == "Failed"
    assert failed["FailureReason"] == (
        f"ClientError: User: arn:aws:sts::{ACCOUNT}:assumed-role/jobs/SageMaker is not authorized to "
        'perform: s3:GetObject on resource: "arn:aws:s3:::data/public/a" because no identity-based '
        "policy allows the s3:GetObject action"
    )
    assert completed["ProcessingJobStatus"] == "Completed", completed


def test_an_image_is_pulled_by_the_jobs_role(enforcing: Local) -> None:
    image = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/trainer:1"
    role = create_role(enforcing, "pulling", trust=trusting(Service="sagemaker.amazonaws.com"))
    sagemaker = enforcing.client("sagemaker")
    sagemaker.create_processing_job(
        ProcessingJobName="pulling",
        RoleArn=role,
        AppSpecification={"ImageUri": image, "ContainerEntrypoint": ["true"]},
        ProcessingResources={
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}
        },
    )

    def ended() -> str | None:
        job = sagemaker.describe_processing_job(ProcessingJobName="pulling")
        reason: str | None = job.get("FailureReason")
        return reason

    assert "is not authorized to perform: ecr:GetAuthorizationToken on resource: *" in wait_for(ended)


def test_a_stack_makes_its_resources_by_its_role(enforcing: Local) -> None:
    role = create_role(
        enforcing,
        "stacks",
        allow("sqs:*", f"arn:aws:sqs:us-east-1:{ACCOUNT}:allowed-*"),
        trust=trusting(Service="cloudformation.amazonaws.com"),
    )
    cloudformation = enforcing.client("cloudformation")

    def deploy(queue: str) -> list[dict[str, Any]]:
        queues = {"Queue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": queue}}}
        cloudformation.create_stack(
            StackName=queue,
            RoleARN=role,
            TemplateBody=json.dumps({"Resources": queues}),
            OnFailure="DO_NOTHING",
        )

        def ended() -> bool:
            [stack] = cloudformation.describe_stacks(StackName=queue)["Stacks"]
            return not stack["StackStatus"].endswith("_IN_PROGRESS")

        wait_for(ended)
        events: list[dict[str, Any]] = cloudformation.describe_stack_events(StackName=queue)["StackEvents"]
        return [event for event in events if event["LogicalResourceId"] == "Queue"]

    assert deploy("allowed-queue")[0]["ResourceStatus"] == "CREATE_COMPLETE"
    failed = deploy("other-queue")[0]
    assert failed["ResourceStatus"] == "CREATE_FAILED"
    assert (
        f"User: arn:aws:sts::{ACCOUNT}:assumed-role/stacks/AWSCloudFormation is not authorized to perform: "
        f"sqs:CreateQueue on resource: arn:aws:sqs:us-east-1:{ACCOUNT}:other-queue"
    ) in failed["ResourceStatusReason"]
    assert "HandlerErrorCode: AccessDenied" in failed["ResourceStatusReason"]


def test_a_rule_starts_a_state_machine_by_its_targets_role(enforcing: Local) -> None:
    states, events, sqs = (enforcing.client(name) for name in ("stepfunctions", "events", "sqs"))
    machine = states.create_state_machine(
        name="started",
        definition=json.dumps({"StartAt": "A", "States": {"A": {"Type": "Succeed"}}}),
        roleArn=create_role(enforcing, "started", trust=trusting(Service="states.amazonaws.com")),
    )["stateMachineArn"]
    role = create_role(enforcing, "rules", trust=trusting(Service="events.amazonaws.com"))
    letters = sqs.create_queue(QueueName="letters")["QueueUrl"]
    target = {
        "Id": "1",
        "Arn": machine,
        "RoleArn": role,
        "DeadLetterConfig": {"Arn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:letters"},
    }
    events.put_rule(Name="starts", EventPattern=json.dumps({"source": ["test"]}))
    events.put_targets(Rule="starts", Targets=[target])

    def send() -> None:
        events.put_events(Entries=[{"Source": "test", "DetailType": "t", "Detail": "{}"}])

    send()
    [letter] = sqs.receive_message(
        QueueUrl=letters, WaitTimeSeconds=20, MessageAttributeNames=["ERROR_CODE"]
    )["Messages"]
    assert letter["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "AccessDeniedException"

    put_policy(enforcing, "rules", allow("states:StartExecution", machine))
    send()
    assert wait_for(lambda: states.list_executions(stateMachineArn=machine)["executions"])


def test_a_build_reads_and_calls_by_its_service_role(enforcing: Local) -> None:
    role = create_role(
        enforcing, "builds", allow("s3:GetObject", "arn:aws:s3:::data/public/*"),
        trust=trusting(Service="codebuild.amazonaws.com"),
    )  # fmt: skip
    codebuild = enforcing.client("codebuild")
    copies = "aws s3api get-object --bucket data --key"
    commands = [f"{copies} public/a a", f"! {copies} secret/b b"]
    spec = {"version": 0.2, "phases": {"build": {"commands": commands}}}
    codebuild.create_project(
        name="calls",
        serviceRole=role,
        source={"type": "NO_SOURCE", "buildspec": json.dumps(spec)},
        artifacts={"type": "NO_ARTIFACTS"},
        environment={"type": "LINUX_CONTAINER", "image": "x", "computeType": "BUILD_GENERAL1_SMALL"},
    )
    build = codebuild.start_build(projectName="calls")["build"]["id"]

    def ended() -> dict[str, Any] | None:
        [found] = codebuild.batch_get_builds(ids=[build])["builds"]
        return found if found["buildComplete"] else None

    assert wait_for(ended)["buildStatus"] == "SUCCEEDED"


def test_what_roles_asked_for_is_told_by_the_command(enforcing: Local, reading: str) -> None:
    invoke(enforcing, reading, "public/a")
    usage = json.loads(enforcing.get("/_stagegate/iam"))

    [function] = [entry for entry in usage["Roles"] if entry["Role"].endswith("role/function")]

    assert usage["IsEnforced"]
    assert {"Action": "s3:GetObject", "Resource": "arn:aws:s3:::data/public/a", "IsAllowed": True,
            "Statements": ["own/1"], "Reason": ""} in function["Calls"]  # fmt: skip
