"""Builds on the real runtime, for the tests that look at how they go."""

import json
import time

ROLE = "arn:aws:iam::111111111111:role/builds"
BUCKET = "builds"
PATIENCE = 60


class Builds:
    """The runtime with a project, and builds of the text of a buildspec."""

    def __init__(self, runtime):
        self.runtime, self.client, self.s3 = runtime, runtime.client("codebuild"), runtime.client("s3")
        self.s3.create_bucket(Bucket=BUCKET)
        self.client.create_project(
            name="project",
            source={"type": "NO_SOURCE", "buildspec": "version: 0.2\nphases: {build: {commands: [true]}}"},
            artifacts={"type": "NO_ARTIFACTS"},
            environment={
                "type": "LINUX_CONTAINER",
                "image": "aws/codebuild/standard:7.0",
                "computeType": "BUILD_GENERAL1_SMALL",
                "environmentVariables": [
                    {"name": "OF_PROJECT", "value": "project"},
                    {"name": "GIVEN", "value": "project"},
                ],
            },
            serviceRole=ROLE,
        )

    def start(self, buildspec, **members):
        """By the text of a buildspec, or what it says."""
        buildspec = self.written(buildspec)
        build = self.client.start_build(projectName="project", buildspecOverride=buildspec, **members)[
            "build"
        ]
        return build["id"]

    def written(self, buildspec):
        return buildspec if isinstance(buildspec, str) else json.dumps(buildspec)

    def describe(self, build_id):
        return self.client.batch_get_builds(ids=[build_id])["builds"][0]

    def ended(self, build_id):
        deadline = time.monotonic() + PATIENCE
        while not (build := self.describe(build_id))["buildComplete"]:
            assert time.monotonic() < deadline, build
            time.sleep(0.05)
        return build

    def build(self, buildspec, **members):
        return self.ended(self.start(buildspec, **members))

    def log(self, build):
        logs = build["logs"]
        events = self.runtime.client("logs").get_log_events(
            logGroupName=logs["groupName"], logStreamName=logs["streamName"], startFromHead=True
        )["events"]
        return [event["message"] for event in events if not event["message"].startswith("[Container]")]

    def until_logged(self, build_id, text):
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if text in self.log(self.describe(build_id)):
                    return
            except self.runtime.client("logs").exceptions.ResourceNotFoundException:
                pass  # nothing has been said yet
            assert time.monotonic() < deadline
            time.sleep(0.05)


def statuses(build):
    return {phase["phaseType"]: phase.get("phaseStatus") for phase in build["phases"]}


def message(build, phase):
    (found,) = [entry for entry in build["phases"] if entry["phaseType"] == phase]
    return found["contexts"][0]["message"]
