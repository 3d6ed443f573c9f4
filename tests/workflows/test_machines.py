"""What must hold for the definitions beyond their syntax."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.workflows.conftest import MACHINES, ROOT, read_machine
from workflows.config import PROCESSING_SECONDS, SPOT_WAIT_SECONDS

LONGEST_RUN_ID = "r-20261123-071500-1a2b"
MOST_ATTEMPTS = "99"


class Template(yaml.SafeLoader):
    """CloudFormation's short forms as what they stand for: `!Ref X` is {"Ref": X}."""


def _short_form(loader: Template, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return {suffix: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {suffix: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.MappingNode)
    return {suffix: loader.construct_mapping(node, deep=True)}


Template.add_multi_constructor("!", _short_form)


def platform() -> dict[str, Any]:
    template: dict[str, Any] = yaml.load((ROOT / "deploy" / "platform.yaml").read_text(), Loader=Template)  # noqa: S506
    return template


def targets(state: dict[str, Any]) -> Iterator[str]:
    yield from (state[key] for key in ("Next", "Default") if key in state)
    yield from (branch["Next"] for key in ("Choices", "Catch") for branch in state.get(key, ()))


@pytest.mark.parametrize("name", MACHINES)
def test_the_platform_fills_exactly_the_substitutions_that_a_definition_has(name: str) -> None:
    text = (ROOT / "statemachines" / f"{name}.asl.json").read_text()
    resource = "".join(word.capitalize() for word in name.split("-"))

    filled = platform()["Resources"][resource]["Properties"]["DefinitionSubstitutions"]

    assert set(filled) == set(re.findall(r"\$\{(\w+)\}", text))


def test_a_definition_knows_no_region_and_no_account(machine: dict[str, Any]) -> None:
    text = json.dumps(machine)

    assert not re.findall(r"\b[a-z]{2}-[a-z]+-\d\b|\b\d{12}\b|amazonaws", text)


def test_every_state_is_reached(machine: dict[str, Any]) -> None:
    reached, waiting = set(), [machine["StartAt"]]
    while waiting:
        if (name := waiting.pop()) not in reached:
            reached.add(name)
            waiting += targets(machine["States"][name])

    assert reached == set(machine["States"])


def test_every_task_that_fails_ends_in_a_state_that_says_what_failed(machine: dict[str, Any]) -> None:
    states = machine["States"]
    for name, state in states.items():
        if state["Type"] == "Task":
            assert state["Catch"][-1]["ErrorEquals"] == ["States.ALL"], name
        if state["Type"] == "Fail":
            assert state.get("Error") or state.get("ErrorPath"), name
            assert state.get("Cause") or state.get("CausePath"), name


def test_deploying_says_in_every_failure_what_production_is() -> None:
    states = read_machine("model-deploy")["States"]

    for name, state in states.items():
        said = state.get("Cause") or state.get("CausePath") or state.get("Parameters", {}).get("Cause.$")
        # What several states lead to says what these have written down; these two are the part of an end.
        if said not in (None, "$.Discarding.Cause") and name not in (
            "RestoredUntested",
            "RemovingStagingEnded",
        ):
            assert re.search(r"[Pp]roduction|Nothing was deployed|look at the stack", said, re.I), name


def test_job_names_fit_and_differ_with_each_attempt_and_redrive() -> None:
    states = read_machine("model-build")["States"]
    names = {
        state["Parameters"][key]
        for state in states.values()
        for key in ("TrainingJobName.$", "ProcessingJobName.$")
        if state["Type"] == "Task" and key in state.get("Parameters", ())
    }

    assert len(names) == 3
    for name in names:
        assert "$$.State.RetryCount" in name
        assert "$$.Execution.RedriveCount" in name
        template = re.findall(r"'(.*?)'", name)[0]
        longest = template.replace("{}", LONGEST_RUN_ID, 1).replace("{}", MOST_ATTEMPTS)
        assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", longest)


def test_a_format_has_as_many_gaps_as_values(machine: dict[str, Any]) -> None:
    formats = [
        value
        for value in _texts(machine)
        if isinstance(value, str) and value.startswith("States.Format(") and "JsonToString" not in value
    ]

    assert formats
    for value in formats:
        template, values = re.fullmatch(r"(?s)States\.Format\('(.*?)'(.*)\)", value).groups()  # type: ignore[union-attr]
        assert template.count("{}") == len(re.findall(r", (?:\$|States\.)", values)), value


def _texts(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    else:
        yield value


def test_code_that_deploys_is_the_code_that_built() -> None:
    states = read_machine("model-deploy")["States"]

    text = json.dumps(states)
    assert "$.Package.Properties.CodeUri" in text
    assert "$$.Execution.Input.CodeUri" not in text


def test_definitions_fit_into_step_functions_limit() -> None:
    for path in sorted(Path(ROOT / "statemachines").glob("*.json")):
        assert path.stat().st_size < 1_048_576


def test_days_of_following_a_run_fit_into_a_history() -> None:
    states = read_machine("ci")["States"]
    most, part = re.search(r"\$min\(\[(\d+), \$floor\(.*?/ (\d+)\)", states["DescribeRun"]["Output"]).groups()  # type: ignore[union-attr]
    events_a_round = sum(
        5 if states[name]["Type"] == "Task" else 2
        for name in ("ModelBuilding", "DescribeRun", "IsRunning", "IsItAsking", "IsAsking")
    )

    rounds, seconds = 0, 0
    while seconds < SPOT_WAIT_SECONDS + 4 * PROCESSING_SECONDS:
        seconds += max(15, min(int(most), seconds * 1000 // int(part)))
        rounds += 1

    assert rounds * events_a_round < 20_000


STAGE_CALLS = ("cloudformation:", "codebuild:", "sagemaker:describeEndpoint", "cloudwatch:")
"""What is called of a stage, by how the API's name begins."""


def test_a_task_of_a_stage_acts_by_the_role_of_its_account_and_no_other_task_does() -> None:
    for name, state in read_machine("model-deploy")["States"].items():
        if state["Type"] != "Task":
            continue
        api = state["Resource"].removeprefix("arn:aws:states:::").removeprefix("aws-sdk:")
        stage = "Staging" if "Staging" in name else "Production"
        expected = {"RoleArn": f"${{{stage}RoleArn}}"} if api.startswith(STAGE_CALLS) else None
        assert state.get("Credentials") == expected, name


def test_ci_reads_what_production_serves_by_the_role_that_may_only_read() -> None:
    roles = {
        name: state["Credentials"]["RoleArn"]
        for name, state in read_machine("ci")["States"].items()
        if "Credentials" in state
    }

    assert roles == {"FindChampion": "${ProductionReaderRoleArn}"}
