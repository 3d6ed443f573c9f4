"""Jobs on several instances: what each host sees, that they find each other, and how they end together."""

import asyncio
import io
import json
import tarfile

import pytest

from stagegate.local.logs import Logs
from stagegate.local.server import running
from stagegate.local.service import AWSError
from tests.local.sagemaker.test_channels import channel, put
from tests.local.sagemaker.test_job_processes import CLASSES, HurriedJobs, Runtime, opened, pipe_of
from tests.local.sagemaker.test_jobs import BUCKET, holding
from tests.local.sagemaker.test_processing import output, process

TWO = {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 1}
SHARDED = {"S3DataDistributionType": "ShardedByS3Key"}


class TorchJobs(HurriedJobs):
    preloaded = ("numpy", "torch")


@pytest.fixture
async def runtime(tmp_path):
    async with running(data=tmp_path / "data", classes=CLASSES) as endpoint:
        await endpoint.runtime.aws("s3", "CreateBucket", {"Bucket": BUCKET})
        yield Runtime(endpoint)


@pytest.fixture
async def runtime_with_torch(tmp_path):
    classes = {"sagemaker": (TorchJobs,), "logs": (Logs,)}
    async with running(data=tmp_path / "data", classes=classes) as endpoint:
        await endpoint.runtime.aws("s3", "CreateBucket", {"Bucket": BUCKET})
        yield Runtime(endpoint)


async def unpacked(runtime, name, file):
    key = f"models/{name}/output/{file}"
    body = (await runtime.aws("s3", "GetObject", {"Bucket": BUCKET, "Key": key}))["Body"]
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        return {name: archive.extractfile(name).read().decode() for name in archive.getnames()}


async def letters(runtime, *names):
    for name in names:
        await put(runtime, f"letters/{name}", name.encode())
    return f"s3://{BUCKET}/letters/"


ADDS_UP = """
import json, os, socket, torch
from pathlib import Path
from torch import distributed

distributed.init_process_group("gloo")
rank = distributed.get_rank()
total = torch.tensor([rank + 1.0])
distributed.all_reduce(total)
distributed.destroy_process_group()

host = os.environ["SM_CURRENT_HOST"]
config = json.loads(Path("/opt/ml/input/config/resourceconfig.json").read_text())
Path("/opt/ml/model/common.txt").write_text(host)
Path(f"/opt/ml/model/{host}.json").write_text(json.dumps({
    "total": total.item(),
    "world": [rank, int(os.environ["WORLD_SIZE"]), os.environ["LOCAL_RANK"], os.environ["NODE_RANK"]],
    "config": config,
    "hosts": json.loads(os.environ["SM_HOSTS"]),
    "leader": os.environ["MASTER_ADDR"],
    "resolves": [socket.gethostbyname(name) for name in config["hosts"]],
    "part": sorted(path.name for path in Path(os.environ["SM_CHANNEL_PART"]).iterdir()),
    "all": sorted(path.name for path in Path(os.environ["SM_CHANNEL_ALL"]).iterdir()),
}))
Path(f"/opt/ml/output/data/{host}").write_text(host)
print("I am", host)
"""


async def test_two_hosts_find_each_other_and_add_up(runtime_with_torch):
    runtime = runtime_with_torch
    uri = await letters(runtime, "a", "b", "c")

    await runtime.train(
        "adds-up",
        ADDS_UP,
        ResourceConfig=TWO,
        InputDataConfig=[channel("part", uri, source=SHARDED), channel("all", uri)],
    )
    job = await runtime.ended("adds-up")

    assert job["TrainingJobStatus"] == "Completed", job
    model = await unpacked(runtime, "adds-up", "model.tar.gz")
    seen = [json.loads(model[f"algo-{number}.json"]) for number in (1, 2)]
    group = {
        "instance_group_name": "homogeneousCluster",
        "instance_type": "ml.m5.xlarge",
        "hosts": ["algo-1", "algo-2"],
    }
    assert seen == [
        {
            "total": 3.0,
            "world": [rank, 2, "0", str(rank)],
            "config": {
                "current_host": f"algo-{rank + 1}",
                "current_instance_type": "ml.m5.xlarge",
                "current_group_name": "homogeneousCluster",
                "hosts": ["algo-1", "algo-2"],
                "instance_groups": [group],
                "network_interface_name": "lo",
            },
            "hosts": ["algo-1", "algo-2"],
            "leader": "algo-1",
            "resolves": ["127.0.0.1", "127.0.0.2"],
            "part": part,
            "all": ["a", "b", "c"],
        }
        for rank, part in enumerate((["a", "c"], ["b"]))
    ]
    assert model["common.txt"] == "algo-1"
    assert await unpacked(runtime, "adds-up", "output.tar.gz") == {"algo-1": "algo-1", "algo-2": "algo-2"}
    assert await runtime.log("adds-up", host="algo-1") == ["I am algo-1"]
    assert await runtime.log("adds-up", host="algo-2") == ["I am algo-2"]


WORKER = """
import sys
if "--fail" in sys.argv:
    raise ValueError("no data")
import torch
from torch import distributed
distributed.init_process_group("gloo")
total = torch.ones(1)
distributed.all_reduce(total)
print("rank", distributed.get_rank(), "of", int(total.item()))
distributed.destroy_process_group()
"""


def distributed(runtime, name, **parameters):
    """A job whose SDK was given a `distribution`."""
    return runtime.train(
        name,
        WORKER,
        ResourceConfig=TWO,
        HyperParameters={
            "sagemaker_program": "train.py",
            "sagemaker_submit_directory": f"s3://{BUCKET}/{name}.tar.gz",
            **parameters,
        },
    )


@pytest.mark.slow
async def test_torchrun_starts_as_many_workers_on_every_host_as_were_asked_for(runtime):
    await distributed(
        runtime,
        "torchrun",
        sagemaker_torch_distributed_enabled="true",
        sagemaker_mpi_num_of_processes_per_host="2",
    )

    job = await runtime.ended("torchrun")

    assert job["TrainingJobStatus"] == "Completed", job
    said = [line for line in await runtime.log("torchrun", host="algo-1") if line.startswith("rank")]
    assert sorted(said) == ["rank 0 of 4", "rank 1 of 4"]
    said = [line for line in await runtime.log("torchrun", host="algo-2") if line.startswith("rank")]
    assert sorted(said) == ["rank 2 of 4", "rank 3 of 4"]


@pytest.mark.slow
async def test_a_worker_of_torchrun_that_fails_fails_the_job_in_sagemakers_words(runtime):
    failing = {"sagemaker_pytorch_ddp_enabled": "true", "fail": "true"}
    await distributed(runtime, "fails", **failing)

    job = await runtime.ended("fails")

    assert job["TrainingJobStatus"] == "Failed"
    assert 'Command "torchrun --nnodes 2 --nproc_per_node 1 --master_addr algo-1' in job["FailureReason"]


async def test_a_distribution_that_is_not_there_is_refused_by_name(runtime):
    with pytest.raises(AWSError) as caught:
        await distributed(runtime, "mpi", sagemaker_mpi_enabled="true")

    assert caught.value.message == (
        "CreateTrainingJob: the hyperparameter sagemaker_mpi_enabled is not supported by the local runtime"
    )


async def test_where_one_host_fails_the_others_are_ended_and_its_reason_is_the_jobs(runtime, tmp_path):
    held = tmp_path / "held"
    script = (
        f"import os, time\nheld = open({str(held)!r}, 'a')\n"
        "if os.environ['SM_CURRENT_HOST'] == 'algo-2':\n    raise ValueError('no data on algo-2')\n"
        "time.sleep(600)"
    )
    await runtime.train("one-fails", script, ResourceConfig=TWO)

    job = await runtime.ended("one-fails")

    assert job["TrainingJobStatus"] == "Failed"
    assert 'ErrorMessage "ValueError: no data on algo-2"' in job["FailureReason"]
    assert await asyncio.to_thread(holding, held) == []


async def test_a_stop_reaches_every_host(runtime, tmp_path):
    held, begun = tmp_path / "held", [pipe_of(tmp_path / name) for name in ("algo-1", "algo-2")]
    script = (
        f"import os, time\nheld = open({str(held)!r}, 'a')\n"
        f"open({str(tmp_path)!r} + '/' + os.environ['SM_CURRENT_HOST'], 'w').write('x')\ntime.sleep(600)"
    )
    await runtime.train("stops", script, ResourceConfig=TWO)
    for pipe in begun:
        await opened(pipe)
    before = await asyncio.to_thread(holding, held)

    await runtime.aws("sagemaker", "StopTrainingJob", {"TrainingJobName": "stops"})
    job = await runtime.ended("stops")

    assert job["TrainingJobStatus"] == "Stopped"
    assert len(before) == 2
    assert await asyncio.to_thread(holding, held) == []


async def test_hosts_of_several_groups_know_their_own_and_get_its_channels(runtime):
    uri = await put(runtime, "grouped/a.txt", b"for the CPUs")
    script = (
        "import json, os\nfrom pathlib import Path\n"
        "seen = json.loads(Path('/opt/ml/input/config/resourceconfig.json').read_text())\n"
        "print(seen['current_group_name'], seen['current_instance_type'], os.environ['RANK'],\n"
        "      os.listdir(os.environ['SM_CHANNEL_TRAIN']), os.environ['SM_CURRENT_INSTANCE_GROUP'])"
    )
    groups = [
        {"InstanceGroupName": "cpus", "InstanceType": "ml.c5.xlarge", "InstanceCount": 1},
        {"InstanceGroupName": "gpus", "InstanceType": "ml.g5.xlarge", "InstanceCount": 1},
    ]

    await runtime.train(
        "grouped",
        script,
        ResourceConfig={"InstanceGroups": groups, "VolumeSizeInGB": 1},
        InputDataConfig=[channel("train", uri, source={**SHARDED, "InstanceGroupNames": ["cpus"]})],
    )
    job = await runtime.ended("grouped")
    with pytest.raises(AWSError) as unknown:
        await runtime.train(
            "no-group",
            script,
            ResourceConfig=TWO,
            InputDataConfig=[channel("train", uri, source={"InstanceGroupNames": ["gpus"]})],
        )

    assert job["TrainingJobStatus"] == "Completed", job
    assert await runtime.log("grouped", host="algo-1") == ["cpus ml.c5.xlarge 0 ['a.txt'] cpus"]
    assert await runtime.log("grouped", host="algo-2") == ["gpus ml.g5.xlarge 1 [] gpus"]
    assert unknown.value.message == "Channel train: no instance group is named gpus"


async def test_a_processing_job_spreads_its_input_over_its_hosts(runtime):
    uri = await letters(runtime, "a", "b", "c")
    script = (
        'host=$(sed \'s/.*current_host": "\\([^"]*\\).*/\\1/\' /opt/ml/config/resourceconfig.json); '
        "cat /opt/ml/processing/input/* > /opt/ml/processing/output/$host"
    )
    spread = {"S3Uri": uri, "S3DataType": "S3Prefix", "LocalPath": "/opt/ml/processing/input", **SHARDED}
    await process(
        runtime,
        "spread",
        script,
        instances=2,
        inputs=[{"InputName": "letters", "S3Input": spread}],
        outputs=[output("spread", "EndOfJob", LocalPath="/opt/ml/processing/output")],
    )
    job = await runtime.ended("spread", kind="Processing")

    assert job["ProcessingJobStatus"] == "Completed", job
    for host, content in (("algo-1", b"ac"), ("algo-2", b"b")):
        written = await runtime.aws("s3", "GetObject", {"Bucket": BUCKET, "Key": f"spread/{host}"})
        assert written["Body"] == content
