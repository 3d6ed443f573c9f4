"""Functions of Lambda, as Lambda and CloudWatch Logs have them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from stagegate.aws import Services, error_code
from stagegate.errors import NotFound
from stagegate.job_logs import LogLine, end_of, without_log

_STREAMS = 5
"""Each process of a function has a stream of its own: those that wrote last are read."""


@dataclass(frozen=True, kw_only=True)
class Function:
    name: str
    """With the version or alias that was asked for."""
    arn: str
    description: str
    state: str
    said: str
    """Why it is in that state, where Lambda says so."""
    modified: datetime
    runtime: str
    handler: str
    memory: int
    """MB."""
    timeout: int
    """Seconds."""
    role: str
    code_hash: str
    """SHA-256, as Lambda has it."""
    variables: tuple[str, ...]
    """The names of its environment variables: the values may be secrets."""
    log_group: str


def find_function(services: Services, name: str) -> Function:
    """`name` may have a version or an alias behind a colon. Raises NotFound."""
    try:
        found = services("lambda").get_function_configuration(FunctionName=name)
    except ClientError as error:
        if error_code(error) not in (
            *("ResourceNotFoundException", "ValidationException", "InvalidParameterValueException"),
        ):
            raise
        raise NotFound(f"There is no function '{name}'.") from error
    return _function(found, name)


def function_log_tail(services: Services, function: Function, *, lines: int = 200) -> list[LogLine]:
    """The last lines of the processes that wrote last."""
    found: list[LogLine] = []
    with without_log():
        answer = services("logs").describe_log_streams(
            logGroupName=function.log_group, orderBy="LastEventTime", descending=True, limit=_STREAMS
        )
        for stream in answer["logStreams"]:
            found += end_of(services, function.log_group, stream["logStreamName"], lines=lines)
    return sorted(found, key=lambda line: line.time)[-lines:]


def _function(found: Mapping[str, Any], name: str) -> Function:
    return Function(
        name=name,
        arn=found["FunctionArn"],
        description=found.get("Description", ""),
        state=found.get("State", "Active"),
        said=found.get("StateReason", "") or found.get("LastUpdateStatusReason", ""),
        modified=datetime.strptime(found["LastModified"], "%Y-%m-%dT%H:%M:%S.%f%z"),
        runtime=found.get("Runtime", found.get("PackageType", "")),
        handler=found.get("Handler", ""),
        memory=found["MemorySize"],
        timeout=found["Timeout"],
        role=found["Role"],
        code_hash=found["CodeSha256"],
        variables=tuple(sorted(found.get("Environment", {}).get("Variables", {}))),
        log_group=found.get("LoggingConfig", {}).get("LogGroup", f"/aws/lambda/{found['FunctionName']}"),
    )
