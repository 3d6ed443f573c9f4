"""The resource types that operations are made of: keys and dashboards, repositories, scaling."""

import json

import pytest

from stagegate.local.service import AWSError
from tests.local.stacks.conftest import resource, template
from tests.local.stacks.test_resources import gone, through

ROOT_MAY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"AWS": "arn:aws:iam::111111111111:root"},
            "Action": "kms:*",
            "Resource": "*",
        }
    ],
}


async def test_a_key_and_its_alias(stacks):
    def text(description, key, **more):
        return template(
            Key=resource("AWS::KMS::Key", Description=description, PendingWindowInDays="7", **more),
            Other=resource("AWS::KMS::Key"),
            Alias=resource("AWS::KMS::Alias", AliasName="alias/models", TargetKeyId={"Ref": key}),
        ) | {"Outputs": {"Arn": {"Value": {"Fn::GetAtt": ["Key", "Arn"]}}}}

    first = text("before", "Key", Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "1"}])
    second = text(
        "after",
        "Other",
        EnableKeyRotation="true",
        Enabled=False,
        KeyPolicy=ROOT_MAY,
        Tags=[{"Key": "a", "Value": "2"}],
    )
    await stacks.create("typed", first)
    before = await stacks.physical("typed")
    described = await stacks.call("DescribeKey", "kms", KeyId="alias/models")
    assert described["KeyMetadata"]["KeyId"] == before["Key"]
    await stacks.update("typed", second)

    key = {"KeyId": before["Key"]}
    after = (await stacks.call("DescribeKey", "kms", **key))["KeyMetadata"]
    seen = {
        "physical": await stacks.physical("typed"),
        "alias": (await stacks.call("DescribeKey", "kms", KeyId="alias/models"))["KeyMetadata"]["KeyId"],
        "rotation": (await stacks.call("GetKeyRotationStatus", "kms", **key))["KeyRotationEnabled"],
        "policy": json.loads(
            (await stacks.call("GetKeyPolicy", "kms", **key, PolicyName="default"))["Policy"]
        ),
        "tags": (await stacks.call("ListResourceTags", "kms", **key))["Tags"],
        "outputs": [it["OutputValue"] for it in (await stacks.stack("typed"))["Outputs"]],
    }
    await gone(stacks)
    deleted = (await stacks.call("DescribeKey", "kms", **key))["KeyMetadata"]

    assert (after["Description"], after["KeyState"]) == ("after", "Disabled")
    assert seen == {
        "physical": {**before, "Alias": "alias/models"},
        "alias": before["Other"],
        "rotation": True,
        "policy": ROOT_MAY,
        "tags": [{"TagKey": "a", "TagValue": "2"}],
        "outputs": [f"arn:aws:kms:us-east-1:111111111111:key/{before['Key']}"],
    }
    days = (deleted["DeletionDate"] - deleted["CreationDate"]).total_seconds() / 86400
    assert (deleted["KeyState"], round(days)) == ("PendingDeletion", 7)
    aliases = (await stacks.call("ListAliases", "kms"))["Aliases"]
    assert "alias/models" not in [alias["AliasName"] for alias in aliases]


async def test_a_key_without_its_policy_has_the_default_one_again(stacks):
    await stacks.create("typed", template(Key=resource("AWS::KMS::Key", KeyPolicy=ROOT_MAY)))
    await stacks.update("typed", template(Key=resource("AWS::KMS::Key")))

    key = (await stacks.physical("typed"))["Key"]
    policy = json.loads((await stacks.call("GetKeyPolicy", "kms", KeyId=key, PolicyName="default"))["Policy"])
    fresh = (await stacks.call("CreateKey", "kms"))["KeyMetadata"]["KeyId"]
    assert policy == json.loads(
        (await stacks.call("GetKeyPolicy", "kms", KeyId=fresh, PolicyName="default"))["Policy"]
    )


@pytest.mark.parametrize(
    ("properties", "named"),
    [({"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY"}, "asymmetric"), ({"RotationPeriodInDays": 90}, "R")],
)
async def test_keys_that_are_not_kept_are_refused(stacks, properties, named):
    text = template(Key=resource("AWS::KMS::Key", **properties))
    try:
        stack = await stacks.create("typed", text)
        told = str(await stacks.events("typed"))
    except AWSError as error:
        stack, told = {"StackStatus": "ROLLBACK_COMPLETE"}, error.message

    assert stack["StackStatus"] == "ROLLBACK_COMPLETE"
    assert named in told


async def test_a_dashboard(stacks):
    def text(title, **more):
        widgets = {"widgets": [{"type": "text", "properties": {"markdown": title}}]}
        return template(It=resource("AWS::CloudWatch::Dashboard", DashboardBody=json.dumps(widgets), **more))

    physical = await through(stacks, text("before"), text("after"))

    body = (await stacks.call("GetDashboard", "cloudwatch", DashboardName=physical["It"]))["DashboardBody"]
    await stacks.create("twice", text("other", DashboardName=physical["It"]))
    refused = [event for event in await stacks.events("twice") if event[1] == "CREATE_FAILED"]
    await gone(stacks)
    assert physical["It"].startswith("typed-It-")
    assert "after" in body
    assert [f"{physical['It']} already exists" in reason for _, _, reason in refused] == [True]
    assert (await stacks.call("ListDashboards", "cloudwatch"))["DashboardEntries"] == []
