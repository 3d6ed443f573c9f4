"""What the operations of CodeBuild have in common: pages, order, and what is not for others."""

from collections.abc import Iterable
from typing import Any

from stagegate.local import pages

PAGE = 100

Document = dict[str, Any]


def given(**members: Any) -> Document:
    """Those that are not None."""
    return {name: value for name, value in members.items() if value is not None}


def public(document: Any) -> Any:
    """Without what is only for us, which begins with "_"."""
    if isinstance(document, list):
        return [public(entry) for entry in document]
    if isinstance(document, dict):
        return {name: public(value) for name, value in document.items() if not name.startswith("_")}
    return document


def ordered(values: Iterable[Any], order: str) -> list[Any]:
    return list(values) if order == "ASCENDING" else list(values)[::-1]


def page(member: str, values: list[Any], token: str | None, size: int = PAGE) -> Document:
    return pages.page(member, values, token, size, invalid="InvalidInputException", following="nextToken")
