"""boto3's waiters and the AWS CLI: how they find that a job or an endpoint is ready, failed or gone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.exceptions import WaiterError

from tests.local.sagemaker.fakes import ECHO, archive, variant
from tests.local.sagemaker.test_jobs import BUCKET, ROLE, Sagemaker

QUICK = {"Delay": 0.1, "MaxAttempts": 300}
PYTHON = sys.executable


@pytest.fixture(scope="module")
def sagemaker(shared_local):
    return Sagemaker(shared_local)


def wait(sagemaker, waiter, **members):
    sagemaker.client.get_waiter(waiter).wait(**members, WaiterConfig=QUICK)


def status_in(error):
    """Of a WaiterError, the last answer's status."""
    answer = error.value.last_response
    return next(answer[name] for name in answer if name.endswith("Status") and name != "SecondaryStatus")


def serve(sagemaker, name, code):
    """An endpoint that begins to be created."""
    url = sagemaker.put(f"{name}/model.tar.gz", archive({"code/inference.py": code}))
    container = {"Image": "pytorch:2", "ModelDataUrl": url}
    sagemaker.client.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    sagemaker.client.create_endpoint_config(
        EndpointConfigName=name, ProductionVariants=[variant(name, "AllTraffic")]
    )
    sagemaker.client.create_endpoint(EndpointName=name, EndpointConfigName=name)


def aws(sagemaker, *arguments):
    """What the AWS CLI prints, as JSON."""
    done = subprocess.run(
        [str(Path(PYTHON).parent / "aws"), *arguments, "--output", "json"],
        env=sagemaker.runtime.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout else None


def test_waiters_end_with_a_job_that_completes_and_raise_with_one_that_fails(sagemaker):
    sagemaker.train("waited-good", "print('done')")
    sagemaker.train("waited-bad", "raise SystemExit(3)")
    sagemaker.process("waited-good", PYTHON, "-c", "print('done')")
    sagemaker.process("waited-bad", PYTHON, "-c", "raise SystemExit(3)")
    sagemaker.process("waited-stopped", PYTHON, "-c", "import time; time.sleep(600)")
    sagemaker.client.stop_processing_job(ProcessingJobName="waited-stopped")

    for title, names in (("Training", ["good"]), ("Processing", ["good", "stopped"])):
        waiter = f"{title.lower()}_job_completed_or_stopped"
        for name in names:
            wait(sagemaker, waiter, **{f"{title}JobName": f"waited-{name}"})
        with pytest.raises(WaiterError) as error:
            wait(sagemaker, waiter, **{f"{title}JobName": "waited-bad"})
        assert status_in(error) == "Failed"


def test_waiters_end_with_an_endpoint_that_serves_and_raise_with_one_that_cannot(sagemaker):
    serve(sagemaker, "waited-up", ECHO.format(version="one"))
    serve(sagemaker, "waited-down", "def model_fn(model_dir):\n    raise OSError('no weights')\n")

    wait(sagemaker, "endpoint_in_service", EndpointName="waited-up")
    with pytest.raises(WaiterError) as error:
        wait(sagemaker, "endpoint_in_service", EndpointName="waited-down")
    for name in ("waited-up", "waited-down"):
        sagemaker.client.delete_endpoint(EndpointName=name)
        wait(sagemaker, "endpoint_deleted", EndpointName=name)

    assert status_in(error) == "Failed"


def test_the_aws_cli_trains_waits_and_invokes(sagemaker, tmp_path):
    source = sagemaker.put("cli/sourcedir.tar.gz", archive({"train.py": "print('from the shell')"}))
    request = {
        "TrainingJobName": "by-cli",
        "RoleArn": ROLE,
        "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/models"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        "HyperParameters": {"sagemaker_program": "train.py", "sagemaker_submit_directory": source},
    }
    serve(sagemaker, "by-cli", ECHO.format(version="one"))
    answer = tmp_path / "answer.json"

    made = aws(sagemaker, "sagemaker", "create-training-job", "--cli-input-json", json.dumps(request))
    wait(sagemaker, "training_job_completed_or_stopped", TrainingJobName="by-cli")
    wait(sagemaker, "endpoint_in_service", EndpointName="by-cli")
    aws(sagemaker, "sagemaker", "wait", "training-job-completed-or-stopped", "--training-job-name", "by-cli")
    listed = aws(sagemaker, "sagemaker", "list-training-jobs", "--name-contains", "by-cli")
    aws(
        *(sagemaker, "sagemaker-runtime", "invoke-endpoint", "--endpoint-name", "by-cli"),
        *("--content-type", "application/json", "--body", "[1, 2]", str(answer)),
    )
    sagemaker.client.delete_endpoint(EndpointName="by-cli")

    assert made["TrainingJobArn"].endswith(":training-job/by-cli")
    assert [job["TrainingJobStatus"] for job in listed["TrainingJobSummaries"]] == ["Completed"]
    assert json.loads(answer.read_text())["data"] == [1, 2]
    assert sagemaker.log("by-cli") == ["from the shell"]
