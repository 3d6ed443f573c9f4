import io
import tarfile
import zipfile

import boto3
import pytest
from moto import mock_aws

from stagegate.aws import Services
from stagegate.bundle import function_package, read_bundle, upload_bundle
from stagegate.config import Config
from stagegate.errors import ConfigurationError


@pytest.fixture
def project(tmp_path):
    for path, text in {
        "training/train.py": "print('train')",
        "training/__pycache__/train.pyc": "compiled",
        "training/requirements.txt": "onnx",
        "evaluation/evaluate.py": "print('evaluate')",
        "deploy/endpoint.yaml": "Resources: {}",
        "deploy/functions/approval.py": "def handler(event, context): ...",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def test_a_bundle_holds_the_source_twice_and_the_deploy_folder_twice(project):
    bundle = read_bundle(project)

    assert sorted(bundle.objects) == [
        "deploy.zip",
        "deploy/endpoint.yaml",
        "deploy/functions/approval.py",
        "source/evaluation/evaluate.py",
        "source/requirements.txt",
        "source/training/requirements.txt",
        "source/training/train.py",
        "sourcedir.tar.gz",
    ]
    with tarfile.open(fileobj=io.BytesIO(bundle.objects["sourcedir.tar.gz"])) as archive:
        assert archive.getnames() == [
            "evaluation/evaluate.py",
            "requirements.txt",
            "training/requirements.txt",
            "training/train.py",
        ]
    with zipfile.ZipFile(io.BytesIO(bundle.objects["deploy.zip"])) as archive:
        assert archive.namelist() == ["deploy/endpoint.yaml", "deploy/functions/approval.py"]


def test_the_same_code_is_the_same_bundle_and_other_code_another(project):
    first = read_bundle(project)
    (project / "training" / "train.py").touch()

    assert read_bundle(project) == first

    (project / "training" / "train.py").write_text("print('changed')")
    assert read_bundle(project).digest != first.digest


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="has no folder training/"):
        read_bundle(tmp_path)


def test_functions_stand_at_the_top_of_their_package(project):
    with zipfile.ZipFile(io.BytesIO(function_package(project))) as archive:
        assert archive.namelist() == ["approval.py"]


@mock_aws
def test_a_bundle_is_uploaded_once(project, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    s3 = boto3.client("s3", region_name="us-east-1")
    s3.create_bucket(Bucket="assets")
    services = Services(Config(target="aws"))
    bundle = read_bundle(project)

    uri = upload_bundle(services, bundle, "assets")
    first = s3.head_object(Bucket="assets", Key=f"{bundle.prefix}/deploy.zip")["LastModified"]
    upload_bundle(services, bundle, "assets")

    assert uri == f"s3://assets/code/{bundle.digest}"
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket="assets")["Contents"]]
    assert keys == sorted(f"{bundle.prefix}/{path}" for path in bundle.objects)
    assert s3.head_object(Bucket="assets", Key=f"{bundle.prefix}/deploy.zip")["LastModified"] == first
