"""The one place that makes boto3 clients; the target says whether they reach AWS or this machine."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config as ClientConfig
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    InvalidConfigError,
    LoginError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    SSOError,
    TokenRetrievalError,
)

from stagegate.config import Config
from stagegate.errors import NotReachable, NotSignedIn, SlowedDown, StagegateError
from stagegate.profiles import has_credentials, read_profile

_CALLS = ClientConfig(retries={"mode": "standard"}, user_agent_extra="stagegate")
_INVOCATIONS = ClientConfig(read_timeout=70)
"""A model may take a minute to answer."""
_EXPIRED = ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired")
_UNKNOWN = ("InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "AuthFailure")
_THROTTLED = (
    *("Throttling", "ThrottlingException", "ThrottledException", "RequestThrottledException"),
    *("TooManyRequestsException", "ProvisionedThroughputExceededException", "RequestLimitExceeded"),
    *("BandwidthLimitExceeded", "RequestThrottled", "SlowDown", "PriorRequestNotComplete", "Throttled"),
    *("RequestTimeout", "RequestTimeoutException"),
)
"""What boto3 asks again for, a few times (its standard mode), and SNS's own word."""
_FAILED_ON_ITS_SIDE = 500


class Services:
    """boto3 clients by the service's name, each made once."""

    def __init__(self, config: Config, *, calls: ClientConfig | None = None) -> None:
        """`calls`: how often boto3 asks, and how long it waits, where that is not as usual."""
        self.config = config
        self._calls = _CALLS.merge(calls) if calls else _CALLS
        self._session = self._sign_in()
        self._clients: dict[str, Any] = {}
        self._making = threading.Lock()  # a session is not made for several threads, as clients are
        self._account: str | None = None

    def __call__(self, service: str) -> Any:
        """`services("stepfunctions")`: the boto3 client."""
        with self._making:
            if service not in self._clients:
                self._clients[service] = self._session.client(
                    service,
                    endpoint_url=self.config.endpoint_url if self.config.is_local else None,
                    config=self._calls.merge(_INVOCATIONS) if service == "sagemaker-runtime" else self._calls,
                )
            return self._clients[service]

    def account(self) -> str:
        """The account's number."""
        if self._account is None:
            self._account = self("sts").get_caller_identity()["Account"]
        return self._account

    @property
    def partition(self) -> str:
        """`aws`, and in China or for the government one of its own."""
        partition: str = self("sts").meta.partition
        return partition

    def object_url(self, bucket: str, key: str) -> str:
        """Where S3 has an object; the local runtime finds its own under it too."""
        suffix = "amazonaws.com.cn" if self.partition == "aws-cn" else "amazonaws.com"
        return f"https://{bucket}.s3.{self.config.region}.{suffix}/{key}"

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

    def _sign_in(self) -> boto3.Session:
        """The local runtime takes any credentials; it gets made-up ones where the user has set none."""
        profile, region = self.config.profile, self.config.region
        if profile == os.environ.get("AWS_PROFILE"):  # boto3 reads it, and prefers keys of the environment
            profile = ""
        has_own = bool(profile) and has_credentials(read_profile(profile, os.environ))
        if not self.config.is_local or has_own:
            return boto3.Session(region_name=region, profile_name=profile or None)
        made_up = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
        return boto3.Session(
            botocore_session=botocore.session.Session(session_vars=_WITHOUT_PROFILE),
            region_name=region,
            **({} if os.environ.get("AWS_ACCESS_KEY_ID") else made_up),
        )


_WITHOUT_PROFILE = {"profile": (None, None, None, None)}
"""For botocore: AWS_PROFILE is none of the local runtime's."""


def error_code(error: ClientError) -> str:
    """`ValidationException`, as the API has it."""
    return str(error.response["Error"]["Code"])


@contextmanager
def explained(config: Config) -> Iterator[None]:
    """Turn what boto3 raises into a sentence for the user."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise explanation(error, config) from error


def explanation(error: ClientError | BotoCoreError, config: Config) -> StagegateError:
    """What has gone wrong, and what to do."""
    if isinstance(error, ClientError):
        return _refusal(error, config)
    whose = f"profile '{config.profile}'" if config.profile else "the default profile"
    named = f" --profile {config.profile}" if config.profile else ""
    match error:
        case ReadTimeoutError() | ConnectTimeoutError() | ConnectionClosedError():
            return SlowedDown(f"AWS did not answer in time: {error}")
        case EndpointConnectionError() if config.is_local:
            return NotReachable(f"Nothing answers at {config.endpoint_url}: start it with `stagegate up`.")
        case EndpointConnectionError():
            return NotReachable(f"{error}: is the network there?")
        case SSOError() | TokenRetrievalError():
            return NotSignedIn(f"The SSO session of {whose} has ended: run `aws sso login{named}`. ({error})")
        case LoginError():
            return NotSignedIn(f"The session of {whose} has ended: run `aws login{named}`. ({error})")
        case NoCredentialsError() if config.profile:
            advice = f"run `aws configure{named}`, or `aws configure sso{named}`"
            return NotSignedIn(f"The AWS profile '{config.profile}' has no credentials: {advice}.")
        case NoCredentialsError():
            return NotSignedIn("No AWS credentials: run `aws configure`, or give --profile or AWS_PROFILE.")
        case PartialCredentialsError() | CredentialRetrievalError() | InvalidConfigError():
            return NotSignedIn(f"The credentials of {whose} cannot be had: {error}")
    return NotReachable(str(error))


def _refusal(error: ClientError, config: Config) -> StagegateError:
    code, details = error_code(error), error.response["Error"]
    message = f"{error.operation_name}: {code}: {details.get('Message')}"
    profile = f" of profile '{config.profile}'" if config.profile else ""
    named = f" --profile {config.profile}" if config.profile else ""
    if code in _THROTTLED or is_failure_of_aws(error):
        return SlowedDown(message)
    if code in _EXPIRED:
        return NotSignedIn(
            f"The credentials{profile} have expired: get new ones where these are from, "
            f"as with `aws sso login{named}`. ({message})"
        )
    if code in _UNKNOWN:
        return NotSignedIn(
            f"AWS does not know the credentials{profile}: `aws configure list{named}`. ({message})"
        )
    if error.operation_name.startswith("AssumeRole"):
        return NotSignedIn(
            f"The role{profile} cannot be assumed: its trust policy and the policies of who assumes it "
            f"have to allow that. ({message})"
        )
    return StagegateError(message)


def is_failure_of_aws(error: ClientError) -> bool:
    status: int = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= _FAILED_ON_ITS_SIDE
