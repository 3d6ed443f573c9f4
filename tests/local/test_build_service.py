"""Builds as the API shows them: retried, listed, limited, timed out and deleted; and their events."""

import asyncio
import json
import os
import re
import time

import pytest

from stagegate.local import build_run
from stagegate.local.builds import CodeBuild
from stagegate.local.logs import Logs
from tests.local.build_runs import BUCKET, PATIENCE, ROLE, Builds, message, statuses

TRUE = "version: 0.2\nphases: {build: {commands: ['true']}}"
SLEEP = "version: 0.2\nphases: {build: {commands: [echo begun, sleep 600]}}"


@pytest.fixture(scope="module")
def builds(shared_local):
    return Builds(shared_local)


def another_project(builds, name, **members):
    builds.client.create_project(
        name=name,
        source={"type": "NO_SOURCE", "buildspec": TRUE},
        artifacts={"type": "NO_ARTIFACTS"},
        environment={"type": "LINUX_CONTAINER", "image": "image", "computeType": "BUILD_GENERAL1_SMALL"},
        serviceRole=ROLE,
        **members,
    )
    return name


def test_a_build_is_retried_with_what_it_was_asked_for(builds):
    spec = "version: 0.2\nphases: {build: {commands: ['echo $WORD']}}"
    first = builds.build(spec, environmentVariablesOverride=[{"name": "WORD", "value": "given"}])

    again = builds.client.retry_build(id=first["id"], idempotencyToken="once")["build"]

    assert builds.client.retry_build(id=first["id"], idempotencyToken="once")["build"]["id"] == again["id"]
    assert again["buildNumber"] > first["buildNumber"]
    assert builds.log(builds.ended(again["id"])) == ["given"]


def test_a_project_retries_its_failed_builds(builds):
    name = another_project(builds, "retrying", autoRetryLimit=1)
    first = builds.client.start_build(
        projectName=name, buildspecOverride="version: 0.2\nphases: {build: {commands: ['false']}}"
    )["build"]

    deadline = time.monotonic() + PATIENCE
    while not (config := builds.describe(first["id"]).get("autoRetryConfig")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    second = builds.ended(config["nextAutoRetry"].partition("build/")[2])
    assert config == {"autoRetryLimit": 1, "autoRetryNumber": 0, "nextAutoRetry": second["arn"]}
    assert second["autoRetryConfig"] == {
        "autoRetryLimit": 1,
        "autoRetryNumber": 1,
        "previousAutoRetry": first["arn"],
    }


def test_builds_are_numbered_and_listed_in_the_order_of_their_start(builds):
    name = another_project(builds, "listed")
    ids = [builds.client.start_build(projectName=name)["build"]["id"] for _ in range(102)]
    client = builds.client

    for build_id in ids:
        client.stop_build(id=build_id)
    pages = [client.list_builds_for_project(projectName=name, sortOrder="ASCENDING")]
    pages.append(
        client.list_builds_for_project(
            projectName=name, sortOrder="ASCENDING", nextToken=pages[0]["nextToken"]
        )
    )

    assert [page["ids"] for page in pages] == [ids[:100], ids[100:]]
    assert "nextToken" not in pages[1]
    assert client.list_builds()["ids"][:2] == [ids[-1], ids[-2]]
    assert [build["buildNumber"] for build in client.batch_get_builds(ids=ids[:3])["builds"]] == [1, 2, 3]


def test_no_more_builds_run_at_once_than_the_project_allows(builds):
    name = another_project(builds, "limited", concurrentBuildLimit=1)
    first = builds.client.start_build(projectName=name, buildspecOverride=SLEEP)["build"]["id"]

    with pytest.raises(builds.client.exceptions.AccountLimitExceededException):
        builds.client.start_build(projectName=name)
    builds.client.stop_build(id=first)
    builds.ended(first)
    assert builds.ended(builds.client.start_build(projectName=name)["build"]["id"])["buildComplete"]


def test_builds_that_have_ended_are_deleted(builds):
    ended = builds.build(TRUE)
    running = builds.start(SLEEP)

    answer = builds.client.batch_delete_builds(ids=[ended["arn"], running, "project:absent"])

    builds.client.stop_build(id=running)
    builds.ended(running)
    assert answer["buildsDeleted"] == [ended["arn"]]
    assert answer["buildsNotDeleted"] == [
        {"id": running, "statusCode": "BUILD_IN_PROGRESS"},
        {"id": "project:absent", "statusCode": "BUILD_NOT_FOUND"},
    ]
    assert builds.client.batch_get_builds(ids=[ended["id"]])["buildsNotFound"] == [ended["id"]]


def test_stopping_ends_every_process_of_the_build(builds, tmp_path):
    """The pipe ends when the last process that has it open ends, the one in the background too."""
    build_id = builds.start(
        "version: 0.2\nphases: {build: {commands: ["
        f"'mkfifo {tmp_path}/alive', "
        f"'(trap \"\" TERM; exec 8<> {tmp_path}/alive; echo begun; sleep 600) &', wait]}}}}"
    )
    builds.until_logged(build_id, "begun")

    builds.client.stop_build(id=build_id)

    build = builds.ended(build_id)
    assert (build["buildStatus"], statuses(build)["BUILD"]) == ("STOPPED", "STOPPED")
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with open(f"{tmp_path}/alive", "wb", opener=without_waiting):
                assert time.monotonic() < deadline, "a process of the build has the pipe open"
        except OSError:
            return  # nobody reads from it
        time.sleep(0.05)


def without_waiting(path, flags):
    return os.open(path, os.O_WRONLY | os.O_NONBLOCK)


def received(builds, name, detail_type, project):
    """A queue that gets the events of the type about a project."""
    sqs, events = builds.runtime.client("sqs"), builds.runtime.client("events")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = {
        "source": ["aws.codebuild"],
        "detail-type": [detail_type],
        "detail": {"project-name": [project]},
    }
    events.put_rule(Name=name, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])

    def details(count):
        found, deadline = [], time.monotonic() + PATIENCE
        while len(found) < count:
            assert time.monotonic() < deadline, found
            answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            found += [json.loads(entry["Body"])["detail"] for entry in answer.get("Messages", [])]
        return found

    return details


TIME = re.compile(r"[A-Z][a-z]{2} \d{1,2}, \d{4} \d{1,2}:\d\d:\d\d [AP]M")


def test_a_build_announces_its_states_and_its_phases(builds):
    name = another_project(builds, "announcing")
    states = received(builds, "states", "CodeBuild Build State Change", name)
    phases = received(builds, "phases", "CodeBuild Build Phase Change", name)
    build = builds.ended(
        builds.client.start_build(
            projectName=name, buildspecOverride="version: 0.2\nphases: {build: {commands: ['false']}}"
        )["build"]["id"]
    )

    by_status = {detail["build-status"]: detail for detail in states(2)}
    by_phase = {detail["completed-phase"]: detail for detail in phases(11)}

    assert set(by_status) == {"IN_PROGRESS", "FAILED"}
    failed = by_status["FAILED"]
    assert (failed["build-id"], failed["current-phase"], failed["version"]) == (
        build["arn"],
        "COMPLETED",
        "1",
    )
    information = failed["additional-information"]
    assert information["build-complete"] is True
    assert information["environment"] == {
        "image": "image",
        "privileged-mode": False,
        "compute-type": "BUILD_GENERAL1_SMALL",
        "type": "LINUX_CONTAINER",
        "environment-variables": [],
    }
    assert TIME.fullmatch(information["build-start-time"])
    assert {phase["phase-type"]: phase.get("phase-status") for phase in information["phases"]} == statuses(
        build
    )
    assert {phase: detail["completed-phase-status"] for phase, detail in by_phase.items()} == {
        **statuses(build),
        "COMPLETED": "FAILED",
    }
    assert by_phase["BUILD"]["completed-phase-context"] == (
        "[COMMAND_EXECUTION_ERROR: Error while executing command: false. Reason: exit status 1]"
    )
    assert TIME.fullmatch(by_phase["BUILD"]["completed-phase-end"])


@pytest.fixture
async def quick(open_endpoint, monkeypatch):
    """The service in this process, where a minute is short; gives what starts a build and waits for it."""
    monkeypatch.setattr(build_run, "_MINUTE", 0.1)
    async with open_endpoint({"codebuild": (CodeBuild,), "logs": (Logs,)}) as endpoint:
        await endpoint.start()
        ended: asyncio.Queue[str] = asyncio.Queue()

        def listen(announcement):
            if announcement.detail.get("build-status", "IN_PROGRESS") != "IN_PROGRESS":
                ended.put_nowait(announcement.detail["build-id"])

        endpoint.runtime.listeners.append(listen)
        environment = {"type": "LINUX_CONTAINER", "image": "i", "computeType": "BUILD_GENERAL1_SMALL"}
        project = {
            "name": "quick",
            "source": {"type": "NO_SOURCE", "buildspec": SLEEP},
            "artifacts": {"type": "NO_ARTIFACTS"},
            "environment": environment,
            "serviceRole": ROLE,
        }
        await endpoint.aws("codebuild", "CreateProject", project)

        async def start(**members):
            return (await endpoint.aws("codebuild", "StartBuild", {"projectName": "quick", **members}))[
                "build"
            ]

        async def build(**members):
            arn = (await start(**members))["arn"]
            while await asyncio.wait_for(ended.get(), PATIENCE) != arn:
                pass
            return (await endpoint.aws("codebuild", "BatchGetBuilds", {"ids": [arn]}))["builds"][0]

        yield start, build


async def test_a_build_that_takes_too_long_times_out(quick):
    _, build = quick

    timed_out = await build(timeoutInMinutesOverride=5)

    assert timed_out["buildStatus"] == "TIMED_OUT"
    assert statuses(timed_out)["BUILD"] == "TIMED_OUT"
    assert message(timed_out, "BUILD") == "Build timed out"


async def test_a_build_that_waits_too_long_times_out_in_the_queue(quick):
    start, build = quick
    for _ in range(64):  # more than any machine runs at once
        await start(timeoutInMinutesOverride=2000, queuedTimeoutInMinutesOverride=480)

    timed_out = await build(queuedTimeoutInMinutesOverride=5)

    assert timed_out["buildStatus"] == "TIMED_OUT"
    assert statuses(timed_out)["QUEUED"] == "TIMED_OUT"
    assert "PROVISIONING" not in statuses(timed_out)


def test_the_artifacts_of_a_failed_build_are_kept(builds):
    build = builds.build(
        "version: 0.2\nphases: {build: {commands: ['echo > made', 'false']}}\nartifacts: {files: [made]}",
        artifactsOverride={"type": "S3", "location": BUCKET, "name": "failed"},
    )

    assert (build["buildStatus"], statuses(build)["UPLOAD_ARTIFACTS"]) == ("FAILED", "SUCCEEDED")
    assert builds.s3.head_object(Bucket=BUCKET, Key="failed/made")["ContentLength"] == 1


def test_a_local_cache_is_invalidated(builds):
    cache = {"type": "LOCAL", "modes": ["LOCAL_CUSTOM_CACHE"]}
    name = another_project(builds, "caching", cache=cache)
    spec = (
        "version: 0.2\nphases: {build: {commands: ['cat kept || echo nothing', 'echo kept > kept']}}\n"
        "cache: {paths: [kept]}"
    )

    def last():
        build = builds.client.start_build(projectName=name, buildspecOverride=spec)["build"]
        return builds.log(builds.ended(build["id"]))[-1]

    assert [last(), last()] == ["nothing", "kept"]
    builds.client.invalidate_project_cache(projectName=name)
    assert last() == "nothing"
