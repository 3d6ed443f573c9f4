"""`stagegate doctor`: ours, the documents, and the command."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from stagegate.cli import main
from stagegate.doctor import RULES, default_files, examine, read_project
from stagegate.errors import ConfigurationError
from tests.doctor.examples import training

ROOT = Path(__file__).parents[2]


def test_ours_has_nothing_of_it() -> None:
    project = read_project(default_files(ROOT), root=ROOT)

    assert examine(project) == []
    assert {machine.definition.name for machine in project.machines} == {
        *("ci", "model-build", "model-deploy")
    }


@pytest.mark.parametrize(
    ("written", "instead", "where"),
    [
        ("codebuild:StopBuild, ", "", ["Ci", "ModelDeploy"]),
        ("sagemaker:DescribeTrainingJob\n", "sagemaker:ListTrainingJobs\n", ["ModelBuild"]),
        (
            "GetEventForCodeBuildStartBuildRule",
            "GetEventsForBatchJobsRule",
            ["Ci"],
        ),  # model-deploy acts by another role
    ],
)
def test_ours_with_a_permission_less_is_found(
    tmp_path: Path, written: str, instead: str, where: list[str]
) -> None:
    text = (ROOT / "deploy" / "platform.yaml").read_text()
    changed = tmp_path / "platform.yaml"
    changed.write_text(text.replace(written, instead))
    machines = [path for path in default_files(ROOT) if path.suffix == ".json"]

    found = examine(read_project([*machines, changed], root=ROOT))

    assert written in text
    assert {(finding.rule, finding.where) for finding in found} == {
        ("permission-missing", machine) for machine in where
    }


def test_each_rule_is_documented() -> None:
    documented = (ROOT / "docs" / "doctor.md").read_text()

    assert [rule.code for rule in RULES if f"`{rule.code}`" not in documented] == []


def doctor(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["doctor", *map(str, arguments)], env={"COLUMNS": "160"})


def test_the_command_says_that_there_is_nothing() -> None:
    ran = doctor(*default_files(ROOT))

    assert ran.exit_code == 0
    assert f"Nothing found: {len(RULES)} rules, {len(default_files(ROOT))} files, " in ran.output


def test_the_command_says_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "train.asl.json"
    path.write_text(json.dumps(training({"TrainingJobName": "train"})))

    ran, as_json = doctor(path), doctor(path, "--json")

    assert ran.exit_code == as_json.exit_code == 1
    assert f"{path}\n  ✘ job-name-collides  First\n" in ran.output
    assert "Put States.UUID() into the name" in ran.output
    said = json.loads(as_json.stdout)
    assert (said["files"], said["states"], said["resources"]) == (1, 1, 0)
    assert [finding["rule"] for finding in said["findings"]] == ["job-name-collides", "stopped-not-handled"]
    assert set(said["findings"][0]) == {"rule", "file", "where", "wrong", "costs", "remedy"}


def test_a_template_is_read_with_its_short_forms(tmp_path: Path) -> None:
    path = tmp_path / "endpoint.yaml"
    path.write_text(
        "Resources:\n  Endpoint:\n    Type: AWS::SageMaker::Endpoint\n    Properties:\n"
        "      DeploymentConfig:\n        AutoRollbackConfiguration:\n          Alarms:\n"
        "            - AlarmName: !Sub ${Project}-errors\n"
    )

    ran = doctor(path)

    assert ran.exit_code == 1
    assert "no template makes the alarm ${Project}-errors" in ran.output


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", "{", "is not valid JSON"),
        ("a.yaml", "a: [", "is not valid YAML"),
        ("a.json", "{}", "is neither a definition, with StartAt and States, nor a template, with Resources"),
        ("a.yaml", "Resources: {A: {}}", "the resource A has no Type"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, name: str, content: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(content)

    assert said in str(doctor(path).output)
    assert doctor(path).exit_code == 1
    with pytest.raises(ConfigurationError, match=said.partition(",")[0]):
        read_project([path], root=ROOT)


def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    assert doctor(tmp_path / "none.json").exit_code == 2
