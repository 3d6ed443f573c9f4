"""The pages of models: versions, one of them, its evaluation; content of a bucket does nothing there."""

import pytest
from playwright.sync_api import Page, expect

from tests.console import releases
from tests.console.conftest import Shown, photograph, stumbling_blocks
from tests.console.test_approvals import asked


def test_versions_stand_with_accuracy_run_and_where_they_serve(shown: Shown, page: Page, axe: str) -> None:
    page.goto(f"{shown.address}/models")

    row = page.get_by_role("row").filter(has_text="Version 2")
    expect(row).to_contain_text("91.0 %88.4 to 93.0 %")
    expect(row).to_contain_text("r-20261123-090307-23d4")
    expect(row).to_contain_text("3f1c2d9b7a3f")
    expect(page.get_by_role("row").filter(has_text="Version 1")).to_contain_text("production")
    assert stumbling_blocks(page, axe) == []
    photograph(page, "models")


def test_a_version_is_compared_with_what_production_serves(shown: Shown, page: Page, axe: str) -> None:
    page.goto(f"{shown.address}/models/{shown.challenger}")

    expect(page.get_by_role("heading", name="Version 2")).to_be_visible()
    expect(page.get_by_text("546 of 600 images right")).to_be_visible()
    expect(page.get_by_text("91.0 % accuracy, 88.4 to 93.0 %")).to_be_visible()
    expect(page.get_by_text("The gate asked for 90.0 %, which lies within the interval")).to_be_visible()
    expect(
        page.get_by_text("better by more than chance: +14.0 points, between +9.9 and +18.1")
    ).to_be_visible()
    compared = page.get_by_role("table", name="Recall of each class")
    expect(compared.get_by_role("row").nth(1)).to_have_text(
        "buildings80.0 %94.0 %87.5 to 97.2 %+14.0+4.7 to +23.4100"
    )
    expect(page.get_by_role("cell", name="94", exact=True).first).to_have_class("yes10")
    expect(page.get_by_role("link", name="train-1")).to_have_attribute("href", "/jobs/training/train-1")
    assert stumbling_blocks(page, axe) == []
    photograph(page, "model")


def test_a_version_without_an_evaluation_says_so(shown: Shown) -> None:
    status, text, _ = asked(shown.address, "GET", f"/models/{shown.bare}")
    missing, _, _ = asked(shown.address, "GET", f"/models/{shown.bare}9")

    assert status == 200
    assert "/runs/r-3/evaluation.json cannot be read: NoSuchKey." in text
    assert missing == 404


def test_the_report_has_classes_calibration_and_mistakes(shown: Shown, page: Page, axe: str) -> None:
    page.goto(f"{shown.address}/models/{shown.challenger}/report")

    expect(page.get_by_text("5.0 % calibration error")).to_be_visible()
    expect(page.get_by_text("On average the model is 5.0 points surer than it is right.")).to_be_visible()
    expect(page.get_by_role("img", name="Calibration")).to_be_visible()
    street = page.get_by_role("table", name="How much of what it called so").get_by_role("row", name="street")
    expect(street).to_contain_text("76.7 to 90.7 %")
    expect(page.get_by_role("row", name="street buildings 10 of 100")).to_be_visible()
    pictures = page.get_by_role("img", name="An image of")
    expect(pictures).to_have_count(5)
    expect(pictures.first).to_have_attribute("title", "forest/12.jpg")
    pictures.first.scroll_into_view_if_needed()
    pictures.first.evaluate("image => image.decode()")
    assert pictures.first.evaluate("image => image.naturalWidth") == 48
    expect(page.get_by_text("→ sea 97%")).to_be_visible()
    assert stumbling_blocks(page, axe) == []
    page.get_by_role("heading", name="How sure it is").evaluate("it => it.scrollIntoView()")
    photograph(page, "report")


def test_evaluations_own_report_is_shown_and_runs_nothing(shown: Shown, page: Page) -> None:
    page.goto(f"{shown.address}/models/{shown.challenger}/report.html")

    heading = page.get_by_role("heading", name="Report")
    assert heading.evaluate("it => getComputedStyle(it).color") == "rgb(1, 2, 3)"
    assert page.title() == "Report"
    assert page.evaluate("origin") == "null"


@pytest.mark.parametrize("part", ["", "/report"])
def test_names_from_a_bucket_are_text(shown: Shown, page: Page, part: str) -> None:
    page.goto(f"{shown.address}/models/{shown.hostile}{part}")

    expect(page.get_by_role("columnheader", name=f"{releases.HOSTILE} sea")).to_be_visible()
    assert page.locator("main script").count() == 0
