"""The pages of stacks and events: what is planned, what happened, and what starts a run by itself."""

import json

import pytest
from playwright.sync_api import Page, expect

from stagegate.inbox import inbox_page
from tests.console import releases
from tests.console.conftest import Shown, photograph, stumbling_blocks
from tests.console.test_approvals import asked


@pytest.fixture(scope="module")
def planned(shown: Shown) -> str:
    """A stack of a queue, and a change set for it that nobody has carried out; gives its name."""
    cloudformation = shown.installation.services("cloudformation")

    def template(seconds: int) -> str:
        queue = {"Type": "AWS::SQS::Queue", "Properties": {"VisibilityTimeout": seconds}}
        note = {"Type": "String", "Default": releases.HOSTILE}
        return json.dumps(
            {"Description": "A queue", "Parameters": {"Note": note}, "Resources": {"Queue": queue}}
        )

    cloudformation.create_stack(StackName="planned", TemplateBody=template(30))
    cloudformation.get_waiter("stack_create_complete").wait(StackName="planned", WaiterConfig={"Delay": 1})
    cloudformation.create_change_set(StackName="planned", ChangeSetName="slower", TemplateBody=template(60))
    return "planned"


def test_a_stack_shows_what_is_planned_and_what_happened(
    shown: Shown, planned: str, page: Page, axe: str
) -> None:
    page.goto(f"{shown.address}/stacks")
    expect(page.get_by_role("row").filter(has_text=planned)).to_contain_text("A queue")
    assert stumbling_blocks(page, axe) == []
    photograph(page, "stacks")
    page.get_by_role("link", name=planned).click()

    expect(page.get_by_role("heading", name="planned CREATE_COMPLETE")).to_be_visible()
    changes = page.get_by_role("region", name="Changes of slower").get_by_role("row")
    expect(changes.nth(1)).to_contain_text("VisibilityTimeout: 30 → 60")
    expect(page.get_by_role("region", name="Events").get_by_role("row").nth(1)).to_contain_text("planned")
    page.get_by_text("Parameters (1)").click()
    expect(page.get_by_role("definition").filter(has_text=releases.HOSTILE)).to_be_visible()
    page.get_by_text("Parameters (1)").click()
    expect(page.get_by_role("region", name="Resources").get_by_role("row")).to_have_count(2)
    assert stumbling_blocks(page, axe) == []
    photograph(page, "stack")


def test_a_stack_that_does_not_exist_is_named(shown: Shown) -> None:
    status, text, _ = asked(shown.address, "GET", "/stacks/none")

    assert status == 404
    assert "There is no stack &#39;none&#39;." in text


def test_rules_stand_with_their_targets_and_what_they_started(shown: Shown, page: Page, axe: str) -> None:
    services, platform = shown.installation.services, shown.installation.platform
    page.goto(f"{shown.address}/events")
    photograph(page, "events")
    execution = services("stepfunctions").start_execution(
        stateMachineArn=platform.model_build_arn,
        name="by-an-alarm",
        input=json.dumps({"Trigger": f"alarm {releases.HOSTILE}"}),
    )["executionArn"]

    page.goto(f"{shown.address}/events")

    alarm = page.get_by_role("region", name="stagegate-retrain-alarm DISABLED")
    expect(alarm.get_by_text("stateMachine stagegate-model-build")).to_be_visible()
    last = alarm.get_by_role("link", name=f"alarm {releases.HOSTILE}")
    expect(last).to_have_attribute("href", f"/runs/{execution}")
    new_data = page.get_by_role("region", name="stagegate-new-data DISABLED")
    expect(new_data.get_by_text("None of its latest runs was started by this.")).to_be_visible()
    expect(page.get_by_role("link", name="its inbox")).to_have_attribute(
        "href", inbox_page(shown.installation.config)
    )
    assert stumbling_blocks(page, axe) == []
