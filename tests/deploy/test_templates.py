"""The templates are clean, and the stages differ in their parameter file alone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stagegate.local.stacks.intrinsics import Evaluator
from stagegate.local.stacks.template import parse
from tests.workflows.conftest import ROOT, read_machine

DEPLOY = ROOT / "deploy"
STAGES = ("staging", "production")


@pytest.mark.parametrize("template", ["platform.yaml", "account.yaml", "endpoint.yaml"])
def test_a_template_passes_cfn_lint(template: str) -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "cfn-lint", DEPLOY / template], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("template", ["platform.yaml", "account.yaml", "endpoint.yaml"])
def test_a_template_passes_cfn_lint_with_every_optional_parameter_set(template: str, tmp_path: Path) -> None:
    declared = parse((DEPLOY / template).read_text()).parameters
    required = {name: "given" for name, it in declared.items() if "Default" not in it}
    given = required | stage_parameters("production") | OPTIONAL
    parameters = tmp_path / "parameters.json"
    parameters.write_text(
        json.dumps(
            [{"ParameterKey": it, "ParameterValue": given[it]} for it in sorted(given.keys() & declared)]
        )
    )

    done = subprocess.run(
        [
            Path(sys.executable).parent / "cfn-lint",
            *(DEPLOY / template, "--parameter-files", parameters),
        ],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout + done.stderr


OPTIONAL = {
    "DataBucketName": "pictures",
    "LogBucketName": "logs",
    "KmsKeyArn": "arn:aws:kms:us-east-1:111111111111:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    "VpcId": "vpc-0123456789abcdef0",
    "VpcSubnetIds": ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"],
    "VpcSecurityGroupIds": ["sg-0123456789abcdef0"],
    "PermissionsBoundaryArn": "arn:aws:iam::111111111111:policy/boundary",
    "SenderEmail": "releases@example.com",
    "WebhookUrl": "https://chat.example.com/hook",
    "AlarmMail": "ops@example.com",
    "PlatformAccount": "111111111111",
    "StagingAccount": "222222222222",
    "StagingSubnetIds": "subnet-0123456789abcdef2",
    "StagingSecurityGroupIds": "sg-0123456789abcdef1",
    "ProductionAccount": "333333333333",
    "MonthlyBudget": "300",
}


def stage_parameters(stage: str) -> dict[str, str]:
    parameters: dict[str, str] = json.loads((DEPLOY / f"{stage}.json").read_text())["Parameters"]
    return parameters


def given_parameters() -> set[str]:
    settings: dict[str, Any] = read_machine("model-deploy")["States"]["Settings"]["Parameters"]
    given = [settings["Parameters"]["Given"], settings["Accounts"]["Staging"]]
    assert keys_of(settings["Accounts"]["Production"]) == keys_of(settings["Accounts"]["Staging"])
    return set().union(*map(keys_of, given))


def keys_of(parameters: dict[str, Any]) -> set[str]:
    return {parameter["ParameterKey"] for parameter in parameters["List"]}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_gives_every_parameter_that_the_machine_does_not(stage: str) -> None:
    template = (DEPLOY / "endpoint.yaml").read_text()
    section = template.partition("Parameters:")[2].partition("\nConditions:")[0]
    declared = {line.strip(" :") for line in section.splitlines() if line[:2] == "  " and line[2:3].isalpha()}

    assert set(stage_parameters(stage)) | given_parameters() == declared
    assert not set(stage_parameters(stage)) & given_parameters()
    assert stage_parameters(stage)["Stage"] == stage


@pytest.mark.parametrize(
    ("percent", "shifting", "routing"),
    [
        ("0", "LINEAR", {"Type": "ALL_AT_ONCE"}),
        ("10", "CANARY", {"Type": "CANARY", "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": "10"}}),
        ("50", "LINEAR", {"Type": "LINEAR", "LinearStepSize": {"Type": "CAPACITY_PERCENT", "Value": "50"}}),
    ],
)
def test_traffic_moves_at_once_by_a_canary_or_in_steps(
    percent: str, shifting: str, routing: dict[str, Any]
) -> None:
    template = parse((DEPLOY / "endpoint.yaml").read_text())
    parameters = stage_parameters("production") | dict.fromkeys(given_parameters(), "x")
    given = parameters | {"CanaryPercent": percent, "Shifting": shifting, "BakingSeconds": "0"}
    evaluator = Evaluator(
        template=template, parameters=given, pseudo={"AWS::Region": "us-east-1"}, resources=Nothing()
    )

    endpoint = evaluator.value(template.resources["Endpoint"]["Properties"])

    policy = endpoint["DeploymentConfig"]["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    policy.pop("WaitIntervalInSeconds")
    assert policy == routing
    assert ("AutoRollbackConfiguration" in endpoint["DeploymentConfig"]) == (percent != "0")


def test_an_account_of_its_own_has_what_the_platform_makes_for_stages_in_its_account() -> None:
    """But that its registry, and who may act in it, are the platform's."""
    platform = parse((DEPLOY / "platform.yaml").read_text()).resources
    account = json.loads(
        json.dumps(parse((DEPLOY / "account.yaml").read_text()).resources).replace(
            "${PlatformAccount}", "${AWS::AccountId}"
        )
    )

    made = {name for name, it in platform.items() if it.get("Condition") == "HasStage"}

    assert account.keys() == made | {"KeyPolicy"}
    for name in made:
        assert {**account[name], "Condition": "HasStage"} == platform[name], name
    policies = [it["KeyPolicy"]["Properties"]["PolicyDocument"] for it in (account, platform)]
    assert policies[0] == policies[1]


def test_stages_in_accounts_of_their_own_may_use_the_platform_s_data_and_no_others() -> None:
    both = {"StagingAccount": "222222222222", "ProductionAccount": "333333333333"}

    statements = ("StagesRead", "StagesWrite", "StagesList", "StagesFind", "StagesDeploy")
    roots = ("arn:aws:iam::222222222222:root", "arn:aws:iam::333333333333:root")
    assert dict(let_in(both)) == dict.fromkeys(statements, roots)
    assert dict(let_in(dict.fromkeys(both, "222222222222"))) == dict.fromkeys(statements, roots[:1])
    assert let_in(dict.fromkeys(both, "")) == []


def let_in(accounts: dict[str, str]) -> list[tuple[str, tuple[str, ...]]]:
    """Whom the policies of the data bucket and of the model package group let in, by their statements."""
    template = parse((DEPLOY / "platform.yaml").read_text())
    defaults = {name: it.get("Default", "given") for name, it in template.parameters.items()}
    evaluator = Evaluator(
        template=template,
        parameters=defaults | accounts,
        pseudo={"AWS::Region": "us-east-1", "AWS::Partition": "aws", "AWS::AccountId": "111111111111"},
        resources=Nothing(),
    )
    bucket = evaluator.value(template.resources["DataBucketPolicy"]["Properties"])["PolicyDocument"]
    group = evaluator.value(template.resources["ModelPackageGroup"]["Properties"])
    return [
        (statement["Sid"], tuple(statement["Principal"]["AWS"]))
        for document in (bucket, group.get("ModelPackageGroupPolicy", {"Statement": []}))
        for statement in document["Statement"]
        if statement["Effect"] == "Allow"
    ]


class Nothing:
    """Resources that are not there yet."""

    def ref(self, logical_id: str) -> str:
        return logical_id

    def attribute(self, logical_id: str, name: str) -> str:
        return f"{logical_id}.{name}"

    def imported(self, name: str) -> str:
        raise LookupError(name)
