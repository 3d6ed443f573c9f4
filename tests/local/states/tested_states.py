"""States that TestState is asked about, and its answers with the JSON in them read."""

import json
from typing import Any

from tests.local.states.conftest import Machines

INVOKE = {
    "Type": "Task",
    "Resource": "arn:aws:states:::lambda:invoke",
    "Parameters": {"FunctionName": "f", "Payload.$": "$.order"},
    "End": True,
}
RETRIED = {
    **INVOKE,
    "Retry": [
        {"ErrorEquals": ["Other"]},
        {"ErrorEquals": ["States.TaskFailed"], "IntervalSeconds": 3, "BackoffRate": 2, "MaxAttempts": 2},
    ],
    "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "Handle"}],
}
EACH = {
    "Type": "Map",
    "ItemsPath": "$.items",
    "ItemSelector": {"n.$": "$$.Map.Item.Value"},
    "MaxConcurrency": 2,
    "ItemProcessor": {
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
        "StartAt": "One",
        "States": {"One": {"Type": "Pass", "End": True}},
    },
    "ItemBatcher": {"MaxItemsPerBatch": 2},
    "ToleratedFailureCount": 1,
    "End": True,
}


async def outcome_of(
    machines: Machines, definition: dict[str, Any], input: Any = None, **members: Any
) -> Any:
    """The response, with the JSON in it read."""
    for member in ("context", "variables"):
        if member in members:
            members[member] = json.dumps(members[member])
    if "result" in members:
        members["mock"] = {"result": json.dumps(members.pop("result"))}
    response = await machines.api.test_state(
        definition=json.dumps(definition),
        input=json.dumps({} if input is None else input),
        **{"inspectionLevel": "DEBUG", **members},
    )
    if "output" in response:
        response["output"] = json.loads(response["output"])
    response["inspectionData"] = {
        name: json.loads(value) if isinstance(value, str) else value
        for name, value in response.get("inspectionData", {}).items()
    }
    return response
