"""Jobs whose processes don't behave, and what they ask to have installed; the runtime is in this process."""

import asyncio
import json
import os
import signal
import zipfile
from pathlib import Path

import pytest

from stagegate.local.logs import Logs
from stagegate.local.sagemaker.jobs import Jobs
from stagegate.local.server import running
from tests.local.sagemaker.test_jobs import BUCKET, ROLE, archive

PATIENCE = 60


class HurriedJobs(Jobs):
    grace_seconds = 0.3
    preloaded = ()


CLASSES = {"sagemaker": (HurriedJobs,), "logs": (Logs,)}


class Runtime:
    def __init__(self, endpoint):
        self.aws = endpoint.runtime.aws
        self._runtime = endpoint.runtime
        self.data = endpoint.runtime.data
        self._changed = asyncio.Event()
        self._runtime.listeners.append(lambda _: self._changed.set())

    async def train(self, name, script, files=None, **members):
        await self.aws("s3", "CreateBucket", {"Bucket": BUCKET})
        source = archive({"train.py": script, **(files or {})})
        await self.aws("s3", "PutObject", {"Bucket": BUCKET, "Key": f"{name}.tar.gz", "Body": source})
        await self.aws(
            "sagemaker",
            "CreateTrainingJob",
            {
                "TrainingJobName": name,
                "RoleArn": ROLE,
                "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
                "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/models"},
                "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1},
                "StoppingCondition": {"MaxRuntimeInSeconds": 600},
                "HyperParameters": {
                    "sagemaker_program": "train.py",
                    "sagemaker_submit_directory": f"s3://{BUCKET}/{name}.tar.gz",
                },
                **members,
            },
        )

    async def until(self, name, *statuses, kind="Training", member=None):
        """Woken by the announcements, as everybody who waits for a job."""
        async with asyncio.timeout(PATIENCE):
            while True:
                self._changed.clear()
                job = await self.aws("sagemaker", f"Describe{kind}Job", {f"{kind}JobName": name})
                if job[member or f"{kind}JobStatus"] in statuses:
                    return job
                await self._changed.wait()

    async def ended(self, name, *, kind="Training"):
        return await self.until(name, "Completed", "Failed", "Stopped", kind=kind)

    async def log(self, name, *, host=""):
        group = {"logGroupName": "/aws/sagemaker/TrainingJobs", "logStreamNamePrefix": f"{name}/{host}"}
        events = await self.aws("logs", "FilterLogEvents", group)
        return [event["message"] for event in events["events"]]


@pytest.fixture
async def runtime(tmp_path):
    async with running(data=tmp_path / "data", classes=CLASSES) as endpoint:
        yield Runtime(endpoint)


def pipe_of(path):
    os.mkfifo(path)
    return path


async def opened(path):
    """Until the job has opened the pipe for writing."""
    with await asyncio.to_thread(path.open) as reader:
        return await asyncio.to_thread(reader.read, 1)


async def test_a_job_that_ignores_sigterm_is_killed_after_its_grace_period(runtime, tmp_path):
    begun = pipe_of(tmp_path / "begun")
    script = (
        "import signal, time\nsignal.signal(signal.SIGTERM, lambda *_: print('ignored'))\n"
        f"open({str(begun)!r}, 'w').write('x')\nwhile True: time.sleep(600)"
    )
    await runtime.train("deaf", script)
    await opened(begun)

    await runtime.aws("sagemaker", "StopTrainingJob", {"TrainingJobName": "deaf"})
    job = await runtime.ended("deaf")

    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert await runtime.log("deaf") == ["ignored"]


async def test_a_job_that_heeds_sigterm_may_save_its_model(runtime, tmp_path):
    begun = pipe_of(tmp_path / "begun")
    script = (
        "import signal, sys, time\n"
        "def save(*_):\n    open('/opt/ml/model/saved', 'w').write('all')\n    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        f"open({str(begun)!r}, 'w').write('x')\nwhile True: time.sleep(600)"
    )
    await runtime.train("heeds", script)
    await opened(begun)

    await runtime.aws("sagemaker", "StopTrainingJob", {"TrainingJobName": "heeds"})
    job = await runtime.ended("heeds")

    assert job["TrainingJobStatus"] == "Stopped"
    assert [status["Status"] for status in job["SecondaryStatusTransitions"]] == [
        *("Starting", "Downloading", "Training", "Stopping", "Uploading", "Stopped")
    ]


async def test_a_job_fails_when_its_launcher_is_killed_and_the_next_one_runs(runtime, tmp_path):
    begun = pipe_of(tmp_path / "begun")
    await runtime.train("orphan", f"open({str(begun)!r}, 'w').write('x')\nimport time\ntime.sleep(600)")
    await opened(begun)

    for launcher in children_named("launcher.py"):
        os.kill(launcher, signal.SIGKILL)
    orphan = await runtime.ended("orphan")
    await runtime.train("next", "print('runs')")
    after = await runtime.ended("next")

    assert orphan["TrainingJobStatus"] == "Failed"
    assert orphan["FailureReason"].startswith("InternalServerError: We encountered an internal error.")
    assert after["TrainingJobStatus"] == "Completed"


async def test_missing_requirements_are_installed_for_this_job_alone(runtime, tmp_path):
    wheel = wheel_of(tmp_path, "stagegate_tiny", "VALUE = 'installed'")
    script = "import stagegate_tiny\nprint(stagegate_tiny.VALUE)"

    await runtime.train(
        "wants", script, files={"requirements.txt": f"numpy\nstagegate-tiny @ {wheel.as_uri()}"}
    )
    await runtime.train("wants-too", script)
    wants, other = await runtime.ended("wants"), await runtime.ended("wants-too")

    assert wants["TrainingJobStatus"] == "Completed", await runtime.log("wants")
    assert (await runtime.log("wants"))[-1] == "installed"
    assert "ModuleNotFoundError: No module named 'stagegate_tiny'" in other["FailureReason"]


async def test_what_a_job_installs_into_the_environment_is_gone_with_it(runtime):
    script = (
        "import sysconfig\nfrom pathlib import Path\n"
        "module = Path(sysconfig.get_path('purelib'), 'stagegate_left_behind.py')\n"
        "module.write_text('VALUE = 7')\n"
        "import stagegate_left_behind\nprint(stagegate_left_behind.VALUE, module)"
    )
    await runtime.train("installs", script)

    job = await runtime.ended("installs")
    [line] = await runtime.log("installs")
    value, module = line.split(" ", 1)
    is_left = await asyncio.to_thread(Path(module).exists)

    assert (job["TrainingJobStatus"], value, is_left) == ("Completed", "7", False)


async def test_requirements_that_cannot_be_installed_fail_the_job(runtime, tmp_path):
    missing = (tmp_path / "gone-1.0-py3-none-any.whl").as_uri()
    await runtime.train("wrong", "print('ran')", files={"requirements.txt": f"gone @ {missing}"})

    job = await runtime.ended("wrong")

    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("AlgorithmError: InstallRequirementsError:\nExitCode ")
    assert 'Command "pip install -r requirements.txt"' in job["FailureReason"]
    assert "ran" not in await runtime.log("wrong")


async def test_the_training_environment_is_one_document_too(runtime):
    await runtime.train("environment", "import os\nprint(os.environ['SM_TRAINING_ENV'])")

    await runtime.ended("environment")
    [line] = await runtime.log("environment")

    seen = json.loads(line)
    assert seen["job_name"] == "environment"
    assert seen["model_dir"] == "/opt/ml/model"
    assert seen["hosts"] == ["algo-1"]
    assert seen["num_cpus"] == os.cpu_count()


def children_named(text):
    """The processes of this one's own whose command line has the text in it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == os.getpid() and text in (entry / "cmdline").read_text():
                    found.append(int(entry.name))
            except OSError:
                continue  # it has ended meanwhile
    return found


def wheel_of(folder, name, text):
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", text)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path
