"""What is found in definitions, as CreateStateMachine says it."""

import json
from typing import Any

from stagegate.local.states.validation import diagnose

TASK = {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "Parameters": {"FunctionName": "f"}}
PROCESSOR = {"StartAt": "Item", "States": {"Item": {"Type": "Pass", "End": True}}}
DISTRIBUTED = {**PROCESSOR, "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}}
READER = {
    "Resource": "arn:aws:states:::s3:getObject",
    "Parameters": {"Bucket": "b", "Key": "k"},
    "ReaderConfig": {"InputType": "JSON"},
}


def problems(definition: Any, *, is_express: bool = False) -> list[str]:
    return [str(problem) for problem in diagnose(json.dumps(definition), is_express=is_express)]


def machine(state: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """The state machine that has this state, "State", and "Done", which it may go to."""
    has_done = '"Done"' in json.dumps(state)
    ends = {} if state.get("Type") in ("Succeed", "Fail", "Choice") or {"Next", "End"} & set(state) else END
    done = {"Done": {"Type": "Succeed"}} if has_done else {}
    return {"StartAt": "State", "States": {"State": {**state, **ends}, **done}, **settings}


def of_state(state: dict[str, Any], *, is_express: bool = False, **settings: Any) -> list[str]:
    """What is wrong with this state; its place is without the "/States/State" before it."""
    return [
        problem.replace("SCHEMA_VALIDATION_FAILED: ", "").replace(" at /States/State", " at ")
        for problem in problems(machine(state, **settings), is_express=is_express)
    ]


END = {"End": True}
