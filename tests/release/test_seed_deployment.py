"""The deployment repository of SageMaker's project template, as published, on the local runtime.

It is not ours to copy: STAGEGATE_SEED_DEPLOYMENT names a folder with its build.py, its
endpoint-config-template.yml, staging-config.json, prod-config.json and test/test.py.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Local
from tests.local.sagemaker.fakes import ECHO, archive

SEED = os.environ.get("STAGEGATE_SEED_DEPLOYMENT")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SEED, reason="STAGEGATE_SEED_DEPLOYMENT names no folder with the seed"),
]


class Seed:
    """The repository in a folder of its own, used as its buildspecs and its pipeline use it."""

    def __init__(self, folder: Path, local: Local) -> None:
        self.folder = folder
        self.local = local

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.local.environment, capture_output=True, text=True, timeout=180
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def build(self) -> None:
        """What its CodeBuild project does: the stages' parameters, and the packaged template."""
        self.run(
            sys.executable, "build.py",
            "--model-execution-role", "arn:aws:iam::111111111111:role/models",
            "--model-package-group-name", "models",
            "--sagemaker-project-id", "p-1",
            "--sagemaker-project-name", "demo",
            "--s3-bucket", "data",  # of those copies that capture data
            "--export-staging-config", "staging-config-export.json",
            "--export-prod-config", "prod-config-export.json",
        )  # fmt: skip
        self.aws(
            "package", "--template", "endpoint-config-template.yml", "--s3-bucket", "data",
            "--output-template", "template-export.yml",
        )  # fmt: skip

    def deploy(self, stage: str) -> str:
        """What its pipeline's CloudFormation action does; gives the endpoint's name."""
        configuration = self.configuration(stage)
        parameters, tags = (
            [f"{key}={value}" for key, value in configuration[part].items()]
            for part in ("Parameters", "Tags")
        )
        self.aws(
            "deploy", "--stack-name", f"sagemaker-demo-p-1-deploy-{stage}",
            "--template-file", "template-export.yml",
            "--parameter-overrides", *parameters,
            "--capabilities", "CAPABILITY_NAMED_IAM", "--tags", *tags,
        )  # fmt: skip
        return f"demo-{configuration['Parameters']['StageName']}"

    def tested(self, stage: str) -> dict[str, Any]:
        self.run(
            sys.executable, "test/test.py",
            "--import-build-config", f"{stage}-config-export.json",
            "--export-test-results", "results.json",
        )  # fmt: skip
        results: dict[str, Any] = json.loads((self.folder / "results.json").read_text())
        return results

    def configuration(self, stage: str) -> dict[str, Any]:
        read: dict[str, Any] = json.loads((self.folder / f"{stage}-config-export.json").read_text())
        return read

    def aws(self, *arguments: str) -> None:
        self.run(str(Path(sys.executable).parent / "aws"), "cloudformation", *arguments)


@pytest.mark.timeout(600)  # the command line asks every 30 seconds
def test_the_seed_deploys_the_approved_package_to_staging_and_to_production(local: Local, tmp_path: Path):
    assert SEED is not None
    seed = Seed(Path(shutil.copytree(SEED, tmp_path / "seed")), local)
    local.client("s3").create_bucket(Bucket="data")
    local.client("sagemaker").create_model_package_group(ModelPackageGroupName="models")
    runtime = local.client("sagemaker-runtime")

    def served(endpoint: str) -> str:
        answer = runtime.invoke_endpoint(EndpointName=endpoint, ContentType="application/json", Body=b"1")
        version: str = json.loads(answer["Body"].read())["model"]
        return version

    first_package = approve(local, "one")
    seed.build()
    staging, production = seed.deploy("staging"), seed.deploy("prod")
    first = (served(staging), served(production))
    results = (seed.tested("staging"), seed.tested("prod"))
    approve(local, "two")
    # Its build takes the first of the approved packages, in the API's ascending order.
    local.client("sagemaker").update_model_package(
        ModelPackageArn=first_package, ModelApprovalStatus="Rejected"
    )
    seed.build()
    seed.deploy("staging")
    second = (served(staging), served(production))

    stacks = local.client("cloudformation").describe_stacks()["Stacks"]
    tags = {tag["Key"]: tag["Value"] for tag in stacks[0]["Tags"]}
    assert first == ("one", "one")
    assert results == (
        {"endpoint_name": staging, "success": True},
        {"endpoint_name": production, "success": True},
    )
    assert second == ("two", "one")
    assert [it["StackStatus"] for it in stacks] == ["CREATE_COMPLETE", "UPDATE_COMPLETE"]
    assert tags == seed.configuration("prod")["Tags"]


def approve(local: Local, version: str) -> str:
    """A model package whose handlers say `version`, approved; gives its ARN."""
    key = f"{version}/model.tar.gz"
    code = ECHO.format(version=version)
    local.client("s3").put_object(Bucket="data", Key=key, Body=archive({"code/inference.py": code}))
    arn: str = local.client("sagemaker").create_model_package(
        ModelPackageGroupName="models",
        ModelApprovalStatus="Approved",
        InferenceSpecification={
            "Containers": [{"Image": "pytorch:2", "ModelDataUrl": f"s3://data/{key}"}],
            "SupportedContentTypes": ["application/json"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
    )["ModelPackageArn"]
    return arn
