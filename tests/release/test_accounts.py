"""Stages in accounts of their own: on one machine it is the same account, with the roles of account.yaml."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.release.conftest import ROOT, Installation, installed, let_use
from tests.release.test_broken_models import Production, bundle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ACCOUNT = "111111111111"


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Installation]:
    """The platform of a project whose stages are apart, and the stack that their account has."""
    project = tmp_path / "project"
    project.mkdir()
    for folder in ("deploy", "evaluation", "statemachines", "training"):
        shutil.copytree(ROOT / folder, project / folder, ignore=shutil.ignore_patterns("__pycache__"))
    settings = f'\n[platform]\nStagingAccount = "{ACCOUNT}"\nProductionAccount = "{ACCOUNT}"\n'
    (project / "stagegate.toml").write_text((ROOT / "stagegate.toml").read_text() + settings)
    with installed(project, tmp_path / "data") as installation:
        make_account(installation)
        yield installation


def make_account(installation: Installation) -> None:
    bucket = f"{ACCOUNT}-us-east-1"
    given = {
        "PlatformAccount": ACCOUNT,
        "AssetsBucket": f"stagegate-assets-{bucket}",
        "DataBucketName": f"stagegate-data-{bucket}",
    }
    stacks = installation.services("cloudformation")
    stacks.create_stack(
        StackName="stagegate-account",
        TemplateBody=(ROOT / "deploy" / "account.yaml").read_text(),
        Capabilities=["CAPABILITY_NAMED_IAM"],
        Parameters=[{"ParameterKey": name, "ParameterValue": given[name]} for name in given],
    )
    stacks.get_waiter("stack_create_complete").wait(StackName="stagegate-account")


def test_models_are_released_to_stages_by_the_roles_of_their_account(
    apart: Installation, tmp_path: Path
) -> None:
    apart.services("sagemaker").create_model_package_group(ModelPackageGroupName="broken-models")
    let_use(apart.services, "broken-models")
    production = Production(installation=apart)
    code = bundle(apart, tmp_path)

    for name in ("r-first", "r-second"):  # the second is compared with what production serves by then
        ended = production.release(production.register(name, code=code))
        assert ended["status"] == "SUCCEEDED", ended.get("cause")

    calls = {
        entry["Role"].rsplit("/", 1)[-1]: {call["Action"] for call in entry["Calls"]}
        for entry in apart.permissions()
    }
    assert {"cloudformation:ExecuteChangeSet", "codebuild:StartBuild"} <= calls["stagegate-stage"]
    assert "sagemaker:DescribeEndpoint" in calls["stagegate-stage-reader"]
    assert not [action for action in calls["stagegate-states"] if action.startswith("cloudformation:")]
    bucket = apart.platform.data_bucket
    # These models' runs lack files that a mail would show, and the function takes 403 for 404.
    listing = ("stagegate-approval-request", "s3:ListBucket", f"arn:aws:s3:::{bucket}")
    assert apart.refused() in ([], [listing])
    policy = json.loads(
        apart.services("s3").get_bucket_policy(Bucket=f"stagegate-assets-{ACCOUNT}-us-east-1")["Policy"]
    )
    assert [it["Principal"] for it in policy["Statement"] if it["Effect"] == "Allow"] == [
        {"AWS": [f"arn:aws:iam::{ACCOUNT}:root"]}
    ]
