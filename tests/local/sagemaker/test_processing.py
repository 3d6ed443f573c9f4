"""Processing jobs: outputs that are uploaded while they come, and what the application gets by itself."""

import asyncio
import json

import pytest

from stagegate.local.sagemaker import mirror
from stagegate.local.server import running
from stagegate.local.service import AWSError
from tests.local.sagemaker.test_channels import put
from tests.local.sagemaker.test_job_processes import CLASSES, Runtime, opened, pipe_of
from tests.local.sagemaker.test_jobs import BUCKET, ROLE

OUT = "/opt/ml/processing/out"


@pytest.fixture
async def runtime(tmp_path):
    async with running(data=tmp_path / "data", classes=CLASSES) as endpoint:
        await endpoint.runtime.aws("s3", "CreateBucket", {"Bucket": BUCKET})
        yield Runtime(endpoint)


async def process(runtime, name, command, *, inputs=(), outputs=(), instances=1):
    await runtime.aws(
        "sagemaker",
        "CreateProcessingJob",
        {
            "ProcessingJobName": name,
            "RoleArn": ROLE,
            "AppSpecification": {"ImageUri": "image", "ContainerEntrypoint": ["sh", "-c", command]},
            "ProcessingResources": {
                "ClusterConfig": {
                    "InstanceCount": instances,
                    "InstanceType": "ml.m5.large",
                    "VolumeSizeInGB": 1,
                }
            },
            "ProcessingInputs": list(inputs),
            "ProcessingOutputConfig": {"Outputs": list(outputs)},
        },
    )


def output(name, mode, **members):
    return {
        "OutputName": name,
        "S3Output": {
            "S3Uri": f"s3://{BUCKET}/{name}",
            "LocalPath": f"{OUT}/{name}",
            "S3UploadMode": mode,
            **members,
        },
    }


async def listed(runtime):
    found = await runtime.aws("s3", "ListObjectsV2", {"Bucket": BUCKET})
    return [entry["Key"] for entry in found.get("Contents", ())]


async def test_continuous_outputs_are_there_before_the_job_ends_and_even_when_it_fails(
    runtime, tmp_path, monkeypatch
):
    monkeypatch.setattr(mirror, "_SECONDS", 0.02)
    goes_on, uploaded = pipe_of(tmp_path / "goes-on"), asyncio.Event()
    write = mirror.s3.write

    async def noticed(aws, uri, content):
        await write(aws, uri, content)
        uploaded.set()

    monkeypatch.setattr(mirror.s3, "write", noticed)
    command = (
        f"echo early > {OUT}/steady/early; echo early > {OUT}/last/early; "
        f"echo > {goes_on}; echo late > {OUT}/steady/late; exit 3"
    )
    outputs = [output("steady", "Continuous"), output("last", "EndOfJob")]
    await process(runtime, "uploads", command, outputs=outputs)

    async with asyncio.timeout(30):
        await uploaded.wait()
    before = await listed(runtime)
    await opened(goes_on)
    job = await runtime.ended("uploads", kind="Processing")

    assert before == ["steady/early"]
    assert job["ProcessingJobStatus"] == "Failed"
    assert await listed(runtime) == ["steady/early", "steady/late"]


async def test_what_the_application_manages_is_left_to_it(runtime):
    uri = await put(runtime, "given/a", b"a")
    given = {"InputName": "given", "AppManaged": True, "S3Input": {"S3Uri": uri, "S3DataType": "S3Prefix"}}
    made = {
        "OutputName": "made",
        "AppManaged": True,
        "S3Output": {"S3Uri": f"s3://{BUCKET}/made", "S3UploadMode": "EndOfJob"},
    }
    with pytest.raises(AWSError) as caught:
        await process(runtime, "no-path", "true", inputs=[{**given, "AppManaged": False}])

    await process(runtime, "manages", "ls /opt/ml/processing", inputs=[given], outputs=[made])
    job = await runtime.ended("manages", kind="Processing")

    assert job["ProcessingJobStatus"] == "Failed"  # there is no such folder
    assert caught.value.message == "Input given: S3Input.LocalPath is required when AppManaged is False"


async def test_a_warm_pool_is_in_use_while_its_job_runs_and_then_terminated(runtime, tmp_path):
    begun = pipe_of(tmp_path / "begun")
    await runtime.train(
        "warm",
        f"open({str(begun)!r}, 'w').write('x')",
        ResourceConfig={
            "InstanceType": "ml.m5.xlarge",
            "InstanceCount": 1,
            "VolumeSizeInGB": 1,
            "KeepAlivePeriodInSeconds": 600,
        },
    )

    during = await runtime.aws("sagemaker", "DescribeTrainingJob", {"TrainingJobName": "warm"})
    await opened(begun)
    after = await runtime.ended("warm")

    assert during["WarmPoolStatus"] == {"Status": "InUse"}
    assert after["WarmPoolStatus"] == {"Status": "Terminated", "ResourceRetainedBillableTimeInSeconds": 0}


async def test_an_input_may_be_a_manifest_and_is_refused_by_name_in_pipe_mode(runtime):
    prefix = (await put(runtime, "letters/b", b"b")).removesuffix("b")
    uri = await put(runtime, "input.manifest", json.dumps([{"prefix": prefix}, "b"]).encode())

    def listed_in(mode, **members):
        source = {"S3Uri": uri, "S3DataType": "ManifestFile", "S3InputMode": mode, **members}
        return [{"InputName": "in", "S3Input": {**source, "LocalPath": "/opt/ml/processing/in"}}]

    command = f"ls /opt/ml/processing/in > {OUT}/listed/names"
    outputs = [output("listed", "EndOfJob")]
    await process(runtime, "lists", command, inputs=listed_in("File"), outputs=outputs)
    await runtime.ended("lists", kind="Processing")
    names = await runtime.aws("s3", "GetObject", {"Bucket": BUCKET, "Key": "listed/names"})
    with pytest.raises(AWSError) as pipe:
        await process(runtime, "piped", command, inputs=listed_in("Pipe"))
    with pytest.raises(AWSError) as compressed:
        await process(runtime, "zipped", command, inputs=listed_in("File", S3CompressionType="Gzip"))

    assert names["Body"] == b"b\n"
    assert pipe.value.message == "S3Input.S3InputMode Pipe is not supported by the local runtime"
    assert (
        compressed.value.message == "S3Input.S3CompressionType Gzip can only be used if S3InputMode is Pipe"
    )
