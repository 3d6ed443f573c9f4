"""The hosts of a job: as many processes on this machine as the job has instances, each with a folder.

After the SageMaker Developer Guide, "Distributed Training Configuration" and "Run Training Jobs on a
Heterogeneous Cluster": the hosts of all groups are numbered through, algo-1 leads.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, TypeVar

ONE_GROUP = "homogeneousCluster"
"""The name of the group where a job has no instance groups."""
NETWORK_INTERFACE = "lo"

Document = dict[str, Any]
Entry = TypeVar("Entry")


@dataclass(frozen=True, kw_only=True)
class Group:
    """Instances of one type."""

    name: str
    instance_type: str
    hosts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Host:
    """One of a job's hosts, and those beside it. `port` is free on this machine, for who leads."""

    name: str
    groups: tuple[Group, ...]
    port: int

    @property
    def hosts(self) -> list[str]:
        return [host for group in self.groups for host in group.hosts]

    @property
    def rank(self) -> int:
        return self.hosts.index(self.name)

    @property
    def group(self) -> Group:
        return next(group for group in self.groups if self.name in group.hosts)

    def share(self, entries: Sequence[Entry], source: Document) -> list[Entry]:
        """What of a channel's objects comes to this host: all, every n-th, or, for other groups, none."""
        wanted = source.get("InstanceGroupNames") or [group.name for group in self.groups]
        hosts = [host for group in self.groups if group.name in wanted for host in group.hosts]
        if self.name not in hosts:
            return []
        if source.get("S3DataDistributionType", "FullyReplicated") == "ShardedByS3Key":
            return list(entries[hosts.index(self.name) :: len(hosts)])
        return list(entries)

    def resource_config(self) -> Document:
        """What stands in a training job's resourceconfig.json."""
        return {
            "current_host": self.name,
            "current_instance_type": self.group.instance_type,
            "current_group_name": self.group.name,
            "hosts": self.hosts,
            "instance_groups": [
                {
                    "instance_group_name": group.name,
                    "instance_type": group.instance_type,
                    "hosts": list(group.hosts),
                }
                for group in self.groups
            ],
            "network_interface_name": NETWORK_INTERFACE,
        }

    def variables(self, *, names_resolve: bool) -> dict[str, str]:
        """What tells torchrun, or `init_process_group` by itself, of the other hosts.

        As in SageMaker's PyTorch container; where there are several hosts, also what torch reads from the
        environment, with one process on each host.
        """
        leader = self.leader(names_resolve)
        several = {"RANK": self.rank, "NODE_RANK": self.rank, "WORLD_SIZE": len(self.hosts), "LOCAL_RANK": 0}
        return {
            "SM_HOST_COUNT": str(len(self.hosts)),
            "SM_CURRENT_HOST_RANK": str(self.rank),
            "SM_MASTER_ADDR": leader,
            "SM_MASTER_PORT": str(self.port),
            "MASTER_ADDR": leader,
            "MASTER_PORT": str(self.port),
            "GLOO_SOCKET_IFNAME": NETWORK_INTERFACE,
            "NCCL_SOCKET_IFNAME": NETWORK_INTERFACE,
            **({name: str(value) for name, value in several.items()} if len(self.hosts) > 1 else {}),
        }

    def leader(self, names_resolve: bool) -> str:
        """Where the first host is reached."""
        return self.hosts[0] if names_resolve else "127.0.0.1"

    def write_names(self, file: Path) -> None:
        """What the job has at /etc/hosts: for each host an address of this machine, so that all may listen
        on the same port."""
        first = IPv4Address("127.0.0.1")
        lines = [f"{first + number}\t{host}" for number, host in enumerate(self.hosts)]
        known = Path("/etc/hosts")
        before = known.read_text() if known.is_file() else "127.0.0.1\tlocalhost\n"
        file.write_text("\n".join([*lines, before]))


def hosts_of(resources: Document) -> list[Host]:
    """The hosts that a ResourceConfig or a ClusterConfig asks for."""
    asked = resources.get("InstanceGroups") or [
        {
            "InstanceGroupName": ONE_GROUP,
            "InstanceType": resources.get("InstanceType", "local"),
            "InstanceCount": resources.get("InstanceCount", 1),
        }
    ]
    groups: list[Group] = []
    count = 0
    for group in asked:
        names = tuple(f"algo-{count + number}" for number in range(1, group["InstanceCount"] + 1))
        groups.append(
            Group(name=group["InstanceGroupName"], instance_type=group["InstanceType"], hosts=names)
        )
        count += len(names)
    port = _free_port()
    return [Host(name=host, groups=tuple(groups), port=port) for group in groups for host in group.hosts]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
