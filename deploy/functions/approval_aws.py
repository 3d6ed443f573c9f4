"""The AWS clients of the functions, each made once a process. Calls that fail in passing are tried again."""

import functools
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

_CONFIG = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 5})


@functools.cache
def client(service: str) -> Any:
    """botocore's own client: without boto3 above it, the functions start faster."""
    # Of itself botocore signs addresses in S3 in the old way, which newer buckets refuse.
    config = _CONFIG.merge(Config(signature_version="s3v4")) if service == "s3" else _CONFIG
    return _session().create_client(service, config=config)


def client_of(role_arn: str, service: str) -> Any:
    """A client that acts as the role; where that is empty, as the function's own."""
    if not role_arn:
        return client(service)
    session = client("sts").assume_role(RoleArn=role_arn, RoleSessionName="approval")
    keys = session["Credentials"]
    return _session().create_client(
        service,
        config=_CONFIG,
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )


def error_code(error: ClientError) -> str:
    """`ThrottlingException`, as the API has it."""
    return str(error.response["Error"]["Code"])


@functools.cache
def _session() -> Any:
    session = botocore.session.get_session()
    # Whose signature it is can only be asked where it was made for (approval_caller).
    session.set_config_variable("sts_regional_endpoints", "regional")
    return session
