"""Channels as a script sees them: manifests, named pipes, shuffled, compressed."""

import gzip
import json
import random
import struct
import threading

import pytest

from stagegate.local.server import running
from stagegate.local.service import AWSError
from tests.local.sagemaker.test_job_processes import CLASSES, Runtime, opened, pipe_of
from tests.local.sagemaker.test_jobs import BUCKET


@pytest.fixture
async def runtime(tmp_path):
    async with running(data=tmp_path / "data", classes=CLASSES) as endpoint:
        await endpoint.runtime.aws("s3", "CreateBucket", {"Bucket": BUCKET})
        yield Runtime(endpoint)


async def put(runtime, key, content):
    await runtime.aws("s3", "PutObject", {"Bucket": BUCKET, "Key": key, "Body": content})
    return f"s3://{BUCKET}/{key}"


async def letters(runtime, *names):
    for name in names:
        await put(runtime, f"letters/{name}", f"<{name}>".encode())
    return f"s3://{BUCKET}/letters/"


def channel(name, uri, kind="S3Prefix", *, source=None, **members):
    return {
        "ChannelName": name,
        "DataSource": {"S3DataSource": {"S3DataType": kind, "S3Uri": uri, **(source or {})}},
        **members,
    }


async def run(runtime, name, script, *channels, **members):
    """The job's description and what its script printed."""
    await runtime.train(name, script, InputDataConfig=list(channels), **members)
    job = await runtime.ended(name)
    assert job["TrainingJobStatus"] == "Completed", job["FailureReason"]
    return await runtime.log(name)


async def refused(runtime, *channels, **members):
    with pytest.raises(AWSError) as caught:
        await runtime.train("refused", "", InputDataConfig=list(channels), **members)
    return caught.value.message


READS_EPOCHS = """
import json, os
for epoch in range({epochs}):
    with open(f"/opt/ml/input/data/train_{{epoch}}", "rb") as pipe:
        print(pipe.read())
print(json.load(open("/opt/ml/input/config/inputdataconfig.json"))["train"])
"""


async def test_pipe_mode_streams_every_epoch_anew_and_leaves_no_thread(runtime):
    uri = await letters(runtime, "a", "b", "c")

    lines = await run(
        runtime,
        "pipes",
        READS_EPOCHS.format(epochs=2),
        channel("train", uri),
        channel("never-read", uri),
        AlgorithmSpecification={"TrainingImage": "image", "TrainingInputMode": "Pipe"},
    )

    assert lines == [
        "b'<a><b><c>'",
        "b'<a><b><c>'",
        "{'TrainingInputMode': 'Pipe', 'S3DistributionType': 'FullyReplicated', 'RecordWrapperType': 'None'}",
    ]
    assert [thread for thread in threading.enumerate() if thread.name.startswith("pipe")] == []


async def test_a_script_may_take_a_pipe_away_that_it_never_reads(runtime):
    uri = await letters(runtime, "a")
    script = "import os\nos.remove('/opt/ml/input/data/train_0')\nprint('gone')"

    assert await run(runtime, "removes", script, channel("train", uri, InputMode="Pipe")) == ["gone"]


async def test_a_script_may_close_a_pipe_early_and_read_the_next_epoch(runtime):
    uri = await put(runtime, "large", bytes(1_000_000))
    script = (
        "with open('/opt/ml/input/data/train_0', 'rb') as pipe:\n    print(len(pipe.read(10)))\n"
        "with open('/opt/ml/input/data/train_1', 'rb') as pipe:\n    print(len(pipe.read()))\n"
    )

    assert await run(runtime, "early", script, channel("train", uri, InputMode="Pipe")) == ["10", "1000000"]


async def test_shuffled_epochs_differ_and_are_the_seeds(runtime):
    names = "abcdefgh"
    uri = await letters(runtime, *names)

    lines = await run(
        runtime,
        "shuffled",
        READS_EPOCHS.format(epochs=2),
        channel("train", uri, InputMode="Pipe", ShuffleConfig={"Seed": 7}),
    )

    expected = []
    for epoch in range(2):
        order = list(names)
        random.Random(f"7/{epoch}").shuffle(order)
        expected.append(str("".join(f"<{name}>" for name in order).encode()))
    assert lines[:2] == expected
    assert lines[0] != lines[1]


async def test_compressed_objects_are_unpacked_and_wrapped_in_pipe_mode(runtime):
    for name in ("a", "b"):
        await put(runtime, f"zipped/{name}", gzip.compress(name.encode() * 5))
    given = channel(
        "train",
        f"s3://{BUCKET}/zipped/",
        InputMode="Pipe",
        CompressionType="Gzip",
        RecordWrapperType="RecordIO",
    )

    lines = await run(runtime, "zipped", READS_EPOCHS.format(epochs=1), given)

    header = struct.pack("<II", 0xCED7230A, 5)
    assert lines[0] == str(header + b"aaaaa\0\0\0" + header + b"bbbbb\0\0\0")


async def test_an_object_that_cannot_be_streamed_fails_the_job(runtime):
    uri = await put(runtime, "plain", b"not compressed")
    given = channel("train", uri, InputMode="Pipe", CompressionType="Gzip")
    await runtime.train("unzippable", READS_EPOCHS.format(epochs=1), InputDataConfig=[given])

    job = await runtime.ended("unzippable")

    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith(f"ClientError: Data download failed: {uri} is not in gzip: ")


async def test_a_manifest_names_the_objects_by_their_prefix(runtime):
    await letters(runtime, "a", "b", "deep/c")
    listed = [{"prefix": f"s3://{BUCKET}/letters/"}, "deep/c", "a"]
    uri = await put(runtime, "a.manifest", json.dumps(listed).encode())
    script = (
        "import os\nfrom pathlib import Path\n"
        "root = Path(os.environ['SM_CHANNEL_FILES'])\n"
        "print(sorted((str(p.relative_to(root)), p.read_text()) for p in root.rglob('*') if p.is_file()))\n"
        "print(open('/opt/ml/input/data/pipe_0').read())"
    )

    lines = await run(
        runtime,
        "manifest",
        script,
        channel("files", uri, "ManifestFile"),
        channel("pipe", uri, "ManifestFile", InputMode="Pipe"),
    )

    assert lines == ["[('a', '<a>'), ('deep/c', '<c>')]".replace("<c>", "<deep/c>"), "<deep/c><a>"]


async def test_an_augmented_manifest_streams_the_attributes_that_were_asked_for(runtime):
    prefix = await letters(runtime, "a", "b")
    manifest = [
        {"image-ref": f"{prefix}{name}", "label": number, "metadata": {"unused": True}}
        for number, name in enumerate("ab")
    ]
    uri = await put(runtime, "augmented.manifest", "\n".join(map(json.dumps, manifest)).encode())

    lines = await run(
        runtime,
        "augmented",
        READS_EPOCHS.format(epochs=1),
        channel(
            "train",
            uri,
            "AugmentedManifestFile",
            source={"AttributeNames": ["image-ref", "label"]},
            InputMode="Pipe",
        ),
    )

    assert lines[0] == "b'<a>0<b>1'"


async def test_a_manifest_that_is_none_fails_the_job_in_the_words_of_a_client_error(runtime):
    uri = await put(runtime, "broken.manifest", b'["a", "b"]')
    await runtime.train("broken", "", InputDataConfig=[channel("train", uri, "ManifestFile")])

    job = await runtime.ended("broken")

    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith(
        f"ClientError: Data download failed: ManifestFile {uri} is invalid: "
    )


async def test_what_goes_only_with_pipe_mode_is_refused_in_file_mode(runtime):
    uri = await letters(runtime, "a")
    only = "can only be used if the channel's input mode is Pipe"

    augmented = channel("train", uri, "AugmentedManifestFile", source={"AttributeNames": ["a"]})
    assert await refused(runtime, augmented) == f"Channel train: S3DataType AugmentedManifestFile {only}"
    compressed = channel("train", uri, CompressionType="Gzip")
    assert await refused(runtime, compressed) == f"Channel train: CompressionType Gzip {only}"
    wrapped = channel("train", uri, RecordWrapperType="RecordIO", InputMode="FastFile")
    assert await refused(runtime, wrapped) == f"Channel train: RecordWrapperType RecordIO {only}"
    twice = [channel("train", uri), channel("train", uri)]
    assert await refused(runtime, *twice) == "The channel name train is given 2 times: it must be unique"


async def test_a_stop_ends_a_job_that_has_read_half_of_its_pipe(runtime, tmp_path):
    begun = pipe_of(tmp_path / "begun")
    uri = await put(runtime, "slow", bytes(1_000_000))
    script = (
        "import time\npipe = open('/opt/ml/input/data/train_0', 'rb')\npipe.read(1)\n"
        f"open({str(begun)!r}, 'w').write('x')\ntime.sleep(600)"
    )
    await runtime.train("stuck", script, InputDataConfig=[channel("train", uri, InputMode="Pipe")])
    await opened(begun)

    await runtime.aws("sagemaker", "StopTrainingJob", {"TrainingJobName": "stuck"})
    job = await runtime.ended("stuck")

    assert job["TrainingJobStatus"] == "Stopped"
