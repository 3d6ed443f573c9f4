"""Every resource type that moto's services back: made, changed in place, seen in its service, taken away."""

import json

import pytest

from tests.local.stacks.conftest import resource, template

POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"}],
}
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "lambda.amazonaws.com"}}
    ],
}


async def through(stacks, first, second):
    """Create, update and delete a stack; gives what `look` saw in between through the service."""
    created = await stacks.create("typed", first, Capabilities=["CAPABILITY_NAMED_IAM"])
    failures = [event for event in await stacks.events("typed") if "FAILED" in event[1]]
    assert (created["StackStatus"], failures) == ("CREATE_COMPLETE", [])
    updated = await stacks.update("typed", second, Capabilities=["CAPABILITY_NAMED_IAM"])
    failures = [event for event in await stacks.events("typed") if "FAILED" in event[1]]
    assert (updated["StackStatus"], failures) == ("UPDATE_COMPLETE", [])
    return await stacks.physical("typed")


async def gone(stacks):
    deleted = await stacks.delete("typed")
    failures = [event for event in await stacks.events(deleted["StackId"]) if "FAILED" in event[1]]
    assert (deleted["StackStatus"], failures) == ("DELETE_COMPLETE", [])


def bucket_in_moto(name):
    """GetBucketNotificationConfiguration of moto leaves EventBridge out."""
    from moto.backends import get_backend

    return get_backend("s3")["111111111111"]["aws"].buckets[name]


async def test_a_bucket_with_its_settings_and_policy(stacks):
    def text(versioning, **more):
        return template(
            Bucket=resource(
                "AWS::S3::Bucket",
                VersioningConfiguration={"Status": versioning},
                PublicAccessBlockConfiguration={"BlockPublicAcls": "true", "BlockPublicPolicy": True},
                **more,
            ),
            Policy=resource("AWS::S3::BucketPolicy", Bucket={"Ref": "Bucket"}, PolicyDocument=POLICY),
        )

    encryption = {
        "ServerSideEncryptionConfiguration": [{"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
    }
    notification = {"EventBridgeConfiguration": {"EventBridgeEnabled": True}}
    physical = await through(
        stacks,
        text("Enabled", BucketEncryption=encryption),
        text("Suspended", BucketEncryption=encryption, NotificationConfiguration=notification),
    )

    bucket = {"Bucket": physical["Bucket"]}
    seen = {
        "versioning": await stacks.call("GetBucketVersioning", "s3", **bucket),
        "access": await stacks.call("GetPublicAccessBlock", "s3", **bucket),
        "event bridge": bucket_in_moto(physical["Bucket"]).notification_configuration.event_bridge,
        "policy": json.loads((await stacks.call("GetBucketPolicy", "s3", **bucket))["Policy"]),
    }
    await gone(stacks)
    assert physical["Bucket"].startswith("typed-bucket-")
    assert seen["versioning"] == {"Status": "Suspended"}
    assert seen["access"]["PublicAccessBlockConfiguration"]["BlockPublicAcls"] is True
    assert seen["event bridge"] == {}
    assert seen["policy"] == POLICY


async def test_roles_and_policies(stacks):
    def text(description, policy_name):
        return template(
            Managed=resource("AWS::IAM::ManagedPolicy", PolicyDocument=POLICY, Roles=[{"Ref": "Role"}]),
            Role=resource(
                "AWS::IAM::Role",
                AssumeRolePolicyDocument=TRUST,
                Description=description,
                Policies=[{"PolicyName": policy_name, "PolicyDocument": POLICY}],
                Tags=[{"Key": "of", "Value": description}],
            ),
            Inline=resource(
                "AWS::IAM::Policy", PolicyName="beside", PolicyDocument=POLICY, Roles=[{"Ref": "Role"}]
            ),
        )

    physical = await through(stacks, text("before", "one"), text("after", "two"))

    role = {"RoleName": physical["Role"]}
    described = (await stacks.call("GetRole", "iam", **role))["Role"]
    inline = (await stacks.call("ListRolePolicies", "iam", **role))["PolicyNames"]
    attached = (await stacks.call("ListAttachedRolePolicies", "iam", **role))["AttachedPolicies"]
    await gone(stacks)
    assert (described["Description"], described["AssumeRolePolicyDocument"]) == ("after", TRUST)
    assert described["Tags"] == [{"Key": "of", "Value": "after"}]
    assert sorted(inline) == ["beside", "two"]
    assert [it["PolicyArn"] for it in attached] == [physical["Managed"]]
    assert (await stacks.call("ListRoles", "iam"))["Roles"] == []


async def test_a_table(stacks):
    def text(recovery, **more):
        return template(
            Table=resource(
                "AWS::DynamoDB::Table",
                BillingMode="PAY_PER_REQUEST",
                AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
                SSESpecification={"SSEEnabled": True},
                PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": recovery},
                **more,
            )
        )

    physical = await through(
        stacks, text(True), text(False, TimeToLiveSpecification={"AttributeName": "end", "Enabled": "true"})
    )

    table = {"TableName": physical["Table"]}
    backups = (await stacks.call("DescribeContinuousBackups", "dynamodb", **table))[
        "ContinuousBackupsDescription"
    ]
    ttl = (await stacks.call("DescribeTimeToLive", "dynamodb", **table))["TimeToLiveDescription"]
    described = (await stacks.call("DescribeTable", "dynamodb", **table))["Table"]
    await gone(stacks)
    assert described["SSEDescription"]["Status"] == "ENABLED"
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "DISABLED"
    assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "end"}
    assert (await stacks.call("ListTables", "dynamodb"))["TableNames"] == []


async def test_topics_subscriptions_and_their_policies(stacks):
    def text(display):
        return template(
            Topic=resource("AWS::SNS::Topic", DisplayName=display),
            Mail=resource(
                "AWS::SNS::Subscription",
                TopicArn={"Ref": "Topic"},
                Protocol="email",
                Endpoint="a@example.com",
            ),
            Policy=resource("AWS::SNS::TopicPolicy", Topics=[{"Ref": "Topic"}], PolicyDocument=POLICY),
        )

    physical = await through(stacks, text("before"), text("after"))

    attributes = (await stacks.call("GetTopicAttributes", "sns", TopicArn=physical["Topic"]))["Attributes"]
    there = (await stacks.call("ListSubscriptionsByTopic", "sns", TopicArn=physical["Topic"]))[
        "Subscriptions"
    ]
    await gone(stacks)
    assert attributes["DisplayName"] == "after"
    assert json.loads(attributes["Policy"]) == POLICY
    assert [(it["Protocol"], it["Endpoint"]) for it in there] == [("email", "a@example.com")]
    assert (await stacks.call("ListTopics", "sns"))["Topics"] == []


async def test_secrets_are_generated_once(stacks):
    def text(description):
        return template(
            Key=resource(
                "AWS::SecretsManager::Secret",
                Description=description,
                GenerateSecretString={
                    "PasswordLength": "40",
                    "ExcludePunctuation": True,
                    "SecretStringTemplate": '{"user": "admin"}',
                    "GenerateStringKey": "password",
                },
            )
        )

    await stacks.create("typed", text("before"))
    arn = (await stacks.physical("typed"))["Key"]
    before = (await stacks.call("GetSecretValue", "secretsmanager", SecretId=arn))["SecretString"]
    await stacks.update("typed", text("after"))
    after = await stacks.call("GetSecretValue", "secretsmanager", SecretId=arn)
    described = await stacks.call("DescribeSecret", "secretsmanager", SecretId=arn)
    await gone(stacks)

    assert json.loads(before)["user"] == "admin"
    assert len(json.loads(before)["password"]) == 40
    assert after["SecretString"] == before
    assert described["Description"] == "after"


@pytest.mark.parametrize(
    ("kind", "first", "second", "look", "seen"),
    [
        (
            "AWS::Logs::LogGroup",
            {"RetentionInDays": 7},
            {"RetentionInDays": "30", "Tags": [{"Key": "a", "Value": "b"}]},
            lambda name: ("logs", "DescribeLogGroups", {"logGroupNamePrefix": name}),
            lambda answer: answer["logGroups"][0]["retentionInDays"] == 30,
        ),
        (
            "AWS::SQS::Queue",
            {"VisibilityTimeout": 10},
            {"VisibilityTimeout": 20},
            lambda url: ("sqs", "GetQueueAttributes", {"QueueUrl": url, "AttributeNames": ["All"]}),
            lambda answer: answer["Attributes"]["VisibilityTimeout"] == "20",
        ),
        (
            "AWS::CloudWatch::Alarm",
            {
                "Namespace": "N", "MetricName": "M", "Statistic": "Sum", "Period": "60",
                "EvaluationPeriods": 1,
                "Threshold": "5", "ComparisonOperator": "GreaterThanThreshold",
                "Dimensions": [{"Name": "a", "Value": "b"}],
            },
            {
                "Namespace": "N", "MetricName": "M", "ExtendedStatistic": "p95", "Period": 60,
                "EvaluationPeriods": 1, "Threshold": "2000000", "ComparisonOperator": "GreaterThanThreshold",
                "TreatMissingData": "notBreaching",
            },
            lambda name: ("cloudwatch", "DescribeAlarms", {"AlarmNames": [name]}),
            lambda answer: (
                answer["MetricAlarms"][0]["Threshold"] == 2e6
                and answer["MetricAlarms"][0]["ExtendedStatistic"] == "p95"
            ),
        ),
    ],
)  # fmt: skip
async def test_a_resource_of_one_setting(stacks, kind, first, second, look, seen):
    physical = await through(
        stacks, template(It=resource(kind, **first)), template(It=resource(kind, **second))
    )

    service, operation, members = look(physical["It"])
    answer = await stacks.call(operation, service, **members)
    await gone(stacks)

    assert seen(answer), answer
