"""Where a script comes from and what it leaves beside its model: what SageMaker's Python SDK asks for."""

import pytest
from botocore.exceptions import ClientError

from tests.local.sagemaker.test_jobs import BUCKET, Sagemaker, archive, channel

INSIDE = "/opt/ml/input/data/code/sourcedir.tar.gz"


@pytest.fixture(scope="module")
def sagemaker(shared_local):
    return Sagemaker(shared_local)


def isolated(sagemaker, name, *, at=INSIDE):
    """A job as the SDK sends it with `enable_network_isolation`: its source is in a channel."""
    source = sagemaker.put(f"{name}/source/sourcedir.tar.gz", archive({"train.py": "print('isolated')"}))
    sagemaker.train(
        name,
        "",
        hyperparameters={"sagemaker_submit_directory": f'"{at}"'},
        InputDataConfig=[channel("code", source)],
        EnableNetworkIsolation=True,
    )


def test_the_source_of_a_job_in_network_isolation_comes_by_a_channel(sagemaker):
    isolated(sagemaker, "isolated")

    job = sagemaker.trained("isolated")

    assert job["TrainingJobStatus"] == "Completed", job
    assert sagemaker.log("isolated") == ["isolated"]
    assert job["EnableNetworkIsolation"] is True


def test_a_source_that_no_channel_brings_is_the_clients_error(sagemaker):
    isolated(sagemaker, "astray", at="/opt/ml/input/data/code/other.tar.gz")

    job = sagemaker.trained("astray")

    assert job["FailureReason"] == (
        "ClientError: /opt/ml/input/data/code/other.tar.gz: No such file or directory"
    )


def test_what_a_script_writes_for_tensorboard_is_uploaded_even_if_it_fails(sagemaker):
    script = """
from pathlib import Path
board = Path("/opt/ml/output/tensorboard/run")
board.mkdir(parents=True)
board.joinpath("events.out").write_text("scalars")
raise SystemExit(3)
"""
    boards = {"S3OutputPath": f"s3://{BUCKET}/boards"}
    sagemaker.train("boarded", script, TensorBoardOutputConfig=boards)

    job = sagemaker.trained("boarded")

    assert job["TrainingJobStatus"] == "Failed"
    assert job["TensorBoardOutputConfig"] == boards
    assert sagemaker.get(f"s3://{BUCKET}/boards/boarded/tensorboard-output/run/events.out") == b"scalars"


def test_a_folder_for_tensorboard_outside_of_the_jobs_is_refused(sagemaker):
    with pytest.raises(ClientError, match=r"TensorBoardOutputConfig\.LocalPath"):
        sagemaker.train(
            "outside",
            "",
            TensorBoardOutputConfig={"S3OutputPath": f"s3://{BUCKET}/boards", "LocalPath": "/tmp/board"},
        )
