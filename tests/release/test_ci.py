"""git push: what a commit changed is what happens, from the repository of the local runtime to its mails."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stagegate import pipeline
from stagegate.inbox import approve_by_link, read_inbox
from tests.release.conftest import ROOT, Installation, installed

PROJECT = (
    *("deploy", "evaluation", "statemachines", "training", "workflows"),
    *("pyproject.toml", "stagegate.toml"),
)
SETTINGS = """
accuracy_threshold = 0.0
approvers = ["approver@example.com"]

[preprocess]
image-size = "32"

[hyperparameters]
epochs = "1"

[platform]
RetrainSchedule = "cron(0 3 1 1 ? 2099)"
"""
TEST = "def test_it():\n    assert 1 == 1\n"


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A project of its own, and the runtime that it is pushed to."""

    folder: Path
    installation: Installation

    def commit(self, path: str, text: str, message: str) -> str:
        """Change a file, commit, push; gives the commit's id."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return self.push(message)

    def push(self, message: str) -> str:
        git(self.folder, "add", "--all")
        git(self.folder, "commit", "--quiet", "--message", message)
        git(self.folder, "push", "--quiet", "local", "main")
        return git(self.folder, "rev-parse", "HEAD")

    def runs(self, machine: str) -> list[tuple[str, dict]]:
        """The ARN and the input of each execution of a state machine, oldest first."""
        states, platform = self.installation.services("stepfunctions"), self.installation.platform
        arns = [
            run.arn
            for run in reversed(pipeline.list_runs(self.installation.services, platform, limit=100))
            if run.state_machine == f"stagegate-{machine}"
        ]
        inputs = [states.describe_execution(executionArn=arn)["input"] for arn in arns]
        return [(arn, json.loads(given)) for arn, given in zip(arns, inputs, strict=True)]

    def run_of(self, machine: str, **given: str) -> tuple[str, dict]:
        """The first execution whose input has these members, once there is one."""
        return self.installation.wait_for(
            lambda: next((it for it in self.runs(machine) if it[1].items() >= given.items()), None)
        )

    def ended(self, arn: str) -> tuple[str, str, str]:
        last = self.installation.follow(arn)[-1]
        return last.status, last.error, last.cause


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    for name in PROJECT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    (folder / "stagegate.toml").write_text(SETTINGS)
    (folder / ".gitignore").write_text("__pycache__/\nreports/\n")
    for name in ("deploy", "evaluation", "training", "workflows"):
        (folder / "tests" / name).mkdir(parents=True)
        (folder / "tests" / name / f"test_{name}.py").write_text(TEST)
    with installed(folder, tmp_path_factory.mktemp("data"), trains=True) as installation:
        git(folder, "init", "--quiet", "--initial-branch", "main")
        git(folder, "config", "user.email", "ann@example.com")
        git(folder, "config", "user.name", "Ann")
        git(folder, "remote", "add", "local", installation.platform.clone_url)
        yield Repository(folder=folder, installation=installation)


@pytest.fixture(scope="module")
def with_data(repository, scenes):
    """A run of the dataset that came, which asks a person."""
    platform, services = repository.installation.platform, repository.installation.services
    services("s3").upload_file(str(scenes), platform.data_bucket, "datasets/scenes.zip")
    arn, given = repository.run_of("model-build")
    repository.installation.follow_until_asked(arn)
    return given


@pytest.fixture(scope="module")
def pushed(repository, with_data):
    """The first commit, which changes a hyperparameter."""
    settings = SETTINGS.replace('epochs = "1"', 'epochs = "2"')
    return repository.commit("stagegate.toml", settings, "Train for two epochs")


@pytest.fixture(scope="module")
def built(repository, pushed):
    """The run of that commit, which asks a person, and its ci, which has ended."""
    ci, _ = repository.run_of("ci", Commit=pushed)
    assert repository.ended(ci)[0] == "SUCCEEDED"
    return repository.run_of("model-build", Commit=pushed)


def test_data_that_comes_is_built_with_what_the_platform_is_made_of(repository, with_data):
    platform, given = repository.installation.platform, dict(with_data)

    assert re.fullmatch(r"e-[0-9a-f-]{36}", given.pop("RunId"))
    assert re.fullmatch(r"s3://stagegate-assets-\d+-us-east-1/code/[0-9a-f]{16}", given.pop("CodeUri"))
    assert given == {
        "Trigger": "new data",
        "DatasetUri": f"s3://{platform.data_bucket}/datasets/scenes.zip",
        "StartedBy": "events.amazonaws.com",
        "Commit": "uncommitted",
        "AccuracyThreshold": 0.0,
        "HyperParameters": {"epochs": "1"},
        "Preprocess": {"image-size": "32"},
    }


def test_an_alarm_and_a_schedule_start_runs_of_the_newest_dataset(repository, with_data):
    services, platform = repository.installation.services, repository.installation.platform
    alarm = {"Namespace": "x", "MetricName": "x", "Statistic": "Sum", "Period": 60, "EvaluationPeriods": 1}
    services("cloudwatch").put_metric_alarm(
        AlarmName="stagegate-retrain-drift",
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="ignore",
        **alarm,
    )
    due = f"at({datetime.now(UTC) + timedelta(seconds=2):%Y-%m-%dT%H:%M:%S})"
    schedule = services("scheduler").get_schedule(Name="stagegate-retrain")

    services("cloudwatch").set_alarm_state(
        AlarmName="stagegate-retrain-drift", StateValue="ALARM", StateReason="the data drifts"
    )
    services("scheduler").update_schedule(
        **{name: schedule[name] for name in ("Name", "Target", "FlexibleTimeWindow")}, ScheduleExpression=due
    )

    for trigger in ("alarm stagegate-retrain-drift", "schedule stagegate-retrain"):
        arn, given = repository.run_of("model-build", Trigger=trigger)
        found = repository.installation.wait_for(lambda arn=arn: dataset_of(services, arn))
        services("stepfunctions").stop_execution(executionArn=arn)
        assert found == f"s3://{platform.data_bucket}/datasets/scenes.zip"
        assert given["HyperParameters"] == {"epochs": "1"}


def dataset_of(services, arn):
    """What TakeNewest has found; None before."""
    history = services("stepfunctions").get_execution_history(executionArn=arn, maxResults=1000)["events"]
    exits = (event.get("stateExitedEventDetails", {}) for event in history)
    outputs = (json.loads(it["output"]) for it in exits if it.get("name") == "TakeNewest")
    return next((output["Run"]["DatasetUri"] for output in outputs), None)


def test_a_changed_hyperparameter_ends_with_a_new_model_that_waits_for_approval(repository, pushed, built):
    _, given = built
    (mail,) = repository.installation.wait_for(
        lambda: [it for it in read_inbox(repository.installation.config) if given["RunId"] in it.subject]
    )
    outputs = {
        parameter["ParameterKey"]: parameter["ParameterValue"]
        for parameter in repository.installation.services("cloudformation").describe_stacks(
            StackName="stagegate-platform"
        )["Stacks"][0]["Parameters"]
    }

    assert given["HyperParameters"] == {"epochs": "2"}
    assert given["Trigger"] == f"commit {pushed} of stagegate/main"
    assert given["StartedBy"] == "ann@example.com"
    assert mail.subject == f"Approval: Register the model of run {given['RunId']}"
    assert "s3://stagegate-data-111111111111-us-east-1/datasets/scenes.zip" in mail.text
    assert (outputs["Commit"], json.loads(outputs["HyperParameters"])) == (pushed, {"epochs": "2"})


def test_a_broken_test_ends_with_a_mail_that_says_which(repository, built):
    before = [arn for arn, _ in repository.runs("model-build")]
    broken = TEST.replace("1 == 1", "1 == 2, 'the loss is no number'")
    commit = repository.commit("tests/training/test_training.py", broken, "Break a test")
    ci, _ = repository.run_of("ci", Commit=commit)

    status, error, cause = repository.ended(ci)

    (mail,) = repository.installation.wait_for(
        lambda: [it for it in read_inbox(repository.installation.config) if "BuildFailed" in it.subject]
    )
    assert (status, error) == ("FAILED", "BuildFailed")
    assert mail.subject == "stagegate ci: BuildFailed"
    text = "\n".join(mail.text.splitlines())
    assert f"Commit {commit} by ann@example.com did not pass.\nTests that failed:\n" in text
    assert "tests.training.test_training::test_it: AssertionError: the loss is no number" in mail.text
    assert cause in text
    assert [arn for arn, _ in repository.runs("model-build")] == before


@pytest.mark.slow
def test_a_changed_production_json_ends_with_a_deployment_of_the_champion(repository, built):
    installation = repository.installation
    _, given = built
    mails = installation.wait_for(
        lambda: [mail for mail in read_inbox(installation.config) if given["RunId"] in mail.subject]
    )
    approve_by_link(mails[0], comment="better")
    release, event = repository.run_of("model-deploy")
    installation.follow_until_asked(release)
    approve_by_link(about_production(installation, 1)[0], comment="staging is fine")
    assert repository.ended(release)[0] == "SUCCEEDED"
    file = repository.folder / "deploy" / "production.json"
    stage = json.loads(file.read_text())
    stage["Parameters"]["MaxInstanceCount"] = "5"
    (repository.folder / "tests/training/test_training.py").write_text(TEST)

    commit = repository.commit("deploy/production.json", json.dumps(stage), "Five instances at most")
    ci, _ = repository.run_of("ci", Commit=commit)
    assert repository.ended(ci)[0] == "SUCCEEDED"
    champion, started = repository.run_of("model-deploy", Trigger=f"commit {commit} of stagegate/main")
    installation.follow_until_asked(champion)

    asked = about_production(installation, 2)
    assert started["ModelPackageArn"] == event["ModelPackageArn"]
    assert "ScalableTarget" in re.search(r"Changes: .*", asked[1].text).group()
    approve_by_link(asked[1], comment="five it is")
    assert repository.ended(champion)[0] == "SUCCEEDED"


def about_production(installation, count):
    """The mails that ask about production, once there are `count`; other runs ask about their models."""

    def look():
        mails = [mail for mail in installation.approval_mails(count) if "production" in mail.subject]
        return mails if len(mails) >= count else []

    return installation.wait_for(look)


def test_no_role_asked_for_what_its_policies_do_not_allow(repository, built):
    assert repository.installation.refused() == []
