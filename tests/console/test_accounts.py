"""Consoles of several accounts and regions, side by side, by the profiles of AWS's configuration files."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import boto3
import pytest

from tests.conftest import ROOT, SETTINGS, Local
from tests.console.conftest import served
from tests.console.test_approvals import FORM, asked

STAGEGATE = str(Path(sys.executable).parent / "stagegate")
ROLE = "arn:aws:iam::{}:role/states"
TRUST = (
    '{"Version": "2012-10-17", "Statement": '
    '[{"Effect": "Allow", "Principal": {"AWS": "222222222222"}, "Action": "sts:AssumeRole"}]}'
)
CLOSED = TRUST.replace('"AWS": "222222222222"', '"Service": "lambda.amazonaws.com"')
OF_STATES = TRUST.replace('"AWS": "222222222222"', '"Service": "states.amazonaws.com"')
ASLEEP = '{"StartAt": "Sleep", "States": {"Sleep": {"Type": "Wait", "Seconds": 3600, "End": true}}}'
EVERYTHING = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}'
PROFILES = """
[default]
region = ap-south-1

[profile first]
region = us-east-1
endpoint_url = {first}
aws_access_key_id = AKIAFIRST
aws_secret_access_key = secret

[profile second]
region = eu-west-1
endpoint_url = {second}
aws_access_key_id = AKIASECOND
aws_secret_access_key = secret

[profile reader]
region = eu-west-1
endpoint_url = {second}
source_profile = second
role_arn = arn:aws:iam::222222222222:role/reader
role_session_name = anna

[profile stranger]
region = eu-west-1
endpoint_url = {second}
source_profile = reader
role_arn = arn:aws:iam::222222222222:role/closed

[profile bare]
region = eu-west-1
endpoint_url = {second}

[profile signed-out]
region = eu-west-1
sso_session = company
sso_account_id = 222222222222
sso_role_name = reader

[sso-session company]
sso_region = eu-west-1
sso_start_url = https://company.awsapps.com/start
sso_registration_scopes = sso:account:access

[profile expired]
region = eu-west-1
endpoint_url = {second}
credential_process = {program}
"""


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """A runtime that is another account, in another region."""
    options = ("--account", "222222222222", "--region", "eu-west-1", "--enforce-iam")
    runtime = Local(tmp_path_factory.mktemp("second") / "data", options=options)
    runtime.start()
    yield runtime
    runtime.stop()


@pytest.fixture(scope="module")
def environment(
    shared_local: Local, second: Local, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """That of a person with these profiles, and a state machine in each account."""
    folder = tmp_path_factory.mktemp("aws")
    text = PROFILES.format(first=shared_local.endpoint_url, second=second.endpoint_url, program="false")
    (folder / "config").write_text(text)
    for runtime, region, account in [
        (shared_local, "us-east-1", "111111111111"),
        (second, "eu-west-1", "222222222222"),
    ]:
        session = boto3.Session(aws_access_key_id="x", aws_secret_access_key="x", region_name=region)
        iam = session.client("iam", endpoint_url=runtime.endpoint_url)
        iam.create_role(RoleName="states", AssumeRolePolicyDocument=OF_STATES)
        states = session.client("stepfunctions", endpoint_url=runtime.endpoint_url)
        arn = states.create_state_machine(
            name="stagegate-any",
            definition=ASLEEP,
            roleArn=ROLE.format(account),
        )["stateMachineArn"]
        states.start_execution(stateMachineArn=arn, name=f"run-of-{account}")
    iam.create_role(RoleName="reader", AssumeRolePolicyDocument=TRUST)
    iam.create_role(RoleName="closed", AssumeRolePolicyDocument=CLOSED)
    iam.put_role_policy(RoleName="reader", PolicyName="any", PolicyDocument=EVERYTHING)
    without = {*SETTINGS, "AWS_PROFILE", "AWS_REGION", "AWS_ENDPOINT_URL"}
    own = {name: value for name, value in os.environ.items() if name not in without}
    return own | {
        "AWS_CONFIG_FILE": str(folder / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "HOME": str(folder),
        "COLUMNS": "200",
    }


def where(html: str) -> str:
    """What a page's header says, without its tags."""
    found = re.search(r'<p class="where">(.*?)</p>', html, re.DOTALL)
    assert found is not None
    return re.sub(r"<[^>]+>", "", found[1])


def stagegate(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [STAGEGATE, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("target", ["aws", "local"])
def test_two_accounts_in_two_regions_stand_side_by_side(environment: dict[str, str], target: str) -> None:
    with (
        served(environment, "--target", target, "--profile", "first") as one,
        served(environment, "--target", target, "--profile", "second") as two,
    ):
        _, first, _ = asked(one, "GET", "/runs")
        _, second, _ = asked(two, "GET", "/runs")

    place = "AWS" if target == "aws" else "this machine"
    assert where(first).startswith(f"stagegate on {place} · profile first · us-east-1 · 111111111111")
    assert where(second).startswith(f"stagegate on {place} · profile second · eu-west-1 · 222222222222")
    assert "run-of-111111111111" in first and "run-of-222222222222" not in first
    assert "run-of-222222222222" in second and "run-of-111111111111" not in second


def test_a_profile_that_assumes_a_role_acts_as_that(environment: dict[str, str]) -> None:
    with served(environment, "--target", "aws", "--profile", "reader", "--allow-changes") as address:
        run = "arn:aws:states:eu-west-1:222222222222:execution:stagegate-any:run-of-222222222222"
        _, html, _ = asked(address, "GET", f"/runs/{run}")
        token = re.search(r'name="form_token" value="([^"]+)"', html)
        assert token is not None
        form = urlencode({"form_token": token[1]})
        asked(address, "POST", f"/runs/{run}/stop", body=form, headers={"Content-Type": FORM})
        _, stopped, _ = asked(address, "GET", f"/runs/{run}")

    assert where(html) == "stagegate on AWS · profile reader · eu-west-1 · 222222222222"
    assert "in the console by arn:aws:sts::222222222222:assumed-role/reader/anna" in stopped


def test_the_environment_names_profile_and_region_too(environment: dict[str, str]) -> None:
    named = environment | {"AWS_PROFILE": "second"}

    with served(named, "--target", "aws") as address:
        _, html, _ = asked(address, "GET", "/jobs")

    assert "profile second · eu-west-1 · 222222222222" in where(html)


def test_a_profile_without_credentials_is_enough_for_this_machine(environment: dict[str, str]) -> None:
    with served(environment, "--profile", "bare") as address:
        _, html, _ = asked(address, "GET", "/runs")

    assert where(html) == "stagegate on this machine · profile bare · eu-west-1 · 222222222222"


def test_the_commands_go_where_the_profile_leads(environment: dict[str, str]) -> None:
    deployed = stagegate(environment, "up", "--profile", "second")
    there = stagegate(environment, "approvals", "--profile", "second")
    elsewhere = stagegate(environment, "approvals", "--profile", "first")

    assert "stagegate-data-222222222222-eu-west-1" in deployed.stdout
    assert (there.returncode, there.stdout.strip()) == (0, "No approvals.")
    assert elsewhere.returncode == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--profile", "nobody"), "There is no AWS profile 'nobody' in"),
        (("--profile", "second", "--region", "eu-west-9"), "region is 'eu-west-9'; there is no such region"),
        (("--profile", "signed-out"), "run `aws sso login --profile signed-out`"),
        (("--profile", "stranger"), "The role of profile 'stranger' cannot be assumed"),
        (
            ("--profile", "bare"),
            "The AWS profile 'bare' has no credentials: run `aws configure --profile bare`",
        ),
        (("--profile", "expired"), "The credentials of profile 'expired' cannot be had"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
@pytest.mark.parametrize("command", ["console", "endpoints"])
def test_what_is_wrong_with_a_profile_is_said_with_what_to_do(
    environment: dict[str, str], command: str, options: tuple[str, ...], said: str
) -> None:
    refused = stagegate(environment, command, "--target", "aws", *options)

    assert refused.returncode == 1
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr
