"""The page of a build: its phases, what it was given, its reports and its log, live while it runs."""

import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.conftest import Local
from tests.console.conftest import ROLE, Runs, photograph, stumbling_blocks
from tests.console.test_approvals import asked
from tests.console.test_run import HOSTILE

JUNIT = (
    '<testsuite><testcase classname="a" name="one"/><testcase classname="a" name="two">'
    '<failure message="no"/></testcase></testsuite>'
)


def started(local: Local, name: str, commands: list[str], **members: Any) -> str:
    """A build that carries out these commands; gives its id."""
    codebuild = local.client("codebuild")
    spec = {"version": 0.2, "phases": {"build": {"commands": commands}}} | members
    codebuild.create_project(
        name=name,
        source={"type": "NO_SOURCE", "buildspec": json.dumps(spec)},
        artifacts={"type": "NO_ARTIFACTS"},
        environment={
            "type": "LINUX_CONTAINER",
            "image": "aws/codebuild/standard:7.0",
            "computeType": "BUILD_GENERAL1_SMALL",
            "environmentVariables": [
                {"name": "STAGE", "value": HOSTILE, "type": "PLAINTEXT"},
                {"name": "PASSWORD", "value": "the-secret", "type": "SECRETS_MANAGER"},
                {"name": "REGION", "value": "/the/region", "type": "PARAMETER_STORE"},
            ],
        },
        serviceRole=ROLE,
    )
    build: str = codebuild.start_build(projectName=name)["build"]["id"]
    return build


@pytest.fixture(scope="module")
def secrets(shared_local: Local) -> None:
    shared_local.client("secretsmanager").create_secret(Name="the-secret", SecretString="swordfish")
    shared_local.client("ssm").put_parameter(Name="/the/region", Value="moon", Type="SecureString")


def test_a_build_that_fails_says_what_it_was_given_and_why(
    shared_local: Local, runs: Runs, secrets: None, runs_console: str, page: Page, axe: str
) -> None:
    commands = ['echo "stage $STAGE"', f"echo '{JUNIT}' > junit.xml", "exit 3"]
    reports = {"units": {"files": ["junit.xml"], "file-format": "JUNITXML"}}
    build = started(shared_local, "failing-build", commands, reports=reports)
    state = {
        "Type": "Task",
        "Resource": "arn:aws:states:::codebuild:startBuild.sync",
        "Parameters": {"ProjectName": "failing-build"},
        "End": True,
    }
    execution = runs.run(runs.machine("building", {"Build": state}), "building-1")
    page.goto(f"{runs_console}/runs/{execution}")
    page.locator("#selected").get_by_role("link", name="failing-build:").click()

    expect(page.get_by_role("heading", level=1)).to_contain_text("FAILED")
    expect(page.locator(".said")).to_contain_text("exit 3")
    expect(page.get_by_role("row", name=re.compile("^BUILD"))).to_contain_text("exit status 3")
    expect(page.get_by_role("region", name="Log")).to_contain_text(f"stage {HOSTILE}")
    expect(page.get_by_text("2 tests, 1 succeeded, 1 failed")).to_be_visible()
    expect(page.locator("dl").first).to_contain_text(f"STAGE{HOSTILE}")
    expect(page.locator("dl").first).to_contain_text("a secret: the-secret")
    assert page.locator("main img, main script").count() == 0
    assert stumbling_blocks(page, axe) == []
    photograph(page, "build")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    _, html, _ = asked(runs_console, "GET", f"/builds/{quote(build)}")
    _, log, _ = asked(runs_console, "GET", f"/builds/{quote(build)}/log.txt")
    assert "swordfish" not in html and "moon" not in html
    assert f"stage {HOSTILE}" in log


def test_a_build_that_runs_is_followed_to_its_end(
    shared_local: Local, secrets: None, runs_console: str, page: Page, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    build = started(shared_local, "followed-build", ["echo begun", f"read word < {gate}; echo $word"])

    page.goto(f"{runs_console}/jobs")
    page.get_by_role("link", name=build).click()
    log = page.get_by_role("region", name="Log")
    expect(page.get_by_role("heading", level=1)).to_contain_text("IN_PROGRESS")
    expect(log).to_contain_text("begun")
    gate.write_text("opened\n")

    expect(log).to_contain_text("opened")
    expect(page.get_by_role("heading", level=1)).to_contain_text("SUCCEEDED")
    expect(page.get_by_role("row", name=re.compile("^COMPLETED"))).to_be_visible()


@pytest.mark.parametrize("path", ["none:1", "none:1/live", "none:1/log.txt", "%3Cscript%3E"])
def test_a_build_that_does_not_exist_is_named(runs_console: str, path: str) -> None:
    status, html, _ = asked(runs_console, "GET", f"/builds/{path}")

    assert status == 404
    assert "There is no build" in html
    assert "<script>" not in html
