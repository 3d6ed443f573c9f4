"""When an execution can be redriven, in AWS's words, and which requests to do so are one and the same.

https://docs.aws.amazon.com/step-functions/latest/apireference/API_RedriveExecution.html
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from stagegate.local.service import Json

_PERIOD = timedelta(days=14)
_OPEN_TIME = timedelta(days=365)
_MAXIMUM_EVENTS = 24_999
_MAXIMUM_REDRIVES = 1_000
_TOKENS_KEPT = 10
_TOKEN_IS_VALID = timedelta(minutes=15)


def redrive_status(document: Mapping[str, Any], *, is_deleting: bool = False) -> dict[str, Json]:
    """Whether the execution can be redriven, and why not. `is_deleting` is said of its state machine."""
    if (reason := _obstacle(document, is_deleting)) is not None:
        return {"redriveStatus": "NOT_REDRIVABLE", "redriveStatusReason": reason}
    return {"redriveStatus": "REDRIVABLE_BY_MAP_RUN" if "mapRunArn" in document else "REDRIVABLE"}


def _obstacle(document: Mapping[str, Any], is_deleting: bool) -> str | None:
    if is_deleting:
        return "State machine is in DELETING status"
    if (status := document["status"]) in ("RUNNING", "SUCCEEDED"):
        return f"Execution is {status} and cannot be redriven"
    now = datetime.now(UTC)
    if document.get("eventCount", 0) >= _MAXIMUM_EVENTS:
        return "Execution history event limit exceeded"
    if document["redriveCount"] >= _MAXIMUM_REDRIVES:
        return "Execution redrive limit exceeded"
    if now - document["startDate"] >= _OPEN_TIME:
        return "Execution has exceeded the max execution time"
    if now - document["stopDate"] >= _PERIOD:
        return "Execution redrivable period exceeded"
    return None


def redriven_by(document: Mapping[str, Any], client_token: str) -> datetime | None:
    """When the execution was redriven by a request with this token; None when it has to be done."""
    for known in document.get("redriveTokens", ()):
        if known["token"] == client_token and datetime.now(UTC) - known["date"] < _TOKEN_IS_VALID:
            date: datetime = known["date"]
            return date
    return None


def with_token(document: Mapping[str, Any], client_token: str, date: datetime) -> list[dict[str, Json]]:
    """The tokens that are to be kept: the last ten."""
    return [*document.get("redriveTokens", ()), {"token": client_token, "date": date}][-_TOKENS_KEPT:]
