"""What holds for each page that only shows."""

import pytest
from playwright.sync_api import Page

from tests.console.conftest import Shown

PATHS = (
    *("/models", "/models/{it.challenger}", "/models/{it.challenger}/report", "/jobs", "/endpoints"),
    *("/stacks", "/stacks/stagegate-platform", "/events"),
)


@pytest.mark.parametrize("path", PATHS)
def test_a_telephone_shows_each_page_in_its_width(shown: Shown, page: Page, path: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})

    page.goto(shown.address + path.format(it=shown))

    assert page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize(("width", "height"), [(1100, 100), (800, 100), (390, 200)])
def test_the_header_leaves_room_for_the_page(runs_console: str, page: Page, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{runs_console}/events")

    header = page.get_by_role("banner").bounding_box()
    links = [link.bounding_box() for link in page.get_by_role("navigation").get_by_role("link").all()]

    assert header is not None
    assert header["height"] <= height
    assert all(link and link["height"] >= 24 and link["x"] + link["width"] <= width for link in links)
