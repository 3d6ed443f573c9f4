"""The list of runs: what it shows and lets through, page by page, with a script and without."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from playwright.sync_api import Page, expect

from stagegate.aws import Services
from stagegate.console import run_list
from stagegate.console.run_list import Filters, list_page
from tests.console.conftest import ROLE, Runs, photograph, stumbling_blocks
from tests.console.test_approvals import asked

EVALUATED = {"Evaluation": {"multiclass_classification_metrics": {"accuracy": {"value": 0.94}}}}
PASS = {"Only": {"Type": "Pass", "End": True}}
COUNT = 60


@pytest.fixture(scope="module")
def shown(runs: Runs) -> dict[str, str]:
    """Three runs of their own kinds, after many alike; each by its name."""
    many = runs.machine("many", PASS)
    for number in range(COUNT):
        runs.run(many, f"many-{number:03}")
    build = runs.machine("build", {"Only": {"Type": "Pass", "Result": EVALUATED, "End": True}})
    broken = runs.machine("broken", {"Broken": {"Type": "Fail", "Error": "TooBad", "Cause": "it broke"}})
    waiting = runs.machine("waiting", {"Hold": {"Type": "Wait", "SecondsPath": "$.Seconds", "End": True}})
    runs.client.create_state_machine(  # of another project: its runs are not shown
        name="other-build", definition=json.dumps({"StartAt": "Only", "States": PASS}), roleArn=ROLE
    )
    runs.run(build.replace("stagegate-build", "other-build"), "elsewhere")
    sha, dataset = "3f1c2d4b5a" * 4, "s3://stagegate-data/datasets/ab12/scenes.zip"
    commit = {"Trigger": f"commit {sha} of models/main", "Commit": sha, "DatasetUri": dataset}
    return {
        "good": runs.run(build, "r-20261126-101500-1a2b", commit),
        "bad": runs.run(broken, "r-20261126-111500-3c4d", {"Trigger": "new data"}),
        "running": runs.start(waiting, "r-20261126-121500-5e6f", {"Seconds": 600, "Trigger": "person"}),
    }


def names(html: str) -> list[str]:
    return re.findall(r'<th scope="row"><a href="[^"]+">([^<]+)</a>', html)


def listed(address: str, query: str = "") -> Iterator[str]:
    """The names on each page, from the first that the query asks for to the last."""
    path = f"/runs?{query}"
    while path:
        _, html, _ = asked(address, "GET", path)
        yield from names(html)
        older = re.search(r'href="([^"]+)">Older', html)
        path = older[1].replace("&amp;", "&") if older else ""


def test_each_run_says_what_started_it_where_it_is_and_how_good_it_is(
    shown: dict[str, str], runs_console: str, page: Page, axe: str
) -> None:
    page.goto(runs_console)

    def row(name: str) -> list[str]:
        cells = page.get_by_role("row").filter(has_text=name).get_by_role("cell")
        return [cells.nth(index).inner_text() for index in (0, 1, 2, 5)]

    assert page.url == f"{runs_console}/runs"
    assert row("101500-1a2b") == ["SUCCEEDED", "", "commit 3f1c2d4b5a3f", "0.9400"]
    assert row("111500-3c4d") == ["FAILED", "Broken", "new data", ""]
    assert row("121500-5e6f") == ["RUNNING", "Hold", "person", ""]
    heading = page.get_by_role("rowheader").filter(has_text="101500-1a2b")
    expect(heading).to_contain_text("stagegate-build · commit 3f1c2d4b5a3f, scenes.zip")
    assert page.get_by_role("link", name="Runs", exact=True).get_attribute("aria-current") == "page"
    expect(page.get_by_text("111111111111")).to_be_visible()
    assert stumbling_blocks(page, axe) == []
    photograph(page, "runs")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    photograph(page, "runs-telephone")


def test_all_runs_are_on_some_page_once_newest_first(shown: dict[str, str], runs_console: str) -> None:
    found = list(listed(runs_console))

    many = [name for name in found if name.startswith("many-")]
    assert many == [f"many-{number:03}" for number in reversed(range(COUNT))]
    assert found[:3] == ["r-20261126-121500-5e6f", "r-20261126-111500-3c4d", "r-20261126-101500-1a2b"]
    assert len(found) == COUNT + 3


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("status=FAILED", ["r-20261126-111500-3c4d"]),
        ("status=RUNNING&state_machine=stagegate-waiting", ["r-20261126-121500-5e6f"]),
        ("state_machine=stagegate-build", ["r-20261126-101500-1a2b"]),
        ("name=MANY-03", [f"many-03{number}" for number in reversed(range(10))]),
        ("name=many-0&status=FAILED", []),
        ("state_machine=stagegate-none", []),
    ],
)
def test_filters_let_through_what_they_name(
    shown: dict[str, str], runs_console: str, query: str, expected: list[str]
) -> None:
    assert list(listed(runs_console, query)) == expected


def test_a_search_goes_on_where_its_page_ended(shown: dict[str, str], runs_console: str) -> None:
    assert list(listed(runs_console, "name=many")) == [
        f"many-{number:03}" for number in reversed(range(COUNT))
    ]


@pytest.mark.parametrize("query", ["status=WHO", "begin=nonsense", "begin=WzFd"])
def test_what_makes_no_sense_is_not_found(runs_console: str, query: str) -> None:
    status, html, _ = asked(runs_console, "GET", f"/runs?{query}")

    assert status == 404
    assert "none of ours" in html or "There is no status &#39;WHO&#39;; there are RUNNING," in html


def test_a_run_that_starts_and_ends_is_seen_without_loading_again(
    runs: Runs, runs_console: str, page: Page
) -> None:
    machine = runs.machine("seen", {"Ask": {"Type": "Task", "Resource": activity(runs), "End": True}})
    page.goto(f"{runs_console}/runs?state_machine=stagegate-seen")
    expect(page.get_by_text("No runs.")).to_be_visible()

    runs.start(machine, "seen-1")
    expect(page.get_by_role("row").filter(has_text="seen-1")).to_contain_text("RUNNING")
    page.get_by_role("link", name="seen-1").focus()
    task = runs.client.get_activity_task(activityArn=activity(runs))
    runs.client.send_task_success(taskToken=task["taskToken"], output="{}")

    expect(page.get_by_role("row").filter(has_text="seen-1")).to_contain_text("SUCCEEDED")
    expect(page.get_by_role("link", name="seen-1")).to_be_focused()


@pytest.mark.slow
def test_ten_thousand_runs_cost_no_more_calls_than_a_page_of_them(runs: Runs) -> None:
    machine = runs.machine("thousands", PASS)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: runs.start(machine, f"t-{number:05}"), range(10_000)))
    services, calls = Services(runs.config), Counter[str]()
    events = services("stepfunctions").meta.events
    events.register("before-call.stepfunctions.*", lambda model, **_: calls.update([model.name]))

    def asked(filters: Filters, begin: str = "") -> tuple[list[str], str]:
        calls.clear()
        page = list_page(services, filters, begin=begin)
        return [row.run.name for row in page.rows], page.following

    first, following = asked(Filters(state_machine="stagegate-thousands"))
    assert (len(first), calls["ListExecutions"], calls["DescribeExecution"]) == (25, 1, 25)
    asked(Filters(state_machine="stagegate-thousands"), following)
    assert (calls["ListExecutions"], calls["DescribeExecution"]) == (2, 25)
    found, _ = asked(Filters(state_machine="stagegate-thousands", name="t-00007"))
    assert (found, calls["ListExecutions"]) == (["t-00007"], 10)


def activity(runs: Runs) -> str:
    """Its worker is the test."""
    arn: str = runs.client.create_activity(name="test")["activityArn"]
    return arn


def test_hostile_texts_are_shown_as_they_are(runs: Runs, runs_console: str, page: Page) -> None:
    hostile = "<img src=x onerror=alert(1)>'\"&amp;</script>"
    machine = runs.machine("hostile", {hostile: {"Type": "Wait", "Seconds": 600, "End": True}})
    runs.start(machine, "hostile-1", {"Trigger": hostile})

    page.goto(f"{runs_console}/runs?name={json.dumps(hostile)}&state_machine={hostile}")
    page.goto(f"{runs_console}/runs?state_machine=stagegate-hostile")

    row = page.get_by_role("row").filter(has_text="hostile-1")
    expect(row.get_by_role("cell").nth(1)).to_have_text(hostile)
    expect(row.get_by_role("cell").nth(2)).to_have_text(hostile)
    assert page.locator("img").count() == 0


def test_a_search_that_takes_long_shows_what_it_has_found_and_where_it_goes_on(
    runs: Runs, shown: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_list, "_BATCH", 20)
    services, filters = Services(runs.config), Filters(state_machine="stagegate-many", name="many-00")
    found, begin, searched = [], "", []
    while True:
        page = list_page(services, filters, begin=begin, seconds=0)
        found += [row.run.name for row in page.rows]
        searched.append((page.searched, page.is_partial))
        if not (begin := page.following):
            break

    assert found == [f"many-00{number}" for number in reversed(range(10))]
    assert searched == [(20, True), (20, True), (20, False)]
