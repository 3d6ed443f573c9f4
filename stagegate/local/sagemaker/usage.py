"""What processes take of the machine, by /proc: the metrics of an instance, and its full volume.

After "Amazon SageMaker AI Jobs and Endpoint Metrics" in the Developer Guide: CPUUtilization is 100 for each
core, MemoryUtilization and DiskUtilization are percent of what there is, and the two of GPUs 100 for each of
them. The dimension of a job's is Host,
those of an endpoint's are its name and the variant's.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
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
_SINGLE_SECONDS = 120.0
_OF_GPU = ("utilization.gpu", "memory.used", "memory.total")
_GPU_SECONDS = 2.0

Document = dict[str, Any]


class Usage:
    """Of the processes of one host, in samples; `dimensions` name it to CloudWatch, `volume` is the size of
    its volume in GB."""

    def __init__(self, dimensions: Mapping[str, str], *, volume: float) -> None:
        self._dimensions = [{"Name": name, "Value": value} for name, value in dimensions.items()]
        self._volume = volume * _GIGABYTE
        self._started = self._seen = monotonic()
        self._processor_seconds = 0.0
        self._taken: dict[str, list[tuple[datetime, float]]] = {}
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

    def join(self, *pids: int) -> None:
        """Begin with processes that run already: what they have used till now does not count."""
        self._processor_seconds = sum(_processor_seconds(of) for pid in pids for of in _with_children(pid))
        self._started = self._seen = monotonic()

    def sample(self, *pids: int, folder: Path) -> None:
        """Look at processes and all that they have started, and at the files; takes some milliseconds."""
        processes = [process for pid in pids for process in _with_children(pid)]
        for process in processes:
            self._look_at_group(process)
        seconds = sum(_processor_seconds(process) for process in processes)
        memory = sum(_memory(process) for process in processes)
        now = monotonic()
        if now > self._seen and seconds >= self._processor_seconds:
            self._add_processor(seconds - self._processor_seconds, now - self._seen)
        self._seen, self._processor_seconds = now, seconds
        if memory:
            self._most_memory = max(memory, self._most_memory)
            self._add("MemoryUtilization", 100 * memory / _MEMORY)
        self._look_at(folder)
        for name, percent in _gpus().items():
            self._add(name, percent)

    def end(self, ended: Ended, *, folder: Path) -> None:
        """The last sample, by what the kernel says of the whole: a short job has no other."""
        elapsed = max(monotonic() - self._seen, 0.001)
        seconds = max(ended.processor_seconds - self._processor_seconds, 0.0)
        self._add_processor(seconds, elapsed)
        if ended.peak_memory > self._most_memory:  # between two samples
            self._add("MemoryUtilization", 100 * ended.peak_memory / _MEMORY)
        self._look_at(folder)

    def take(self) -> list[Document]:
        """What was sampled since the last call, as the members of PutMetricData.

        At first sample by sample, so that a short job has a curve.
        """
        taken, self._taken = self._taken, {}
        is_young = monotonic() - self._started < _SINGLE_SECONDS
        return [
            {
                "MetricName": name,
                "Dimensions": self._dimensions,
                "Timestamp": some[-1][0],
                "Unit": "Percent",
                "StorageResolution": 1,
                "StatisticValues": {
                    "SampleCount": float(len(some)),
                    "Sum": sum(value for _, value in some),
                    "Minimum": min(value for _, value in some),
                    "Maximum": max(value for _, value in some),
                },
            }
            for name, samples in taken.items()
            for some in ([[sample] for sample in samples] if is_young else [samples])
        ]

    def _look_at(self, folder: Path) -> None:
        self._disk = _disk(folder, apart=self.apart)
        self._add("DiskUtilization", 100 * self._disk / self._volume)

    def _look_at_group(self, process: int | str) -> None:
        group = _memory_group(process)
        if group is not None and group not in self._kills:
            self._kills[group] = _kills(group)

    def _add_processor(self, seconds: float, elapsed: float) -> None:
        """At most all cores: in a short time the kernel's ticks may be more."""
        self._add("CPUUtilization", min(100 * seconds / elapsed, 100.0 * (os.cpu_count() or 1)))

    def _add(self, name: str, percent: float) -> None:
        self._taken.setdefault(name, []).append((datetime.now(UTC), percent))


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


def _gpus() -> dict[str, float]:
    """Of the machine's GPUs, each of which counts 100, where there are any: whoever uses them."""
    if (tool := shutil.which("nvidia-smi")) is None:
        return {}
    asked = [tool, f"--query-gpu={','.join(_OF_GPU)}", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=_GPU_SECONDS, check=True).stdout
        rows = [[float(value) for value in line.split(",")] for line in said.splitlines()]
    except (subprocess.SubprocessError, OSError, ValueError):  # no driver, or a device without these counters
        return {}
    return {
        "GPUUtilization": sum(busy for busy, _, _ in rows),
        "GPUMemoryUtilization": sum(100 * used / whole for _, used, whole in rows),
    }


def _disk(folder: Path, *, apart: tuple[Path, ...]) -> int:
    """Bytes of the files below a folder, as they lie on the disk."""
    taken = 0
    for path, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if Path(path, name) not in apart]
        for name in names:
            with contextlib.suppress(OSError):
                taken += os.lstat(f"{path}/{name}").st_blocks * 512
    return taken
