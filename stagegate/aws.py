"""The one place that makes boto3 clients; the target says whether they reach AWS or this machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config as ClientConfig
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError, NoCredentialsError

from stagegate.config import Config
from stagegate.errors import NotReachable, StagegateError


class Services:
    """boto3 clients by the service's name, each made once."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._session = boto3.Session(region_name=config.region, **self._credentials())
        self._clients: dict[str, Any] = {}

    def __call__(self, service: str) -> Any:
        """`services("stepfunctions")`: the boto3 client."""
        if service not in self._clients:
            self._clients[service] = self._session.client(
                service,
                endpoint_url=self.config.endpoint_url if self.config.is_local else None,
                config=ClientConfig(retries={"mode": "standard"}, user_agent_extra="stagegate"),
            )
        return self._clients[service]

    def account(self) -> str:
        """The account's number."""
        account: str = self("sts").get_caller_identity()["Account"]
        return account

    def caller(self) -> str:
        """Who we are to AWS: an ARN."""
        arn: str = self("sts").get_caller_identity()["Arn"]
        return arn

    def signed_identity(self, header: str, value: str) -> dict[str, str]:
        """The headers of a signed request to STS, from which somebody else can learn who we are.

        `header` is signed with it, and says what it is good for.
        """
        sts = self("sts")
        request = AWSRequest(
            method="POST",
            url=sts.meta.endpoint_url,
            data="Action=GetCallerIdentity&Version=2011-06-15",
            headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8", header: value},
        )
        SigV4Auth(self._session.get_credentials(), "sts", self.config.region).add_auth(request)
        return dict(request.headers.items())

    def _credentials(self) -> dict[str, str]:
        """The local runtime takes any credentials; it gets made-up ones where the user has set none."""
        if self.config.is_local and not os.environ.get("AWS_ACCESS_KEY_ID"):
            return {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
        return {}


def error_code(error: ClientError) -> str:
    """`ValidationException`, as the API has it."""
    return str(error.response["Error"]["Code"])


@contextmanager
def explained(config: Config) -> Iterator[None]:
    """Turn what boto3 raises into a sentence for the user."""
    try:
        yield
    except EndpointConnectionError as error:
        where = f"Nothing answers at {config.endpoint_url}" if config.is_local else str(error)
        advice = "start it with `stagegate up`" if config.is_local else "is the network there?"
        raise NotReachable(f"{where}: {advice}.") from error
    except NoCredentialsError as error:
        raise NotReachable("No AWS credentials: run `aws configure`, or set AWS_PROFILE.") from error
    except ClientError as error:
        details = error.response["Error"]
        message = f"{error.operation_name}: {details.get('Code')}: {details.get('Message')}"
        raise StagegateError(message) from error
    except BotoCoreError as error:
        raise NotReachable(str(error)) from error
