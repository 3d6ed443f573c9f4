"""A role's calls on a runtime that enforces IAM: by its keys, by a task, by jobs, functions and stacks."""

import json
from typing import Any

import pytest

from tests.conftest import Local
from tests.local.iam.roles import (
    ACCOUNT,
    allow,
    assume,
    client,
    create_role,
    put_policy,
    refusal,
    trusting,
    user,
)

# ---- By its keys ----------------------------------------------------------------------------------


def test_a_session_of_a_role_is_that_role(enforcing: Local) -> None:
    keys = assume(enforcing, create_role(enforcing, "known"), "me")

    found = client(enforcing, "sts", keys).get_caller_identity()

    role_id = enforcing.client("iam").get_role(RoleName="known")["Role"]["RoleId"]
    found.pop("ResponseMetadata")
    assert found == {
        "UserId": f"{role_id}:me",
        "Account": ACCOUNT,
        "Arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/known/me",
    }
    assert keys["AccessKeyId"].startswith("ASIA")


def test_a_role_reads_what_its_policy_allows_and_nothing_else(enforcing: Local) -> None:
    keys = assume(
        enforcing, create_role(enforcing, "reader", allow("s3:GetObject", "arn:aws:s3:::data/public/*"))
    )
    s3 = client(enforcing, "s3", keys)

    assert s3.get_object(Bucket="data", Key="public/a")["Body"].read() == b"a"
    assert refusal(s3.get_object, Bucket="data", Key="secret/b") == (
        "AccessDenied",
        403,
        user("reader") + 's3:GetObject on resource: "arn:aws:s3:::data/secret/b" because no identity-based '
        "policy allows the s3:GetObject action",
    )
    assert refusal(s3.head_object, Bucket="data", Key="secret/b")[:2] == ("403", 403)


def test_who_may_not_list_a_bucket_is_not_told_that_an_object_is_missing(enforcing: Local) -> None:
    reading = allow("s3:GetObject", "arn:aws:s3:::data/*")
    s3 = client(enforcing, "s3", assume(enforcing, create_role(enforcing, "unlisting", reading)))
    assert refusal(s3.get_object, Bucket="data", Key="none")[:2] == ("AccessDenied", 403)

    put_policy(enforcing, "unlisting", reading, allow("s3:ListBucket", "arn:aws:s3:::data"))

    assert refusal(s3.get_object, Bucket="data", Key="none")[:2] == ("NoSuchKey", 404)


@pytest.mark.parametrize(
    ("service", "operation", "members", "code", "status"),
    [
        ("dynamodb", "get_item", {"TableName": "t", "Key": {"k": {"S": "v"}}}, "AccessDeniedException", 400),
        ("sagemaker", "describe_endpoint", {"EndpointName": "e"}, "AccessDeniedException", 400),
        ("lambda", "get_function", {"FunctionName": "f"}, "AccessDeniedException", 403),
        ("cloudformation", "describe_stacks", {"StackName": "s"}, "AccessDenied", 403),
        ("iam", "get_role", {"RoleName": "nobody"}, "AccessDenied", 403),
        ("sns", "publish", {"TopicArn": f"arn:aws:sns:us-east-1:{ACCOUNT}:t", "Message": "m"},
         "AuthorizationError", 403),
        ("sqs", "get_queue_url", {"QueueName": "q"}, "AccessDenied", 403),
        ("ec2", "describe_vpcs", {}, "UnauthorizedOperation", 403),
        ("codebuild", "batch_get_builds", {"ids": ["p:1"]}, "AccessDeniedException", 400),
    ],
)  # fmt: skip
def test_a_refusal_has_the_services_own_code_and_status(
    enforcing: Local, service: str, operation: str, members: dict[str, Any], code: str, status: int
) -> None:
    name = f"nothing-{service}"
    asking = client(enforcing, service, assume(enforcing, create_role(enforcing, name)))

    refused = refusal(getattr(asking, operation), **members)

    assert refused[:2] == (code, status)
    assert refused[2].startswith(user(name))


def test_whoever_has_no_roles_session_may_do_everything(enforcing: Local) -> None:
    assert enforcing.client("s3").get_object(Bucket="data", Key="secret/b")["Body"].read() == b"b"


def test_a_changed_policy_counts_from_the_next_call_on(enforcing: Local) -> None:
    s3 = client(enforcing, "s3", assume(enforcing, create_role(enforcing, "changing", allow("s3:*"))))
    s3.get_object(Bucket="data", Key="public/a")

    enforcing.client("iam").delete_role_policy(RoleName="changing", PolicyName="own")

    assert refusal(s3.get_object, Bucket="data", Key="public/a")[0] == "AccessDenied"


def test_a_presigned_url_is_its_signers(enforcing: Local) -> None:
    keys = assume(
        enforcing, create_role(enforcing, "signer", allow("s3:GetObject", "arn:aws:s3:::data/public/*"))
    )
    s3 = client(enforcing, "s3", keys)

    def path(key: str) -> str:
        url = s3.generate_presigned_url("get_object", Params={"Bucket": "data", "Key": key})
        return str(url).removeprefix(enforcing.endpoint_url)

    assert enforcing.get(path("public/a")) == b"a"
    with pytest.raises(OSError, match="403"):
        enforcing.get(path("secret/b"))


def test_a_sessions_own_policy_limits_it(enforcing: Local) -> None:
    role = create_role(enforcing, "limited", allow("s3:*"))
    own = {"Version": "2012-10-17", "Statement": allow("s3:GetObject", "arn:aws:s3:::data/public/*")}

    s3 = client(enforcing, "s3", assume(enforcing, role, Policy=json.dumps(own)))

    s3.get_object(Bucket="data", Key="public/a")
    assert refusal(s3.get_object, Bucket="data", Key="secret/b")[2].endswith(
        "because no session policy allows the s3:GetObject action"
    )


# ---- Assuming and passing roles -------------------------------------------------------------------


def test_a_role_is_assumed_by_whom_it_trusts(enforcing: Local) -> None:
    service_only = create_role(enforcing, "service-only", trust=trusting(Service="sagemaker.amazonaws.com"))

    assert refusal(enforcing.client("sts").assume_role, RoleArn=service_only, RoleSessionName="xy") == (
        "AccessDenied",
        403,
        f"User: arn:aws:iam::{ACCOUNT}:root is not authorized to perform: sts:AssumeRole on resource: "
        + service_only,
    )


def test_a_role_assumes_another_that_names_it_or_that_its_policy_allows(enforcing: Local) -> None:
    first = create_role(enforcing, "first")
    sts = client(enforcing, "sts", assume(enforcing, first))
    naming = create_role(enforcing, "naming", trust=trusting(AWS=first))
    of_account = create_role(enforcing, "of-account")

    sts.assume_role(RoleArn=naming, RoleSessionName="xy")
    assert refusal(sts.assume_role, RoleArn=of_account, RoleSessionName="xy")[0] == "AccessDenied"
    put_policy(enforcing, "first", allow("sts:AssumeRole", of_account))
    sts.assume_role(RoleArn=of_account, RoleSessionName="xy")


def test_a_role_is_handed_on_by_who_may_pass_it_to_that_service(enforcing: Local) -> None:
    jobs = create_role(enforcing, "passed", trust=trusting(Service="sagemaker.amazonaws.com"))
    condition = {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}
    passing = allow("iam:PassRole", jobs, Condition=condition)
    keys = assume(enforcing, create_role(enforcing, "passer", allow("sagemaker:*"), passing))
    members = {
        "ModelName": "m",
        "ExecutionRoleArn": jobs,
        "PrimaryContainer": {"Image": "x"},
    }

    refused = refusal(client(enforcing, "sagemaker", keys).create_model, **members)

    assert refused == (
        "AccessDeniedException",
        400,
        f"{user('passer')}iam:PassRole on resource: {jobs} because no identity-based policy allows the "
        "iam:PassRole action",
    )


def test_a_service_takes_no_role_that_does_not_trust_it(enforcing: Local) -> None:
    role = create_role(enforcing, "untrusting", trust=trusting(Service="lambda.amazonaws.com"))
    states = enforcing.client("stepfunctions")
    definition = json.dumps({"StartAt": "A", "States": {"A": {"Type": "Succeed"}}})

    assert refusal(states.create_state_machine, name="m", definition=definition, roleArn=role) == (
        "AccessDeniedException",
        400,
        "Neither the global service principal states.amazonaws.com, nor the regional one is authorized to "
        "assume the provided role.",
    )


# ---- State machines -------------------------------------------------------------------------------


def failure(local: Local, role: str, resource: str, parameters: dict[str, Any]) -> tuple[str, str]:
    """The error and the cause of a state machine with one task."""
    states = local.client("stepfunctions", inject_host_prefix=False)
    task = {"Type": "Task", "Resource": resource, "Parameters": parameters, "End": True}
    machine = states.create_state_machine(
        name=role.rsplit("/", 1)[-1],
        type="EXPRESS",
        definition=json.dumps({"StartAt": "Ask", "States": {"Ask": task}}),
        roleArn=role,
    )["stateMachineArn"]
    ended = states.start_sync_execution(stateMachineArn=machine)
    return ended["error"], ended["cause"]


@pytest.mark.parametrize(
    ("resource", "parameters", "error", "action"),
    [
        ("aws-sdk:s3:getObject", {"Bucket": "data", "Key": "public/a"}, "S3.S3Exception", "s3:GetObject"),
        ("aws-sdk:sagemaker:describeEndpoint", {"EndpointName": "e"}, "SageMaker.SageMakerException",
         "sagemaker:DescribeEndpoint"),
        ("aws-sdk:cloudformation:describeStacks", {"StackName": "s"},
         "CloudFormation.CloudFormationException", "cloudformation:DescribeStacks"),
        ("dynamodb:getItem", {"TableName": "t", "Key": {"k": {"S": "v"}}},
         "DynamoDB.AmazonDynamoDBException", "dynamodb:GetItem"),
        ("lambda:invoke", {"FunctionName": "f"}, "Lambda.AWSLambdaException", "lambda:InvokeFunction"),
        ("codebuild:startBuild", {"ProjectName": "p"}, "CodeBuild.AWSCodeBuildException",
         "codebuild:StartBuild"),
    ],
)  # fmt: skip
def test_a_task_fails_with_the_error_that_step_functions_gives(
    enforcing: Local, resource: str, parameters: dict[str, Any], error: str, action: str
) -> None:
    name = f"task-{action.replace(':', '-')}"
    role = create_role(enforcing, name, trust=trusting(Service="states.amazonaws.com"))

    failed, cause = failure(enforcing, role, f"arn:aws:states:::{resource}", parameters)

    assert failed == error
    assert cause.startswith(f"User: arn:aws:sts::{ACCOUNT}:assumed-role/{name}/")
    assert f"is not authorized to perform: {action} on resource: " in cause


def test_a_machine_that_waits_for_jobs_needs_the_managed_rule(enforcing: Local) -> None:
    role = create_role(enforcing, "waiting", trust=trusting(Service="states.amazonaws.com"))
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::codebuild:startBuild.sync",
        "Parameters": {"ProjectName": "p"},
        "End": True,
    }
    members = {
        "name": "waiting",
        "definition": json.dumps({"StartAt": "Build", "States": {"Build": task}}),
        "roleArn": role,
    }
    states = enforcing.client("stepfunctions")
    assert refusal(states.create_state_machine, **members) == (
        "AccessDeniedException",
        400,
        f"'{role}' is not authorized to create managed-rule.",
    )

    rule = f"arn:aws:events:us-east-1:{ACCOUNT}:rule/StepFunctionsGetEventForCodeBuildStartBuildRule"
    put_policy(
        enforcing, "waiting", allow(["events:PutTargets", "events:PutRule", "events:DescribeRule"], rule)
    )

    assert states.create_state_machine(**members)["stateMachineArn"]


def test_a_machine_that_logs_needs_to_deliver_logs(enforcing: Local) -> None:
    role = create_role(enforcing, "logging", trust=trusting(Service="states.amazonaws.com"))
    group = f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:/machines:*"

    refused = refusal(
        enforcing.client("stepfunctions").create_state_machine,
        name="logging",
        definition=json.dumps({"StartAt": "A", "States": {"A": {"Type": "Succeed"}}}),
        roleArn=role,
        loggingConfiguration={
            "level": "ALL",
            "destinations": [{"cloudWatchLogsLogGroup": {"logGroupArn": group}}],
        },
    )

    assert refused == (
        "AccessDeniedException",
        400,
        "The state machine IAM Role is not authorized to access the Log Destination",
    )


def reading_as(role: str) -> dict[str, Any]:
    """A task that takes on another role to read an object."""
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::aws-sdk:s3:getObject",
        "Credentials": {"RoleArn": role},
        "Parameters": {"Bucket": "data", "Key": "public/a"},
        "ResultSelector": {"Body.$": "$.Body"},
        "End": True,
    }


def create_express(states: Any, name: str, task: dict[str, Any], role: str) -> str:
    """A state machine of that task alone; gives its ARN."""
    arn: str = states.create_state_machine(
        name=name,
        type="EXPRESS",
        definition=json.dumps({"StartAt": "Ask", "States": {"Ask": task}}),
        roleArn=role,
    )["stateMachineArn"]
    return arn


def test_a_task_takes_on_the_role_of_its_credentials_if_it_may(enforcing: Local) -> None:
    other = create_role(enforcing, "other-account", allow("s3:GetObject"), trust=trusting(AWS="*"))
    role = create_role(enforcing, "crossing", trust=trusting(Service="states.amazonaws.com"))
    states = enforcing.client("stepfunctions", inject_host_prefix=False)
    task = reading_as(other)
    machine = create_express(states, "crossing", task, role)
    assert states.start_sync_execution(stateMachineArn=machine)["status"] == "SUCCEEDED"

    trust = trusting(AWS=f"arn:aws:iam::{ACCOUNT}:root")
    enforcing.client("iam").update_assume_role_policy(RoleName="other-account", PolicyDocument=trust)

    ended = states.start_sync_execution(stateMachineArn=machine)
    assert ended["error"] == "States.TaskFailed"
    refused = f"The role {role} is not authorized to assume the task state's role, {other}."
    assert ended["cause"] == refused

    tried = states.test_state(definition=json.dumps(task), roleArn=role)
    assert (tried["status"], tried["error"], tried["cause"]) == ("FAILED", "States.TaskFailed", refused)


def test_a_role_may_name_the_state_machine_or_its_role_that_takes_it_on(enforcing: Local) -> None:
    visited = create_role(enforcing, "visited", allow("s3:GetObject"))
    role = create_role(
        enforcing, "visiting", allow("sts:AssumeRole"), trust=trusting(Service="states.amazonaws.com")
    )
    states = enforcing.client("stepfunctions", inject_host_prefix=False)
    machine = create_express(states, "visiting", reading_as(visited), role)

    def ended(key: str, value: str) -> str:
        trust = json.loads(trusting(AWS=f"arn:aws:iam::{ACCOUNT}:root"))
        trust["Statement"][0]["Condition"] = {"StringEquals": {key: value}}
        enforcing.client("iam").update_assume_role_policy(
            RoleName="visited", PolicyDocument=json.dumps(trust)
        )
        return str(states.start_sync_execution(stateMachineArn=machine)["status"])

    assert ended("sts:ExternalId", machine) == "SUCCEEDED"
    assert ended("sts:ExternalId", f"{machine}-of-others") == "FAILED"
    assert ended("aws:PrincipalArn", role) == "SUCCEEDED"
    assert ended("aws:PrincipalArn", f"{role}-of-others") == "FAILED"


def test_a_distributed_map_starts_its_children_by_the_role(enforcing: Local) -> None:
    role = create_role(enforcing, "mapping", trust=trusting(Service="states.amazonaws.com"))
    children = {
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "EXPRESS"},
        "StartAt": "Each",
        "States": {"Each": {"Type": "Pass", "End": True}},
    }
    mapping = {"Type": "Map", "ItemProcessor": children, "End": True}
    states = enforcing.client("stepfunctions")
    machine = states.create_state_machine(
        name="mapping", definition=json.dumps({"StartAt": "Map", "States": {"Map": mapping}}), roleArn=role
    )["stateMachineArn"]

    def ended() -> dict[str, Any]:
        execution = states.start_execution(stateMachineArn=machine, input="[1, 2]")["executionArn"]
        while (found := states.describe_execution(executionArn=execution))["status"] == "RUNNING":
            pass
        described: dict[str, Any] = found
        return described

    failed = ended()
    put_policy(enforcing, "mapping", allow("states:StartExecution", machine))

    assert (failed["status"], failed["error"]) == ("FAILED", "States.Permissions")
    assert f"is not authorized to perform: states:StartExecution on resource: {machine}" in failed["cause"]
    assert ended()["status"] == "SUCCEEDED"
