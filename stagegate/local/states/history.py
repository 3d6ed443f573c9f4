"""The execution history, as GetExecutionHistory gives it."""

from datetime import UTC, datetime
from typing import Any

from stagegate.local.service import Json
from stagegate.local.states.journal import Event

_NOT_TRUNCATED = {"truncated": False}
_DATA = {"input": "inputDetails", "output": "outputDetails", "assignedVariables": "assignedVariablesDetails"}


def as_api_event(event: Event, *, include_execution_data: bool) -> dict[str, Any]:
    """One event with the member for its details, and what says that its data is whole."""
    described: dict[str, Any] = {
        "timestamp": datetime.fromtimestamp(event.timestamp, UTC),
        "type": event.type,
        "id": event.id,
        "previousEventId": event.previous_id,
    }
    if event.details is not None:
        described[_details_name(event.type)] = details_of(
            event, include_execution_data=include_execution_data
        )
    return described


def details_of(event: Event, *, include_execution_data: bool) -> dict[str, Json]:
    """What the event has of its own; without its data where that is not wanted."""
    details = event.details or {}
    if not include_execution_data:
        return {name: value for name, value in details.items() if name not in (*_DATA, "parameters")}
    return details | {_DATA[name]: _NOT_TRUNCATED for name in details if name in _DATA}


def _details_name(event_type: str) -> str:
    for end in ("StateEntered", "StateExited"):
        if event_type.endswith(end):
            return f"{end[:1].lower()}{end[1:]}EventDetails"
    return f"{event_type[:1].lower()}{event_type[1:]}EventDetails"
