"""Roles, their policies, and clients that call by them."""

import json
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.conftest import Local

ACCOUNT = "111111111111"


def allow(action: Any, resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def trusting(**principal: str) -> str:
    statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def create_role(local: Local, name: str, *statements: dict[str, Any], trust: str | None = None) -> str:
    iam = local.client("iam")
    arn = iam.create_role(
        RoleName=name, AssumeRolePolicyDocument=trust or trusting(AWS=f"arn:aws:iam::{ACCOUNT}:root")
    )["Role"]["Arn"]
    put_policy(local, name, *statements)
    return str(arn)


def put_policy(local: Local, name: str, *statements: dict[str, Any]) -> None:
    if statements:
        document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        local.client("iam").put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=document)


def assume(local: Local, role_arn: str, session: str = "test", **more: Any) -> dict[str, str]:
    answer = local.client("sts").assume_role(RoleArn=role_arn, RoleSessionName=session, **more)
    keys: dict[str, str] = answer["Credentials"]
    return keys


def client(local: Local, service: str, keys: dict[str, str]) -> Any:
    return boto3.client(
        service,
        endpoint_url=local.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
        config=Config(retries={"total_max_attempts": 1}),
    )


def refusal(call: Any, **members: Any) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as refused:
        call(**members)
    response = refused.value.response
    return (
        response["Error"]["Code"],
        response["ResponseMetadata"]["HTTPStatusCode"],
        response["Error"]["Message"],
    )


def user(role: str, session: str = "test") -> str:
    return f"User: arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{session} is not authorized to perform: "
