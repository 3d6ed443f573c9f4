"""The templates are clean, and the stages differ in their parameter file alone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.workflows.conftest import ROOT, read_machine

DEPLOY = ROOT / "deploy"
STAGES = ("staging", "production")


@pytest.mark.parametrize("template", ["platform.yaml", "endpoint.yaml"])
def test_a_template_passes_cfn_lint(template: str) -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "cfn-lint", DEPLOY / template], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout


def stage_parameters(stage: str) -> dict[str, str]:
    parameters: list[dict[str, str]] = json.loads((DEPLOY / f"{stage}.json").read_text())
    return {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in parameters}


def given_parameters() -> set[str]:
    settings: dict[str, Any] = read_machine("model-deploy")["States"]["Settings"]["Parameters"]
    return {parameter["ParameterKey"] for parameter in settings["Parameters"]["Given"]["List"]}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_gives_every_parameter_that_the_machine_does_not(stage: str) -> None:
    template = (DEPLOY / "endpoint.yaml").read_text()
    section = template.partition("Parameters:")[2].partition("\nConditions:")[0]
    declared = {line.strip(" :") for line in section.splitlines() if line[:2] == "  " and line[2:3].isalpha()}

    assert set(stage_parameters(stage)) | given_parameters() == declared
    assert not set(stage_parameters(stage)) & given_parameters()
    assert stage_parameters(stage)["Stage"] == stage
