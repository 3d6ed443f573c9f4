"""Listings, page by page."""

import pytest

from stagegate.local.pages import page
from stagegate.local.service import AWSError


def test_each_page_tells_where_the_next_begins() -> None:
    first = page("Names", ["a", "b", "c"], None, 2)
    last = page("Names", ["a", "b", "c"], first["NextToken"], 2)

    assert first == {"Names": ["a", "b"], "NextToken": "2"}
    assert last == {"Names": ["c"]}


def test_a_full_last_page_has_no_next() -> None:
    assert page("Names", ["a", "b"], None, 2, following="nextToken") == {"Names": ["a", "b"]}


@pytest.mark.parametrize("token", ["x", "-1", "1.5"])
def test_a_token_that_is_none_of_ours_is_refused_by_the_apis_code(token: str) -> None:
    with pytest.raises(AWSError) as caught:
        page("Names", [], token, 2, invalid="InvalidNextToken")

    assert (caught.value.code, caught.value.message) == (
        "InvalidNextToken",
        f"The token {token} is not valid.",
    )
