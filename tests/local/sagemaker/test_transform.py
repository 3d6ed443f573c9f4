"""Batch transform jobs on the real runtime: what a model is asked, what is kept, how each end reads."""

import gzip
import json
import time

import psutil
import pytest
from botocore.exceptions import ClientError

from tests.local.sagemaker.fakes import archive
from tests.local.sagemaker.test_job_processes import wheel_of
from tests.local.sagemaker.test_jobs import BUCKET, PATIENCE, ROLE, Sagemaker

GROUP = "/aws/sagemaker/TransformJobs"
DOUBLES = """
import os, time

def model_fn(model_dir):
    return {}

def transform_fn(failed, data, content_type, accept):
    lines = data.splitlines()
    if "wait" in lines:
        print("waits", os.getpid(), flush=True)
        time.sleep(600)
    if "refuse" in lines:
        raise Refused(f"no number in {data!r}")
    if "once" in lines and not failed.setdefault("once", False):
        failed["once"] = True
        raise RuntimeError("a hiccup")
    if "never" in lines:
        raise RuntimeError("no way")
    if lines == ["environment"]:
        said = [f"{name}={os.environ[name]}" for name in sorted(os.environ) if name.startswith("SAGEMAKER_")]
        return "\\n".join([*said, os.environ.get("EXTRA", "")]), "text/csv"
    numbers = [line.split(",")[-1] for line in lines]
    print("asked", len(lines), flush=True)
    return "\\n".join(str(2 * int(number)) if number.isdigit() else "0" for number in numbers), "text/csv"

class Refused(Exception):
    status_code = 400
"""


class Transformer(Sagemaker):
    def model(self, name, code, files=None):
        url = self.put(f"models/{name}.tar.gz", archive({"code/inference.py": code, **(files or {})}))
        container = {"Image": "pytorch:2", "ModelDataUrl": url}
        self.client.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=ROLE)

    def transform(self, name, objects, *, given=None, kept=None, model="doubles", count=1, **members):
        for key, content in objects.items():
            self.put(f"{name}/in/{key}", content)
        return self.client.create_transform_job(**self.request(name, given, kept, model, count, **members))

    def request(self, name, given=None, kept=None, model="doubles", count=1, **members):
        source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{name}/in/"}
        return {
            "TransformJobName": name,
            "ModelName": model,
            "TransformInput": {
                "DataSource": {"S3DataSource": source},
                "ContentType": "text/csv",
                "SplitType": "Line",
                **(given or {}),
            },
            "TransformOutput": {"S3OutputPath": f"s3://{BUCKET}/{name}/out", **(kept or {})},
            "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": count},
            **members,
        }

    def transformed(self, name):
        return self.until(
            lambda: self.client.describe_transform_job(TransformJobName=name),
            "Transform",
            ("Completed", "Failed", "Stopped"),
        )

    def outputs(self, name):
        found = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{name}/out/").get("Contents", [])
        return {
            entry["Key"].removeprefix(f"{name}/out/"): self.get(f"s3://{BUCKET}/{entry['Key']}")
            for entry in found
        }

    def logged(self, name):
        """What the models print; and what is said of the data, without its times."""
        events = self.runtime.client("logs").filter_log_events(
            logGroupName=GROUP, logStreamNamePrefix=f"{name}/"
        )["events"]
        printed, data = [], []
        for event in events:
            if event["logStreamName"].endswith("/data-log"):
                data.append(event["message"].partition(":[sagemaker logs]: ")[2])
            else:
                printed.append(event["message"])
        return printed, data

    def refused(self, request):
        with pytest.raises(ClientError) as refused:
            self.client.create_transform_job(**request)
        error = refused.value.response["Error"]
        return error["Code"], error["Message"]


@pytest.fixture(scope="module")
def sagemaker(shared_local):
    transformer = Transformer(shared_local)
    transformer.model("doubles", DOUBLES)
    return transformer


def test_each_object_becomes_one_of_the_same_name(sagemaker):
    arn = sagemaker.transform(
        "plain",
        {"a.csv": b"1\n2\n3\n", "below/b.csv": b"5"},
        kept={"AssembleWith": "Line", "Accept": "text/csv"},
        Tags=[{"Key": "team", "Value": "vision"}],
    )["TransformJobArn"]

    job = sagemaker.transformed("plain")

    assert job["TransformJobStatus"] == "Completed"
    assert job["CreationTime"] <= job["TransformStartTime"] <= job["TransformEndTime"]
    assert sagemaker.outputs("plain") == {"a.csv.out": b"2\n4\n6\n", "below/b.csv.out": b"10\n"}
    assert sagemaker.logged("plain") == (
        ["asked 3", "asked 1"],
        ["MaxConcurrentTransforms=1, MaxPayloadInMB=6, BatchStrategy=MULTI_RECORD"],
    )
    assert sagemaker.client.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "team", "Value": "vision"}]
    (listed,) = sagemaker.client.list_transform_jobs(NameContains="plain")["TransformJobSummaries"]
    assert (listed["TransformJobArn"], listed["TransformJobStatus"]) == (arn, "Completed")


def test_single_records_are_filtered_joined_and_kept_in_order(sagemaker):
    rows = [f"id{number},{number}\n".encode() for number in range(20)]
    sagemaker.transform(
        "joined",
        {"rows.csv": b"".join(rows)},
        kept={"Accept": "text/csv", "AssembleWith": "Line"},
        BatchStrategy="SingleRecord",
        MaxConcurrentTransforms=4,
        MaxPayloadInMB=1,
        Environment={"SAGEMAKER_MODEL_SERVER_WORKERS": "4"},
        DataProcessing={"InputFilter": "$[1:]", "JoinSource": "Input", "OutputFilter": "$[0,2]"},
    )

    job = sagemaker.transformed("joined")

    assert job["TransformJobStatus"] == "Completed", job
    expected = b"".join(f"id{number},{2 * number}\n".encode() for number in range(20))
    assert sagemaker.outputs("joined") == {"rows.csv.out": expected}
    printed, data = sagemaker.logged("joined")
    assert "".join(printed).count("asked") == 20  # threads that print at once mix their lines
    assert data == ["MaxConcurrentTransforms=4, MaxPayloadInMB=1, BatchStrategy=SINGLE_RECORD"]


def test_several_instances_share_the_objects_of_a_manifest(sagemaker):
    objects = {f"{number}.csv.gz": gzip.compress(f"{number}\n".encode()) for number in range(4)}
    prefix = f"s3://{BUCKET}/shared/in/"
    manifest = sagemaker.put("shared/manifest", json.dumps([{"prefix": prefix}, *objects]).encode())
    source = {"S3DataType": "ManifestFile", "S3Uri": manifest}
    given = {"DataSource": {"S3DataSource": source}, "CompressionType": "Gzip", "SplitType": "None"}
    sagemaker.transform("shared", objects, given=given, count=2)

    assert sagemaker.transformed("shared")["TransformJobStatus"] == "Completed"

    expected = {f"{number}.csv.gz.out": str(2 * number).encode() for number in range(4)}
    assert sagemaker.outputs("shared") == expected
    streams = sagemaker.runtime.client("logs").describe_log_streams(
        logGroupName=GROUP, logStreamNamePrefix="shared/"
    )["logStreams"]
    hosts = {stream["logStreamName"].split("/")[1].rpartition("-")[0] for stream in streams}
    assert hosts == {"algo-1", "algo-2"}


def test_a_model_finds_that_it_is_in_a_transform_job(sagemaker):
    sagemaker.transform(
        "told",
        {"x": b"environment"},
        MaxPayloadInMB=3,
        BatchStrategy="MultiRecord",
        Environment={"EXTRA": "more"},
    )

    assert sagemaker.transformed("told")["TransformJobStatus"] == "Completed"

    said = sagemaker.outputs("told")["x.out"].decode().splitlines()
    assert said[-1] == "more"
    assert "SAGEMAKER_BATCH=true" in said
    assert "SAGEMAKER_MAX_PAYLOAD_IN_MB=3" in said
    assert "SAGEMAKER_BATCH_STRATEGY=MULTI_RECORD" in said
    assert not any(line.startswith("SAGEMAKER_MAX_CONCURRENT_TRANSFORMS") for line in said)


def test_a_bad_record_fails_the_job_but_not_the_other_objects(sagemaker):
    sagemaker.transform("bad", {"a": b"1\n", "b": b"refuse\n", "c": b"3\n"})

    job = sagemaker.transformed("bad")

    assert job["TransformJobStatus"] == "Failed"
    assert job["FailureReason"] == "ClientError: See job logs for more information"
    assert set(sagemaker.outputs("bad")) == {"a.out", "c.out"}
    assert sagemaker.logged("bad")[1][1:] == [
        f"{BUCKET}/bad/in/b: {line}"
        for line in ("ClientError: 400", "", "Message:", "no number in 'refuse\\n'")
    ]


def test_a_server_error_is_tried_again_but_not_for_ever(sagemaker):
    sagemaker.transform("hiccup", {"a": b"once\n1"}, model="doubles")
    sagemaker.transform("hopeless", {"a": b"never"}, ModelClientConfig={"InvocationsMaxRetries": 1})

    hiccup, hopeless = sagemaker.transformed("hiccup"), sagemaker.transformed("hopeless")

    assert hiccup["TransformJobStatus"] == "Completed"
    assert sagemaker.outputs("hiccup") == {"a.out": b"0\n2"}
    assert hopeless["TransformJobStatus"] == "Failed"
    assert hopeless["FailureReason"] == "AlgorithmError: See job logs for more information"
    printed, data = sagemaker.logged("hopeless")
    assert sum("RuntimeError (500): no way" in line for line in printed) == 2
    assert data[1] == f"{BUCKET}/hopeless/in/a: Bad HTTP status received from algorithm: 500"


def test_a_record_that_is_too_large_and_an_answer_that_takes_too_long_fail_the_job(sagemaker):
    sagemaker.transform("large", {"a": b"1" * (2**20 + 1)}, MaxPayloadInMB=1)
    sagemaker.transform(
        "slow",
        {"a": b"wait\n"},
        ModelClientConfig={"InvocationsTimeoutInSeconds": 1, "InvocationsMaxRetries": 0},
    )

    large, slow = sagemaker.transformed("large"), sagemaker.transformed("slow")

    assert large["FailureReason"] == "ClientError: See job logs for more information"
    assert sagemaker.logged("large")[1][1:] == [
        f"{BUCKET}/large/in/a: ClientError: Too much data for max payload size"
    ]
    assert slow["FailureReason"] == "AlgorithmError: See job logs for more information"
    assert sagemaker.logged("slow")[1][1:] == [
        f"{BUCKET}/slow/in/a: Unable to get response from algorithm: no answer after 1 s"
    ]


def test_a_model_that_cannot_be_loaded_fails_the_job(sagemaker):
    sagemaker.model("broken", "def model_fn(model_dir):\n    raise OSError('no weights')\n")
    sagemaker.transform("broken", {"a": b"1"}, model="broken")

    job = sagemaker.transformed("broken")

    assert job["FailureReason"] == "AlgorithmError: See job logs for more information"
    printed, data = sagemaker.logged("broken")
    assert printed[-1] == "OSError: no weights"
    assert data == ["The model server is not healthy: the process ended before it was ready"]


def test_a_model_has_what_its_requirements_ask_for(sagemaker, tmp_path):
    wheel = wheel_of(tmp_path, "stagegate_factor", "VALUE = 3")
    code = "import stagegate_factor\n" + DOUBLES.replace("2 * int", "stagegate_factor.VALUE * int")
    gone = (tmp_path / "gone-1.0-py3-none-any.whl").as_uri()
    for name, wanted in (
        ("asks", f"stagegate-factor @ {wheel.as_uri()}"),
        ("asks-in-vain", f"gone @ {gone}"),
    ):
        sagemaker.model(name, code, {"code/requirements.txt": wanted})
        sagemaker.transform(name, {"a": b"5"}, model=name, count=2)

    job, failed = sagemaker.transformed("asks"), sagemaker.transformed("asks-in-vain")

    assert job["TransformJobStatus"] == "Completed"
    assert sagemaker.outputs("asks") == {"a.out": b"15"}
    assert failed["FailureReason"] == "AlgorithmError: See job logs for more information"
    printed, data = sagemaker.logged("asks-in-vain")
    assert any("gone-1.0-py3-none-any.whl" in line for line in printed)
    assert "The model server is not healthy: the installer ended with status" in data[0]


def waiting(sagemaker, name):
    """The model's process that waits."""
    deadline = time.monotonic() + PATIENCE
    while True:
        assert time.monotonic() < deadline
        for line in sagemaker.log(name, group=GROUP):
            if line.startswith("waits"):
                return psutil.Process(int(line.split()[1]))
        time.sleep(0.05)


def test_a_job_that_is_stopped_leaves_no_process_and_no_part_of_an_output(sagemaker):
    sagemaker.transform("stopped", {"a": b"wait\n"})
    process = waiting(sagemaker, "stopped")

    sagemaker.client.stop_transform_job(TransformJobName="stopped")
    job = sagemaker.transformed("stopped")

    assert job["TransformJobStatus"] == "Stopped"
    assert "FailureReason" not in job
    assert not process.is_running()
    assert sagemaker.outputs("stopped") == {}
    with pytest.raises(ClientError, match="is in status Stopped"):
        sagemaker.client.stop_transform_job(TransformJobName="stopped")


def test_state_machines_wait_for_a_job_and_boto3_does(sagemaker):
    states = sagemaker.runtime.client("stepfunctions")
    sagemaker.put("sync/in/a", b"4")
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::sagemaker:createTransformJob.sync",
        "Parameters": sagemaker.request("sync"),
        "End": True,
    }
    definition = json.dumps({"StartAt": "Transform", "States": {"Transform": task}})
    machine = states.create_state_machine(name="transform", definition=definition, roleArn=ROLE)
    arn = states.start_execution(stateMachineArn=machine["stateMachineArn"])["executionArn"]

    deadline = time.monotonic() + PATIENCE
    while (execution := states.describe_execution(executionArn=arn))["status"] == "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    sagemaker.client.get_waiter("transform_job_completed_or_stopped").wait(TransformJobName="sync")

    assert execution["status"] == "SUCCEEDED", execution
    assert json.loads(execution["output"])["TransformJobStatus"] == "Completed"
    assert not any(name.startswith("_") for name in json.loads(execution["output"]))
    assert sagemaker.outputs("sync") == {"a.out": b"8"}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"ModelName": "absent"},
            'Could not find model "arn:aws:sagemaker:us-east-1:111111111111:model/absent".',
        ),
        ({"MaxPayloadInMB": 101}, "MaxPayloadInMB cannot be greater than 100: 101"),
        (
            {"MaxPayloadInMB": 50, "MaxConcurrentTransforms": 3},
            "MaxConcurrentTransforms * MaxPayloadInMB cannot exceed 100: 3 * 50",
        ),
        (
            {"DataProcessing": {"InputFilter": "$..x"}},
            "The filters of DataProcessing must be JSONPaths: '..' is not supported",
        ),
        (
            {"DataProcessing": {"JoinSource": "Input"}, "given": {"ContentType": "image/png"}},
            "DataProcessing needs a ContentType of text/csv, application/json or application/jsonlines, "
            "not 'image/png'",
        ),
        (
            {"DataProcessing": {"JoinSource": "Input"}, "given": {"SplitType": "None"}},
            "DataProcessing does not go with SplitType None for text/csv",
        ),
        (
            {"DataProcessing": {"JoinSource": "Input"}, "kept": {"Accept": "application/json"}},
            "JoinSource Input cannot join text/csv with application/json",
        ),
        (
            {"DataCaptureConfig": {"DestinationS3Uri": "s3://bucket/captured"}},
            "CreateTransformJob: DataCaptureConfig is not supported by the local runtime",
        ),
    ],
)
def test_what_cannot_be_transformed_is_refused(sagemaker, members, message):
    given, kept = members.pop("given", None), members.pop("kept", None)
    request = {**sagemaker.request("refused", given, kept), **members}

    assert sagemaker.refused(request) == ("ValidationException", message)


def test_an_input_without_objects_and_a_name_that_is_taken_are_refused(sagemaker):
    sagemaker.put("taken/in/a", b"1")
    sagemaker.client.create_transform_job(**sagemaker.request("taken"))

    code, message = sagemaker.refused(sagemaker.request("nothing-there"))
    taken = sagemaker.refused(sagemaker.request("taken"))

    assert code == "ValidationException"
    assert message.startswith(f'No S3 objects found under S3 URL "s3://{BUCKET}/nothing-there/in/"')
    assert taken[0] == "ResourceInUse"


def test_a_job_goes_on_after_kill(stopped_local, tmp_path):
    stopped_local.start()
    sagemaker = Transformer(stopped_local)
    go = tmp_path / "go"
    waits = DOUBLES.replace(
        "time.sleep(600)", f"[time.sleep(0.05) for _ in iter(lambda: os.path.exists({str(go)!r}), True)]"
    )
    sagemaker.model("waits", waits)
    sagemaker.transform("killed", {"a": b"wait\n7"}, model="waits")
    process = waiting(sagemaker, "killed")

    stopped_local.restart()
    psutil.wait_procs([process], timeout=PATIENCE)
    go.write_text("")
    job = sagemaker.transformed("killed")

    assert not process.is_running()
    assert job["TransformJobStatus"] == "Completed"
    assert sagemaker.outputs("killed") == {"a.out": b"0\n14"}
    assert list((stopped_local.data / "jobs" / "transform-job").iterdir()) == []
