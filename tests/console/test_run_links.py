"""What the states of a run lead to: other runs, approvals, models, endpoints; and back from there."""

import re
import time
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from stagegate.approvals import decide
from tests.console.conftest import PATIENCE, Runs
from tests.console.test_approvals import asked
from tests.console.test_run import HOSTILE
from tests.release.conftest import Gate

STARTED_BY = "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID"


def starting(machine: str, kind: str, **input: Any) -> dict[str, Any]:
    return {
        "Type": "Task",
        "Resource": f"arn:aws:states:::states:startExecution{kind}",
        "Parameters": {"StateMachineArn": machine, "Input": {f"{STARTED_BY}.$": "$$.Execution.Id", **input}},
        "End": True,
    }


def links(html: str) -> dict[str, str]:
    """Where the selected state leads to, but for its events, by what that is called there."""
    selected = html[html.index('<section id="selected"') : html.index('<h2 id="states-title"')]
    found = re.findall(r'<a href="([^"]+)">([^<]+)</a>', selected)
    return {name: address for address, name in found if not address.endswith("#events")}


@pytest.mark.parametrize("kind", ["", ".sync", ".sync:2"])
def test_a_state_leads_to_the_run_that_it_started_and_that_back(
    runs: Runs, runs_console: str, kind: str
) -> None:
    name = kind.strip(".").replace(":", "") or "plain"
    child = runs.machine(f"{name}-child", {"Only": {"Type": "Pass", "End": True}})
    parent = runs.run(runs.machine(f"{name}-parent", {"Start": starting(child, kind)}), "parent-1")
    _, html, _ = asked(runs_console, "GET", f"/runs/{parent}?state=Start")

    ((started, address),) = links(html).items()
    _, page, _ = asked(runs_console, "GET", address)

    assert f"<title>{started} · Stagegate</title>" in page
    assert f'<dt>Started by the run</dt><dd><a href="/runs/{quote(parent)}">parent-1</a>' in page


def test_a_run_that_waits_for_a_token_in_another_leads_to_it(runs: Runs, runs_console: str) -> None:
    child = runs.machine("waiting-child", {"Only": {"Type": "Pass", "End": True}})
    state = starting(child, ".waitForTaskToken", **{"Token.$": "$$.Task.Token"})
    parent = runs.start(runs.machine("waiting-parent", {"Start": state}), "parent-1")

    found = until(lambda: links(asked(runs_console, "GET", f"/runs/{parent}?state=Start")[1]))

    (started,) = runs.client.list_executions(stateMachineArn=child)["executions"]
    assert found == {started["name"]: f"/runs/{quote(started['executionArn'])}"}


def test_a_failure_inside_other_runs_is_explained_where_it_led_to(runs: Runs, runs_console: str) -> None:
    bad = runs.machine("bad", {"Broken": {"Type": "Fail", "Error": "NoData", "Cause": HOSTILE}})
    between = runs.machine("between", {"Pass on": starting(bad, ".sync:2")})
    outer = starting(between, ".sync") | {"Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Failed"}]}
    states = {"Outer": outer, "Failed": {"Type": "Fail", "Error": "OuterFailed", "Cause": "see there"}}
    execution = runs.run(runs.machine("outer", states), "outer-1")

    _, html, _ = asked(runs_console, "GET", f"/runs/{execution}")

    said = html[html.index("What failed") : html.index("</section>")]
    assert re.findall(r"<strong>([\w.]+)</strong> in <a [^>]+>([\w ]+)</a>", said) == [
        ("OuterFailed", "Failed"),
        ("States.TaskFailed", "Pass on"),
        ("NoData", "Broken"),
    ]
    assert "&lt;img src=x" in said and "<img" not in said


@pytest.mark.parametrize(
    "started_by", [HOSTILE, "javascript:alert(1)", "//evil.example.com", {"a": 1}, "arn:aws:states:x"]
)
def test_a_parent_that_is_no_run_is_no_link(runs: Runs, runs_console: str, started_by: Any) -> None:
    machine = runs.machine("claims", {"Only": {"Type": "Pass", "End": True}})
    execution = runs.run(machine, str(uuid.uuid4()), {STARTED_BY: started_by})

    _, html, _ = asked(runs_console, "GET", f"/runs/{execution}")

    assert "Started by the run" not in html


def test_a_state_that_waits_for_a_decision_leads_to_its_approval(gate: Gate, console: str) -> None:
    execution, approval, _ = gate.ask("from-the-run")
    path = f"/runs/{execution}?state=RequestApproval"
    waiting = until(lambda: links(asked(console, "GET", path)[1]))

    decide(gate.installation.services, approval.approval_id, decision="approve", comment="")
    gate.ended(execution)
    _, html, _ = asked(console, "GET", path)
    _, page, _ = asked(console, "GET", f"/approvals/{approval.approval_id}")

    asking = f"{gate.installation.config.project}-approval-request"
    assert waiting == links(html)
    assert waiting == {
        asking: f"/functions/{asking}",
        approval.approval_id: f"/approvals/{approval.approval_id}",
    }
    assert f'<a href="/runs/{quote(execution)}">The run that asks</a>' in page


def test_calls_about_models_and_stages_lead_to_their_pages(runs: Runs, runs_console: str) -> None:
    package = "arn:aws:sagemaker:us-east-1:111111111111:model-package/scenes/3"
    calls = {
        "Describe": ("sagemaker:describeModelPackage", {"ModelPackageName": package}),
        "Endpoint": ("sagemaker:describeEndpoint", {"EndpointName": "stagegate-production"}),
        "Other": ("sagemaker:describeEndpoint", {"EndpointName": "elsewhere"}),
        "Stack": ("cloudformation:describeStacks", {"StackName": "no-stack"}),
        "Gone": ("cloudformation:deleteStack", {"StackName": "no-stack"}),
    }
    names = [*calls, "Done"]
    states: dict[str, Any] = {
        name: {
            "Type": "Task",
            "Resource": f"arn:aws:states:::aws-sdk:{operation}",
            "Parameters": parameters,
            "Catch": [{"ErrorEquals": ["States.ALL"], "Next": following}],
            "Next": following,
        }
        for (name, (operation, parameters)), following in zip(calls.items(), names[1:], strict=True)
    }
    execution = runs.run(runs.machine("calls", states | {"Done": {"Type": "Succeed"}}), "calls-1")

    found = {name: links(asked(runs_console, "GET", f"/runs/{execution}?state={name}")[1]) for name in calls}

    assert found == {
        "Describe": {package: f"/models/{quote(package)}"},
        "Endpoint": {"stagegate-production": "/endpoints#production"},
        "Other": {},
        "Stack": {"no-stack": "/stacks/no-stack"},
        "Gone": {},
    }


def until(look: Callable[[], Any]) -> Any:
    """What it gives once it gives something."""
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found
