"""What is checked of the API's requests, in AWS's words, and how its lists are given in pages."""

import base64
import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from stagegate.local.service import AWSError
from stagegate.local.states.json_problems import json_problem as json_problem
from stagegate.local.states.validation import diagnose

_MAXIMUM_INPUT = 262_144
_MAXIMUM_DEFINITION = 1_048_576
_NAME = re.compile(r"[^\s<>{}\[\]?*\"#%\\^|~`$&,;:/\x00-\x1f\x7f-\x9f]{1,80}")

_PAGE = 100

Item = TypeVar("Item")


def check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise AWSError("InvalidName", f"Invalid Name: '{name}'")


def check_arn(arn: str, service: str) -> None:
    parts = arn.split(":")
    if len(parts) < 6 or parts[0] != "arn" or parts[2] != service:
        raise AWSError("InvalidArn", f"Invalid Arn: 'Invalid ARN prefix: {arn}'")


def check_definition(definition: str, machine_type: str) -> None:
    if len(definition.encode()) > _MAXIMUM_DEFINITION:
        raise AWSError("InvalidDefinition", "Invalid State Machine Definition: 'The definition is too large'")
    if found := diagnose(definition, is_express=machine_type == "EXPRESS"):
        problems = ", ".join(map(str, found))
        raise AWSError("InvalidDefinition", f"Invalid State Machine Definition: '{problems}'")


def check_input(text: str) -> None:
    if len(text.encode()) > _MAXIMUM_INPUT:
        raise AWSError(
            "InvalidExecutionInput", "Invalid State Machine Execution Input: 'The input is too large'"
        )
    try:
        json.loads(text)
    except ValueError as error:
        problem = json_problem(text, error)
        raise AWSError(
            "InvalidExecutionInput", f"Invalid State Machine Execution Input: '{problem}'"
        ) from error


def page(name: str, items: Sequence[Item], size: int, token: str | None) -> dict[str, Any]:
    """A page of `items`; the token says where the next one begins."""
    after = begin_page(token)
    places = enumerate(items) if after is None else enumerate(items[after + 1 :], start=after + 1)
    listed, next_token = end_page(places, size)
    return {name: listed, **next_token}


def begin_page(token: str | None) -> int | None:
    """Where the page before ended, by the token that it gave; None for the first page."""
    try:
        return int(base64.b64decode(token, validate=True)) if token else None
    except ValueError:
        raise AWSError("InvalidToken", "Invalid Token: 'Invalid token'") from None


def end_page(items: Iterable[tuple[int, Item]], size: int) -> tuple[list[Item], dict[str, str]]:
    """So many items, each given with its place, and the `nextToken` where there are more."""
    listed: list[Item] = []
    last = 0
    for place, item in items:
        if len(listed) == (size or _PAGE):
            return listed, {"nextToken": base64.b64encode(str(last).encode()).decode()}
        listed.append(item)
        last = place
    return listed, {}


def now() -> datetime:
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
