"""CodeBuild on the real runtime: what a buildspec's commands see, and how each way to end reads."""

import io
import time
import zipfile
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.local.build_runs import BUCKET, PATIENCE, Builds, message, statuses


@pytest.fixture(scope="module")
def builds(shared_local):
    return Builds(shared_local)


def test_commands_share_a_shell_and_the_phases_follow_each_other(builds):
    build = builds.build(
        """
version: 0.2
env:
  variables: {OF_SPEC: spec, GIVEN: spec}
  exported-variables: [RESULT]
phases:
  install:
    commands:
      - cd /tmp && WORD=kept
  build:
    commands:
      - echo "$WORD in $(pwd)"
      - echo "$OF_SPEC $OF_PROJECT $GIVEN $OVERRIDDEN"
      - |
        for n in 1 2; do
          echo "n is $n"
        done
      - export RESULT="a b"
    finally:
      - echo "finally $CODEBUILD_BUILD_SUCCEEDING"
""",
        environmentVariablesOverride=[
            {"name": "GIVEN", "value": "override"},
            {"name": "OVERRIDDEN", "value": "too"},
        ],
    )

    assert build["buildStatus"] == "SUCCEEDED", build
    assert builds.log(build) == [
        "kept in /tmp",
        "spec project override too",
        "n is 1",
        "n is 2",
        "finally 1",
    ]
    assert statuses(build) == {
        **dict.fromkeys(("SUBMITTED", "QUEUED", "PROVISIONING", "DOWNLOAD_SOURCE"), "SUCCEEDED"),
        **dict.fromkeys(("INSTALL", "PRE_BUILD", "BUILD", "POST_BUILD"), "SUCCEEDED"),
        **dict.fromkeys(("UPLOAD_ARTIFACTS", "FINALIZING"), "SUCCEEDED"),
        "COMPLETED": None,
    }
    assert build["exportedEnvironmentVariables"] == [{"name": "RESULT", "value": "a b"}]


def test_a_failing_command_fails_the_build_and_post_build_still_runs(builds):
    build = builds.build(
        """
version: 0.2
phases:
  build:
    commands: ["false", echo never]
    finally: [echo finally]
  post_build:
    commands: ['echo "post $CODEBUILD_BUILD_SUCCEEDING"']
"""
    )

    assert build["buildStatus"] == "FAILED"
    assert builds.log(build) == ["finally", "post 0"]
    assert statuses(build)["BUILD"] == "FAILED"
    assert message(build, "BUILD") == "Error while executing command: false. Reason: exit status 1"


def test_a_failing_install_ends_the_build(builds):
    build = builds.build(
        "version: 0.2\nphases: {install: {commands: [exit 7]}, build: {commands: [echo never]}}"
    )

    assert build["buildStatus"] == "FAILED"
    assert builds.log(build) == []
    assert "BUILD" not in statuses(build)
    assert message(build, "INSTALL") == "Error while executing command: exit 7. Reason: exit status 7"


def test_on_failure_decides_whether_the_build_goes_on(builds):
    spec = (
        "version: 0.2\nphases:\n  install: {{on-failure: {}, commands: ['false']}}\n"
        "  build: {{commands: [echo on]}}"
    )

    assert builds.log(builds.build(spec.format("CONTINUE"))) == ["on"]
    assert builds.log(builds.build(spec.format("ABORT"))) == []


def test_parameters_and_secrets_reach_the_environment_and_are_hidden_in_the_log(builds):
    builds.runtime.client("ssm").put_parameter(Name="/word", Value="from ssm", Type="SecureString")
    builds.runtime.client("secretsmanager").create_secret(
        Name="secret", SecretString='{"key": "from secret"}'
    )

    build = builds.build(
        "version: 0.2\nenv: {parameter-store: {A: /word}, exported-variables: [A, B, AWS_REGION, C]}\n"
        "phases: {build: {commands: ['echo said $A, $B', 'export C=${#A}-${#B}']}}",
        environmentVariablesOverride=[{"name": "B", "value": "secret:key", "type": "SECRETS_MANAGER"}],
    )

    assert builds.log(build) == ["said ***, ***"]
    assert build["exportedEnvironmentVariables"] == [{"name": "C", "value": "8-11"}]


JUNIT = (
    '<testsuite><testcase classname="c" name="good" time="0.5"/>'
    '<testcase classname="c" name="bad"><failure message="why"/></testcase></testsuite>'
)


def test_a_source_is_built_and_leaves_artifacts_and_a_report(builds):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(
            "spec/build.yml",
            "version: 0.2\n"
            "phases: {build: {commands: [mkdir out, cp in.txt out/a.txt, cp junit.xml out/]}}\n"
            "artifacts: {base-directory: out, files: ['**/*.txt']}\n"
            "reports: {tests: {base-directory: out, files: [junit.xml]}}\n",
        )
        archive.writestr("in.txt", "content")
        archive.writestr("junit.xml", JUNIT)
    builds.s3.put_object(Bucket=BUCKET, Key="source.zip", Body=buffer.getvalue())

    build = builds.build(
        "spec/build.yml",
        sourceTypeOverride="S3",
        sourceLocationOverride=f"{BUCKET}/source.zip",
        artifactsOverride={"type": "S3", "location": BUCKET, "path": "artifacts", "name": "made"},
    )

    assert build["buildStatus"] == "SUCCEEDED", build
    assert build["artifacts"]["location"] == f"arn:aws:s3:::{BUCKET}/artifacts/made"
    made = builds.s3.get_object(Bucket=BUCKET, Key="artifacts/made/a.txt")
    assert made["Body"].read() == b"content"
    (report,) = builds.client.batch_get_reports(reportArns=build["reportArns"])["reports"]
    assert (report["status"], report["testSummary"]["total"]) == ("FAILED", 2)
    assert report["testSummary"]["statusCounts"] == {"SUCCEEDED": 1, "FAILED": 1}
    cases = builds.client.describe_test_cases(reportArn=report["arn"])["testCases"]
    assert [(case["name"], case["status"], case["message"]) for case in cases] == [
        ("good", "SUCCEEDED", ""),
        ("bad", "FAILED", "why"),
    ]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("missing.yml", "stat missing.yml: no such file or directory"),
        ("version: 0.3\nphases: {build: {commands: [x]}}", "version 0.3 should be 0.2 or 0.1"),
        ("version: 0.2\nphases: {biuld: {commands: [x]}}", "phases: biuld is not supported"),
        ("version: 0.2\nphases: [", "while parsing"),
    ],
)
def test_a_buildspec_that_cannot_be_used_says_why(builds, spec, said):
    build = builds.build(spec)

    assert build["buildStatus"] == "FAILED"
    assert said in message(build, "DOWNLOAD_SOURCE")


SLEEP = "version: 0.2\nphases: {build: {commands: [echo begun, sleep 600]}}"


def test_a_build_is_stopped(builds):
    build_id = builds.start(SLEEP)
    builds.until_logged(build_id, "begun")

    builds.client.stop_build(id=build_id)

    build = builds.ended(build_id)
    assert build["buildStatus"] == "STOPPED"
    assert statuses(build)["BUILD"] == "STOPPED"


def test_a_killed_server_leaves_no_process_and_the_build_runs_again(local, tmp_path):
    builds, marker = Builds(local), tmp_path / "marker"
    build_id = builds.start(
        "version: 0.2\nphases: {build: {commands: ["
        f"'if [ -e {marker} ]; then echo again; else touch {marker}; echo begun; sleep 600; fi']}}}}"
    )
    builds.until_logged(build_id, "begun")

    def sleeping():
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if str(marker) in (entry / "cmdline").read_text() or (
                        "builds/project" in str((entry / "cwd").readlink())
                        and str(local.data) in str((entry / "cwd").readlink())
                    ):
                        found.append(entry.name)
                except OSError:
                    continue  # it has ended meanwhile
        return found

    assert sleeping()
    local.kill()
    deadline = time.monotonic() + PATIENCE
    while left := sleeping():
        assert time.monotonic() < deadline, left
    local.start()

    build = builds.ended(build_id)
    assert build["buildStatus"] == "SUCCEEDED"
    assert builds.log(build)[-1] == "again"


def test_what_is_not_there_or_not_supported_is_refused(builds):
    def code(call):
        with pytest.raises(ClientError) as caught:
            call()
        return caught.value.response["Error"]["Code"]

    assert code(lambda: builds.client.start_build(projectName="absent")) == "ResourceNotFoundException"
    assert code(lambda: builds.client.stop_build(id="project:absent")) == "ResourceNotFoundException"
    assert code(lambda: builds.start(SLEEP, sourceTypeOverride="GITHUB")) == "InvalidInputException"
    assert builds.client.batch_get_builds(ids=["project:absent"])["buildsNotFound"] == ["project:absent"]
    assert builds.client.batch_get_projects(names=["absent"])["projectsNotFound"] == ["absent"]
