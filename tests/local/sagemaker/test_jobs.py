"""Training and processing jobs on the real runtime: what a script sees, and how each way to end reads."""

import io
import json
import os
import tarfile
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.conftest import Local

ROLE = "arn:aws:iam::111111111111:role/jobs"
BUCKET = "jobs"
PATIENCE = 90


class Sagemaker:
    """The runtime with a bucket, and jobs made from the text of their script."""

    def __init__(self, runtime) -> None:
        self.runtime = runtime
        self.s3, self.client = runtime.client("s3"), runtime.client("sagemaker")
        self.s3.create_bucket(Bucket=BUCKET)  # in us-east-1 it may be there already

    def put(self, key, content=b"content"):
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=content)
        return f"s3://{BUCKET}/{key}"

    def get(self, uri):
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()

    def train(self, name, text, *, hyperparameters=None, files=None, **members):
        sources = {"train.py": text, **(files or {})}
        source = self.put(f"{name}/sourcedir.tar.gz", archive(sources))
        self.client.create_training_job(
            TrainingJobName=name,
            RoleArn=ROLE,
            AlgorithmSpecification={
                "TrainingImage": "image",
                "TrainingInputMode": "File",
                **members.pop("algorithm", {}),
            },
            OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/models"},
            HyperParameters={
                "sagemaker_program": "train.py",
                "sagemaker_submit_directory": source,
                **(hyperparameters or {}),
            },
            **{
                "StoppingCondition": {"MaxRuntimeInSeconds": 600},
                "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1},
                **members,
            },
        )

    def process(self, name, *command, inputs=(), outputs=(), **members):
        self.client.create_processing_job(
            ProcessingJobName=name,
            RoleArn=ROLE,
            AppSpecification={"ImageUri": "image", "ContainerEntrypoint": list(command)},
            ProcessingResources={
                "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.xlarge", "VolumeSizeInGB": 1}
            },
            ProcessingInputs=[
                {
                    "InputName": f"input-{number}",
                    "S3Input": {
                        "S3Uri": uri,
                        "LocalPath": path,
                        "S3DataType": "S3Prefix",
                        "S3InputMode": "File",
                    },
                }
                for number, (uri, path) in enumerate(inputs)
            ],
            ProcessingOutputConfig={
                "Outputs": [
                    {
                        "OutputName": f"output-{number}",
                        "S3Output": {"S3Uri": uri, "LocalPath": path, "S3UploadMode": mode},
                    }
                    for number, (uri, path, mode) in enumerate(outputs)
                ]
            },
            **members,
        )

    def trained(self, name, *, statuses=("Completed", "Failed", "Stopped")):
        return self.until(
            lambda: self.client.describe_training_job(TrainingJobName=name), "Training", statuses
        )

    def processed(self, name):
        return self.until(
            lambda: self.client.describe_processing_job(ProcessingJobName=name),
            "Processing",
            ("Completed", "Failed", "Stopped"),
        )

    def until(self, describe, title, statuses):
        deadline = time.monotonic() + PATIENCE
        while (job := describe())[f"{title}JobStatus"] not in statuses:
            assert time.monotonic() < deadline, job
            time.sleep(0.05)
        return job

    def until_logged(self, name, text, *, group="/aws/sagemaker/TrainingJobs"):
        deadline = time.monotonic() + PATIENCE
        while text not in (lines := self.log(name, group=group)):
            assert time.monotonic() < deadline, lines
            time.sleep(0.05)

    def log(self, name, *, group="/aws/sagemaker/TrainingJobs"):
        logs = self.runtime.client("logs")
        try:
            pages = logs.get_paginator("filter_log_events").paginate(
                logGroupName=group, logStreamNamePrefix=f"{name}/algo-1-"
            )
            return [event["message"] for page in pages for event in page["events"]]
        except logs.exceptions.ResourceNotFoundException:
            return []


def archive(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


def channel(name, uri):
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def holding(path):
    """The processes on this machine that have the file open."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if any(descriptor.readlink() == path for descriptor in (entry / "fd").iterdir()):
                    found.append(int(entry.name))
            except OSError:
                continue  # it has ended meanwhile
    return found


@pytest.fixture(scope="module")
def sagemaker(shared_local):
    return Sagemaker(shared_local)


@pytest.fixture
def sagemaker_alone(local):
    return Sagemaker(local)


SEES = """
import json, os, sys
from pathlib import Path
import helper

seen = {
    "arguments": sys.argv[1:],
    "directory": os.getcwd(),
    "data": Path(os.environ["SM_CHANNEL_TRAIN"], "a.txt").read_text(),
    "hyperparameters": json.loads(Path("/opt/ml/input/config/hyperparameters.json").read_text())["epochs"],
    "channels": sorted(json.loads(Path("/opt/ml/input/config/inputdataconfig.json").read_text())),
    "hosts": json.loads(Path("/opt/ml/input/config/resourceconfig.json").read_text())["hosts"],
    "given": os.environ["GIVEN"],
    "hps": json.loads(os.environ["SM_HPS"]),
    "job": os.environ["TRAINING_JOB_NAME"],
    "helper": helper.NAME,
    "name": __name__,
}
Path(os.environ["SM_OUTPUT_DATA_DIR"], "seen.json").write_text(json.dumps(seen))
Path("/opt/ml/model/model.txt").write_text("the model")
print("loss=0.5")
print("loss=0.25")
"""


def test_a_script_sees_the_container_and_its_model_is_uploaded(sagemaker):
    data = sagemaker.put("data/train/a.txt", b"the data")

    sagemaker.train(
        "sees",
        SEES,
        hyperparameters={"epochs": "5", "name": '"quoted"'},
        files={"helper.py": "NAME = 'imported'"},
        InputDataConfig=[channel("train", data.removesuffix("a.txt"))],
        Environment={"GIVEN": "by the request"},
        algorithm={"MetricDefinitions": [{"Name": "loss", "Regex": "loss=([0-9.]+)"}]},
    )
    job = sagemaker.trained("sees")

    assert job["TrainingJobStatus"] == "Completed", sagemaker.log("sees")
    assert job["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{BUCKET}/models/sees/output/model.tar.gz"
    with tarfile.open(fileobj=io.BytesIO(sagemaker.get(job["ModelArtifacts"]["S3ModelArtifacts"]))) as model:
        assert model.extractfile("model.txt").read() == b"the model"
    output = sagemaker.get(f"s3://{BUCKET}/models/sees/output/output.tar.gz")
    with tarfile.open(fileobj=io.BytesIO(output)) as tar:
        assert json.loads(tar.extractfile("seen.json").read()) == {
            "arguments": ["--epochs", "5", "--name", "quoted"],
            "directory": "/opt/ml/code",
            "data": "the data",
            "hyperparameters": "5",
            "channels": ["train"],
            "hosts": ["algo-1"],
            "given": "by the request",
            "hps": {"epochs": 5, "name": "quoted"},
            "job": "sees",
            "helper": "imported",
            "name": "__main__",
        }
    assert [status["Status"] for status in job["SecondaryStatusTransitions"]] == [
        "Starting",
        "Downloading",
        "Training",
        "Uploading",
        "Completed",
    ]
    assert [(metric["MetricName"], metric["Value"]) for metric in job["FinalMetricDataList"]] == [
        ("loss", 0.25)
    ]
    assert sagemaker.log("sees") == ["loss=0.5", "loss=0.25"]
    points = sagemaker.runtime.client("cloudwatch").list_metrics(Namespace="/aws/sagemaker/TrainingJobs")[
        "Metrics"
    ]
    dimensions = {point["MetricName"]: point["Dimensions"] for point in points}
    assert dimensions["loss"] == [{"Name": "TrainingJobName", "Value": "sees"}]
    assert {"CPUUtilization", "MemoryUtilization"} < dimensions.keys()


@pytest.mark.parametrize(
    ("name", "script", "code", "message"),
    [
        ("raises-1", "def f():\n    raise ValueError('bad data')\nf()", 1, "ValueError: bad data"),
        ("exits-1", "import sys\nprint('no space left')\nsys.exit(1)", 1, "no space left"),
        ("says", "import sys\nsys.exit('said at the end')", 1, "said at the end"),
        ("killed", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", 137, ""),
    ],
)
def test_a_script_that_fails_gives_the_reason_in_sagemakers_words(sagemaker, name, script, code, message):
    sagemaker.train(name, script)

    job = sagemaker.trained(name)

    assert job["TrainingJobStatus"] == job["SecondaryStatus"] == "Failed"
    assert job["FailureReason"] == (
        f'AlgorithmError: ExecuteUserScriptError:\nExitCode {code}\nErrorMessage "{message}"\n'
        f'Command "python3 train.py", exit code: {code}'
    )
    assert "ModelArtifacts" not in job


def test_a_traceback_reads_as_in_a_fresh_interpreter(sagemaker):
    sagemaker.train("raises", "def f():\n    raise ValueError('bad data')\nf()\n")

    sagemaker.trained("raises")

    assert sagemaker.log("raises") == [
        "Traceback (most recent call last):",
        '  File "/opt/ml/code/train.py", line 3, in <module>',
        "    f()",
        '  File "/opt/ml/code/train.py", line 2, in f',
        "    raise ValueError('bad data')",
        "ValueError: bad data",
    ]


def test_of_a_failure_file_without_an_end_the_beginning_is_the_reason(sagemaker):
    script = (
        "failure = open('/opt/ml/output/failure', 'w')\nfailure.write('no labels, ' * 200)\n"
        "failure.truncate(2**36)\nraise SystemExit(3)"  # 64 GB, of which nothing is on the disk
    )
    sagemaker.train("explains-at-length", script)

    reason = sagemaker.trained("explains-at-length")["FailureReason"]

    assert reason == f"AlgorithmError: {('no labels, ' * 200)[:980]}, exit code: 3"


def test_what_a_script_writes_to_the_failure_file_is_the_reason(sagemaker):
    sagemaker.train("explains", "open('/opt/ml/output/failure', 'w').write('no labels')\nraise SystemExit(3)")

    assert sagemaker.trained("explains")["FailureReason"] == "AlgorithmError: no labels, exit code: 3"


def test_a_stopped_job_keeps_the_model_that_it_has(sagemaker):
    sagemaker.train(
        "stopped",
        "import time\nopen('/opt/ml/model/half', 'w').write('half')\nprint('begun')\ntime.sleep(600)",
    )
    sagemaker.until_logged("stopped", "begun")

    sagemaker.client.stop_training_job(TrainingJobName="stopped")
    job = sagemaker.trained("stopped")

    assert job["TrainingJobStatus"] == job["SecondaryStatus"] == "Stopped"
    assert "FailureReason" not in job
    with tarfile.open(fileobj=io.BytesIO(sagemaker.get(job["ModelArtifacts"]["S3ModelArtifacts"]))) as model:
        assert model.getnames() == ["half"]


def test_a_job_over_its_time_limit_is_stopped(sagemaker):
    sagemaker.train("slow", "import time\ntime.sleep(600)", StoppingCondition={"MaxRuntimeInSeconds": 1})

    job = sagemaker.trained("slow")

    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")


def test_a_waiting_job_is_stopped_before_it_runs(sagemaker_alone):
    sagemaker = sagemaker_alone
    for number in range(os.cpu_count()):
        sagemaker.train(f"busy-{number}", "import time\nprint('begun')\ntime.sleep(600)")
        sagemaker.until_logged(f"busy-{number}", "begun")
    sagemaker.train("waits", "raise AssertionError('ran')")

    sagemaker.client.stop_training_job(TrainingJobName="waits")
    job = sagemaker.trained("waits")

    assert job["TrainingJobStatus"] == "Stopped"
    assert sagemaker.log("waits") == []


def test_binary_and_much_output_is_logged_line_by_line(sagemaker):
    sagemaker.train(
        "loud",
        "import sys\nsys.stdout.buffer.write(b'\\xff\\x00binary\\n')\n"
        "for n in range(20000): print('line', n)",
    )

    assert sagemaker.trained("loud")["TrainingJobStatus"] == "Completed"
    lines = sagemaker.log("loud")
    assert len(lines) == 20001
    assert "binary" in lines[0]
    assert lines[-1] == "line 19999"


DETACHES = """
import os, sys, time
held = open(os.environ["HELD"], "w")
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
print("begun")
sys.stdin.read()
time.sleep(float(os.environ.get("SECONDS", "0")))
"""


def test_nothing_that_a_job_started_outlives_it(sagemaker, tmp_path):
    held = tmp_path / "held"
    sagemaker.train("detaches", DETACHES, Environment={"HELD": str(held)})

    assert sagemaker.trained("detaches")["TrainingJobStatus"] == "Completed"
    assert held.exists()
    assert holding(held) == []


def test_nothing_that_a_stopped_job_started_outlives_it(sagemaker, tmp_path):
    held = tmp_path / "held"
    sagemaker.train("detached-stopped", DETACHES, Environment={"HELD": str(held), "SECONDS": "600"})
    sagemaker.until_logged("detached-stopped", "begun")
    before = holding(held)

    sagemaker.client.stop_training_job(TrainingJobName="detached-stopped")

    assert sagemaker.trained("detached-stopped")["TrainingJobStatus"] == "Stopped"
    assert len(before) == 2
    assert holding(held) == []


def test_no_job_outlives_a_killed_server_and_an_interrupted_one_goes_on_from_its_checkpoint(
    sagemaker_alone, tmp_path
):
    sagemaker, held = sagemaker_alone, tmp_path / "held"
    script = (
        "import os, time\nfrom pathlib import Path\n"
        "checkpoint = Path('/opt/ml/checkpoints/epoch')\n"
        "if checkpoint.exists():\n    print('resumed at', checkpoint.read_text())\n    raise SystemExit\n"
        "held = open(os.environ['HELD'], 'w')\n"
        "if os.fork() == 0:\n    os.setsid()\n    time.sleep(600)\n"
        "checkpoint.write_text('3')\nprint('begun')\ntime.sleep(600)"
    )
    sagemaker.train(
        "interrupted",
        script,
        Environment={"HELD": str(held)},
        CheckpointConfig={"S3Uri": f"s3://{BUCKET}/checkpoints"},
    )
    sagemaker.until_logged("interrupted", "begun")
    before = holding(held)

    sagemaker.runtime.kill()
    deadline = time.monotonic() + 10
    while left := holding(held):
        assert time.monotonic() < deadline, left
    sagemaker.runtime.start()
    job = sagemaker.trained("interrupted")

    assert len(before) == 2
    assert job["TrainingJobStatus"] == "Completed"
    assert "resumed at 3" in sagemaker.log("interrupted")
    assert sagemaker.get(f"s3://{BUCKET}/checkpoints/epoch") == b"3"


@pytest.fixture
def sagemaker_with_torch(tmp_path):
    runtime = Local(tmp_path / "data", preload=None)
    try:
        runtime.start()
        yield Sagemaker(runtime)
    finally:
        runtime.kill()


def test_torch_is_there_at_once(sagemaker_with_torch):
    sagemaker = sagemaker_with_torch
    script = (
        "import sys\nprint('imported' if 'torch' in sys.modules else 'not yet')\n"
        "import torch\nprint(torch.ones(2).sum())"
    )
    sagemaker.train("torch", script)

    assert sagemaker.trained("torch")["TrainingJobStatus"] == "Completed"
    assert sagemaker.log("torch") == ["imported", "tensor(2.)"]


def test_a_processing_job_turns_its_input_into_its_output(sagemaker):
    code = sagemaker.put(
        "code/double.py",
        b"import sys\nt = open('/opt/ml/processing/input/a.txt').read()\n"
        b"open('/opt/ml/processing/output/b.txt', 'w').write(t * int(sys.argv[1]))",
    )
    data = sagemaker.put("data/a.txt", b"ab")

    sagemaker.process(
        "doubles",
        *("python3", "/opt/ml/processing/code/double.py", "2"),
        inputs=[(code, "/opt/ml/processing/code"), (data, "/opt/ml/processing/input")],
        outputs=[(f"s3://{BUCKET}/out", "/opt/ml/processing/output", "EndOfJob")],
    )
    job = sagemaker.processed("doubles")

    assert job["ProcessingJobStatus"] == "Completed", sagemaker.log(
        "doubles", group="/aws/sagemaker/ProcessingJobs"
    )
    assert sagemaker.get(f"s3://{BUCKET}/out/b.txt") == b"abab"


def test_a_command_that_is_not_python_runs_too(sagemaker):
    sagemaker.process("shell", "bash", "-c", "echo $PROCESSING_JOB_NAME; exit 4")

    job = sagemaker.processed("shell")

    assert job["ProcessingJobStatus"] == "Failed"
    assert job["FailureReason"] == "AlgorithmError: shell, exit code: 4"
    assert job["ExitMessage"] == "shell"
    assert sagemaker.log("shell", group="/aws/sagemaker/ProcessingJobs") == ["shell"]


def test_what_is_not_there_or_not_supported_is_refused_before_anything_runs(sagemaker):
    def refused(call):
        with pytest.raises(ClientError) as caught:
            call()
        return caught.value.response["Error"]["Code"], caught.value.response["Error"]["Message"]

    missing = refused(
        lambda: sagemaker.train(
            "missing-data", "", InputDataConfig=[channel("train", f"s3://{BUCKET}/none/")]
        )
    )
    bad_name = refused(lambda: sagemaker.train("under_score", ""))
    sagemaker.train("twice", "")
    twice = refused(lambda: sagemaker.train("twice", ""))
    unknown = refused(lambda: sagemaker.client.describe_training_job(TrainingJobName="unknown"))

    assert missing[0] == "ValidationException"
    assert missing[1].startswith(f'No S3 objects found under S3 URL "s3://{BUCKET}/none/"')
    assert bad_name[0] == "ValidationException"
    assert twice[0] == "ResourceInUse"
    assert unknown == ("ValidationException", "Requested resource not found.")
    assert not sagemaker.client.list_training_jobs(NameContains="missing-data")["TrainingJobSummaries"]


def test_jobs_are_listed_and_tagged(sagemaker):
    for name in ("listed-alpha", "listed-beta"):
        sagemaker.train(name, "", Tags=[{"Key": "team", "Value": name}])
        sagemaker.trained(name)

    order = {"NameContains": "listed-", "SortBy": "Name", "SortOrder": "Ascending", "MaxResults": 1}
    listed = sagemaker.client.list_training_jobs(**order)
    rest = sagemaker.client.list_training_jobs(**order, NextToken=listed["NextToken"])
    arn = listed["TrainingJobSummaries"][0]["TrainingJobArn"]
    between = rest["TrainingJobSummaries"][0]["CreationTime"]
    later = sagemaker.client.list_training_jobs(NameContains="listed-", LastModifiedTimeAfter=between)
    sooner = sagemaker.client.list_training_jobs(NameContains="listed-", LastModifiedTimeBefore=between)

    assert [job["TrainingJobName"] for job in later["TrainingJobSummaries"]] == ["listed-beta"]
    assert [job["TrainingJobName"] for job in sooner["TrainingJobSummaries"]] == ["listed-alpha"]
    assert [job["TrainingJobName"] for job in listed["TrainingJobSummaries"]] == ["listed-alpha"]
    assert [job["TrainingJobName"] for job in rest["TrainingJobSummaries"]] == ["listed-beta"]
    assert sagemaker.client.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "team", "Value": "listed-alpha"}]


def test_a_script_ends_as_in_a_fresh_interpreter(sagemaker):
    script = (
        "import atexit, sys, threading, time\n"
        "atexit.register(print, 'at exit')\n"
        "left_open = open('/opt/ml/model/unclosed', 'w')\nleft_open.write('written')\n"
        "def keep(): return left_open\n"
        "threading.Thread(target=lambda: (time.sleep(0.2), print('the thread'))).start()\n"
        "sys.stdout.write('no newline ')\n"
    )
    sagemaker.train("ends", script)

    job = sagemaker.trained("ends")

    assert job["TrainingJobStatus"] == "Completed"
    assert sagemaker.log("ends") == ["no newline the thread", "at exit"]
    with tarfile.open(fileobj=io.BytesIO(sagemaker.get(job["ModelArtifacts"]["S3ModelArtifacts"]))) as model:
        assert model.extractfile("unclosed").read() == b"written"


@pytest.mark.parametrize(
    ("name", "script", "code"),
    [
        ("three", "import sys\nsys.exit(3)", 3),
        ("too-large", "import sys\nsys.exit(257)", 1),
        ("module-missing", "import no_such_module", 1),
        ("syntax", "def", 1),
        ("interrupted-itself", "raise KeyboardInterrupt", 1),
    ],
)
def test_the_exit_code_is_the_scripts(sagemaker, name, script, code):
    sagemaker.train(name, script)

    assert sagemaker.trained(name)["FailureReason"].endswith(f", exit code: {code}")


def test_a_job_that_imports_onnxruntime_ends(sagemaker):
    sagemaker.train("onnxruntime", "import onnxruntime\nprint(onnxruntime.get_available_providers()[-1])")

    assert sagemaker.trained("onnxruntime")["TrainingJobStatus"] == "Completed"
    assert sagemaker.log("onnxruntime") == ["CPUExecutionProvider"]


def test_a_wrong_regular_expression_is_refused(sagemaker):
    with pytest.raises(ClientError) as caught:
        sagemaker.train("regex", "", algorithm={"MetricDefinitions": [{"Name": "loss", "Regex": "("}]})

    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert not sagemaker.client.list_training_jobs(NameContains="regex")["TrainingJobSummaries"]
