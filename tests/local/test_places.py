"""A runtime has one account and one region: which, it is told; what is meant for another is refused."""

import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.conftest import ROOT, Local

OPTIONS = ("--account", "222222222222", "--region", "eu-west-1")


def client(runtime: Local, service: str, region: str):
    return boto3.client(
        service,
        endpoint_url=runtime.endpoint_url,
        region_name=region,
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(retries={"total_max_attempts": 1}),
    )


def test_a_runtime_of_another_account_and_region_has_them_in_all_its_names(tmp_path: Path) -> None:
    runtime = Local(tmp_path / "data", options=OPTIONS)
    runtime.start()
    try:
        at = {name: client(runtime, name, "eu-west-1") for name in ("sts", "sns", "dynamodb", "events", "s3")}
        topic = at["sns"].create_topic(Name="said")["TopicArn"]
        rule = at["events"].put_rule(Name="heard", EventPattern='{"source": ["aws.s3"]}')["RuleArn"]
        at["s3"].create_bucket(Bucket="kept", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        runtime.restart()

        account = at["sts"].get_caller_identity()["Account"]
        topics = [it["TopicArn"] for it in at["sns"].list_topics()["Topics"]]
        location = at["s3"].get_bucket_location(Bucket="kept")["LocationConstraint"]
        role = client(runtime, "iam", "eu-west-1").create_role(
            RoleName="any", AssumeRolePolicyDocument='{"Version": "2012-10-17", "Statement": []}'
        )["Role"]["Arn"]
    finally:
        runtime.stop()

    assert account == "222222222222"
    assert topics == [topic] == ["arn:aws:sns:eu-west-1:222222222222:said"]
    assert rule == "arn:aws:events:eu-west-1:222222222222:rule/heard"
    assert location == "eu-west-1"
    assert role == "arn:aws:iam::222222222222:role/any"


@pytest.mark.parametrize(
    ("service", "operation", "code"),
    [
        ("stepfunctions", "list_state_machines", "InvalidSignatureException"),
        ("dynamodb", "list_tables", "InvalidSignatureException"),
        ("cloudformation", "list_stacks", "SignatureDoesNotMatch"),
        ("s3", "list_buckets", "AuthorizationHeaderMalformed"),
    ],
)
def test_what_is_signed_for_another_region_is_refused(
    shared_local: Local, service: str, operation: str, code: str
) -> None:
    with pytest.raises(ClientError) as refused:
        getattr(client(shared_local, service, "eu-west-1"), operation)()

    assert refused.value.response["Error"]["Code"] == code
    assert "'eu-west-1'" in refused.value.response["Error"]["Message"]


def test_data_of_one_account_are_not_served_as_those_of_another(local: Local) -> None:
    local.stop()

    refused = subprocess.run(
        [sys.executable, "-m", "stagegate.local", "--port", "0", "--data", str(local.data), *OPTIONS],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    assert refused.returncode == 1
    assert "belongs to account 111111111111 in us-east-1, and not to account 222222222222" in refused.stderr
