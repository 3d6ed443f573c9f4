"""Where moto would answer otherwise than AWS, AWS's answer comes."""

import pytest

from stagegate.local.service import AWSError

TABLE = {
    "TableName": "approvals",
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    "BillingMode": "PAY_PER_REQUEST",
}
UPDATE = {
    "TableName": "approvals",
    "Key": {"id": {"S": "1"}},
    "UpdateExpression": "SET decision = :decision",
    "ExpressionAttributeValues": {":decision": {"S": "approved"}},
}

TOPIC = "arn:aws:sns:us-east-1:111111111111:topic"


async def test_s3_tells_of_the_encryption_of_every_object(open_endpoint):
    async with open_endpoint() as endpoint:
        await endpoint.aws("s3", "CreateBucket", {"Bucket": "bucket"})
        written = await endpoint.aws("s3", "PutObject", {"Bucket": "bucket", "Key": "key", "Body": b"x"})
        read = await endpoint.aws("s3", "GetObject", {"Bucket": "bucket", "Key": "key"})
        looked_at = await endpoint.aws("s3", "HeadObject", {"Bucket": "bucket", "Key": "key"})

    assert [answer["ServerSideEncryption"] for answer in (written, read, looked_at)] == ["AES256"] * 3


async def test_an_object_keeps_the_encryption_that_was_asked_for(open_endpoint):
    async with open_endpoint() as endpoint:
        await endpoint.aws("s3", "CreateBucket", {"Bucket": "bucket"})
        by_key = {"Bucket": "bucket", "Key": "key", "Body": b"x", "ServerSideEncryption": "aws:kms"}
        written = await endpoint.aws("s3", "PutObject", by_key)

    assert written["ServerSideEncryption"] == "aws:kms"


async def test_a_checksum_is_answered_with_its_type(open_endpoint):
    upload = {"Bucket": "bucket", "Key": "key", "Body": b"x", "ChecksumAlgorithm": "CRC32"}
    async with open_endpoint() as endpoint:
        await endpoint.aws("s3", "CreateBucket", {"Bucket": "bucket"})
        written = await endpoint.aws("s3", "PutObject", {**upload, "ChecksumCRC32": "jNw76A=="})

    assert (written["ChecksumCRC32"], written["ChecksumType"]) == ("jNw76A==", "FULL_OBJECT")


async def test_dynamodb_tells_the_capacity_of_an_update_only_to_who_asks(open_endpoint):
    async with open_endpoint() as endpoint:
        await endpoint.aws("dynamodb", "CreateTable", TABLE)
        unasked = await endpoint.aws("dynamodb", "UpdateItem", UPDATE)
        asked = await endpoint.aws("dynamodb", "UpdateItem", {**UPDATE, "ReturnConsumedCapacity": "TOTAL"})

    assert unasked == {}
    assert asked["ConsumedCapacity"]["TableName"] == "approvals"


async def test_a_secret_s_name_has_no_spaces(open_endpoint):
    async with open_endpoint() as endpoint:
        with pytest.raises(AWSError) as raised:
            await endpoint.aws("secretsmanager", "CreateSecret", {"Name": "a name", "SecretString": "s"})
        await endpoint.aws("secretsmanager", "CreateSecret", {"Name": "a/name_+=.@!-1", "SecretString": "s"})

    assert (raised.value.code, raised.value.status, raised.value.message) == (
        "ValidationException",
        400,
        "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: "
        "-/_+=.@!",
    )


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"TopicArn": TOPIC, "Message": ""}, "Invalid parameter: Empty message"),
        (
            {"TopicArn": f"{TOPIC}.fifo", "Message": "hello"},
            "Invalid parameter: The MessageGroupId parameter is required for FIFO topics",
        ),
    ],
)
async def test_what_can_t_be_published_is_an_invalid_parameter(open_endpoint, members, message):
    async with open_endpoint() as endpoint:
        await endpoint.aws("sns", "CreateTopic", {"Name": "topic"})
        await endpoint.aws("sns", "CreateTopic", {"Name": "topic.fifo", "Attributes": {"FifoTopic": "true"}})
        with pytest.raises(AWSError) as raised:
            await endpoint.aws("sns", "Publish", members)

    assert (raised.value.code, raised.value.status, raised.value.message) == (
        "InvalidParameter",
        400,
        message,
    )


async def test_a_message_in_a_queue_has_a_body(open_endpoint):
    async with open_endpoint() as endpoint:
        queue = await endpoint.aws("sqs", "CreateQueue", {"QueueName": "queue"})
        with pytest.raises(AWSError) as raised:
            await endpoint.aws("sqs", "SendMessage", {**queue, "MessageBody": ""})

    assert (raised.value.code, raised.value.status, raised.value.message) == (
        "MissingParameter",
        400,
        "The request must contain the parameter MessageBody.",
    )


async def test_what_is_published_to_a_missing_topic_finds_no_topic(open_endpoint):
    topic = "arn:aws:sns:us-east-1:111111111111:missing"
    async with open_endpoint() as endpoint:
        with pytest.raises(AWSError) as raised:
            await endpoint.aws("sns", "Publish", {"TopicArn": topic, "Message": "hello"})

    assert (raised.value.code, raised.value.status, raised.value.message) == (
        "NotFound",
        404,
        "Topic does not exist",
    )
