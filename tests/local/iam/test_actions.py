"""From operations to IAM's actions and resources; against the reference that cfn-lint has of them."""

import json
import re
from importlib.resources import files

import pytest

from stagegate.local import apis
from stagegate.local.emulated import moto_operations, our_operations
from stagegate.local.iam.actions import PREFIXES, requests_of
from stagegate.local.iam.resources import RESOURCES, Place, Request
from stagegate.local.states.tokens import issue_token

PLACE = Place(region="us-east-1", account_id="111111111111")
REFERENCE = json.loads(
    files("cfnlint").joinpath("data", "AdditionalSpecs", "Policies.json").read_text(encoding="utf-8")
)
"""The Service Authorization Reference, as cfn-lint has it: resources of actions, ARNs of resources."""


def asked(service: str, operation: str, **members) -> list[tuple[str, str]]:
    return [
        (request.action, request.resource.replace(":us-east-1:111111111111:", "::"))
        for request in requests_of(service, operation, members, PLACE)
    ]


@pytest.mark.parametrize(
    ("service", "operation", "members", "expected"),
    [
        ("s3", "ListObjectsV2", {"Bucket": "b", "Prefix": "p"}, [("s3:ListBucket", "arn:aws:s3:::b")]),
        ("s3", "HeadObject", {"Bucket": "b", "Key": "k/1"}, [("s3:GetObject", "arn:aws:s3:::b/k/1")]),
        (
            "s3",
            "GetObject",
            {"Bucket": "b", "Key": "k", "VersionId": "v"},
            [("s3:GetObjectVersion", "arn:aws:s3:::b/k")],
        ),
        ("s3", "UploadPart", {"Bucket": "b", "Key": "k"}, [("s3:PutObject", "arn:aws:s3:::b/k")]),
        (
            "s3",
            "CopyObject",
            {"Bucket": "b", "Key": "k", "CopySource": "a/x%20y?versionId=1"},
            [("s3:GetObjectVersion", "arn:aws:s3:::a/x y"), ("s3:PutObject", "arn:aws:s3:::b/k")],
        ),
        (
            "s3",
            "PutObject",
            {"Bucket": "b", "Key": "k", "Tagging": "a=b"},
            [("s3:PutObject", "arn:aws:s3:::b/k"), ("s3:PutObjectTagging", "arn:aws:s3:::b/k")],
        ),
        (
            "s3",
            "DeleteObjects",
            {"Bucket": "b", "Delete": {"Objects": [{"Key": "x"}, {"Key": "y"}]}},
            [("s3:DeleteObject", "arn:aws:s3:::b/x"), ("s3:DeleteObject", "arn:aws:s3:::b/y")],
        ),
        ("s3", "ListBuckets", {}, [("s3:ListAllMyBuckets", "*")]),
        (
            "s3",
            "GetBucketEncryption",
            {"Bucket": "b"},
            [("s3:GetEncryptionConfiguration", "arn:aws:s3:::b")],
        ),
        (
            "dynamodb",
            "Query",
            {"TableName": "t", "IndexName": "i"},
            [("dynamodb:Query", "arn:aws:dynamodb::table/t/index/i")],
        ),
        (
            "dynamodb",
            "BatchWriteItem",
            {"RequestItems": {"t": [], "u": []}},
            [
                ("dynamodb:BatchWriteItem", "arn:aws:dynamodb::table/t"),
                ("dynamodb:BatchWriteItem", "arn:aws:dynamodb::table/u"),
            ],
        ),
        (
            "lambda",
            "Invoke",
            {"FunctionName": "f"},
            [("lambda:InvokeFunction", "arn:aws:lambda::function:f")],
        ),
        (
            "lambda",
            "Invoke",
            {"FunctionName": "arn:aws:lambda:us-east-1:111111111111:function:f:live"},
            [("lambda:InvokeFunction", "arn:aws:lambda::function:f:live")],
        ),
        (
            "stepfunctions",
            "StartExecution",
            {"stateMachineArn": "arn:aws:states:us-east-1:111111111111:stateMachine:m"},
            [("states:StartExecution", "arn:aws:states::stateMachine:m")],
        ),
        (
            "stepfunctions",
            "SendTaskSuccess",
            {"taskToken": issue_token("arn:aws:states:us-east-1:111111111111:execution:m:e"), "output": "1"},
            [("states:SendTaskSuccess", "arn:aws:states::stateMachine:m")],
        ),
        (
            "sagemaker",
            "CreateTrainingJob",
            {
                "TrainingJobName": "t",
                "RoleArn": "arn:aws:iam::111111111111:role/jobs",
                "Tags": [{"Key": "a", "Value": "b"}],
            },
            [
                ("sagemaker:CreateTrainingJob", "arn:aws:sagemaker::training-job/t"),
                ("sagemaker:AddTags", "arn:aws:sagemaker::training-job/t"),
                ("iam:PassRole", "arn:aws:iam::111111111111:role/jobs"),
            ],
        ),
        (
            "sagemaker",
            "UpdateEndpoint",
            {"EndpointName": "e", "EndpointConfigName": "c"},
            [
                ("sagemaker:UpdateEndpoint", "arn:aws:sagemaker::endpoint/e"),
                ("sagemaker:UpdateEndpoint", "arn:aws:sagemaker::endpoint-config/c"),
            ],
        ),
        (
            "sagemaker-runtime",
            "InvokeEndpoint",
            {"EndpointName": "e"},
            [("sagemaker:InvokeEndpoint", "arn:aws:sagemaker::endpoint/e")],
        ),
        (
            "codebuild",
            "BatchGetBuilds",
            {"ids": ["p:1", "p:2", "arn:aws:codebuild:us-east-1:111111111111:build/q:1"]},
            [
                ("codebuild:BatchGetBuilds", "arn:aws:codebuild::project/p"),
                ("codebuild:BatchGetBuilds", "arn:aws:codebuild::project/q"),
            ],
        ),
        (
            "codebuild",
            "DescribeTestCases",
            {"reportArn": "arn:aws:codebuild:us-east-1:111111111111:report/p-tests:1"},
            [("codebuild:DescribeTestCases", "arn:aws:codebuild::report-group/p-tests")],
        ),
        (
            "logs",
            "PutLogEvents",
            {"logGroupName": "/g", "logStreamName": "s"},
            [("logs:PutLogEvents", "arn:aws:logs::log-group:/g:log-stream:s")],
        ),
        (
            "events",
            "PutRule",
            {"Name": "r", "EventBusName": "b"},
            [("events:PutRule", "arn:aws:events::rule/b/r")],
        ),
        (
            "events",
            "PutTargets",
            {"Rule": "r", "Targets": [{"Id": "1", "RoleArn": "arn:aws:iam::111111111111:role/events"}]},
            [
                ("events:PutTargets", "arn:aws:events::rule/r"),
                ("iam:PassRole", "arn:aws:iam::111111111111:role/events"),
            ],
        ),
        (
            "cloudformation",
            "DescribeStacks",
            {"StackName": "s"},
            [("cloudformation:DescribeStacks", "arn:aws:cloudformation::stack/s/*")],
        ),
        (
            "cloudwatch",
            "DescribeAlarms",
            {"AlarmNames": ["a", "b"]},
            [
                ("cloudwatch:DescribeAlarms", "arn:aws:cloudwatch::alarm:a"),
                ("cloudwatch:DescribeAlarms", "arn:aws:cloudwatch::alarm:b"),
            ],
        ),
        ("cloudwatch", "DescribeAlarms", {}, [("cloudwatch:DescribeAlarms", "arn:aws:cloudwatch::alarm:*")]),
        (
            "sqs",
            "SendMessage",
            {"QueueUrl": "http://127.0.0.1:1/111111111111/q"},
            [("sqs:SendMessage", "arn:aws:sqs::q")],
        ),
        ("ssm", "GetParameter", {"Name": "/a/b"}, [("ssm:GetParameter", "arn:aws:ssm::parameter/a/b")]),
        (
            "sesv2",
            "SendEmail",
            {"FromEmailAddress": "a@example.com"},
            [("ses:SendEmail", "arn:aws:ses::identity/a@example.com")],
        ),
        ("ecr", "GetAuthorizationToken", {}, [("ecr:GetAuthorizationToken", "*")]),
        (
            "iam",
            "GetRole",
            {"RoleName": "r"},
            [("iam:GetRole", "arn:aws:iam::111111111111:role/r")],
        ),
    ],
)
def test_an_operation_is_its_action_on_what_its_members_name(service, operation, members, expected):
    assert asked(service, operation, **members) == expected


def test_conditions_are_asked_with_what_the_request_says():
    def context(service: str, operation: str, **members) -> dict:
        return dict(requests_of(service, operation, members, PLACE)[0].context)

    assert context("cloudwatch", "PutMetricData", Namespace="/aws/x") == {"cloudwatch:namespace": ["/aws/x"]}
    assert context("s3", "ListObjectsV2", Bucket="b", Prefix="p/") == {"s3:prefix": ["p/"]}
    assert context("ses", "SendRawEmail", Source="Us <us@example.com>") == {
        "ses:fromaddress": ["us@example.com"]
    }
    assert context("sagemaker", "AddTags", ResourceArn="arn:x", Tags=[{"Key": "Team", "Value": "a"}]) == {
        "aws:tagkeys": ["Team"],
        "aws:requesttag/team": ["a"],
    }


def arns_of(request: Request) -> tuple[list[re.Pattern[str]], bool]:
    """The ARNs that an action's resources may have, and whether IAM knows the action."""
    prefix, _, name = request.action.partition(":")
    action = REFERENCE[prefix]["Actions"].get(name.lower())
    kinds = (action or {}).get("Resources", [])
    known = {kind.lower(): formats for kind, formats in REFERENCE[prefix]["Resources"].items()}
    return [
        re.compile(re.sub(r"\$\{(Partition|Region|Account)\}", "[^:]*", arn))
        for kind in kinds
        for arn in known[kind.lower()]["ARNFormats"]
    ], action is not None


def requests_with_each_member() -> list[Request]:
    """Each operation that is answered, with every member that may name a resource, one at a time."""
    ours, motos = our_operations(), moto_operations()
    found = []
    for service in apis.APIS:
        prefix = PREFIXES.get(service, service)
        for operation in {*ours.get(service, ()), *motos.get(service, ())}:
            shape = apis.operation_model(service, operation).input_shape
            for member, pattern in RESOURCES.get(prefix, {}).items():
                if shape is not None and member in shape.members and pattern != "{}":
                    kind = shape.members[member].type_name
                    required = dict.fromkeys(shape.required_members, "x")
                    given = {**required, member: ["x"] if kind == "list" else "x"}
                    found += requests_of(service, operation, given, PLACE)
    return found


def test_every_resource_that_is_asked_about_is_one_that_iam_knows_for_its_action():
    unknown = set()
    for request in requests_with_each_member():
        arns, is_known = arns_of(request)
        if is_known and request.resource != "*" and not any(arn.fullmatch(request.resource) for arn in arns):
            unknown.add((request.action, request.resource))

    assert {action for action, _ in unknown} <= {
        # A change set's ARN without a stack says which stack only to CloudFormation.
        "cloudformation:DeleteChangeSet",
        "cloudformation:DescribeChangeSet",
        "cloudformation:ExecuteChangeSet",
        "cloudformation:GetTemplate",
    }
