"""What is checked of the API's requests, in AWS's words, and how its lists are given in pages."""

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from stagegate.local.service import AWSError
from stagegate.local.states.json_problems import json_problem as json_problem
from stagegate.local.states.validation import diagnose

_MAXIMUM_INPUT = 262_144
_MAXIMUM_DEFINITION = 1_048_576
_MAXIMUM_TAGS = 50
_NAME = re.compile(r"[^\s<>{}\[\]?*\"#%\\^|~`$&,;:/\x00-\x1f\x7f-\x9f]{1,80}")

_PAGE = 100

Item = TypeVar("Item")


def check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise AWSError("InvalidName", f"Invalid Name: '{name}'")


def check_arn(arn: str, service: str, *types: str) -> None:
    """`types` are the kinds of resources that it may be of, such as "stateMachine"; none for any."""
    parts = arn.split(":")
    if len(parts) < 6 or parts[0] != "arn" or parts[2] != service:
        raise AWSError("InvalidArn", f"Invalid Arn: 'Invalid ARN prefix: {arn}'")
    if types and parts[5] not in types:
        raise AWSError("InvalidArn", f"Invalid Arn: 'Resource type not valid in this context: {parts[5]}'")


def check_tags(arn: str, tags: Iterable[Mapping[str, str]]) -> None:
    """Of the resource `arn`, all that it is to have."""
    keys = [tag["key"] for tag in tags]
    if len(set(keys)) > _MAXIMUM_TAGS:
        message = f"Too Many Tags: '{arn}' would have more than {_MAXIMUM_TAGS} tags"
        raise AWSError("TooManyTags", message, resourceName=arn)
    if reserved := [key for key in keys if key.lower().startswith("aws:")]:
        raise AWSError("ValidationException", f"Tag keys that begin with 'aws:' are reserved: {reserved[0]}")


def check_encryption(configuration: Mapping[str, Any] | None) -> dict[str, Any]:
    """An encryption configuration with its default. Nothing is encrypted on this machine."""
    given = dict(configuration or {"type": "AWS_OWNED_KEY"})
    if (given["type"] == "CUSTOMER_MANAGED_KMS_KEY") != ("kmsKeyId" in given):
        message = "Invalid Encryption Configuration: a kmsKeyId goes with the type CUSTOMER_MANAGED_KMS_KEY"
        raise AWSError("InvalidEncryptionConfiguration", message)
    return given


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
    after = begin_page(token, of=name)
    places = enumerate(items) if after is None else enumerate(items[after + 1 :], start=after + 1)
    listed, next_token = end_page(places, size, of=name)
    return {name: listed, **next_token}


def begin_page(token: str | None, *, of: str) -> int | None:
    """Where the page before ended, by the token that it gave; None for the first page.

    `of` names the list: a token of another one is no token here.
    """
    if token is None:
        return None
    invalid = AWSError("InvalidToken", "Invalid Token: 'Invalid token'")
    try:
        listed, _, last = base64.b64decode(token, validate=True).decode().rpartition(" ")
        place = int(last)
    except ValueError:
        raise invalid from None
    if listed != of:
        raise invalid
    return place


def end_page(items: Iterable[tuple[int, Item]], size: int, *, of: str) -> tuple[list[Item], dict[str, str]]:
    """So many items, each given with its place, and the `nextToken` where there are more."""
    listed: list[Item] = []
    last = 0
    for place, item in items:
        if len(listed) == (size or _PAGE):
            return listed, {"nextToken": base64.b64encode(f"{of} {last}".encode()).decode()}
        listed.append(item)
        last = place
    return listed, {}


def now() -> datetime:
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
