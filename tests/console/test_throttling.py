"""AWS slows us down: each page keeps its frame, says what is so, shows what it can, and asks again."""

import contextlib
import http.client
import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import Page, expect

from stagegate.config import Config
from stagegate.console.pages import NAVIGATION
from tests.conftest import ROOT, Local
from tests.console.conftest import PATIENCE, ROLE, Runs, answering, fill, photograph, stumbling_blocks
from tests.console.test_approvals import FORM, asked
from tests.release.conftest import installed

SOME = "calls = [4, 5]"
ASLEEP = '{"StartAt": "Sleep", "States": {"Sleep": {"Type": "Wait", "Seconds": 3600, "End": true}}}'

FAILING = {
    "Type": "Task",
    "Resource": "arn:aws:states:::sagemaker:createProcessingJob.sync",
    "Parameters": {
        "ProcessingJobName": "fails",
        "RoleArn": ROLE,
        "AppSpecification": {"ImageUri": "image", "ContainerEntrypoint": ["false"]},
        "ProcessingResources": {
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}
        },
    },
    "End": True,
}


@contextlib.contextmanager
def throttled(tmp_path: Path, *operations: str, rest: str = "") -> Iterator[tuple[Local, Config]]:
    """A runtime that throttles clients which ask for these; `rest` says when."""
    faults = tmp_path / "faults.toml"
    faults.write_text(
        "".join(
            f'[[fault]]\noperation = "{operation}"\nby = "client"\nerror = "throttled"\n{rest}\n'
            for operation in operations
        )
    )
    runtime = Local(tmp_path / "data", faults=faults)
    runtime.start()
    try:
        yield runtime, Config(root=ROOT, endpoint_url=runtime.endpoint_url, data=runtime.data)
    finally:
        runtime.stop()


def started(runtime: Local, name: str) -> str:
    """A run that goes on for long."""
    client = runtime.client("stepfunctions")
    machine = client.create_state_machine(
        name="stagegate-any",
        definition=ASLEEP,
        roleArn=ROLE,
    )["stateMachineArn"]
    arn: str = client.start_execution(stateMachineArn=machine, name=name)["executionArn"]
    return arn


def is_framed(html: str) -> bool:
    """Whether it is a page of the console, with the ways to all others, and without a stack trace."""
    ways = all(f'href="{path}"' in html for path, _ in NAVIGATION)
    return ways and "Traceback" not in html and "Internal Server Error" not in html


def test_a_page_that_cannot_be_read_says_so_in_its_frame_and_asks_again_later_each_time(
    tmp_path: Path,
) -> None:
    with throttled(tmp_path, "*:*") as (_, config), answering(config) as (address, _):
        answers = [asked(address, "GET", path) for path, _ in NAVIGATION]
        again = asked(address, "GET", "/runs")
        form = re.search(r'action="[^"]*"', again[1])
        change = asked(address, "POST", "/runs/arn/stop", body="form_token=x", headers={"Content-Type": FORM})

    assert [status for status, _, _ in answers] == [503] * len(NAVIGATION)
    assert all(is_framed(html) for _, html, _ in answers)
    assert all("<h1>AWS slows us down</h1>" in html for _, html, _ in answers)
    assert "ListStateMachines: ThrottlingException" in answers[0][1]
    assert (answers[0][2]["retry-after"], answers[0][2]["refresh"]) == ("5", "5")
    assert (again[2]["retry-after"], again[2]["refresh"]) == ("10", "10")
    assert form is None
    assert change[0] == 403


def test_a_change_that_aws_does_not_answer_is_not_asked_for_again_by_itself(tmp_path: Path) -> None:
    with throttled(tmp_path, "stepfunctions:StopExecution") as (runtime, config):
        run = quote(started(runtime, "any"))
        with answering(config) as (address, _):
            _, html, _ = asked(address, "GET", f"/runs/{run}")
            token = re.search(r'name="form_token" value="([^"]+)"', html)
            assert token is not None
            status, said, headers = asked(
                address,
                "POST",
                f"/runs/{run}/stop",
                body=f"form_token={token[1]}",
                headers={"Content-Type": FORM},
            )

    assert status == 503
    assert "refresh" not in headers
    assert "Whether the change was made is not known" in said


def test_what_was_read_before_stays_until_there_is_more(tmp_path: Path) -> None:
    with throttled(tmp_path, "stepfunctions:ListStateMachines", rest="calls = [2]") as (runtime, config):
        started(runtime, "known")
        with answering(config) as (address, _):
            pages = [asked(address, "GET", "/runs") for _ in range(3)]

    assert [status for status, _, _ in pages] == [200, 200, 200]
    assert all("known" in html for _, html, _ in pages)
    assert ["AWS slows us down" in html for _, html, _ in pages] == [False, True, False]
    assert "What you see was read at" in pages[1][1]
    assert pages[1][2]["refresh"] == "5"


@pytest.mark.parametrize(
    ("operation", "missing"),
    [
        ("sts:GetCallerIdentity", "the account"),
        ("stepfunctions:DescribeExecution", "what started some runs, their states and accuracies"),
    ],
)
def test_a_page_says_which_part_it_is_without(tmp_path: Path, operation: str, missing: str) -> None:
    with throttled(tmp_path, operation) as (runtime, config):
        started(runtime, "listed")
        with answering(config) as (address, _):
            status, html, _ = asked(address, "GET", "/runs")

    assert status == 200
    assert "listed" in html
    assert f"Not shown because of it: {missing}." in html


@pytest.mark.parametrize(
    ("operation", "missing"),
    [
        ("stepfunctions:GetExecutionHistory", "what has happened in it"),
        ("stepfunctions:DescribeStateMachineForExecution", "its state machine"),
        ("sagemaker:DescribeProcessingJob", "what is behind its failure"),
    ],
)
def test_a_run_is_shown_without_what_aws_does_not_say_of_it(
    tmp_path: Path, operation: str, missing: str
) -> None:
    with throttled(tmp_path, operation) as (runtime, config):
        runs = Runs(config=config, client=runtime.client("stepfunctions"))
        run = runs.run(runs.machine("failing", {"Process": FAILING}), "shown")
        with answering(config) as (address, _):
            deadline = time.monotonic() + PATIENCE
            status, html, _ = asked(address, "GET", f"/runs/{quote(run)}")
            while "Not shown" not in html:  # a page does not wait long for what is behind a failure
                assert time.monotonic() < deadline
                status, html, _ = asked(address, "GET", f"/runs/{quote(run)}")

    assert status == 200
    assert re.search(r"<h1>shown <span[^>]*>FAILED</span>", html)
    assert "States.TaskFailed" in html
    assert f"Not shown because of it: {missing}." in html


def test_boto3_asks_again_before_anybody_notices(tmp_path: Path) -> None:
    with (
        throttled(tmp_path, "stepfunctions:ListStateMachines", rest="calls = [1, 2]") as (_, config),
        answering(config, attempts=4) as (address, _),
    ):
        status, html, _ = asked(address, "GET", "/runs")

    assert status == 200
    assert "slows" not in html


def test_a_page_that_is_followed_says_so_and_goes_on(tmp_path: Path, page: Page, axe: str) -> None:
    with throttled(tmp_path, "stepfunctions:ListStateMachines", rest=SOME) as (runtime, config):
        started(runtime, "before")
        with answering(config) as (address, _):
            page.goto(f"{address}/runs")
            notice = page.get_by_role("status").filter(has_text="AWS slows us down, since")

            expect(notice).to_contain_text("ListStateMachines: ThrottlingException")
            expect(notice).to_contain_text("It is asked again in")
            expect(page.get_by_role("link", name="before")).to_be_visible()
            assert stumbling_blocks(page, axe) == []
            photograph(page, "slowed")
            started(runtime, "after")

            expect(page.get_by_role("link", name="after")).to_be_visible(timeout=30_000)
            expect(notice).to_have_count(0)


def test_a_stream_begins_although_aws_does_not_answer_and_waits_longer_each_time(tmp_path: Path) -> None:
    with (
        throttled(tmp_path, "stepfunctions:ListStateMachines", rest="times = 2") as (_, config),
        answering(config) as (address, _),
        streaming(address, "/runs/stream") as events,
    ):
        first, second, third = next(events), next(events), next(events)

    assert (first[0], second[0], third[0]) == ("problem", "problem", "shown")
    assert "AWS slows us down" in first[1]["parts"]["notice"]
    assert "It is asked again in 2 s." in first[1]["parts"]["notice"]
    assert "It is asked again in 4 s." in second[1]["parts"]["notice"]
    assert third[1]["parts"]["notice"] == ""


@contextlib.contextmanager
def streaming(address: str, path: str) -> Iterator[Iterator[tuple[str, Any]]]:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()

    def events() -> Iterator[tuple[str, Any]]:
        name = ""
        for line in answer:
            kind, _, value = line.decode().rstrip("\n").partition(": ")
            if kind == "event":
                name = value
            elif kind == "data":
                yield name, json.loads(value)

    try:
        yield events()
    finally:
        answer.close()
        connection.close()


def test_those_who_follow_the_same_page_share_what_is_read(shared_local: Local) -> None:
    config = Config(root=ROOT, endpoint_url=shared_local.endpoint_url, data=shared_local.data)
    calls = []
    together = threading.Barrier(10)

    def first_event(address: str) -> str:
        together.wait()
        with streaming(address, "/runs/stream?name=shared") as events:
            return next(events)[0]

    with answering(config) as (address, services):
        services("stepfunctions").meta.events.register(
            "before-call.sfn.ListStateMachines", lambda **of_call: calls.append(of_call)
        )
        with ThreadPoolExecutor(10) as threads:
            seen = list(threads.map(first_event, [address] * 10))

    assert seen == ["shown"] * 10
    assert len(calls) < 10


def operations(config: Config, path: str) -> set[str]:
    """What a page asks of AWS."""
    asked_for = set()
    with answering(config) as (address, services):
        services._session.events.register(
            "before-call",
            lambda model, **_: asked_for.add(f"{model.service_model.service_name}:{model.name}"),
        )
        status, html, _ = asked(address, "GET", path)
    assert (status, "slows" in html) == (200, False), path
    return asked_for


@pytest.mark.slow
def test_each_page_keeps_its_frame_whatever_operation_is_throttled(tmp_path: Path) -> None:
    """Which operations a page needs is read from its calls; then each of them is throttled in turn."""
    with installed(ROOT, tmp_path / "data") as installation:
        packages = fill(installation)
        config = installation.config
        machine = installation.platform.model_build_arn
        run = quote(
            installation.services("stepfunctions").start_execution(stateMachineArn=machine)["executionArn"]
        )
        paths = [path for path, _ in NAVIGATION]
        paths += [f"/models/{packages['challenger']}", f"/models/{packages['challenger']}/report"]
        paths += [f"/runs/{run}", "/stacks/stagegate-platform", f"/runs/{run}/again"]
        needed = {path: operations(config, path) for path in paths}
        wrong = []
        for operation in sorted({it for of_page in needed.values() for it in of_page}):
            installation.kill()
            faults = tmp_path / "faults.toml"
            faults.write_text(f'[[fault]]\noperation = "{operation}"\nby = "client"\nerror = "throttled"\n')
            runtime = Local(config.data_directory, faults=faults)
            runtime.port = urlsplit(config.endpoint_url).port or 0
            runtime.start()
            try:
                with answering(config) as (address, _):
                    for path in [path for path in paths if operation in needed[path]]:
                        status, html, _ = asked(address, "GET", path)
                        is_told = "slows us down" in html or "Throttl" in html
                        if status not in (200, 503) or not is_framed(html) or not is_told:
                            wrong.append((operation, path, status))
            finally:
                runtime.stop()

    assert all(needed.values())
    assert wrong == []
