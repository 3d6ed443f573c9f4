"""The sagemaker-training toolkit, unchanged, as a job's entry point, beside our own script mode.

It has an extension in C, so it is no dependency: slow tests install it, where there is a compiler.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stagegate.local.server import running
from tests.local.sagemaker.test_channels import channel, put
from tests.local.sagemaker.test_job_processes import CLASSES, Runtime
from tests.local.sagemaker.test_jobs import BUCKET

TELLS = """
import json, os
host = os.environ["SM_CURRENT_HOST"]
told = {name: value for name, value in os.environ.items() if name.startswith(("SM_", "SAGEMAKER_"))}
with open(os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], host), "w") as file:
    json.dump({"arguments": os.sys.argv[1:], "directory": os.getcwd(), **told}, file)
open(os.path.join(os.environ["SM_MODEL_DIR"], host), "w").close()
"""
PARAMETERS = {
    "epochs": "5",
    "learning-rate": "0.5",
    "l": "[1, 2]",
    "name": '"quoted"',
    "plain": "text",
    "shuffle": "true",
    "_tuning_objective_metric": "loss",
    "sagemaker_container_log_level": "20",
    "sagemaker_job_name": '"a-job"',
    "sagemaker_region": '"us-east-1"',
    "sagemaker_pytorch_ddp_enabled": "false",
}


@pytest.fixture
async def runtime(tmp_path):
    async with running(data=tmp_path / "data", classes=CLASSES) as endpoint:
        await endpoint.runtime.aws("s3", "CreateBucket", {"Bucket": BUCKET})
        yield Runtime(endpoint)


@pytest.fixture(scope="module")
def toolkit(tmp_path_factory):
    """The toolkit's `train`, in an environment of its own."""
    if shutil.which("cc") is None:
        pytest.skip("sagemaker-training is built with a C compiler")
    folder = tmp_path_factory.mktemp("toolkit")
    uv = str(Path(sys.executable).parent / "uv")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    python = str(folder / "bin/python")
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "sagemaker-training"], check=True)
    return str(folder / "bin/train")


async def run(runtime, name, script, **algorithm):
    uri = await put(runtime, "letters/a", b"a")
    await runtime.train(
        name,
        script,
        HyperParameters={
            **PARAMETERS,
            "sagemaker_program": "train.py",
            "sagemaker_submit_directory": f"s3://{BUCKET}/{name}.tar.gz",
        },
        AlgorithmSpecification={"TrainingImage": "image", "TrainingInputMode": "File", **algorithm},
        InputDataConfig=[channel("train", uri), channel("my-test", uri)],
        ResourceConfig={"InstanceType": "ml.m5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 1},
    )
    return await runtime.ended(name)


def told(runtime, name, host):
    """What the job's script was told on a host, but for what differs from job to job."""
    home = runtime.data / "jobs/training-job" / name
    folder = home if host == "algo-1" else home / host
    seen = json.loads((folder / "ml/output/data" / host).read_text())
    seen["SM_TRAINING_ENV"] = json.loads(seen["SM_TRAINING_ENV"])
    for changes in (seen.pop("SM_MASTER_PORT"), seen.pop("SM_MODULE_DIR")):
        assert changes
    assert seen["SM_TRAINING_ENV"].pop("job_name") == name
    assert seen["SM_TRAINING_ENV"].pop("module_dir") == f"s3://{BUCKET}/{name}.tar.gz"
    return seen


@pytest.mark.slow
async def test_script_mode_tells_a_script_what_the_toolkit_tells_it(runtime, toolkit):
    ours = await run(runtime, "ours", TELLS)
    theirs = await run(runtime, "theirs", TELLS, ContainerEntrypoint=[toolkit])

    assert ours["TrainingJobStatus"] == "Completed", await runtime.log("ours")
    assert theirs["TrainingJobStatus"] == "Completed", await runtime.log("theirs")
    for host in ("algo-1", "algo-2"):
        assert told(runtime, "ours", host) == told(runtime, "theirs", host)


@pytest.mark.slow
async def test_what_the_toolkit_says_of_a_failure_is_the_jobs_reason(runtime, toolkit):
    job = await run(runtime, "fails", "raise SystemExit(3)", ContainerEntrypoint=[toolkit])

    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("AlgorithmError: ExecuteUserScriptError:\nExitCode 3\n")
    assert job["FailureReason"].endswith(", exit code: 1")  # the toolkit's own
