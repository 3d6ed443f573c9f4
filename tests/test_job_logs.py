"""The log of a job on the real runtime: in pieces, its end, and what is new."""

import time
from collections.abc import Iterator
from itertools import islice

import pytest

from stagegate.aws import Services
from stagegate.config import Config
from stagegate.job_logs import LogFollower, log_tail, logging_hosts, read_log
from tests.conftest import ROOT, Local

KIND = "TrainingJobs"
GROUP = f"/aws/sagemaker/{KIND}"


@pytest.fixture(scope="module")
def services(shared_local: Local) -> Iterator[Services]:
    services = Services(Config(root=ROOT, endpoint_url=shared_local.endpoint_url, data=shared_local.data))
    services("logs").create_log_group(logGroupName=GROUP)
    yield services


def write(services: Services, stream: str, *lines: str, after: float = 0.0) -> None:
    """As many lines as there are, a millisecond apart."""
    logs = services("logs")
    if not logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=stream)["logStreams"]:
        logs.create_log_stream(logGroupName=GROUP, logStreamName=stream)
    began = int((time.time() - 60 + after) * 1000)
    events = [{"timestamp": began + number, "message": line} for number, line in enumerate(lines)]
    for start in range(0, len(events), 5_000):
        logs.put_log_events(logGroupName=GROUP, logStreamName=stream, logEvents=events[start : start + 5_000])


def calls_of(services: Services, operation: str) -> list[int]:
    """How many events each answer of an operation has from now on."""
    counts: list[int] = []
    services("logs").meta.events.register(
        f"after-call.cloudwatch-logs.{operation}",
        lambda parsed, **rest: counts.append(len(parsed.get("events", ()))),
    )
    return counts


def test_a_long_log_is_read_a_page_at_a_time_and_no_further_than_asked_for(services: Services) -> None:
    write(services, "long/algo-1-1", *(f"line {number}" for number in range(12_000)))
    counts = calls_of(services, "FilterLogEvents")

    lines = read_log(services, KIND, "long")
    first = list(islice(lines, 3))
    assert [line.text for line in first] == ["line 0", "line 1", "line 2"]
    assert counts == [10_000]

    assert sum(1 for _ in lines) == 11_997
    assert counts == [10_000, 2_000]


def test_the_end_is_read_from_the_end(services: Services) -> None:
    write(services, "end/algo-1-1", *(f"one {number}" for number in range(500)))
    write(services, "end/algo-2-1", "two", after=10)
    counts = calls_of(services, "GetLogEvents")

    tail = [line.text for line in log_tail(services, KIND, "end", lines=3)]

    assert tail == ["one 498", "one 499", "two"]
    assert sum(counts) <= 6
    assert len(log_tail(services, KIND, "end", lines=1000)) == 501


def test_what_is_new_is_read_once(services: Services) -> None:
    log = LogFollower(services, KIND, "grows")
    assert list(log.advance()) == []

    write(services, "grows/algo-1-1", "a", "b")
    assert [line.text for line in log.advance()] == ["a", "b"]
    assert list(log.advance()) == []
    write(services, "grows/algo-1-1", "c", after=10)
    write(services, "grows/algo-2-1", "x", after=10)
    assert [line.text for line in log.advance()] == ["c", "x"]


def test_a_job_that_has_written_nothing_has_no_lines(services: Services) -> None:
    for kind in (KIND, "ProcessingJobs"):  # no stream, and no group either
        assert list(read_log(services, kind, "none")) == []
        assert log_tail(services, kind, "none") == []
        assert list(LogFollower(services, kind, "none").advance()) == []


def test_the_hosts_that_write_are_known_by_their_streams(services: Services) -> None:
    """As AWS names those of a transform job: https://docs.aws.amazon.com/sagemaker/latest/dg/logging-cloudwatch.html"""
    for stream in ("i-0ab-1700000000", "i-0ab-1700000000/data-log", "i-0cd-1700000001"):
        write(services, f"hosts/{stream}", "a line")

    assert logging_hosts(services, KIND, "hosts") == ["i-0ab", "i-0cd"]
    assert logging_hosts(services, KIND, "host") == []
    assert logging_hosts(services, "TransformJobs", "hosts") == []
