"""Jobs on several instances: what each host sees, that they find each other, and how they end together."""

import io
import json
import tarfile

import pytest
from botocore.exceptions import ClientError

from tests.local.sagemaker.test_jobs import BUCKET, Sagemaker, channel, holding

TWO = {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 1}


@pytest.fixture(scope="module")
def sagemaker(shared_local):
    return Sagemaker(shared_local)


def sharded(name, uri, **source):
    given = channel(name, uri)
    given["DataSource"]["S3DataSource"] |= {"S3DataDistributionType": "ShardedByS3Key", **source}
    return given


def unpacked(sagemaker, uri):
    with tarfile.open(fileobj=io.BytesIO(sagemaker.get(uri))) as archive:
        return {name: archive.extractfile(name).read().decode() for name in archive.getnames()}


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


def test_two_hosts_find_each_other_and_add_up(sagemaker):
    for name in "abc":
        sagemaker.put(f"letters/{name}")
    letters = f"s3://{BUCKET}/letters/"

    sagemaker.train(
        "adds-up",
        ADDS_UP,
        ResourceConfig=TWO,
        InputDataConfig=[sharded("part", letters), channel("all", letters)],
    )
    job = sagemaker.trained("adds-up")

    assert job["TrainingJobStatus"] == "Completed", job
    model = unpacked(sagemaker, job["ModelArtifacts"]["S3ModelArtifacts"])
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
    data = unpacked(sagemaker, f"s3://{BUCKET}/models/adds-up/output/output.tar.gz")
    assert data == {"algo-1": "algo-1", "algo-2": "algo-2"}
    assert sagemaker.log("adds-up") == ["I am algo-1"]
    assert sagemaker.log("adds-up", host="algo-2") == ["I am algo-2"]


LAUNCHES = """
import os, sys
hosts, port = os.environ["SM_HOST_COUNT"], os.environ["SM_MASTER_PORT"]
os.execvp(sys.executable, [
    sys.executable, "-m", "torch.distributed.run", "--nnodes", hosts, "--nproc-per-node", "1",
    "--node-rank", os.environ["SM_CURRENT_HOST_RANK"], "--master-addr", os.environ["SM_MASTER_ADDR"],
    "--master-port", port, "worker.py",
])
"""
WORKER = """
import torch
from torch import distributed
distributed.init_process_group("gloo")
total = torch.ones(1)
distributed.all_reduce(total)
print("rank", distributed.get_rank(), "of", int(total.item()))
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_torchrun_starts_workers_on_every_host(sagemaker):
    sagemaker.train("torchrun", LAUNCHES, files={"worker.py": WORKER}, ResourceConfig=TWO)

    job = sagemaker.trained("torchrun")

    assert job["TrainingJobStatus"] == "Completed", job
    logs = [sagemaker.log("torchrun", host=host) for host in ("algo-1", "algo-2")]
    assert "rank 0 of 2" in logs[0]
    assert "rank 1 of 2" in logs[1]


def test_where_one_host_fails_the_others_are_ended_and_its_reason_is_the_jobs(sagemaker, tmp_path):
    held = tmp_path / "held"
    script = (
        "import os, time\nheld = open(os.environ['HELD'], 'a')\n"
        "if os.environ['SM_CURRENT_HOST'] == 'algo-2':\n    raise ValueError('no data on algo-2')\n"
        "time.sleep(600)"
    )
    sagemaker.train("one-fails", script, ResourceConfig=TWO, Environment={"HELD": str(held)})

    job = sagemaker.trained("one-fails")

    assert job["TrainingJobStatus"] == "Failed"
    assert 'ErrorMessage "ValueError: no data on algo-2"' in job["FailureReason"]
    assert holding(held) == []


def test_a_stop_reaches_every_host(sagemaker, tmp_path):
    held = tmp_path / "held"
    script = "import os, time\nheld = open(os.environ['HELD'], 'a')\nprint('begun')\ntime.sleep(600)"
    sagemaker.train("stops", script, ResourceConfig=TWO, Environment={"HELD": str(held)})
    for host in ("algo-1", "algo-2"):
        sagemaker.until_logged("stops", "begun", host=host)
    before = holding(held)

    sagemaker.client.stop_training_job(TrainingJobName="stops")

    assert sagemaker.trained("stops")["TrainingJobStatus"] == "Stopped"
    assert len(before) == 2
    assert holding(held) == []


def test_hosts_of_several_groups_know_their_own_and_get_its_channels(sagemaker):
    uri = sagemaker.put("grouped/a.txt", b"for the CPUs")
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

    sagemaker.train(
        "grouped",
        script,
        ResourceConfig={"InstanceGroups": groups, "VolumeSizeInGB": 1},
        InputDataConfig=[sharded("train", uri, InstanceGroupNames=["cpus"])],
    )
    job = sagemaker.trained("grouped")
    with pytest.raises(ClientError) as unknown:
        sagemaker.train(
            "no-group",
            script,
            ResourceConfig=TWO,
            InputDataConfig=[sharded("train", uri, InstanceGroupNames=["gpus"])],
        )

    assert job["TrainingJobStatus"] == "Completed", job
    assert sagemaker.log("grouped") == ["cpus ml.c5.xlarge 0 ['a.txt'] cpus"]
    assert sagemaker.log("grouped", host="algo-2") == ["gpus ml.g5.xlarge 1 [] gpus"]
    assert unknown.value.response["Error"]["Message"] == "Channel train: no instance group is named gpus"


def test_a_processing_job_spreads_its_input_over_its_hosts(sagemaker):
    for name in "abc":
        sagemaker.put(f"spread/{name}.txt", name.encode())
    script = (
        'host=$(sed \'s/.*current_host": "\\([^"]*\\).*/\\1/\' /opt/ml/config/resourceconfig.json); '
        "cat /opt/ml/processing/input/*.txt > /opt/ml/processing/output/$host"
    )

    sagemaker.process(
        "spread",
        *("sh", "-c", script),
        instances=2,
        inputs=[
            (
                f"s3://{BUCKET}/spread/",
                "/opt/ml/processing/input",
                ("S3DataDistributionType", "ShardedByS3Key"),
            )
        ],
        outputs=[(f"s3://{BUCKET}/spread-out", "/opt/ml/processing/output", "EndOfJob")],
    )
    job = sagemaker.processed("spread")

    assert job["ProcessingJobStatus"] == "Completed", job
    assert sagemaker.get(f"s3://{BUCKET}/spread-out/algo-1") == b"ac"
    assert sagemaker.get(f"s3://{BUCKET}/spread-out/algo-2") == b"b"
