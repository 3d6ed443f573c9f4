"""What moto answers behind our endpoint is the same after a restart: ids, dates, keys and contents."""

import asyncio
import importlib
import json
import time

import pytest

from stagegate.local import apis
from stagegate.local.service import AWSError

TRUST = '{"Version":"2012-10-17","Statement":[]}'
TABLE = {
    "TableName": "approvals",
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    "BillingMode": "PAY_PER_REQUEST",
}
TOPIC = "arn:aws:sns:us-east-1:111111111111:topic"
QUEUE = "http://127.0.0.1:4566/111111111111/queue"
SECRET = {"Name": "secret", "SecretString": "s"}
TAGS = {"TagSet": [{"Key": "k", "Value": "v"}]}

CHANGES = [
    ("s3", "CreateBucket", {"Bucket": "bucket"}),
    ("s3", "PutObject", {"Bucket": "bucket", "Key": "ä b", "Body": b"\xff" * 9000, "Metadata": {"a_b": "c"}}),
    ("s3", "PutObjectTagging", {"Bucket": "bucket", "Key": "ä b", "Tagging": TAGS}),
    ("s3", "CopyObject", {"Bucket": "bucket", "Key": "copy", "CopySource": "bucket/ä b"}),
    ("dynamodb", "CreateTable", TABLE),
    ("dynamodb", "PutItem", {"TableName": "approvals", "Item": {"id": {"S": "1"}, "b": {"B": b"\xff"}}}),
    ("iam", "CreateRole", {"RoleName": "role", "AssumeRolePolicyDocument": TRUST}),
    ("iam", "CreateUser", {"UserName": "user"}),
    ("iam", "CreateAccessKey", {"UserName": "user"}),
    ("sns", "CreateTopic", {"Name": "topic"}),
    ("sns", "Subscribe", {"TopicArn": TOPIC, "Protocol": "email", "Endpoint": "a@example.com"}),
    ("sqs", "CreateQueue", {"QueueName": "queue"}),
    ("sqs", "SendMessage", {"QueueUrl": QUEUE, "MessageBody": "hello"}),
    ("secretsmanager", "CreateSecret", SECRET),
    ("ssm", "PutParameter", {"Name": "/a/b", "Value": "v", "Type": "String"}),
    ("kms", "CreateKey", {"Description": "d"}),
    ("logs", "CreateLogGroup", {"logGroupName": "/g"}),
    ("logs", "CreateLogStream", {"logGroupName": "/g", "logStreamName": "s"}),
    ("cloudwatch", "PutMetricData", {"Namespace": "n", "MetricData": [{"MetricName": "loss", "Value": 0.5}]}),
    ("ecr", "CreateRepository", {"repositoryName": "repository"}),
    ("ses", "VerifyEmailIdentity", {"EmailAddress": "a@example.com"}),
]  # fmt: skip

READS = [
    ("s3", "ListBuckets", {}),
    ("s3", "ListObjectsV2", {"Bucket": "bucket"}),
    ("s3", "GetObject", {"Bucket": "bucket", "Key": "ä b"}),
    ("s3", "GetObjectTagging", {"Bucket": "bucket", "Key": "ä b"}),
    ("s3", "GetObject", {"Bucket": "bucket", "Key": "copy"}),
    ("dynamodb", "DescribeTable", {"TableName": "approvals"}),
    ("dynamodb", "Scan", {"TableName": "approvals"}),
    ("iam", "ListRoles", {}),
    ("iam", "ListUsers", {}),
    ("iam", "ListAccessKeys", {"UserName": "user"}),
    ("sns", "ListSubscriptions", {}),
    ("sns", "GetTopicAttributes", {"TopicArn": TOPIC}),
    ("sqs", "GetQueueAttributes", {"QueueUrl": QUEUE, "AttributeNames": ["All"]}),
    ("secretsmanager", "DescribeSecret", {"SecretId": "secret"}),
    ("secretsmanager", "GetSecretValue", {"SecretId": "secret"}),
    ("ssm", "GetParameter", {"Name": "/a/b"}),
    ("kms", "ListKeys", {}),
    ("logs", "DescribeLogGroups", {}),
    ("logs", "DescribeLogStreams", {"logGroupName": "/g"}),
    ("logs", "GetLogEvents", {"logGroupName": "/g", "logStreamName": "s"}),
    ("cloudwatch", "ListMetrics", {"Namespace": "n"}),
    ("ecr", "DescribeRepositories", {}),
    ("ses", "ListIdentities", {}),
]


async def test_everything_is_the_same_after_a_restart(open_endpoint):
    events = [{"timestamp": int(time.time() * 1000), "message": "epoch=1/1"}]
    async with open_endpoint() as endpoint:
        for change in CHANGES:
            await endpoint.aws(*change)
        for _ in range(2):
            members = {"logGroupName": "/g", "logStreamName": "s", "logEvents": events}
            await endpoint.aws("logs", "PutLogEvents", members)
        before = {
            f"{service}:{name} {members}": await endpoint.aws(service, name, members)
            for service, name, members in READS
        }

    async with open_endpoint() as endpoint:
        after = {
            f"{service}:{name} {members}": await endpoint.aws(service, name, members)
            for service, name, members in READS
        }

    assert after == before


async def test_ids_differ_from_one_request_to_the_next(open_endpoint):
    async with open_endpoint() as endpoint:
        keys = [(await endpoint.aws("kms", "CreateKey", {}))["KeyMetadata"]["KeyId"] for _ in range(2)]
    async with open_endpoint() as endpoint:
        keys.append((await endpoint.aws("kms", "CreateKey", {}))["KeyMetadata"]["KeyId"])

    assert len(set(keys)) == 3


async def test_what_was_encrypted_can_be_decrypted_after_a_restart(open_endpoint):
    async with open_endpoint() as endpoint:
        key = (await endpoint.aws("kms", "CreateKey", {}))["KeyMetadata"]["KeyId"]
        secret = (await endpoint.aws("kms", "Encrypt", {"KeyId": key, "Plaintext": b"hello"}))[
            "CiphertextBlob"
        ]

    async with open_endpoint() as endpoint:
        assert (await endpoint.aws("kms", "Decrypt", {"CiphertextBlob": secret}))["Plaintext"] == b"hello"


async def test_keys_that_could_not_be_made_again_are_refused(open_endpoint):
    async with open_endpoint() as endpoint:
        with pytest.raises(AWSError, match="kms:CreateKey with asymmetric keys is not supported"):
            await endpoint.aws("kms", "CreateKey", {"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY"})


async def test_errors_are_moto_s_own(open_endpoint):
    async with open_endpoint() as endpoint:
        with pytest.raises(AWSError) as no_bucket:
            await endpoint.aws("s3", "GetObject", {"Bucket": "nowhere", "Key": "k"})
        with pytest.raises(AWSError) as no_table:
            await endpoint.aws("dynamodb", "DescribeTable", {"TableName": "nowhere"})
        with pytest.raises(AWSError) as no_role:
            await endpoint.aws("iam", "GetRole", {"RoleName": "nowhere"})

    assert [(raised.value.code, raised.value.status) for raised in (no_bucket, no_table, no_role)] == [
        ("NoSuchBucket", 404),
        ("ResourceNotFoundException", 400),
        ("NoSuchEntity", 404),
    ]


async def test_what_moto_does_not_implement_is_named(open_endpoint):
    async with open_endpoint() as endpoint:
        with pytest.raises(AWSError, match="ssm:CreateOpsItem is not implemented") as raised:
            await endpoint.aws("ssm", "CreateOpsItem", {"Description": "d", "Source": "s", "Title": "t"})

    assert raised.value.code == "UnknownOperationException"


async def test_a_bucket_that_denies_all_but_tls_is_reached_and_one_that_denies_all_is_not(open_endpoint):
    denied = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::bucket/*"}
    over_tls = {**denied, "Condition": {"Bool": {"aws:SecureTransport": "false"}}}
    async with open_endpoint() as endpoint:
        await endpoint.aws("s3", "CreateBucket", {"Bucket": "bucket"})
        await endpoint.aws("s3", "PutBucketPolicy", {"Bucket": "bucket", "Policy": policy(over_tls)})

        await endpoint.aws("s3", "PutObject", {"Bucket": "bucket", "Key": "k", "Body": b"content"})
        there = await endpoint.aws("s3", "GetObject", {"Bucket": "bucket", "Key": "k"})
        await endpoint.aws("s3", "PutBucketPolicy", {"Bucket": "bucket", "Policy": policy(denied)})
        with pytest.raises(AWSError) as refused:
            await endpoint.aws("s3", "GetObject", {"Bucket": "bucket", "Key": "k"})

    assert there["Body"] == b"content"
    assert refused.value.status == 403


async def test_a_queue_keeps_its_policy_when_something_else_is_set(open_endpoint):
    denied = policy({"Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": "*"})
    async with open_endpoint() as endpoint:
        await endpoint.aws("sqs", "CreateQueue", {"QueueName": "queue", "Attributes": {"Policy": denied}})
        await endpoint.aws(
            "sqs", "SetQueueAttributes", {"QueueUrl": QUEUE, "Attributes": {"DelaySeconds": "3"}}
        )
        kept = await endpoint.aws(
            "sqs", "GetQueueAttributes", {"QueueUrl": QUEUE, "AttributeNames": ["Policy", "DelaySeconds"]}
        )

    assert kept["Attributes"] == {"Policy": denied, "DelaySeconds": "3"}


def policy(statement):
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


async def test_a_queue_is_waited_for_without_holding_up_others(open_endpoint):
    async with open_endpoint() as endpoint:
        url = (await endpoint.aws("sqs", "CreateQueue", {"QueueName": "queue"}))["QueueUrl"]
        waiting = asyncio.create_task(
            endpoint.aws("sqs", "ReceiveMessage", {"QueueUrl": url, "WaitTimeSeconds": 20})
        )
        await endpoint.aws("sqs", "ListQueues", {})

        await endpoint.aws("sqs", "SendMessage", {"QueueUrl": url, "MessageBody": "hello"})
        async with asyncio.timeout(5):
            received = await waiting

    assert [message["Body"] for message in received["Messages"]] == ["hello"]


@pytest.mark.parametrize("service", sorted(apis.APIS))
def test_the_table_of_apis_says_what_botocore_says(service):
    api, model = apis.APIS[service], apis.model(service)

    assert api.signing_name == (model.metadata.get("signingName") or model.metadata["endpointPrefix"])
    assert api.target_prefix == (model.metadata.get("targetPrefix") if api.protocol == "json" else None)
    assert api.protocol in (model.protocol, *model.metadata["protocols"])


@pytest.mark.parametrize(
    "name",
    [
        "moto.core.responses.method_names_from_class",
        "moto.core.base_backend.BackendDict.reset",
        "moto.core.parse.PROTOCOL_PARSERS",
        "moto.core.routing.get_service_router",
        "moto.core.serialize.get_serializer_class",
        "moto.moto_api._internal.mock_random",
        "moto.logs.models.logs_backends",
        "moto.backends.get_backend",
    ],
)
def test_what_is_relied_upon_in_moto_is_there(name):
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            thing = getattr(thing, part)
        return
    raise AssertionError(name)
