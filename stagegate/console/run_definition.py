"""The definition that a run began with, and what it says that no event does."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from botocore.exceptions import ClientError

from stagegate.aws import Services, error_code
from stagegate.console.run_list import read_json

UNANSWERED = ("InvalidArn", "StateMachineTypeNotSupported", "ValidationException")
"""What AWS says when it is asked for more of an Express child of a Map Run than what describes it."""


@lru_cache(maxsize=64)
def definition_of(services: Services, execution_arn: str) -> Mapping[str, Any]:
    """Nothing where the execution outlived its state machine."""
    try:
        machine = services("stepfunctions").describe_state_machine_for_execution(executionArn=execution_arn)
    except ClientError as error:
        is_express = ":express:" in execution_arn and error_code(error) in UNANSWERED
        if is_express or error_code(error) == "StateMachineDoesNotExist":
            return {}
        raise
    definition: Mapping[str, Any] = read_json(machine["definition"])
    return definition


def fail_texts(definition: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Error and cause of each Fail state, "" for what is computed: AWS's events say neither inside a Map."""
    language = definition.get("QueryLanguage", "JSONPath")
    return {
        name: (_text(state, "Error", language), _text(state, "Cause", language))
        for name, state in _states(definition)
        if state["Type"] == "Fail"
    }


def state_of(definition: Mapping[str, Any], state: str) -> Mapping[str, Any]:
    """What it says of one state; nothing where there is no such state."""
    return next((found for name, found in _states(definition) if name == state), {})


def result_place(definition: Mapping[str, Any], map_state: str, map_run_arn: str) -> str:
    """The folder into which a Map writes its results, where the definition names it; "" where it is computed.

    https://docs.aws.amazon.com/step-functions/latest/dg/input-output-resultwriter.html
    """
    writer = state_of(definition, map_state).get("ResultWriter")
    if not isinstance(writer, dict):
        return ""
    given = writer.get("Parameters") or writer.get("Arguments")
    if not isinstance(given, dict) or not isinstance(given.get("Bucket"), str) or "Prefix.$" in given:
        return ""
    place = "/".join([given["Bucket"], *str(given.get("Prefix", "")).rstrip("/").split("/")]).rstrip("/")
    return "" if "{%" in place else f"s3://{place}/{map_run_arn.rpartition(':')[2]}/"


def _states(machine: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each state, also those inside others, under its name."""
    for name, state in machine.get("States", {}).items():
        yield name, state
        for inner in (state.get("ItemProcessor") or state.get("Iterator"), *state.get("Branches", ())):
            yield from _states(inner or {})


def _text(state: Mapping[str, Any], member: str, language: str) -> str:
    """JSONata stands in `{% %}`, a path in a member of its own."""
    text = state.get(member, "")
    is_computed = state.get("QueryLanguage", language) == "JSONata" and text.strip().startswith("{%")
    return "" if is_computed else text
