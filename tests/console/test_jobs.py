"""The pages of jobs: what one was given and says, live while it runs, and beside another."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.console import releases
from tests.console.conftest import Shown, photograph, stumbling_blocks
from tests.console.test_approvals import asked

LOSSES = [1.5, 1.1, 0.8, 0.62, 0.5, 0.41]


@pytest.fixture(scope="module")
def ended(shown: Shown) -> tuple[str, str]:
    """Two jobs that are over; the second failed."""
    services, platform = shown.installation.services, shown.installation.platform
    releases.train(services, platform, "train-good", "echo train:loss=0.41", epochs="8", rate="0.1")
    failing = f"echo '{releases.HOSTILE}'; printf 'no <b>class</b> folders' > /opt/ml/output/failure; exit 3"
    releases.train(services, platform, "train-bad", failing, epochs="8", rate="0.5")
    describe = services("sagemaker").describe_training_job
    for name, losses in (("train-good", LOSSES), ("train-bad", LOSSES[:3])):
        releases.put_losses(services, name, losses)
        shown.installation.wait_for(lambda name=name: "TrainingEndTime" in describe(TrainingJobName=name))
    return "train-good", "train-bad"


def test_a_failed_job_says_why_and_what_it_wrote(
    shown: Shown, ended: tuple[str, str], page: Page, axe: str
) -> None:
    page.goto(f"{shown.address}/jobs/training/train-bad")

    expect(page.get_by_role("heading", name="train-bad Failed")).to_be_visible()
    expect(page.get_by_text("no <b>class</b> folders")).to_be_visible()
    expect(page.get_by_role("region", name="Log")).to_contain_text(releases.HOSTILE)
    expect(page.get_by_role("definition").filter(has_text="0.5").first).to_be_visible()
    expect(page.get_by_role("img", name="loss: train:loss from 1.5 to 0.8")).to_be_visible()
    for taken in ("CPU, % (100 for each core): algo-1 from", "Memory, %: algo-1", "Disk, %: algo-1"):
        expect(page.get_by_role("img", name=taken)).to_be_visible()
    assert page.locator("script").count() == 0
    _, log, _ = asked(shown.address, "GET", "/jobs/training/train-bad/log.txt")
    assert releases.HOSTILE in log
    assert stumbling_blocks(page, axe) == []
    photograph(page, "job-failed")


def test_a_job_that_runs_is_followed_to_its_end(shown: Shown, page: Page, tmp_path: Path) -> None:
    services, platform = shown.installation.services, shown.installation.platform
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    epochs = "for epoch in 1 2 3 4 5 6; do echo epoch=$epoch/6 batch=1; done"
    releases.train(
        services, platform, "train-live", f"{epochs}; read word < {gate}; echo $word", epochs="6", rate="0.1"
    )

    page.goto(f"{shown.address}/jobs/training/train-live")
    log = page.get_by_role("region", name="Log")
    expect(log).to_contain_text("epoch=6/6")
    releases.put_losses(services, "train-live", LOSSES)
    expect(page.get_by_role("img", name="loss: train:loss from 1.5 to 0.41")).to_be_visible()
    expect(page.get_by_role("img", name="CPU, % (100 for each core): algo-1 from")).to_be_visible()
    photograph(page, "job")
    gate.write_text("two\n")
    expect(log).to_contain_text("two")

    expect(page.get_by_role("heading", name="train-live Completed")).to_be_visible()


def test_two_jobs_are_compared(shown: Shown, ended: tuple[str, str], page: Page, axe: str) -> None:
    page.goto(f"{shown.address}/jobs")
    for name in ended:
        page.get_by_label(f"Compare {name}").check()
    assert stumbling_blocks(page, axe) == []
    photograph(page, "jobs")
    page.get_by_role("button", name="Compare").click()

    rows = page.get_by_role("table", name="Parameters").get_by_role("row")
    expect(rows.nth(1)).to_have_class("differs")
    expect(rows.nth(1)).to_contain_text("rate differs")
    expect(rows.nth(2)).to_have_class("")
    ran = page.get_by_role("table", name="How they ran")
    expect(ran.get_by_role("row", name="Status differs Failed Completed")).to_be_visible()
    expect(ran.get_by_role("row", name="Instances 1 × ml.m5.large 1 × ml.m5.large")).to_be_visible()
    expect(page.get_by_role("table", name="Outputs").locator(".differs")).to_have_count(2)
    expect(
        page.get_by_role("table", name="At most taken").get_by_role("row", name="Memory, %")
    ).to_be_visible()
    expect(page.get_by_role("img", name="CPU, % (100 for each core): algo-1 of train-")).to_be_visible()
    expect(page.get_by_role("img", name="loss: train:loss of train-")).to_be_visible()
    assert stumbling_blocks(page, axe) == []
    photograph(page, "compare")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/jobs/training/none", 404),
        ("/jobs/training/none/live", 404),
        ("/jobs/transform/none", 404),
        ("/jobs/labeling/none", 404),
        ("/jobs/training/%3Cscript%3E", 404),
        ("/jobs/compare?job=training/a", 400),
        ("/jobs/compare?job=training/a&job=b", 404),
    ],
)
def test_what_does_not_exist_is_named(shown: Shown, path: str, status: int) -> None:
    answered, text, _ = asked(shown.address, "GET", path)

    assert answered == status
    assert "<script>" not in text
