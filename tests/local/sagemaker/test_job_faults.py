"""Jobs that go wrong, each with the status and the reason that AWS would show."""

import io
import os
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stagegate.local.sagemaker import usage
from tests.local.sagemaker.test_job_processes import PATIENCE, runtime  # noqa: F401  (a fixture)
from tests.local.sagemaker.test_jobs import BUCKET, Sagemaker, holding

MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")
VERSION_2_GROUPS = Path("/sys/fs/cgroup")
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def sagemaker(shared_local):
    return Sagemaker(shared_local)


def process(sagemaker, name, script, **members):
    code = "/opt/ml/processing/input/code"
    source = (sagemaker.put(f"{name}/script.py", script.encode()), code)
    sagemaker.process(name, "python3", f"{code}/script.py", inputs=[source], **members)
    return sagemaker.processed(name)


def statistics(sagemaker, job, metric, *, group="/aws/sagemaker/TrainingJobs"):
    now = datetime.now(UTC)
    answer = sagemaker.runtime.client("cloudwatch").get_metric_statistics(
        Namespace=group,
        MetricName=metric,
        Dimensions=[{"Name": "Host", "Value": f"{job}/algo-1"}],
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(minutes=1),
        Period=7200,
        Statistics=["Maximum", "Average", "SampleCount"],
    )
    return answer["Datapoints"]


def test_what_a_job_takes_is_recorded(sagemaker):
    script = (
        "import time\n"
        "held = bytearray(300 * 2**20)\n"
        "end = time.process_time() + 1.2\n"
        "while time.process_time() < end: pass"
    )
    sagemaker.train("takes", script)
    assert sagemaker.trained("takes")["TrainingJobStatus"] == "Completed"

    (processor,) = statistics(sagemaker, "takes", "CPUUtilization")
    assert 20 < processor["Maximum"] <= 100 * os.cpu_count() + 10
    assert processor["Average"] <= processor["Maximum"]
    (memory,) = statistics(sagemaker, "takes", "MemoryUtilization")
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 100 * 300 * MEGABYTE / whole < memory["Maximum"] < 100
    (disk,) = statistics(sagemaker, "takes", "DiskUtilization")
    assert 0 < disk["Maximum"] < 1


def test_a_short_job_is_recorded_too(sagemaker):
    sagemaker.process("short", "python3", "-c", "pass")
    sagemaker.processed("short")

    group = "/aws/sagemaker/ProcessingJobs"
    (processor,) = statistics(sagemaker, "short", "CPUUtilization", group=group)
    (memory,) = statistics(sagemaker, "short", "MemoryUtilization", group=group)
    assert min(processor["SampleCount"], memory["SampleCount"]) >= 1
    assert memory["Maximum"] > 0


def test_a_machine_with_gpus_says_how_busy_they_are(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '35, 4096, 16384'; echo '100, 16384, 16384'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    measured = usage.Usage({"Host": "job/algo-1"}, volume=1)

    measured.sample(os.getpid(), folder=tmp_path)
    found = {datum["MetricName"]: datum["StatisticValues"]["Maximum"] for datum in measured.take()}

    assert (found["GPUUtilization"], found["GPUMemoryUtilization"]) == (135.0, 125.0)
    tool.write_text("#!/bin/sh\necho '[N/A], 4096, 16384'\n")
    measured.sample(os.getpid(), folder=tmp_path)
    assert "GPUUtilization" not in {datum["MetricName"] for datum in measured.take()}


async def test_a_job_that_fills_its_volume_is_ended(runtime, monkeypatch):  # noqa: F811
    monkeypatch.setattr(usage, "_GIGABYTE", MEGABYTE)
    script = (
        "import os, time\n"
        "file = os.open('/opt/ml/output/data/big', os.O_CREAT | os.O_WRONLY)\n"
        f"os.posix_fallocate(file, 0, {30 * MEGABYTE})\n"
        "time.sleep(600)"
    )
    resources = {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 20}
    await runtime.train("fills", script, ResourceConfig=resources)

    job = await runtime.ended("fills")

    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"] == (
        "ClientError: No space left on device: the files of the job take 30.0 GB, "
        "more than its VolumeSizeInGB."
    )


@pytest.fixture
def small_memory():
    """A control group with 64 MB, as the folder with its files; what is put into it ends with the test."""
    is_first = (MEMORY_GROUPS / "memory.limit_in_bytes").exists()
    folder = (MEMORY_GROUPS if is_first else VERSION_2_GROUPS) / f"stagegate-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    limit = folder / ("memory.limit_in_bytes" if is_first else "memory.max")
    if not limit.exists():
        folder.rmdir()
        pytest.skip("control groups do not limit memory here")
    limit.write_text(str(64 * MEGABYTE))
    yield folder
    folder.rmdir()


@pytest.mark.parametrize("kind", ["Training", "Processing"])
def test_a_job_that_the_kernel_ends_for_want_of_memory_is_said_to_be_one(sagemaker, small_memory, kind):
    script = (
        f"open('{small_memory}/cgroup.procs', 'w').write('0')\n"
        "__import__('time').sleep(0.8)\n"  # until it has been looked at
        "held = [bytearray(b'x') * 2**20 for _ in range(256)]"
    )
    if kind == "Training":
        sagemaker.train("forgets", script)
        job = sagemaker.trained("forgets")
        words = "AlgorithmError: Please use an instance type with more memory, or reduce the size of training"
    else:
        job = process(sagemaker, "forgets", script)
        words = "ClientError: Please use an instance type with more memory, or reduce the size of job"

    assert job[f"{kind}JobStatus"] == "Failed"
    assert job["FailureReason"] == f"{words} data processed on an instance., exit code: 137"


def test_a_job_that_kills_itself_is_not_short_of_memory(sagemaker):
    sagemaker.train("kills-itself", "import os, signal\nprint('now')\nos.kill(os.getpid(), signal.SIGKILL)")

    job = sagemaker.trained("kills-itself")

    assert job["FailureReason"].startswith("AlgorithmError: ExecuteUserScriptError:\nExitCode 137\n")
    assert job["FailureReason"].endswith(", exit code: 137")


def test_a_line_without_an_end_is_logged_in_events_that_cloudwatch_takes(sagemaker):
    sagemaker.train("endless", f"import sys\nsys.stdout.write('x' * {5 * MEGABYTE})\nsys.stdout.flush()")

    assert sagemaker.trained("endless")["TrainingJobStatus"] == "Completed"
    lines = sagemaker.log("endless")
    assert sum(len(line) for line in lines) == 5 * MEGABYTE
    assert max(len(line) for line in lines) <= 256 * 1024 - 26


def test_what_is_no_file_in_the_model_folder_does_not_keep_the_model_back(sagemaker):
    script = (
        "import os, socket\n"
        "os.chdir('/opt/ml/model')\n"
        "open('weights', 'w').write('all')\n"
        "os.mkfifo('pipe')\n"
        "socket.socket(socket.AF_UNIX).bind('socket')\n"
        "os.symlink('loop', 'loop')\n"
        "os.symlink('nowhere', 'dangling')\n"
        "os.mkdir('closed', 0)"
    )
    sagemaker.train("odd-files", script)

    job = sagemaker.trained("odd-files")

    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    packed = io.BytesIO(sagemaker.get(job["ModelArtifacts"]["S3ModelArtifacts"]))
    with tarfile.open(fileobj=packed) as archive:
        assert archive.extractfile("weights").read() == b"all"
        assert "socket" not in archive.getnames()


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("no-output", "import shutil\nshutil.rmtree('/opt/ml/output')"),
        ("no-model", "import os\nos.rmdir('/opt/ml/model')\nopen('/opt/ml/model', 'w')"),
        ("closed-output", "import os\nos.close(1)\nos.close(2)"),
    ],
)
def test_a_script_that_takes_its_folders_or_its_output_away_completes(sagemaker, name, script):
    sagemaker.train(name, script)

    job = sagemaker.trained(name)

    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    packed = io.BytesIO(sagemaker.get(job["ModelArtifacts"]["S3ModelArtifacts"]))
    with tarfile.open(fileobj=packed) as archive:
        assert archive.getnames() == []


def test_a_checkpoint_that_is_written_as_the_job_ends_is_whole_in_s3(sagemaker):
    script = (
        "import os, threading\n"
        f"open('/opt/ml/checkpoints/last', 'wb').write(os.urandom({8 * MEGABYTE}))\n"
        "open('/opt/ml/model/same', 'wb').write(open('/opt/ml/checkpoints/last', 'rb').read())\n"
        "os._exit(0)"
    )
    checkpoints = f"s3://{BUCKET}/ends/checkpoints"
    sagemaker.train("ends-at-once", script, CheckpointConfig={"S3Uri": checkpoints})

    job = sagemaker.trained("ends-at-once")

    packed = io.BytesIO(sagemaker.get(job["ModelArtifacts"]["S3ModelArtifacts"]))
    with tarfile.open(fileobj=packed) as archive:
        assert archive.extractfile("same").read() == sagemaker.get(f"{checkpoints}/last")


def test_files_that_come_and_go_while_they_are_uploaded_fail_nothing(sagemaker):
    script = (
        "import os, time\n"
        "end = time.time() + 6\n"  # longer than the time between two uploads
        "while time.time() < end:\n"
        "    for number in range(200):\n"
        "        open(f'/opt/ml/processing/output/{number}', 'w').write('x' * 1000)\n"
        "    for number in range(200):\n"
        "        os.unlink(f'/opt/ml/processing/output/{number}')\n"
        "open('/opt/ml/processing/output/last', 'w').write('stays')"
    )
    target = f"s3://{BUCKET}/comes-and-goes"
    outputs = [(target, "/opt/ml/processing/output", "Continuous")]
    job = process(sagemaker, "comes-and-goes", script, outputs=outputs)

    assert job["ProcessingJobStatus"] == "Completed", job.get("FailureReason")
    assert sagemaker.get(f"{target}/last") == b"stays"


@pytest.mark.slow
def test_a_hundred_megabytes_of_output_are_logged_while_others_are_answered(sagemaker):
    sagemaker.train("very-loud", "for number in range(1_000_000): print(f'{number:0100}')")
    asked = 0
    while sagemaker.client.describe_training_job(TrainingJobName="very-loud")["TrainingJobStatus"] == (
        "InProgress"
    ):
        sagemaker.client.list_training_jobs(MaxResults=1)
        asked += 1

    assert sagemaker.trained("very-loud")["TrainingJobStatus"] == "Completed"
    logs = sagemaker.runtime.client("logs")
    group = "/aws/sagemaker/TrainingJobs"
    (stream,) = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix="very-loud/")["logStreams"]
    last = logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"], limit=1)["events"]
    assert int(last[-1]["message"]) == 999_999
    assert asked > PATIENCE


def test_a_job_that_leaves_a_child_in_a_session_of_its_own_leaves_nothing(sagemaker, tmp_path):
    held = tmp_path / "held"
    script = (
        "import os, subprocess, sys\n"
        f"held = open({str(held)!r}, 'w')\n"
        "subprocess.Popen(['sleep', '600'], start_new_session=True, pass_fds=[held.fileno()])\n"
        "sys.exit(3)"
    )
    sagemaker.train("leaves-a-child", script)

    job = sagemaker.trained("leaves-a-child")

    assert job["FailureReason"].endswith(", exit code: 3")
    assert holding(held) == []
