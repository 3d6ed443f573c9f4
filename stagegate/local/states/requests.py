"""What is checked of the API's requests, in AWS's words, and how its lists are given in pages."""

import base64
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from stagegate.local.service import AWSError, Json
from stagegate.local.states.json_problems import json_problem as json_problem
from stagegate.local.states.validation import diagnose

_MAXIMUM_INPUT = 262_144
_MAXIMUM_DEFINITION = 1_048_576
_NAME = re.compile(r"[^\s<>{}\[\]?*\"#%\\^|~`$&,;:/\x00-\x1f\x7f-\x9f]{1,80}")

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


def refuse(**members: Json) -> None:
    for name, value in members.items():
        if value:
            raise AWSError("ValidationException", f"The member '{name}' is not supported here")


def page(name: str, items: Sequence[Item], size: int, token: str | None) -> dict[str, Any]:
    """A page of `items`; the token says where the next one begins."""
    try:
        begin_at = int(base64.b64decode(token)) if token else 0
    except ValueError:
        raise AWSError("InvalidToken", "Invalid Token: 'Invalid token'") from None
    end = begin_at + (size or 100)
    listed: dict[str, Any] = {name: list(items[begin_at:end])}
    if end < len(items):
        listed["nextToken"] = base64.b64encode(str(end).encode()).decode()
    return listed


def now() -> datetime:
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
