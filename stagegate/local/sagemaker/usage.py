"""What a job's processes take of the machine, by /proc: the metrics of its instances, and its full volume.

After "Amazon SageMaker AI Jobs and Endpoint Metrics" in the Developer Guide: CPUUtilization is 100 for each
core, MemoryUtilization and DiskUtilization are percent of what there is, and the dimension is Host.
"""

import contextlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from stagegate.local.processes import Ended

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MEMORY = _PAGE * os.sysconf("SC_PHYS_PAGES")
_GIGABYTE = 2**30
_GROUPS = Path("/sys/fs/cgroup")

Document = dict[str, Any]


class Usage:
    """Of the processes of one host, in samples; `volume` is its VolumeSizeInGB."""

    def __init__(self, host: str, *, volume: float) -> None:
        self._host = host
        self._volume = volume * _GIGABYTE
        self._started = self._seen = monotonic()
        self._processor_seconds = 0.0
        self._taken: dict[str, list[float]] = {}
        self._most_memory = 0
        self.apart: tuple[Path, ...] = ()
        """Folders that are not on the volume."""
        self._disk = 0
        self._kills: dict[Path, int] = {}

    @property
    def gigabytes(self) -> float:
        """What the host's files took of the volume when they were last looked at."""
        return self._disk / _GIGABYTE

    @property
    def is_full(self) -> bool:
        return self._disk > self._volume

    @property
    def is_out_of_memory(self) -> bool:
        """Whether the kernel has ended a process to have memory, in a control group in which the host's were:
        a group that others are in too says no more."""
        return any(_kills(group) > before for group, before in self._kills.items())

    def begin(self) -> None:
        """The first process is about to start, in our own control group."""
        self._started = self._seen = monotonic()
        self._kills = {}
        self._look_at_group("self")

    def sample(self, pid: int, folder: Path) -> None:
        """Look at a process and all that it has started, and at the files; takes some milliseconds."""
        processes = list(_with_children(pid))
        for process in processes:
            self._look_at_group(process)
        seconds = sum(_processor_seconds(process) for process in processes)
        memory = sum(_memory(process) for process in processes)
        now = monotonic()
        if now > self._seen and seconds >= self._processor_seconds:
            share = (seconds - self._processor_seconds) / (now - self._seen)
            self._add("CPUUtilization", 100 * share)
        self._seen, self._processor_seconds = now, seconds
        if memory:
            self._most_memory = max(memory, self._most_memory)
            self._add("MemoryUtilization", 100 * memory / _MEMORY)
        self._disk = _disk(folder, apart=self.apart)
        self._add("DiskUtilization", 100 * self._disk / self._volume)

    def end(self, ended: Ended) -> None:
        """The last sample, by what the kernel says of the whole: a short job has no other."""
        elapsed = max(monotonic() - self._seen, 0.001)
        seconds = max(ended.processor_seconds - self._processor_seconds, 0.0)
        self._add("CPUUtilization", min(100 * seconds / elapsed, 100.0 * (os.cpu_count() or 1)))
        if ended.peak_memory > self._most_memory:  # between two samples
            self._add("MemoryUtilization", 100 * ended.peak_memory / _MEMORY)

    def take(self) -> list[Document]:
        """What was sampled since the last call, as the members of PutMetricData."""
        taken, self._taken = self._taken, {}
        return [
            {
                "MetricName": name,
                "Dimensions": [{"Name": "Host", "Value": self._host}],
                "Timestamp": datetime.now(UTC),
                "Unit": "Percent",
                "StatisticValues": {
                    "SampleCount": float(len(values)),
                    "Sum": sum(values),
                    "Minimum": min(values),
                    "Maximum": max(values),
                },
            }
            for name, values in taken.items()
        ]

    def _look_at_group(self, process: int | str) -> None:
        group = _memory_group(process)
        if group is not None and group not in self._kills:
            self._kills[group] = _kills(group)

    def _add(self, name: str, percent: float) -> None:
        self._taken.setdefault(name, []).append(percent)


def _memory_group(pid: int | str) -> Path | None:
    """Where the control group that accounts for a process's memory says what became of it (cgroups(7))."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                return _GROUPS / "memory" / path.lstrip("/") / "memory.oom_control"
            if not controllers and (group := _GROUPS / path.lstrip("/")).joinpath("memory.events").exists():
                local = group / "memory.events.local"
                return local if local.exists() else group / "memory.events"
    return None


def _kills(group: Path) -> int:
    """How many processes of a group the kernel has ended to have memory."""
    with contextlib.suppress(OSError):
        for line in group.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _with_children(pid: int) -> Iterator[int]:
    yield pid
    for task in _entries(Path(f"/proc/{pid}/task")):
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text().split():
                yield from _with_children(int(child))


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # the process has ended meanwhile
        return []


def _processor_seconds(pid: int) -> float:
    """Its own and that of the children that it has waited for."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:15]) / _TICKS
    return 0.0


def _memory(pid: int) -> int:
    """Bytes; of a page that several processes share each has its part."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _disk(folder: Path, *, apart: tuple[Path, ...]) -> int:
    """Bytes of the files below a folder, as they lie on the disk."""
    taken = 0
    for path, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if Path(path, name) not in apart]
        for name in names:
            with contextlib.suppress(OSError):
                taken += os.lstat(f"{path}/{name}").st_blocks * 512
    return taken
