"""The page of a function: what it is, and its log while it is called."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.conftest import Local
from tests.console.conftest import Runs, photograph, stumbling_blocks
from tests.console.releases import HOSTILE
from tests.console.test_approvals import asked
from tests.local.test_functions import create, invoke

SAYS = """
def handler(event, context):
    print("heard", event["word"])
    return event
"""


def test_a_state_leads_to_its_function_whose_log_goes_on(
    shared_local: Local, runs: Runs, runs_console: str, page: Page, axe: str
) -> None:
    variables = {"Variables": {"PASSWORD": "swordfish", "COLOUR": "red"}}
    create(shared_local, "says", SAYS, Description="It says what it hears", Environment=variables)
    state = {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": {"FunctionName": "says", "Payload": {"word": HOSTILE}},
        "End": True,
    }
    execution = runs.run(runs.machine("saying", {"Say": state}), "saying-1")
    page.goto(f"{runs_console}/runs/{execution}?state=Say")
    page.locator("#selected").get_by_role("link", name="says", exact=True).click()

    expect(page.get_by_role("heading", level=1)).to_have_text("says Active")
    expect(page.get_by_text("It says what it hears")).to_be_visible()
    log = page.get_by_role("region", name="Log")
    expect(log).to_contain_text(f"heard {HOSTILE}")
    expect(log).to_contain_text(re.compile("REPORT RequestId.*Duration"))
    expect(page.get_by_role("definition").filter(has_text="COLOUR, PASSWORD")).to_be_visible()
    assert "swordfish" not in page.content()
    assert page.locator("main script").count() == 0
    assert stumbling_blocks(page, axe) == []
    photograph(page, "function")

    invoke(shared_local, "says", {"word": "another"})
    expect(log).to_contain_text("heard another")


def test_a_state_that_is_a_function_leads_there_too(
    shared_local: Local, runs: Runs, runs_console: str, page: Page
) -> None:
    create(shared_local, "plain", SAYS)
    arn = shared_local.client("lambda").get_function_configuration(FunctionName="plain")["FunctionArn"]
    execution = runs.run(
        runs.machine("plainly", {"Say": {"Type": "Task", "Resource": arn, "End": True}}), "plainly-1"
    )
    page.goto(f"{runs_console}/runs/{execution}")
    page.locator("#selected").get_by_role("link", name="plain", exact=True).click()

    expect(page.get_by_role("heading", level=1)).to_have_text("plain Active")
    expect(page.get_by_role("region", name="Log")).to_contain_text("KeyError")


def test_a_function_that_nobody_has_called_has_no_log(shared_local: Local, runs_console: str) -> None:
    create(shared_local, "silent", SAYS)

    status, text, _ = asked(runs_console, "GET", "/functions/silent")

    assert (status, "Nothing was written yet" in text) == (200, True)


@pytest.mark.parametrize("name", ["none", "none:live", "%3Cscript%3E", "none/live"])
def test_a_function_that_there_is_not_is_named(runs_console: str, name: str) -> None:
    status, text, _ = asked(runs_console, "GET", f"/functions/{name}")

    assert (status, "There is no function" in text, "<script>" in text) == (404, True, False)
