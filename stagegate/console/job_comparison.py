"""Two jobs beside each other: tables of what they were given and what came of it, what differs first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stagegate.console.job_curves import Curves, number
from stagegate.display import duration
from stagegate.jobs import USAGE, Job


@dataclass(frozen=True, kw_only=True)
class Row:
    name: str
    values: tuple[str, ...]
    """What each job has; a dash where it has none."""
    difference: str = ""
    """From the first to the second, of numbers."""

    @property
    def differs(self) -> bool:
        return len(set(self.values)) > 1


@dataclass(frozen=True, kw_only=True)
class Table:
    caption: str
    rows: list[Row]

    @property
    def has_differences(self) -> bool:
        return any(row.difference for row in self.rows)


def compared(curves: Sequence[Curves]) -> list[Table]:
    """Those that have a row."""
    jobs = [of.job for of in curves]
    tables = [
        Table(caption="Last values", rows=_numbers([job.final_metrics for job in jobs])),
        Table(caption="How they ran", rows=_rows([_facts(job) for job in jobs])),
        Table(caption="At most taken", rows=_numbers([_most(of) for of in curves])),
        Table(caption="Parameters", rows=_rows([job.parameters for job in jobs])),
        Table(caption="Inputs", rows=_rows([dict(job.inputs) for job in jobs])),
        Table(caption="Outputs", rows=_rows([dict(job.outputs) for job in jobs])),
    ]
    return [table for table in tables if table.rows]


def _facts(job: Job) -> dict[str, str]:
    waited = (job.started - job.created).total_seconds() if job.started else None
    return {
        "Kind": job.kind,
        "Status": job.status,
        "Image": job.image or "–",
        "Instances": job.instances,
        "Waited": "–" if waited is None else duration(waited),
        "Ran": "–" if job.seconds is None else duration(job.seconds),
        **({"Failed because": job.failure_reason} if job.failure_reason else {}),
    }


def _most(of: Curves) -> dict[str, float]:
    """The highest point of each curve of its instances."""
    return {
        USAGE[metric]: max(value for points in hosts.values() for _, value in points)
        for metric, hosts in of.usage.items()
    }


def _rows(values: Sequence[Mapping[str, str]]) -> list[Row]:
    names = dict.fromkeys(name for of in values for name in of)
    rows = [Row(name=name, values=tuple(of.get(name, "–") for of in values)) for name in names]
    return sorted(rows, key=lambda row: not row.differs)


def _numbers(values: Sequence[Mapping[str, float]]) -> list[Row]:
    rows = []
    for name in dict.fromkeys(name for of in values for name in of):
        found = [of[name] for of in values if name in of]
        difference = f"{found[1] - found[0]:+.4g}" if len(found) == len(values) else ""
        shown = tuple(number(of[name]) if name in of else "–" for of in values)
        rows.append(Row(name=name, values=shown, difference=difference))
    return rows
