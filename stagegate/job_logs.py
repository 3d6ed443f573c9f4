"""The log of a job of SageMaker: all of it in pieces, its end, or what is new since the last time.

Each instance has a stream of its own, `JOB/algo-1-…`. A job's log may be larger than memory: none of these
holds more than a page, or what was asked for.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from stagegate.aws import Services, error_code

_STREAMS = 10
_PAGES = 10
"""Of one stream: pages of GetLogEvents may be empty though there are others before them."""


@dataclass(frozen=True, kw_only=True)
class LogLine:
    text: str
    time: datetime


def read_log(services: Services, kind: str, job_name: str) -> Iterator[LogLine]:
    """All lines, page by page as they are asked for; none while there is no log. `kind`: TrainingJobs, …"""
    pages = (
        services("logs")
        .get_paginator("filter_log_events")
        .paginate(logGroupName=_group(kind), logStreamNamePrefix=f"{job_name}/")
    )
    with without_log():
        for page in pages:
            yield from map(line_of, page["events"])


def log_tail(services: Services, kind: str, job_name: str, *, lines: int = 200) -> list[LogLine]:
    """The last lines."""
    found: list[LogLine] = []
    with without_log():
        for stream in _streams(services, kind, job_name):
            found += end_of(services, _group(kind), stream, lines=lines)
    return sorted(found, key=lambda line: line.time)[-lines:]


class LogFollower:
    """Reads a log as it grows."""

    def __init__(self, services: Services, kind: str, job_name: str) -> None:
        self._services = services
        self._kind = kind
        self._job_name = job_name
        self._tokens: dict[str, str] = {}
        """By stream, what follows after what was read."""

    def advance(self) -> Iterator[LogLine]:
        """What was written since the last time."""
        with without_log():
            for stream in _streams(self._services, self._kind, self._job_name):
                yield from self._advance(stream)

    def _advance(self, stream: str) -> Iterator[LogLine]:
        logs = self._services("logs")
        while True:
            token = self._tokens.get(stream)
            page = logs.get_log_events(
                logGroupName=_group(self._kind),
                logStreamName=stream,
                startFromHead=True,
                **({"nextToken": token} if token else {}),
            )
            self._tokens[stream] = page["nextForwardToken"]
            yield from map(line_of, page["events"])
            if page["nextForwardToken"] == token:  # the end, for now
                return


def logging_hosts(services: Services, kind: str, job_name: str) -> list[str]:
    """The instances that have written something: `algo-1`, or what AWS calls a transform job's."""
    hosts: dict[str, None] = {}
    with without_log():
        for stream in _streams(services, kind, job_name):
            host_and_epoch = stream.removeprefix(f"{job_name}/").partition("/")[0]
            hosts[host_and_epoch.rpartition("-")[0]] = None
    return [*hosts]


@contextmanager
def without_log() -> Iterator[None]:
    """What has written nothing yet has no group, or no stream: that is no error."""
    try:
        yield
    except ClientError as error:
        if error_code(error) != "ResourceNotFoundException":
            raise


def end_of(services: Services, group: str, stream: str, *, lines: int) -> list[LogLine]:
    """The last lines of one stream. Raises ClientError where there is no such stream."""
    found: list[LogLine] = []
    token: str | None = None
    for _ in range(_PAGES):
        page = services("logs").get_log_events(
            logGroupName=group,
            logStreamName=stream,
            limit=lines,
            startFromHead=False,
            **({"nextToken": token} if token else {}),
        )
        found = [*map(line_of, page["events"]), *found]
        if len(found) >= lines or page["nextBackwardToken"] == token:
            break
        token = page["nextBackwardToken"]
    return found[-lines:]


def _streams(services: Services, kind: str, job_name: str) -> list[str]:
    answer = services("logs").describe_log_streams(
        logGroupName=_group(kind), logStreamNamePrefix=f"{job_name}/", limit=_STREAMS
    )
    return [stream["logStreamName"] for stream in answer["logStreams"]]


def _group(kind: str) -> str:
    return f"/aws/sagemaker/{kind}"


def line_of(event: Mapping[str, Any]) -> LogLine:
    """An event of CloudWatch Logs."""
    return LogLine(
        text=event["message"].rstrip("\n"), time=datetime.fromtimestamp(event["timestamp"] / 1000, UTC)
    )
