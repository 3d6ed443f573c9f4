"""A recorded case, run here and compared: what of it is as it was on AWS."""

import json
from typing import Any

from botocore.exceptions import ClientError, ParamValidationError

from tests.conformance.recordings import Case, checker
from tests.conformance.surroundings import ROLE, Names, surroundings

LEVELS = ("L1", "C", "L2", "L3")
"""Status, output and error; the cause; the types of the events; the whole history or answer."""
_SECONDS = 30
_PASS = {"StartAt": "State", "States": {"State": {"Type": "Pass", "End": True}}}


def compare(local: Any, case: Case) -> dict[str, Any]:
    """For each level whether it is reproduced, None where the recording has nothing of it; and `diffs`."""
    with surroundings(local, case) as names:
        if case.get("api") in (None, "start_sync_execution"):
            return _execution(local, case, names)
        return _call(local, case, names)


def _execution(local: Any, case: Case, names: Names) -> dict[str, Any]:
    states = local.client("stepfunctions", read_timeout=90, inject_host_prefix=False)
    ours = {**case, **names.ours({key: case[key] for key in ("definition", "input") if key in case})}
    if case["expected"]["status"] == "ABORTED":
        observed = _stopped(states, ours)
    else:
        observed = checker().run_case(states, ours, 0, _SECONDS)
    if "timeout" in observed:
        return checker().score(case, observed)
    return checker().score(case, names.recorded(observed))


def _stopped(states: Any, case: Case) -> dict[str, Any]:
    arn = states.create_state_machine(
        name="stopped", definition=json.dumps(case["definition"]), roleArn=ROLE
    )["stateMachineArn"]
    execution = states.start_execution(stateMachineArn=arn, input=json.dumps(case["input"]))["executionArn"]
    states.stop_execution(executionArn=execution)
    observed = dict(states.describe_execution(executionArn=execution))
    observed["history"] = states.get_execution_history(executionArn=execution)["events"]
    states.delete_state_machine(stateMachineArn=arn)
    return observed


def _call(local: Any, case: Case, names: Names) -> dict[str, Any]:
    states = local.client("stepfunctions", inject_host_prefix=False)
    request = names.ours(case["request"])
    made: list[str] = []
    if case["api"] in ("start_execution", "update_state_machine") or "duplicate" in case["id"]:
        name = request.get("name") or request.get("stateMachineArn", ":machine").rpartition(":")[2]
        definition = json.dumps(case.get("definition", _PASS))
        made.append(
            states.create_state_machine(name=name, definition=definition, roleArn=ROLE)["stateMachineArn"]
        )
    if case["api"] == "start_execution":
        request["stateMachineArn"] = made[0]
    try:
        answer = dict(getattr(states, case["api"])(**request))
        made += [answer["stateMachineArn"]] if "stateMachineArn" in answer else []
    except ClientError as error:
        answer = dict(error.response)
    except ParamValidationError as error:
        answer = {"refused": str(error)}
    finally:
        for arn in made:
            states.delete_state_machine(stateMachineArn=arn)
    return _judged(case, names.recorded(answer))


def _judged(case: Case, answer: dict[str, Any]) -> dict[str, Any]:
    check = checker()
    answer.pop("ResponseMetadata", None)
    expected = case["expected"]
    if isinstance(expected, str):
        return _levels(answer.get("refused") == expected, answer.get("refused") == expected, [])
    if "code" in expected:  # of validation.json
        error = answer.get("Error", {})
        comparison = check.Cmp(case)
        is_same = comparison.eq(expected["message"], error.get("Message"), "message")
        return _levels(error.get("Code") == expected["code"], is_same, comparison.diffs)
    observed = check.parseable(answer)
    outcome = ("status", "output", "error", "nextState", "result")
    first, whole = check.Cmp(case), check.Cmp(case)
    if "Error" in expected:
        is_first = expected["Error"]["Code"] == observed.get("Error", {}).get("Code")
    else:
        is_first = all(first.eq(expected.get(name), observed.get(name), name) for name in outcome)
    return _levels(is_first, whole.eq(expected, observed), first.diffs + whole.diffs)


def _levels(first: bool, whole: bool, diffs: list[Any]) -> dict[str, Any]:
    return {"L1": first, "C": None, "L2": None, "L3": whole, "diffs": diffs}
