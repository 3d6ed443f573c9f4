"""The page of a Map Run, its children's pages, and what its parent's page shows of it."""

import json
import re
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from playwright.sync_api import Page, expect

from tests.conftest import Local
from tests.console.conftest import Runs, photograph, stumbling_blocks
from tests.console.test_approvals import FORM, asked
from tests.console.test_run import HOSTILE, node

PASS = {"Type": "Pass", "End": True}
TOO_LARGE = {"Type": "Fail", "Error": "TooLarge", "Cause": "30 and more are too large"}
CHECK: dict[str, Any] = {
    "StartAt": "Check",
    "States": {
        "Check": {
            "Type": "Choice",
            "Choices": [{"Variable": "$.Value", "NumericLessThan": 30, "Next": "Fine"}],
            "Default": "Large",
        },
        "Fine": PASS,
        "Large": TOO_LARGE,
    },
}


def distributed(processor: dict[str, Any], *, kind: str = "STANDARD", **members: Any) -> dict[str, Any]:
    config = {"ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": kind}}
    return {"Type": "Map", "Label": "each", "ItemProcessor": processor | config, "End": True} | members


def map_run_of(runs: Runs, execution: str) -> str:
    listed = runs.client.list_map_runs(executionArn=execution)["mapRuns"]
    arn: str = listed[0]["mapRunArn"]
    return arn


def items(*values: int) -> list[dict[str, int]]:
    return [{"Value": value} for value in values]


def children(html: str) -> list[tuple[str, str, str]]:
    """The executions that a Map Run's page lists: address, status, input."""
    row = r'<a href="([^"]+)">[^<]+</a>.*?<span class="status \w+">(\w+)</span>.*?<code>(.*?)</code>'
    table = html[html.index('<table class="rows runs"') :]
    return re.findall(row, table, re.DOTALL)


@pytest.fixture(scope="module")
def tolerant(runs: Runs, shared_local: Local) -> str:
    """A run with thirty items, of which one fails and is tolerated; what they gave is written to S3."""
    shared_local.client("s3").create_bucket(Bucket="map-run-results")
    writer = {
        "Resource": "arn:aws:states:::s3:putObject",
        "Parameters": {"Bucket": "map-run-results", "Prefix": "console"},
    }
    state = distributed(CHECK, ToleratedFailureCount=2, MaxConcurrency=4, ResultWriter=writer)
    return runs.run(runs.machine("tolerant", {"Each": state}), "tolerant-1", items(*range(1, 31)))


def test_the_state_has_the_counts_of_its_map_run_and_leads_to_it(
    runs: Runs, tolerant: str, runs_console: str, page: Page, axe: str
) -> None:
    map_run = map_run_of(runs, tolerant)
    page.goto(f"{runs_console}/runs/{tolerant}?state=Each")

    expect(node(page, "Each")).to_have_accessible_name("Each · 29 of 30 items, 1 failed, Map, succeeded")
    expect(page.get_by_role("table", name="States")).to_contain_text("29 of 30 items, 1 failed")
    name = map_run.rpartition(":")[2]
    expect(page.locator("#selected")).to_contain_text(
        f"Results: s3://map-run-results/console/{name}/manifest.json"
    )
    page.locator("#selected").get_by_role("link", name=name).click()

    expect(page.get_by_role("heading", level=1)).to_have_text(f"Map Run {name} SUCCEEDED")
    expect(page.get_by_role("region", name="Counts").get_by_role("row")).to_have_text(
        ["Came toItemsExecutions", "Succeeded2929", "Failed11", "All3030"]
    )
    expect(page.locator("main")).to_contain_text("May fail2 items")
    expect(page.locator("main")).to_contain_text(f"s3://map-run-results/console/{name}/manifest.json")
    assert stumbling_blocks(page, axe) == []
    photograph(page, "map-run")
    page.get_by_label("Status").select_option("FAILED")
    page.get_by_role("button", name="Show").click()
    (row,) = page.get_by_role("table", name="Executions").locator("tbody tr").all()
    expect(row).to_contain_text('{"Value":30}')
    expect(row).to_contain_text("TooLarge: 30 and more are too large")
    row.get_by_role("link").click()

    expect(page.get_by_role("region", name="What failed")).to_contain_text("TooLarge in Large")
    expect(node(page, "Large")).to_have_accessible_name("Large, Fail, failed")
    page.locator(".facts").get_by_role("link", name="tolerant-1").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("tolerant-1 SUCCEEDED")


def test_executions_are_listed_a_page_at_a_time(runs: Runs, tolerant: str, runs_console: str) -> None:
    path = f"/map-runs/{quote(map_run_of(runs, tolerant))}"

    _, first, _ = asked(runs_console, "GET", path)
    further = re.search(r'href="([^"]+)#executions">Further', first)
    assert further is not None
    _, second, _ = asked(runs_console, "GET", further[1].replace("&amp;", "&"))

    found = [children(first), children(second)]
    assert [len(rows) for rows in found] == [25, 5]
    assert len({address for rows in found for address, _, _ in rows}) == 30
    assert ">Further<" not in second


@pytest.mark.parametrize("kind", ["STANDARD", "EXPRESS"])
def test_a_child_has_a_page(runs: Runs, runs_console: str, kind: str) -> None:
    """Without its states where it is an Express one: AWS keeps no history of these."""
    state = distributed(CHECK, kind=kind)
    execution = runs.run(runs.machine(f"children-{kind}", {"Each": state}), "children-1", items(1))
    _, html, _ = asked(runs_console, "GET", f"/map-runs/{quote(map_run_of(runs, execution))}")

    ((address, status, given),) = children(html)
    _, child, _ = asked(runs_console, "GET", address)
    again, _, _ = asked(runs_console, "GET", f"{address}/again")

    assert (status, given) == ("SUCCEEDED", "{&#34;Value&#34;:1}")
    assert ('data-state="Fine"' in child) == (kind == "STANDARD")
    assert "&#34;Value&#34;: 1" in child
    assert "data-stream" not in child
    assert "Start again" not in child
    assert again == 400


def test_a_map_run_that_fails_is_explained_by_the_item_that_did(runs: Runs, runs_console: str) -> None:
    hostile = CHECK | {"States": CHECK["States"] | {"Large": TOO_LARGE | {"Cause": HOSTILE}}}
    catch = [{"ErrorEquals": ["States.ALL"], "Next": "Failed"}]
    states = {
        "Each": distributed(hostile, Catch=catch),
        "Failed": {"Type": "Fail", "Error": "ItemsFailed", "Cause": "see there"},
    }
    execution = runs.run(runs.machine("intolerant", states), "intolerant-1", items(1, 99))

    _, html, _ = asked(runs_console, "GET", f"/runs/{execution}")
    _, page, _ = asked(runs_console, "GET", f"/map-runs/{quote(map_run_of(runs, execution))}")

    said = html[html.index("What failed") : html.index("</section>")]
    assert re.findall(r"<strong>(\w+)</strong> in <a [^>]+>(\w+)</a>", said) == [
        ("ItemsFailed", "Failed"),
        ("TooLarge", "Large"),
    ]
    assert "&lt;img src=x" in said and "<img" not in said
    assert "States.ExceedToleratedFailureThreshold" in page


def test_an_express_item_that_fails_is_told_by_its_error_alone(runs: Runs, runs_console: str) -> None:
    state = distributed(CHECK, kind="EXPRESS")
    execution = runs.run(runs.machine("express-items", {"Each": state}), "express-1", items(99))

    _, html, _ = asked(runs_console, "GET", f"/runs/{execution}")

    said = html[html.index("What failed") : html.index("</section>")]
    assert re.findall(r"<strong>([\w.]+)</strong>( in)?", said) == [
        ("States.ExceedToleratedFailureThreshold", " in"),
        ("TooLarge", ""),
    ]


def test_a_retried_map_leads_to_each_of_its_map_runs(runs: Runs, runs_console: str) -> None:
    retry = [{"ErrorEquals": ["States.ALL"], "IntervalSeconds": 1, "MaxAttempts": 1}]
    states = {"Each": distributed(CHECK, Retry=retry)}
    execution = runs.run(runs.machine("retried-map", states), "retried-1", items(99))

    _, html, _ = asked(runs_console, "GET", f"/runs/{execution}?state=Each")

    assert len(set(re.findall(r'href="(/map-runs/[^"]+)"', html))) == 2
    assert re.search(r"<dt>Retries</dt><dd>1\s*<details", html)


def test_a_map_run_is_followed_and_its_limits_change(
    runs: Runs, runs_console: str, page: Page, axe: str
) -> None:
    worker = runs.client.create_activity(name="map-run-worker")["activityArn"]
    work = {"StartAt": "Work", "States": {"Work": {"Type": "Task", "Resource": worker, "End": True}}}
    state = distributed(work, MaxConcurrency=1)
    execution = runs.start(runs.machine("followed-map", {"Each": state}), "followed-1", items(1, 2))
    first = runs.client.get_activity_task(activityArn=worker)
    map_run = map_run_of(runs, execution)
    page.goto(f"{runs_console}/map-runs/{quote(map_run)}")
    counts = page.get_by_role("region", name="Counts")
    expect(counts).to_contain_text("Waiting11")
    expect(page.get_by_role("table", name="Executions").locator("tbody tr")).to_have_count(1)

    page.get_by_text("Change its limits").click()
    assert stumbling_blocks(page, axe) == []
    page.get_by_label("At once, 0 for as many as AWS runs").fill("2")
    page.get_by_role("button", name="Change").click()
    expect(counts).to_contain_text("Running22")
    second = runs.client.get_activity_task(activityArn=worker)
    for task in (first, second):
        runs.client.send_task_success(taskToken=task["taskToken"], output="{}")

    expect(page.get_by_role("status")).to_have_text("SUCCEEDED")
    expect(counts).to_contain_text("Succeeded22")
    assert runs.client.describe_map_run(mapRunArn=map_run)["maxConcurrency"] == 2


def test_what_a_map_run_does_not_have_is_told(runs: Runs, tolerant: str, runs_console: str) -> None:
    path = f"/map-runs/{quote(map_run_of(runs, tolerant))}"

    found = [
        asked(runs_console, "GET", address)[0]
        for address in (
            *(f"{path}x", "/map-runs/nonsense", f"{path}x/stream", f"{path}?status=ODD"),
            f"{path}?begin=nonsense",
        )
    ]

    assert found == [404] * 5


@pytest.mark.parametrize(("limits", "status"), [({"maxConcurrency": "many"}, 400), ({}, 403)])
def test_limits_are_checked(
    runs: Runs, tolerant: str, runs_console: str, limits: dict[str, str], status: int
) -> None:
    _, html, _ = asked(runs_console, "GET", f"/runs/{tolerant}/again")
    token = re.search(r'name="form_token" value="([^"]+)"', html)
    path = f"/map-runs/{quote(map_run_of(runs, tolerant))}/limits"
    body = urlencode(limits | {"form_token": token[1] if token and limits else "0" * 32})

    answered, _, _ = asked(runs_console, "POST", path, body=body, headers={"Content-Type": FORM})

    assert answered == status


def test_hostile_items_are_shown_as_they_are(runs: Runs, runs_console: str, page: Page) -> None:
    processor = {"StartAt": HOSTILE, "States": {HOSTILE: PASS}}
    state = distributed(processor)
    execution = runs.run(runs.machine("hostile-map", {f"{HOSTILE} each": state}), "hostile-1", [HOSTILE])
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))

    page.goto(f"{runs_console}/map-runs/{quote(map_run_of(runs, execution))}")
    expect(page.get_by_role("table", name="Executions")).to_contain_text(json.dumps(HOSTILE))
    page.get_by_role("link", name=f"{HOSTILE} each").click()
    page.locator("#selected").get_by_role("link").first.click()
    page.get_by_role("table", name="Executions").get_by_role("link").click()

    expect(page.locator(".graph a.node")).to_have_accessible_name(f"{HOSTILE}, Pass, succeeded")
    assert page.locator("img, main script").count() == 0
    assert problems == []
