"""The runtime as a process: its one line, its end, its data after a kill, and the AWS CLI against it."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
from pathlib import Path

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config


def runs_to_its_end(local, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "stagegate.local", *arguments],
        capture_output=True,
        text=True,
        env=local.environment,
        timeout=60,
        check=False,
    )


def aws_cli(local, *arguments):
    done = subprocess.run(
        [Path(sys.executable).parent / "aws", *arguments, "--output", "json"],
        capture_output=True,
        text=True,
        env=local.environment,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout or done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_one_line_and_ends_well_when_told_to(stopped_local, number):
    runtime = stopped_local
    line = runtime.start()
    health = json.loads(runtime.get("/_stagegate/health"))

    runtime.process.send_signal(number)
    rest = runtime.process.stdout.read()

    assert runtime.process.wait(timeout=30) == 0
    assert line == f"Stagegate local is ready at {runtime.endpoint_url} (data in {runtime.data})\n"
    assert (health, rest) == ({"status": "ok"}, b"")


def test_a_data_directory_or_a_port_in_use_is_an_error_in_a_sentence(local, tmp_path):
    same_data = runs_to_its_end(local, "--port", "0", "--data", str(local.data))
    same_port = runs_to_its_end(local, "--port", str(local.port), "--data", str(tmp_path / "other"))

    assert (same_data.returncode, same_data.stderr) == (
        1,
        f"Another local runtime uses the data directory {local.data}.\n",
    )
    assert (same_port.returncode, same_port.stderr) == (
        1,
        f"Port {local.port} of 127.0.0.1 cannot be used: Address already in use.\n",
    )


def test_a_damaged_database_is_an_error_in_a_sentence(stopped_local):
    runtime = stopped_local
    runtime.data.mkdir()
    (runtime.data / "stagegate.db").write_bytes(b"no database" * 1000)

    done = runs_to_its_end(runtime, "--port", "0", "--data", str(runtime.data))

    assert (done.returncode, done.stderr) == (
        1,
        f"The database {runtime.data / 'stagegate.db'} cannot be read: file is not a database. Nothing was "
        "written to it. Put a copy of it back, or begin with another data directory.\n",
    )


def test_nothing_that_was_answered_is_lost_by_a_kill(local):
    s3, dynamodb, secrets = local.client("s3"), local.client("dynamodb"), local.client("secretsmanager")
    sns = local.client("sns")
    s3.create_bucket(Bucket="bucket")
    for number in range(20):
        s3.put_object(Bucket="bucket", Key=f"runs/{number}", Body=os.urandom(6000))
    dynamodb.create_table(
        TableName="approvals",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    dynamodb.put_item(TableName="approvals", Item={"id": {"S": "1"}})
    secret = secrets.create_secret(Name="key", SecretString="s")["ARN"]
    topic = sns.create_topic(Name="topic")["TopicArn"]
    subscription = sns.subscribe(
        TopicArn=topic, Protocol="email", Endpoint="a@example.com", ReturnSubscriptionArn=True
    )["SubscriptionArn"]
    before = s3.list_objects_v2(Bucket="bucket")["Contents"]

    local.kill()
    local.start()

    assert s3.list_objects_v2(Bucket="bucket")["Contents"] == before
    assert dynamodb.scan(TableName="approvals")["Items"] == [{"id": {"S": "1"}}]
    assert secrets.describe_secret(SecretId="key")["ARN"] == secret
    (subscribed,) = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert subscribed["SubscriptionArn"] == subscription


def test_s3_as_clients_use_it(local, tmp_path):
    s3 = local.client("s3")
    s3.create_bucket(Bucket="bucket")
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(20_000_000))

    s3.upload_file(str(large), "bucket", "a b/ü+%2F.bin", ExtraArgs={"Metadata": {"my_key": "v"}})
    s3.download_file("bucket", "a b/ü+%2F.bin", str(tmp_path / "back.bin"))
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "a b/ü+%2F.bin"})

    assert (tmp_path / "back.bin").read_bytes() == large.read_bytes()
    assert s3.head_object(Bucket="bucket", Key="a b/ü+%2F.bin")["Metadata"] == {"my_key": "v"}
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket="bucket")["Contents"]] == ["a b/ü+%2F.bin"]
    assert local.get(url.removeprefix(local.endpoint_url)) == large.read_bytes()
    assert (
        s3.get_object(Bucket="bucket", Key="a b/ü+%2F.bin", Range="bytes=5-9")["Body"].read()
        == (large.read_bytes()[5:10])
    )


def test_a_request_without_a_signature_is_for_s3(local):
    local.client("s3").create_bucket(Bucket="bucket")
    unsigned = boto3.client(
        "s3",
        endpoint_url=local.endpoint_url,
        region_name="us-east-1",
        config=Config(signature_version=UNSIGNED),
    )

    unsigned.put_object(Bucket="bucket", Key="key", Body=b"content", ACL="public-read")

    assert unsigned.get_object(Bucket="bucket", Key="key")["Body"].read() == b"content"


def test_a_function_url_that_does_not_exist(local):
    with pytest.raises(urllib.error.HTTPError) as raised:
        local.get("/_aws/lambda-url/nowhere/path")

    with raised.value as error:
        assert error.code in (403, 404)


def test_the_aws_cli(local, tmp_path):
    (tmp_path / "file.txt").write_text("hello")

    assert aws_cli(local, "s3", "mb", "s3://bucket") == (0, "make_bucket: bucket\n")
    aws_cli(local, "s3", "cp", str(tmp_path / "file.txt"), "s3://bucket/folder/file.txt")
    aws_cli(local, "logs", "create-log-group", "--log-group-name", "/g")
    _, listed = aws_cli(local, "s3api", "list-objects-v2", "--bucket", "bucket")
    _, groups = aws_cli(local, "logs", "describe-log-groups")
    _, identity = aws_cli(local, "sts", "get-caller-identity")
    missing = aws_cli(local, "dynamodb", "describe-table", "--table-name", "nowhere")

    assert [(entry["Key"], entry["Size"]) for entry in json.loads(listed)["Contents"]] == [
        ("folder/file.txt", 5)
    ]
    assert [group["logGroupName"] for group in json.loads(groups)["logGroups"]] == ["/g"]
    assert json.loads(identity)["Account"] == "111111111111"
    assert missing[0] == 255
    assert "(ResourceNotFoundException) when calling the DescribeTable operation" in missing[1]
