"""Several processes that train one model: one per GPU, on one or several hosts.

torchrun starts them, by itself where SageMaker was told to use it, else from here: SageMaker then starts
the script once on each host and says in SM_HOSTS which others there are.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, distributed

PORT = "29500"
PATIENCE = 300  # seconds in which the hosts of a job have to find each other


@dataclass(frozen=True, kw_only=True)
class World:
    """This process among all that train together. Rank 0 prints and writes."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.size > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def any(self, statement: bool) -> bool:
        """Whether it is true for one of the processes: they all go the same way."""
        if self.size == 1:
            return statement
        return bool(self.total(torch.tensor(float(statement), device=self.device)))


def launch_if_several(script: str, arguments: Sequence[str]) -> None:
    """Where the job has several hosts or GPUs and torchrun did not start this, become torchrun."""
    hosts = json.loads(os.environ.get("SM_HOSTS") or "[]")
    processes = max(1, int(os.environ.get("SM_NUM_GPUS") or torch.cuda.device_count()))
    if "RANK" in os.environ or max(1, len(hosts)) * processes == 1:
        return
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    if len(hosts) > 1:
        leader = hosts[0]
        _wait_for_name(leader)
        command += [
            f"--nnodes={len(hosts)}",
            f"--node-rank={hosts.index(os.environ['SM_CURRENT_HOST'])}",
            f"--master-addr={leader}",
            f"--master-port={os.environ.get('MASTER_PORT', PORT)}",
        ]
    else:
        command.append("--standalone")
    paths = [str(Path(script).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    sys.stdout.flush()
    os.execv(sys.executable, [*command, script, *arguments])  # noqa: S606 - the same job, started differently


@contextmanager
def joined() -> Iterator[World]:
    """This process's world for as long as it trains: a world of its own where nobody else was started."""
    cuda = torch.cuda.is_available()
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    if size == 1:
        yield World(rank=0, size=1, device=device)
        return
    if cuda:
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if cuda else "gloo", init_method="env://")
    try:
        yield World(rank=distributed.get_rank(), size=size, device=device)
    finally:
        distributed.destroy_process_group()


def _wait_for_name(host: str) -> None:
    """SageMaker's hosts can be up before their names are."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.getaddrinfo(host, None)
            return
        except socket.gaierror:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
