"""`stagegate cost`: what is counted, what it is multiplied with, and what is said of the unknown."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from stagegate.cli import main
from stagegate.cost import (
    PRICES,
    Assumptions,
    Usage,
    estimate,
    measured_minutes,
    read_prices,
    read_usage,
    summary,
)
from stagegate.cost.route import repeated, route
from stagegate.cost.shown import shown_dollars
from stagegate.cost.usage import Endpoint, Job
from stagegate.doctor import default_files, project_of, read_project
from stagegate.doctor.project import Definition
from stagegate.errors import ConfigurationError

ROOT = Path(__file__).parent.parent
NOWHERE = "http://127.0.0.1:9"

TABLE = """
date = 2026-01-31
region = "us-east-1"
note = "made up"

[prices]
"sagemaker:storage" = {usd = 0.73, unit = "GB-month", source = "https://x"}
"step-functions:transition" = {usd = 0.01, unit = "transition", source = "https://x"}
"codebuild:SMALL" = {usd = 0.5, unit = "minute", source = "https://x"}
"lambda:duration" = {usd = 0.1, unit = "GB-second", source = "https://x"}
"lambda:request" = {usd = 0.2, unit = "request", source = "https://x"}
"s3:storage" = {usd = 0.25, unit = "GB-month", source = "https://x"}
"s3:put" = {usd = 0.01, unit = "request", source = "https://x"}
"s3:get" = {usd = 0.001, unit = "request", source = "https://x"}
"ses:mail" = {usd = 3, unit = "mail", source = "https://x"}
"sns:mail" = {usd = 2, unit = "mail", source = "https://x"}
"eventbridge:event" = {usd = 0.02, unit = "event", source = "https://x"}
"dynamodb:write" = {usd = 0.2, unit = "write", source = "https://x"}
"dynamodb:read" = {usd = 0.1, unit = "read", source = "https://x"}
"cloudwatch:alarm" = {usd = 1, unit = "alarm-month", source = "https://x"}
"logs:ingestion" = {usd = 4, unit = "GB", source = "https://x"}
"secretsmanager:secret" = {usd = 5, unit = "secret-month", source = "https://x"}
"secretsmanager:request" = {usd = 0.5, unit = "request", source = "https://x"}
"kms:key" = {usd = 7, unit = "key-month", source = "https://x"}

[instances.training]
source = "https://x"
"ml.big" = 6

[instances.hosting]
source = "https://x"
"ml.small" = 0.1
"""

USAGE = Usage(
    jobs=(
        Job(state="Train", kind="training", machine="ml.big", count=2, volume_gb=10),
        Job(state="Test", kind="codebuild", machine="SMALL", count=1, volume_gb=0),
    ),
    transitions=10,
    waits=(3,),
    poll_seconds=60,
    approvals=1,
    calls=2,
    function_gb=Decimal("0.5"),
    reads=1,
    writes=2,
    endpoints=(
        Endpoint(stage="production", instance_type="ml.small", instance_count=2, alarms=5),
        Endpoint(stage="staging", instance_type="ml.small", instance_count=1, alarms=2),
    ),
    alarms=1,
    secrets=2,
    keys=1,
)

ASSUMED = Assumptions(
    runs=10,
    staging_hours=365,
    training_minutes=30,
    test_minutes=1.5,
    storage_gb=8,
    deployment_minutes=5,
    function_seconds=2,
    puts=100,
    gets=1000,
    log_gb=0.5,
    approval_reads=4,
    approval_writes=3,
)


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    path = tmp_path / "prices.toml"
    path.write_text(TABLE)
    return path


def stagegate(*arguments: str) -> Result:
    return CliRunner().invoke(
        main, ["--endpoint-url", NOWHERE, "cost", *arguments], env={"COLUMNS": "160", "AWS_REGION": ""}
    )


def costs(bill: Any) -> dict[str, Decimal | None]:
    return {line.item: None if line.usd is None else round(line.usd, 10) for line in bill.lines}


def test_a_run_is_the_sum_of_its_items(prices: Path) -> None:
    estimated = estimate(USAGE, read_prices(prices), ASSUMED, approvers=3, mails_by="ses")

    assert costs(estimated.run) == {
        "Train: ml.big": Decimal(6),  # 2 instances, half an hour
        "Test: SMALL": Decimal(1),  # 1.5 minutes are 2
        "Jobs: volumes": Decimal("0.01"),
        "Step Functions: transitions": Decimal("0.22"),  # 10, and 4 more rounds of 3
        "Lambda: duration": Decimal("0.4"),  # 2 calls, the page, the decision
        "Lambda: requests": Decimal("0.8"),
        "SES: mails": Decimal(9),
        "DynamoDB: reads": Decimal("0.5"),
        "DynamoDB: writes": Decimal(1),
        "S3: writes": Decimal(1),
        "S3: reads": Decimal(1),
        "EventBridge: events of S3": Decimal(2),
        "Secrets Manager: requests": Decimal(2),
        "CloudWatch Logs": Decimal(2),
    }
    assert round(estimated.run.usd, 10) == Decimal("26.93")
    assert estimated.run.is_complete


def test_a_month_is_its_runs_and_what_stands(prices: Path) -> None:
    estimated = estimate(USAGE, read_prices(prices), ASSUMED, approvers=3, mails_by="ses")

    assert costs(estimated.month) == {
        "Runs": Decimal("269.30"),
        "Endpoint production: 2 × ml.small": Decimal(146),
        "Endpoint staging: 1 × ml.small": Decimal("36.5"),
        "CloudWatch: alarms": Decimal(7),  # staging's two stand half of the month
        "Secrets Manager: secrets": Decimal(10),
        "KMS: keys": Decimal(7),
        "S3: storage": Decimal(2),
    }
    assert round(estimated.month.usd, 10) == Decimal("477.80")


def test_a_measured_job_is_not_assumed(prices: Path) -> None:
    measured = {"Train": 6.0, "Another": 1.0}

    estimated = estimate(USAGE, read_prices(prices), ASSUMED, measured=measured)

    assert costs(estimated.run)["Train: ml.big"] == Decimal("1.2")
    assert costs(estimated.run)["SNS: mails"] == Decimal(2)
    assert estimated.measured == {"Train": 6.0}


class Histories:
    """Step Functions with executions of one state machine: the histories by their ARNs."""

    def __init__(self, histories: dict[str, list[dict[str, Any]]]) -> None:
        self._histories = histories

    def __call__(self, service: str) -> "Histories":
        assert service == "stepfunctions"
        return self

    def list_executions(self, *, stateMachineArn: str, statusFilter: str, maxResults: int) -> dict[str, Any]:
        return {"executions": [{"executionArn": arn} for arn in self._histories]}

    def get_paginator(self, operation: str) -> Any:
        assert operation == "get_execution_history"
        return SimpleNamespace(paginate=lambda executionArn: [{"events": self._histories[executionArn]}])


def job_history(resource: str, *, seconds: float) -> list[dict[str, Any]]:
    """An execution with one task, in a state named Work."""
    began = datetime(2026, 1, 31, tzinfo=UTC)
    ended = began + timedelta(seconds=seconds)
    scheduled = {"resourceType": "sagemaker", "resource": resource, "parameters": "{}"}
    events: list[tuple[str, datetime, dict[str, Any]]] = [
        ("ExecutionStarted", began, {}),
        ("TaskStateEntered", began, {"stateEnteredEventDetails": {"name": "Work"}}),
        ("TaskScheduled", began, {"taskScheduledEventDetails": scheduled}),
        ("TaskStateExited", ended, {"stateExitedEventDetails": {"name": "Work"}}),
        ("ExecutionSucceeded", ended, {}),
    ]
    return [
        {"id": number, "previousEventId": number - 1, "type": kind, "timestamp": at, **details}
        for number, (kind, at, details) in enumerate(events, start=1)
    ]


def test_a_job_takes_the_mean_of_past_runs() -> None:
    platform: Any = SimpleNamespace(state_machines=("arn:build",))
    services: Any = Histories(
        {
            "arn:1": job_history("createTrainingJob.sync", seconds=60),
            "arn:2": job_history("createTrainingJob.sync", seconds=180),
        }
    )

    assert measured_minutes(services, platform) == {"Work": 2.0}


def test_what_is_no_job_is_not_measured() -> None:
    platform: Any = SimpleNamespace(state_machines=("arn:build",))
    services: Any = Histories({"arn:1": job_history("invoke.waitForTaskToken", seconds=60)})

    assert measured_minutes(services, platform) == {}


def test_without_a_price_a_line_is_unknown_and_the_sums_are_at_least(prices: Path) -> None:
    job = replace(USAGE.jobs[0], machine="ml.odd")

    estimated = estimate(replace(USAGE, jobs=(job,)), read_prices(prices), ASSUMED)

    assert costs(estimated.run)["Train: ml.odd"] is None
    assert costs(estimated.month)["Runs: Train: ml.odd"] is None
    assert not estimated.run.is_complete and not estimated.month.is_complete
    assert all("costs at least $" in line for line in summary(estimated))


def test_the_summary_names_the_tables_date(prices: Path) -> None:
    estimated = estimate(USAGE, read_prices(prices), ASSUMED, approvers=3, mails_by="ses")

    assert summary(estimated) == (
        "A run on AWS costs $26.93 at the list prices of 2026-01-31, us-east-1.",
        "A month of 10 runs, with its endpoints, costs $477.80 at the list prices of 2026-01-31.",
    )


def test_ours_is_read_from_definitions_templates_and_stages() -> None:
    usage = read_usage(read_project(default_files(ROOT), root=ROOT), root=ROOT)

    assert [(job.state, job.kind, job.machine, job.count, job.volume_gb) for job in usage.jobs] == [
        ("Build", "codebuild", "BUILD_GENERAL1_MEDIUM", 1, 0),
        ("Preprocess", "processing", "ml.m5.xlarge", 1, 30),
        ("Train", "training", "ml.g5.xlarge", 1, 30),
        ("Evaluate", "processing", "ml.m5.xlarge", 1, 30),
        ("TestStaging", "codebuild", "BUILD_GENERAL1_SMALL", 1, 0),
        ("TestProduction", "codebuild", "BUILD_GENERAL1_SMALL", 1, 0),
    ]
    assert usage.endpoints == (
        Endpoint(stage="production", instance_type="ml.m5.large", instance_count=2, alarms=5),
        Endpoint(stage="staging", instance_type="ml.m5.large", instance_count=1, alarms=3),
    )
    assert (usage.approvals, usage.calls, usage.waits) == (2, 4, (3, 5, 3, 3))
    assert (usage.reads, usage.writes, usage.secrets, usage.keys, usage.alarms) == (3, 10, 2, 0, 5)
    assert 120 <= usage.transitions <= 160


def test_ours_has_a_price_for_everything() -> None:
    table = read_prices(PRICES)
    usage = read_usage(read_project(default_files(ROOT), root=ROOT), root=ROOT)

    for mails_by in ("ses", "sns"):
        assert estimate(replace(usage, keys=1), table, Assumptions(), mails_by=mails_by).month.is_complete
    assert isinstance(table.date, date)
    assert all(price.source.startswith("https://aws.amazon.com/") for price in table.prices.values())


@pytest.mark.parametrize("kind", ["training", "processing", "hosting"])
def test_the_table_has_each_kind_of_instance(kind: str) -> None:
    assert f"{kind}:ml.g5.xlarge" in read_prices(PRICES).prices


def test_the_way_is_the_one_with_the_most_tasks_that_ends_in_success() -> None:
    def choice(*names: str) -> dict[str, Any]:
        return {"Type": "Choice", "Choices": [{"Next": name} for name in names], "Default": "Bad"}

    def task(then: str) -> dict[str, Any]:
        return {"Type": "Task", "Resource": "arn:aws:states:::sns:publish", "Next": then}

    definition = Definition(
        file="x.json",
        body={
            "StartAt": "Ask",
            "States": {
                "Ask": choice("Good", "Wait", "Long"),
                "Wait": {"Type": "Wait", "Seconds": 1, "Next": "Ask"},
                "Long": task("Longer"),
                "Longer": task("Good"),
                "Good": {"Type": "Succeed"},
                "Bad": {"Type": "Fail"},
            },
        },
    )
    states = {state.name: state for state in definition.states}

    assert [state.name for state in route(definition)] == ["Ask", "Long", "Longer", "Good"]
    assert (repeated(states["Wait"]), repeated(states["Long"])) == (2, 0)


def test_an_instance_type_that_only_a_run_knows_is_unknown() -> None:
    job = {
        "Type": "Task",
        "Resource": "arn:aws:states:::sagemaker:createTrainingJob.sync",
        "Parameters": {"ResourceConfig": {"InstanceType.$": "$.Type", "InstanceCount": 1}},
        "End": True,
    }
    project = project_of({"x.asl.json": {"StartAt": "Train", "States": {"Train": job}}})

    usage = read_usage(project, root=ROOT / "nowhere")

    assert usage.jobs == (Job(state="Train", kind="training", machine="unknown", count=1, volume_gb=0),)


def test_the_command_prints_both_sums_and_what_they_rest_on(prices: Path) -> None:
    printed = stagegate("--prices", str(prices), "--runs", "7", "--training-minutes", "90")

    assert printed.exit_code == 0, printed.output
    for said in (
        "A run",
        "A month",
        "Train: ml.g5.xlarge",
        "unknown",
        "at least $",
        "List prices of 2026-01-31",
    ):
        assert said in printed.output
    assert f"durations are assumed: nothing answers at {NOWHERE}" in printed.output


@pytest.mark.parametrize(
    ("usd", "said"),
    [
        ("0", "$0.00"),
        ("0.00001", "under $0.0001"),
        ("0.0383", "$0.0383"),
        ("167.9", "$167.90"),
    ],
)
def test_small_sums_are_not_rounded_away(usd: str, said: str) -> None:
    assert shown_dollars(Decimal(usd)) == said


def test_json_has_the_lines_the_sums_and_the_assumptions(prices: Path) -> None:
    answered = json.loads(stagegate("--json", "--runs", "3", "--prices", str(prices)).stdout)

    assert answered["prices"] == {"date": "2026-01-31", "region": "us-east-1", "note": "made up"}
    assert answered["run"]["is_complete"] is False
    assert answered["month"]["lines"][0]["quantity"] == 3
    train = next(line for line in answered["run"]["lines"] if line["item"].startswith("Train"))
    assert train == {
        "item": "Train: ml.g5.xlarge",
        "quantity": 1,
        "unit": "hour",
        "usd_each": None,
        "usd": None,
    }
    assert (answered["assumed"]["runs"], answered["assumed"]["staging_hours"]) == (3, 730)
    assert answered["measured_minutes"] == {}


@pytest.mark.parametrize(
    "wrong",
    [
        ("--runs", "-1"),
        ("--staging-hours", "-1"),
        ("--staging-hours", "731"),
        ("--training-minutes", "nan"),
        ("--storage-gb", "inf"),
        ("--prices", "nowhere.toml"),
    ],
)
def test_a_wrong_flag_is_wrong_usage(wrong: tuple[str, str]) -> None:
    refused = stagegate(*wrong)

    assert refused.exit_code == 2
    assert f"Invalid value for '{wrong[0]}'" in refused.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("date = ", "is not valid TOML"),
        ("region = 'x'", "date is None; it should be a day"),
        ("date = 2026-01-31", "region is None; it should be as us-east-1"),
        ("date = 2026-01-31\nregion = 'x'\nprices = 1", "prices is 1; it should be a table"),
        ("date = 2026-01-31\nregion = 'x'\n[prices]\na = 1", "the price a should have usd, unit and source"),
        (
            "date = 2026-01-31\nregion = 'x'\n[prices.a]\nusd = -1\nunit = 'x'\nsource = 'x'",
            "a is -1; it should be US dollars, 0 or more",
        ),
        (
            "date = 2026-01-31\nregion = 'x'\n[instances.toys]\nsource = 'x'",
            "instances.toys should be a table",
        ),
    ],
)
def test_a_price_table_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(text)

    refused = stagegate("--prices", str(path))

    assert refused.exit_code == 1
    assert message in refused.output.replace("\n", " ")


def test_a_stage_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "staging.json").write_text('{"Parameters": {"InstanceType": "ml.m5.large"}}')

    with pytest.raises(ConfigurationError, match="should have Parameters with InstanceType, InstanceCount"):
        read_usage(project_of({}), root=tmp_path)
