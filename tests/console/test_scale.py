"""Runs of thousands of events: what their pages ask of AWS, send and hold; counted, not timed."""

import json
import re
from typing import Any
from urllib.request import urlopen

import pytest
from playwright.sync_api import Page, expect
from starlette.requests import Request

from stagegate.aws import Services
from stagegate.console import run as pages
from stagegate.console.app import application
from stagegate.console.run_history import History
from stagegate.console.run_selected import Asked, select
from stagegate.console.run_view import RunView, read_run
from tests.console.conftest import Runs
from tests.console.test_visits import CATCH, PASS, in_short, inside

ITEMS = 1_000
CHECK = {
    "Type": "Choice",
    "Choices": [{"Variable": "$", "NumericEquals": ITEMS - 1, "Next": "Bad"}],
    "Default": "Good",
}
BAD = {"Type": "Fail", "Error": "BadItem", "Cause": "the last one"}
PROCESSOR = {"ItemProcessor": inside({"Check": CHECK, "Good": PASS, "Bad": BAD}), "MaxConcurrency": 40}
EACH = {"Each": {"Type": "Map", **PROCESSOR, "End": True}}


class Counted:
    """Services of their own, whose calls are counted."""

    def __init__(self, runs: Runs) -> None:
        self.services = Services(runs.config)
        self.calls: list[str] = []
        events = self.services("stepfunctions").meta.events
        events.register("before-call.stepfunctions.*", lambda model, **_: self.calls.append(model.name))

    def read(self, execution: str, *, seconds: float) -> tuple[RunView, list[str]]:
        self.calls.clear()
        return read_run(self.services, execution, seconds=seconds), sorted(self.calls)


@pytest.fixture(scope="module")
def failed(runs: Runs) -> str:
    """A Map whose last item fails."""
    return runs.run(runs.machine("scale-failed", EACH), "failed-1", [*range(ITEMS)])


@pytest.fixture(scope="module")
def large(runs: Runs) -> str:
    """A Map of as many items that all succeed."""
    return runs.run(runs.machine("scale-large", EACH), "large-1", [*range(1, ITEMS - 1), 0, 0])


def test_a_long_history_costs_three_calls_at_first_which_say_what_failed(runs: Runs, failed: str) -> None:
    run, calls = Counted(runs).read(failed, seconds=0)

    assert calls == ["DescribeExecution", "DescribeStateMachineForExecution", "GetExecutionHistory"]
    assert not run.is_whole
    assert run.failure is not None
    assert (run.failure.state, run.failure.error, run.failure.cause) == ("Bad", "BadItem", "the last one")
    assert run.failure.visit is not None
    found = select(run, Asked(visit=run.failure.visit.id))
    assert found is not None and found.visit is not None
    assert (found.visit.status, found.visit.input) == ("failed", str(ITEMS - 1))
    assert run.drawn()["states"]["Bad"]["status"] == "failed"


def test_each_look_reads_on_until_all_is_known_and_then_no_page_twice(runs: Runs, failed: str) -> None:
    counted = Counted(runs)
    asked, looks = 0, 0
    run, calls = counted.read(failed, seconds=0)
    while not run.is_whole:
        assert "running" not in {row.status for row in run.rows}
        assert len(run.told.events) <= looks * 1_000
        looks += 1
        asked += calls.count("GetExecutionHistory")
        run, calls = counted.read(failed, seconds=0)

    assert asked <= run.told.count / 1_000 + 2
    at_once = History(Services(runs.config), failed).read()
    assert run.told.events == at_once.events
    assert in_short(run.story.visits) == in_short(at_once.story.visits)
    assert counted.read(failed, seconds=60)[1] == ["DescribeExecution", "GetExecutionHistory"]


def test_what_came_meanwhile_is_read_from_its_end_as_far_as_that(runs: Runs) -> None:
    worker = runs.client.create_activity(name="scale-meanwhile")["activityArn"]
    states = {
        "Ask": {"Type": "Task", "Resource": worker, "Next": "Each"},
        "Each": {**EACH["Each"], "End": False, "Next": "Again"},
        "Again": {"Type": "Task", "Resource": worker, "End": True},
    }
    del states["Each"]["End"]
    execution = runs.start(runs.machine("scale-meanwhile", states), "meanwhile-1")
    task = runs.client.get_activity_task(activityArn=worker)
    history = History(Services(runs.config), execution)
    before = history.read()
    runs.client.send_task_success(taskToken=task["taskToken"], output=json.dumps([0] * ITEMS))
    runs.client.get_activity_task(activityArn=worker)

    first = history.look(seconds=60)
    whole = history.read()

    assert (first.events, first.is_whole) == (before.events, False)
    assert first.latest[-1]["id"] == first.count == whole.count
    at_once = History(Services(runs.config), execution).read()
    assert whole.events == at_once.events
    assert in_short(whole.story.visits) == in_short(at_once.story.visits)


def test_a_state_that_was_entered_long_ago_is_not_guessed(runs: Runs) -> None:
    worker = runs.client.create_activity(name="scale-early")["activityArn"]
    early = inside({"Early": {"Type": "Task", "Resource": worker, "End": True}})
    items = inside(
        {
            "Each": {**EACH["Each"], "ItemsPath": "$"},
        }
    )
    branches = {"Both": {"Type": "Parallel", "Branches": [early, items], "End": True}}
    execution = runs.start(runs.machine("scale-early", branches), "early-1", [0] * ITEMS)
    task = runs.client.get_activity_task(activityArn=worker)
    while not any(row.name == "Each" and row.status == "succeeded" for row in looked(runs, execution).rows):
        pass
    runs.client.send_task_failure(taskToken=task["taskToken"], error="Late", cause="it was asked first")
    runs.ended(execution)

    counted = Counted(runs)
    first, _ = counted.read(execution, seconds=0)
    whole, _ = counted.read(execution, seconds=60)

    assert first.failure is not None and whole.failure is not None
    assert (first.failure.state, first.failure.error, first.failure.is_incomplete) == ("", "Late", True)
    assert (whole.failure.state, whole.failure.is_incomplete) == ("Early", False)


def looked(runs: Runs, execution: str) -> RunView:
    return read_run(Services(runs.config), execution, seconds=60)


def test_what_was_stopped_is_told_by_its_end_and_not_by_what_was_caught_before(runs: Runs) -> None:
    branches = [inside({"Bad": BAD})]
    states = {
        "Both": {"Type": "Parallel", "Branches": branches, "Catch": CATCH, "Next": "After"},
        "After": {"Type": "Wait", "Seconds": 600, "End": True},
    }
    execution = runs.start(runs.machine("scale-stopped", states), "stopped-1")
    while not any(row.name == "After" for row in looked(runs, execution).rows):
        pass
    runs.client.stop_execution(executionArn=execution)

    failure = looked(runs, execution).failure

    assert failure is not None
    assert failure.state == "After"


def test_without_a_script_the_page_says_how_much_is_read_and_reads_on(
    runs: Runs, large: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "PAGE_SECONDS", 0.0)
    app = application(Services(runs.config), allows_changes=False)
    scope = {"type": "http", "method": "GET", "app": app, "path": f"/runs/{large}", "headers": []}
    request = Request(
        {**scope, "query_string": b"state=Good&number=1", "path_params": {"execution_arn": large}}
    )

    read = []
    while "events read so far" in (html := bytes(pages.run_page(request).body).decode()):
        read += re.findall(r"([\d,]+) of ([\d,]+) events read so far", html)
        assert '<noscript><a href="/runs/' in html
        assert "data-stream" in html

    total = len(History(Services(runs.config), large).read().events)
    assert read[0] == ("0", f"{total:,}")
    assert read[1] == ("1,000", f"{total:,}")
    assert "data-stream" not in html
    assert len(html) < 100_000


def open_whole(page: Page, address: str) -> None:
    page.goto(address)
    page.locator("#graph svg").wait_for()
    expect(page.get_by_text("read so far")).to_have_count(0, timeout=30_000)


def metrics(page: Page) -> tuple[float, float]:
    """The nodes of the page and the bytes of its script's heap, when garbage has been collected."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("Performance.enable")
    devtools.send("HeapProfiler.collectGarbage")
    found = {it["name"]: it["value"] for it in devtools.send("Performance.getMetrics")["metrics"]}
    devtools.detach()
    return found["Nodes"], found["JSHeapUsedSize"]


def test_a_map_of_a_thousand_items_is_a_small_page_on_which_each_item_is_found(
    large: str, runs_console: str, page: Page
) -> None:
    open_whole(page, f"{runs_console}/runs/{large}?state=Good")
    selected = page.locator("#selected")

    expect(selected.locator("a[data-visit]")).to_have_count(51)
    selected.get_by_role("link", name="Earlier").click()
    expect(selected.locator("a[data-visit]")).to_have_count(52)
    selected.get_by_label("Item").fill("776")
    selected.get_by_role("button", name="Show").click()
    expect(selected.locator("#state-input pre")).to_have_text("777")
    selected.get_by_label("Item").fill(str(ITEMS))
    selected.get_by_role("button", name="Show").click()
    expect(selected.locator("input:invalid")).to_have_count(1)
    assert metrics(page)[0] < 4_000


def test_the_browsers_memory_does_not_grow_with_the_events_of_a_run(
    runs: Runs, runs_console: str, page: Page
) -> None:
    worker = runs.client.create_activity(name="scale-going")["activityArn"]
    states: dict[str, Any] = {
        "Ask": {"Type": "Task", "Resource": worker, "Next": "Each"},
        "Each": {"Type": "Map", **PROCESSOR, "ResultPath": None, "Next": "Ask"},
        "Unused": {"Type": "Succeed"},
    }
    states["Each"]["Catch"] = [{"ErrorEquals": ["States.ALL"], "Next": "Unused"}]
    execution = runs.start(runs.machine("scale-going", states), "going-1")
    page.goto(f"{runs_console}/runs/{execution}")
    taken = []
    for _ in range(5):
        task = runs.client.get_activity_task(activityArn=worker)
        count = runs.client.get_execution_history(executionArn=execution, reverseOrder=True, maxResults=1)
        shown = page.locator("[data-part=event_count]").get_by_text(f"of {count['events'][0]['id']}")
        shown.wait_for()
        taken.append((count["events"][0]["id"], *metrics(page)))
        runs.client.send_task_success(taskToken=task["taskToken"], output=json.dumps([0] * 200))

    (_, _, _), (events, nodes, heap), *_, (last_events, last_nodes, last_heap) = taken
    assert last_events - events > 3_000
    assert last_nodes - nodes < 100
    assert last_heap - heap < 1_000_000


def test_the_stream_sends_again_only_what_has_changed(runs: Runs, runs_console: str) -> None:
    worker = runs.client.create_activity(name="scale-stream")["activityArn"]
    states = {
        "Each": {**EACH["Each"], "Next": "Ask"},
        "Ask": {"Type": "Task", "Resource": worker, "End": True},
    }
    del states["Each"]["End"]
    execution = runs.start(runs.machine("scale-stream", states), "stream-1", [0] * ITEMS)
    task = runs.client.get_activity_task(activityArn=worker)

    with urlopen(f"{runs_console}/runs/{execution}/stream") as stream:
        parts = shown(stream)
        while "events read so far" in parts["progress"]:
            parts |= shown(stream)
        while_it_waits = shown(stream)
        runs.client.send_task_success(taskToken=task["taskToken"], output="{}")
        at_its_end: dict[str, str] = {}
        while "SUCCEEDED" not in at_its_end.get("head", ""):
            at_its_end = shown(stream)

    assert set(parts) == set(pages.PARTS)
    assert set(while_it_waits) <= {"head", "states"}  # how long it takes, and its time line
    assert set(at_its_end) == {"head", "data", "states", "event_count", "event_filters"}
    assert sum(len(html) for html in at_its_end.values()) < 10_000


def shown(stream: Any) -> dict[str, str]:
    """The parts that come next."""
    while (line := next(stream).decode()) != "event: shown\n":
        assert line.startswith((":", "\n", "data: ")), line
    parts: dict[str, str] = json.loads(next(stream).decode().removeprefix("data: "))["parts"]
    return parts
