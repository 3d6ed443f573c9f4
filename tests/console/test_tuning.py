"""The pages of tuning jobs, live while they search, and of transform jobs, which need no platform either."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from stagegate.console.tuning import best_first
from stagegate.tuning import find_tuning_job
from tests.conftest import Local
from tests.console.conftest import Runs, photograph, stumbling_blocks
from tests.console.releases import HOSTILE
from tests.console.test_approvals import asked
from tests.local.sagemaker.test_transform import DOUBLES, Transformer
from tests.local.sagemaker.test_tuning import FAILING, Tuner, between, one_of

GATED = """
import argparse, pathlib, time
given = argparse.ArgumentParser()
given.add_argument("-x", type=float)
given.add_argument("--gate")
given = given.parse_args()
while given.x > 0.5 and not pathlib.Path(given.gate).exists():
    time.sleep(0.05)
print(f"loss={given.x}")
"""


@pytest.fixture(scope="module")
def tuner(shared_local: Local) -> Tuner:
    return Tuner(shared_local)


def searching(runs: Runs, name: str, request: dict[str, Any]) -> str:
    """A run, at its end, of a state machine that waits for that tuning job."""
    resource = "arn:aws:states:::sagemaker:createHyperParameterTuningJob.sync"
    state = {"Type": "Task", "Resource": resource, "Parameters": request, "End": True}
    return runs.run(runs.machine(name, {"Search": state}), f"{name}-1")


def test_a_search_shows_what_it_tried_the_best_first_and_leads_to_each(
    tuner: Tuner, runs: Runs, runs_console: str, page: Page, axe: str
) -> None:
    ranges = between("x", 0, 1) | one_of(kind=["a", "b"])
    execution = searching(runs, "searching", tuner.request("search", jobs=6, ranges=ranges))
    page.goto(f"{runs_console}/runs/{execution}?state=Search")
    page.locator("#selected").get_by_role("link", name="search", exact=True).click()

    expect(page.get_by_role("heading", level=1)).to_have_text("search Completed")
    trained = tuner.trained("search", SortBy="FinalObjectiveMetricValue")
    rows = page.get_by_role("table", name="Training jobs").locator("tbody tr")
    expect(rows).to_have_count(6)
    for row, job in zip(rows.all(), trained, strict=True):
        tuned = job["TunedHyperParameters"]
        expect(row).to_contain_text(job["TrainingJobName"])
        expect(row.get_by_role("cell")).to_contain_text(
            [f"{job['FinalHyperParameterTuningJobObjectiveMetric']['Value']:.4g}", tuned["x"], tuned["kind"]]
        )
    expect(
        page.get_by_role("img", name=re.compile("^loss by training job: each from .*, between 1 and 6$"))
    ).to_be_visible()
    expect(page.locator("main")).to_contain_text(f"The best is {trained[0]['TrainingJobName']}, with")
    expect(page.get_by_role("definition").filter(has_text="the less the better")).to_be_visible()
    expect(page.get_by_role("definition").filter(has_text="0 to 1, Auto")).to_be_visible()
    assert page.locator("script").count() == 0
    assert stumbling_blocks(page, axe) == []
    photograph(page, "tuning")

    rows.first.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(trained[0]["TrainingJobName"])
    page.get_by_role("link", name="search", exact=True).click()
    expect(page).to_have_url(f"{runs_console}/jobs/tuning/search")
    page.get_by_role("link", name="Jobs").last.click()
    expect(page.get_by_role("row", name="search tuning Completed")).to_be_visible()
    expect(page.get_by_label("Compare search", exact=True)).to_have_count(0)


def test_a_search_is_followed_to_its_end(tuner: Tuner, runs_console: str, page: Page, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    request = tuner.request("live", strategy="Grid", jobs=None, ranges=one_of(x=["0.25", "0.75"]), parallel=1)
    request["TrainingJobDefinition"] = tuner.definition(GATED, static={"gate": str(gate)})
    tuner.client.create_hyper_parameter_tuning_job(**request)
    page.goto(f"{runs_console}/jobs/tuning/live")
    rows = page.get_by_role("table", name="Training jobs").locator("tbody tr")

    expect(rows.last).to_contain_text("InProgress")
    expect(rows).to_have_count(2)
    expect(page.locator(".figures")).to_contain_text("0.25 best loss")
    gate.touch()

    expect(page.get_by_role("heading", level=1)).to_have_text("live Completed")
    expect(rows.last.get_by_role("cell").first).to_have_text("0.75")


def test_a_search_that_failed_says_why_and_so_does_its_run(
    tuner: Tuner, runs: Runs, runs_console: str, page: Page
) -> None:
    execution = searching(runs, "failing", tuner.request("broken", FAILING, jobs=1, parallel=1))
    reason = tuner.describe("broken")["FailureReason"]
    page.goto(f"{runs_console}/runs/{execution}")

    failed = page.get_by_role("region", name="What failed")
    expect(failed).to_contain_text(reason)
    failed.get_by_role("link", name="broken", exact=True).click()
    expect(page.locator(".said.wrong")).to_have_text(reason)
    expect(page.get_by_role("table", name="Training jobs")).to_contain_text("no luck")


def test_more_is_better_where_the_objective_says_so(tuner: Tuner, runs: Runs) -> None:
    objective = {"Type": "Maximize", "MetricName": "loss"}
    request = tuner.request("most", HyperParameterTuningJobObjective=objective)
    tuner.client.create_hyper_parameter_tuning_job(**request)
    tuner.ended("most")

    job = find_tuning_job(tuner.runtime.client, "most")

    first, *others = best_first(job.trials, is_maximum=job.is_maximum)
    assert (first.name, job.launched) == (job.best, 3)
    assert [first.objective >= other.objective for other in others] == [True, True]


@pytest.mark.parametrize("path", ["/jobs/tuning/none", "/jobs/tuning/none/live", "/jobs/tuning/%3Cscript%3E"])
def test_a_search_that_there_is_not_is_named(runs_console: str, path: str) -> None:
    status, text, _ = asked(runs_console, "GET", path)

    assert (status, "There is no tuning job" in text, "<script>" in text) == (404, True, False)


def test_a_transform_job_says_what_it_was_given_and_what_it_took(
    shared_local: Local, runs_console: str, page: Page, axe: str
) -> None:
    transformer = Transformer(shared_local)
    transformer.model("doubles", DOUBLES)
    transformer.transform("double-all", {"a.csv": b"1\n2\n3\n"}, kept={"AssembleWith": "Line"})
    transformer.transform("double-none", {"a.csv": b"refuse\n"}, Environment={"STAGE": HOSTILE})
    for name in ("double-all", "double-none"):
        transformer.transformed(name)

    page.goto(f"{runs_console}/jobs/transform/double-none")
    expect(page.get_by_role("heading", level=1)).to_have_text("double-none Failed")
    expect(page.locator(".said.wrong")).not_to_be_empty()
    expect(page.get_by_role("region", name="Log")).to_contain_text("no number in 'refuse")
    expect(page.locator("dl").first).to_contain_text("ModelNamedoubles")
    expect(page.locator("dl").first).to_contain_text(f"STAGE{HOSTILE}")
    expect(page.locator("dl").last).to_contain_text("s3://jobs/double-none/out")
    expect(page.get_by_role("img", name="Memory, %: algo-1 from")).to_be_visible()
    assert stumbling_blocks(page, axe) == []

    page.goto(f"{runs_console}/jobs/compare?job=transform/double-all&job=transform/double-none")
    parameters = page.get_by_role("table", name="Parameters")
    expect(parameters.get_by_role("row", name="AssembleWith differs Line None")).to_be_visible()
