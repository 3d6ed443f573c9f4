"""The platform goes up after a look at what changes, and away again but for its data: by the commands."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conftest import Local

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
ACCOUNT = "111111111111"


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project of a user's own, with a name of its own, on a runtime that others use too."""

    root: Path
    name: str
    runtime: Local

    @property
    def stack(self) -> str:
        return f"{self.name}-platform"

    @property
    def data_bucket(self) -> str:
        return f"{self.name}-data-{ACCOUNT}-us-east-1"

    def stagegate(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command in a script: nobody is at the terminal."""
        command = [str(BIN / "stagegate"), *arguments]
        return subprocess.run(command, stdin=subprocess.DEVNULL, **self._settings, check=False)

    def at_terminal(self, *arguments: str, types: str) -> subprocess.CompletedProcess[str]:
        """A command at a terminal, where somebody types an answer."""
        leader, follower = pty.openpty()
        os.write(leader, f"{types}\n".encode())
        try:
            command = [str(BIN / "stagegate"), *arguments]
            return subprocess.run(command, stdin=follower, **self._settings, check=False)
        finally:
            os.close(leader)
            os.close(follower)

    def shell(self, command: str) -> None:
        """A command as the user copies it from what was printed."""
        subprocess.run(["bash", "-euc", command], stdin=subprocess.DEVNULL, **self._settings, check=True)

    def change(self, file: str, old: str, new: str) -> None:
        path = self.root / file
        text = path.read_text()
        assert old in text, f"{file} has no {old}"
        path.write_text(text.replace(old, new))

    def set_platform(self, parameters: dict[str, Any]) -> None:
        lines = [f"{name} = {json.dumps(value)}" for name, value in parameters.items()]
        with (self.root / "stagegate.toml").open("a") as file:
            file.write("\n".join(["\n[platform]", *lines, ""]))

    def client(self, service: str) -> Any:
        return self.runtime.client(service)

    def status(self) -> str | None:
        """The stack's; None where there is none."""
        try:
            return self.client("cloudformation").describe_stacks(StackName=self.stack)["Stacks"][0][
                "StackStatus"
            ]
        except ClientError:
            return None

    def change_sets(self) -> list[dict[str, Any]]:
        """Those that nobody has executed."""
        listed = self.client("cloudformation").list_change_sets(StackName=self.stack)["Summaries"]
        return [it for it in listed if it["ExecutionStatus"] == "AVAILABLE"]

    @property
    def _settings(self) -> dict[str, Any]:
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        environment = {"STAGEGATE_PROJECT": self.name, "COLUMNS": "200", "PATH": path}
        return {
            "cwd": self.root,
            "env": self.runtime.environment | environment,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "text": True,
            "timeout": 120,
        }


@pytest.fixture
def project(shared_local: Local, tmp_path: Path) -> Callable[[str], Project]:
    def make(name: str) -> Project:
        root = tmp_path / name
        for folder in ("deploy", "evaluation", "statemachines", "training"):
            shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "stagegate.toml", root)
        return Project(root=root, name=name, runtime=shared_local)

    return make


def test_a_change_is_shown_and_made_after_a_yes_and_not_after_a_no(project):
    shown = project("shown")
    assert shown.stagegate("up").returncode == 0
    shown.change("stagegate.toml", "approver@example.com", "ada@example.com")
    shown.change(
        "deploy/platform.yaml", "TopicName: !Sub ${Project}-approvals", "TopicName: !Sub ${Project}-asked"
    )
    shown.change("deploy/platform.yaml", "RetentionInDays: 365", "RetentionInDays: 400")

    no = shown.at_terminal("up", "--ask", types="n")
    left = (shown.status(), shown.change_sets())
    done = shown.at_terminal("up", "--ask", types="y")
    again = shown.at_terminal("up", "--ask", types="y")

    assert no.returncode == 1 and "Nothing is deployed" in no.stdout
    assert left == ("CREATE_COMPLETE", [])
    assert done.returncode == 0, done.stdout
    rows = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "± replace ApprovalTopic AWS::SNS::Topic TopicName: shown-approvals → shown-asked" in rows
    assert "~ change ApprovalDecisionLog AWS::Logs::LogGroup RetentionInDays: 365 → 400" in rows
    assert (
        "~ change ModelBuild AWS::StepFunctions::StateMachine "
        "DefinitionSubstitutions/Approvers: approver@example.com → ada@example.com"
    ) in rows
    assert "Approvers approver@example.com ada@example.com" in rows
    assert re.search(r"Deploy these \d+ changes\? \[y/N\]:", done.stdout)
    topics = shown.client("sns").list_topics()["Topics"]
    assert f"arn:aws:sns:us-east-1:{ACCOUNT}:shown-asked" in [topic["TopicArn"] for topic in topics]
    assert shown.status() == "UPDATE_COMPLETE"
    assert again.returncode == 0 and "the platform is up to date: no changes" in again.stdout
    listed = shown.client("cloudformation").list_change_sets(StackName=shown.stack)["Summaries"]
    assert {it["ExecutionStatus"] for it in listed} == {"EXECUTE_COMPLETE"}


def test_a_no_leaves_no_stack_where_there_was_none(project):
    declined = project("declined")

    done = declined.at_terminal("up", "--ask", types="n")

    assert done.returncode == 1 and "Nothing is deployed" in done.stdout
    assert declined.status() is None


def test_nobody_is_asked_where_there_is_no_terminal(project):
    scripted = project("scripted")

    up, destroy = scripted.stagegate("up", "--ask"), scripted.stagegate("destroy")

    assert (up.returncode, destroy.returncode) == (1, 1)
    assert "`stagegate up --yes` deploys without a question" in up.stdout
    assert "`stagegate destroy --yes` destroys without a question" in destroy.stdout
    assert scripted.status() is None


def test_what_failed_first_is_said_and_the_next_one_starts_anew(project):
    failing = project("failing")
    failing.change("deploy/platform.yaml", "Runtime: python3.13", "Runtime: cobol85")

    failed = failing.stagegate("up")
    left = failing.status()
    failing.change("deploy/platform.yaml", "Runtime: cobol85", "Runtime: python3.13")
    repaired = failing.stagegate("up")

    assert failed.returncode == 1
    assert "The stack 'failing-platform' ended as ROLLBACK_COMPLETE: Approval" in " ".join(
        failed.stdout.split()
    )
    assert "cobol85" in failed.stdout
    assert left == "ROLLBACK_COMPLETE"
    assert repaired.returncode == 0, repaired.stdout
    assert failing.status() == "CREATE_COMPLETE"


def test_all_goes_but_the_data_which_is_named_and_taken_up_again(project):
    gone = project("gone")
    assert gone.stagegate("up").returncode == 0
    s3, tables, repositories = (gone.client(name) for name in ("s3", "dynamodb", "codecommit"))
    s3.put_object(Bucket=gone.data_bucket, Key="datasets/scenes.zip", Body=b"pictures")
    s3.put_object(Bucket=gone.data_bucket, Key="datasets/scenes.zip", Body=b"other pictures")
    package = register(gone)

    destroyed = gone.stagegate("destroy", "--yes")

    assert destroyed.returncode == 0, destroyed.stdout
    assert gone.status() is None
    machines = gone.client("stepfunctions").list_state_machines()["stateMachines"]
    assert [it for it in machines if it["name"].startswith("gone-")] == []
    buckets = [it["Name"] for it in s3.list_buckets()["Buckets"] if it["Name"].startswith("gone-")]
    assert buckets == [gone.data_bucket]
    kept = destroyed.stdout.partition("Kept, with what would delete it:")[2]
    assert gone.data_bucket in kept and "gone-approval-record" in kept and "gone-models" in kept

    again = gone.stagegate("destroy", "--yes")
    assert again.returncode == 0
    assert "Nothing to destroy" in again.stdout and gone.data_bucket in again.stdout

    assert gone.stagegate("up").returncode == 0
    assert (
        s3.get_object(Bucket=gone.data_bucket, Key="datasets/scenes.zip")["Body"].read() == b"other pictures"
    )
    assert gone.client("sagemaker").describe_model_package(ModelPackageName=package)
    assert "no changes" in gone.stagegate("up").stdout

    destroyed = gone.stagegate("destroy", "--yes")
    for line in destroyed.stdout.partition("Kept, with what would delete it:")[2].splitlines():
        if line.startswith("    "):
            gone.shell(line)
    assert gone.data_bucket not in [it["Name"] for it in s3.list_buckets()["Buckets"]]
    assert "gone" not in [it["repositoryName"] for it in repositories.list_repositories()["repositories"]]
    assert "gone-approval-record" not in tables.list_tables()["TableNames"]
    assert gone.client("sagemaker").list_model_package_groups(NameContains="gone-")[
        "ModelPackageGroupSummaryList"
    ] == []  # fmt: skip


def test_what_runs_is_stopped_the_endpoints_go_first_and_on_aws_the_name_is_typed(project):
    """The target is AWS, and AWS_ENDPOINT_URL leads it to the runtime."""
    running = project("running")
    waits = {"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 86400, "End": True}}}
    (running.root / "statemachines" / "model-deploy.asl.json").write_text(json.dumps(waits))
    assert running.stagegate("up").returncode == 0
    arn = f"arn:aws:states:us-east-1:{ACCOUNT}:stateMachine:running-model-deploy"
    running.client("stepfunctions").start_execution(stateMachineArn=arn, name="waits")
    stacks = running.client("cloudformation")
    parameter = {"Type": "AWS::SSM::Parameter", "Properties": {"Type": "String", "Value": "1"}}
    for stage in ("staging", "production"):
        stacks.create_stack(
            StackName=f"running-{stage}", TemplateBody=json.dumps({"Resources": {"It": parameter}})
        )

    asked = running.at_terminal("--target", "aws", "up", types="n")
    wrong = running.at_terminal("--target", "aws", "destroy", types="yes")
    left = running.status()
    destroyed = running.at_terminal("--target", "aws", "destroy", types="running")

    assert asked.returncode == 1 and "Deploy these" in asked.stdout
    assert wrong.returncode == 1 and f"account {ACCOUNT}, us-east-1, type the project's name" in wrong.stdout
    assert left == "CREATE_COMPLETE"
    assert destroyed.returncode == 0, destroyed.stdout
    assert "executions that run, and are stopped: 1" in destroyed.stdout
    names = ("running-production", "running-staging", "running-platform")
    ends = [destroyed.stdout.index(f"- {name} ") for name in names]
    assert ends == sorted(ends)
    assert running.status() is None


def test_the_platform_goes_into_an_account_s_own_network_with_its_own_key_and_buckets(project):
    own = project("own")
    key = own.client("kms").create_key()["KeyMetadata"]["Arn"]
    for bucket in ("own-logs", "own-pictures"):
        own.client("s3").create_bucket(Bucket=bucket)
    allowed = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    boundary = own.client("iam").create_policy(
        PolicyName="boundary", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    )["Policy"]["Arn"]
    own.set_platform(
        {
            "KmsKeyArn": key,
            "VpcId": "vpc-0123456789abcdef0",
            "VpcSubnetIds": ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"],
            "VpcSecurityGroupIds": ["sg-0123456789abcdef0"],
            "DataBucketName": "own-pictures",
            "LogBucketName": "own-logs",
            "PermissionsBoundaryArn": boundary,
            "AlarmMail": "ops@example.com",
            "MonthlyBudget": 300,
        }
    )

    done = own.stagegate("up")
    again = own.stagegate("up")

    assert done.returncode == 0, done.stdout
    assert "no changes" in again.stdout
    machine = own.client("stepfunctions").describe_state_machine(
        stateMachineArn=f"arn:aws:states:us-east-1:{ACCOUNT}:stateMachine:own-model-build"
    )
    train = json.loads(machine["definition"])["States"]["Train"]["Parameters"]
    assert machine["tracingConfiguration"] == {"enabled": True}
    assert train["VpcConfig"] == {
        "Subnets": ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"],
        "SecurityGroupIds": ["sg-0123456789abcdef0"],
    }
    assert train["OutputDataConfig"]["KmsKeyId"] == key
    role = own.client("iam").get_role(RoleName="own-jobs")["Role"]
    assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == boundary
    policies = own.client("iam").list_attached_role_policies(RoleName="own-jobs")["AttachedPolicies"]
    assert ["KeyPolicy" in policy["PolicyName"] for policy in policies] == [True]
    budgets = own.client("budgets").describe_budgets(AccountId=ACCOUNT)["Budgets"]
    assert [budget["BudgetLimit"]["Amount"] for budget in budgets] == ["300"]
    buckets = [it["Name"] for it in own.client("s3").list_buckets()["Buckets"]]
    assert [name for name in buckets if name.startswith("own-data")] == []
    destroyed = own.stagegate("destroy", "--yes")
    assert destroyed.returncode == 0, destroyed.stdout
    assert "own-pictures" in destroyed.stdout.partition("Kept, with what would delete it:")[2]


@pytest.mark.slow
def test_accounts_of_stages_are_let_in_and_have_the_roles_that_the_platform_then_lacks(project):
    apart = project("apart")
    assert apart.stagegate("up").returncode == 0
    own = roles_of(apart)
    others = {"StagingAccount": "222222222222", "ProductionAccount": "333333333333"}

    apart.set_platform(others)
    assert apart.stagegate("up").returncode == 0

    gone = own - roles_of(apart)
    assert gone == {
        f"apart-{it}" for it in ("stage", "stage-reader", "stacks", "endpoints", "endpoint-tests")
    }
    roots = [f"arn:aws:iam::{account}:root" for account in others.values()]
    s3, sagemaker = apart.client("s3"), apart.client("sagemaker")
    documents = [
        s3.get_bucket_policy(Bucket=apart.data_bucket)["Policy"],
        s3.get_bucket_policy(Bucket=f"apart-assets-{ACCOUNT}-us-east-1")["Policy"],
        sagemaker.get_model_package_group_policy(ModelPackageGroupName="apart-models")["ResourcePolicy"],
    ]
    for document in documents:
        allowed = [it for it in json.loads(document)["Statement"] if it["Effect"] == "Allow"]
        assert allowed and all(it["Principal"]["AWS"] == roots for it in allowed)
    credentials = {
        state["Credentials"]["RoleArn"] for state in states_of(apart).values() if "Credentials" in state
    }
    assert credentials == {f"arn:aws:iam::{account}:role/apart-stage" for account in others.values()}

    stacks = apart.client("cloudformation")
    given = {"Project": "apart", "PlatformAccount": ACCOUNT, "AssetsBucket": "a", "DataBucketName": "d"}
    stacks.create_stack(
        StackName="apart-account",
        TemplateBody=(apart.root / "deploy" / "account.yaml").read_text(),
        Capabilities=["CAPABILITY_NAMED_IAM"],
        Parameters=[{"ParameterKey": name, "ParameterValue": given[name]} for name in given],
    )
    stacks.get_waiter("stack_create_complete").wait(StackName="apart-account")
    assert roles_of(apart) == own

    stacks.delete_stack(StackName="apart-account")
    stacks.get_waiter("stack_delete_complete").wait(StackName="apart-account")
    (apart.root / "stagegate.toml").write_text((ROOT / "stagegate.toml").read_text())
    assert apart.stagegate("up").returncode == 0

    assert roles_of(apart) == own
    with pytest.raises(ClientError, match="resource policy"):
        sagemaker.get_model_package_group_policy(ModelPackageGroupName="apart-models")


def roles_of(project: Project) -> set[str]:
    pages = project.client("iam").get_paginator("list_roles").paginate()
    names = {role["RoleName"] for page in pages for role in page["Roles"]}
    return {name for name in names if name.startswith(f"{project.name}-")}


def states_of(project: Project) -> dict[str, Any]:
    arn = f"arn:aws:states:us-east-1:{ACCOUNT}:stateMachine:{project.name}-model-deploy"
    machine = project.client("stepfunctions").describe_state_machine(stateMachineArn=arn)
    states: dict[str, Any] = json.loads(machine["definition"])["States"]
    return states


def test_a_parameter_that_there_is_not_is_refused(project):
    wrong = project("wrong")
    wrong.set_platform({"KmsKey": "arn"})

    done = wrong.stagegate("up")

    assert done.returncode == 1
    assert "[platform] sets KmsKey, which deploy/platform.yaml has no parameter for" in done.stdout


def register(project: Project) -> str:
    """A model package in the project's group."""
    container = {"Image": "x", "ModelDataUrl": f"s3://{project.data_bucket}/runs/r-1/model.tar.gz"}
    package: str = project.client("sagemaker").create_model_package(
        ModelPackageGroupName=f"{project.name}-models",
        ModelApprovalStatus="PendingManualApproval",
        InferenceSpecification={
            "Containers": [container],
            "SupportedContentTypes": ["image/jpeg"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
    )["ModelPackageArn"]
    return package
