"""What is used, times what it costs: the lines of a run and of a month, and their sums."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from stagegate.cost.prices import PriceTable
from stagegate.cost.usage import HOURS, Assumptions, Job, Usage


@dataclass(frozen=True, kw_only=True)
class Line:
    """An item; without a price it is unknown what it costs."""

    item: str
    quantity: Decimal
    unit: str
    usd_each: Decimal | None

    @property
    def usd(self) -> Decimal | None:
        return None if self.usd_each is None else self.quantity * self.usd_each


@dataclass(frozen=True, kw_only=True)
class Bill:
    lines: tuple[Line, ...]

    @property
    def usd(self) -> Decimal:
        """The sum; at least, where a price is unknown."""
        return sum((line.usd for line in self.lines if line.usd is not None), Decimal())

    @property
    def is_complete(self) -> bool:
        return all(line.usd is not None for line in self.lines)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    run: Bill
    month: Bill
    table: PriceTable
    assumed: Assumptions
    measured: Mapping[str, float]
    """Minutes of jobs, by their states' names."""


def estimate(
    usage: Usage,
    table: PriceTable,
    assumed: Assumptions,
    *,
    approvers: int = 1,
    mails_by: str = "sns",
    measured: Mapping[str, float] | None = None,
) -> Estimate:
    """The bills of a run and of a month. `mails_by` is "ses" or "sns"; a measured job is not assumed."""
    measured = {job.state: (measured or {})[job.state] for job in usage.jobs if job.state in (measured or {})}
    prices = _Prices(table)
    run = Bill(
        lines=(
            *_job_lines(usage, prices, assumed, measured),
            *_run_lines(usage, prices, assumed, mails=usage.approvals * approvers, mails_by=mails_by),
        )
    )
    month = Bill(lines=tuple(_month_lines(usage, run, prices, assumed)))
    return Estimate(run=run, month=month, table=table, assumed=assumed, measured=measured)


class _Prices:
    def __init__(self, table: PriceTable) -> None:
        self._table = table

    def line(self, item: str, quantity: float | Decimal, name: str, unit: str) -> Line:
        price = self._table.prices.get(name)
        return Line(
            item=item,
            quantity=Decimal(str(quantity)),
            unit=price.unit if price else unit,
            usd_each=price.usd if price else None,
        )


def _job_lines(
    usage: Usage, prices: _Prices, assumed: Assumptions, measured: Mapping[str, float]
) -> Iterator[Line]:
    stored = Decimal()
    for job in usage.jobs:
        minutes = Decimal(str(_minutes(job, assumed, measured)))
        item = f"{job.state}: {job.machine}"
        if job.kind == "codebuild":
            # A build is charged by the minute begun.
            yield prices.line(item, math.ceil(minutes), f"codebuild:{job.machine}", "minute")
        else:
            hours = job.count * minutes / 60
            yield prices.line(item, hours, f"{job.kind}:{job.machine}", "hour")
            stored += job.volume_gb * hours / HOURS
    if stored:
        yield prices.line("Jobs: volumes", stored, "sagemaker:storage", "GB-month")


def _minutes(job: Job, assumed: Assumptions, measured: Mapping[str, float]) -> float:
    kinds = {
        "training": assumed.training_minutes,
        "processing": assumed.processing_minutes,
        "codebuild": assumed.test_minutes,
    }
    return measured.get(job.state, kinds[job.kind])


def _run_lines(
    usage: Usage, prices: _Prices, assumed: Assumptions, *, mails: int, mails_by: str
) -> Iterator[Line]:
    rounds = math.ceil(assumed.deployment_minutes * 60 / usage.poll_seconds)
    transitions = usage.transitions + max(0, rounds - 1) * sum(usage.waits)
    # Of each approval the page is looked at, and the decision sent.
    calls = usage.calls + 2 * usage.approvals
    seconds = calls * Decimal(str(assumed.function_seconds)) * usage.function_gb
    reads = usage.reads + usage.approvals * assumed.approval_reads
    writes = usage.writes + usage.approvals * assumed.approval_writes
    yield prices.line("Step Functions: transitions", transitions, "step-functions:transition", "transition")
    yield prices.line("Lambda: duration", seconds, "lambda:duration", "GB-second")
    yield prices.line("Lambda: requests", calls, "lambda:request", "request")
    yield prices.line(f"{mails_by.upper()}: mails", mails, f"{mails_by}:mail", "mail")
    yield prices.line("DynamoDB: reads", reads, "dynamodb:read", "read")
    yield prices.line("DynamoDB: writes", writes, "dynamodb:write", "write")
    yield prices.line("S3: writes", assumed.puts, "s3:put", "request")
    yield prices.line("S3: reads", assumed.gets, "s3:get", "request")
    yield prices.line("EventBridge: events of S3", assumed.puts, "eventbridge:event", "event")
    yield prices.line("Secrets Manager: requests", calls, "secretsmanager:request", "request")
    yield prices.line("CloudWatch Logs", assumed.log_gb, "logs:ingestion", "GB")


def _month_lines(usage: Usage, run: Bill, prices: _Prices, assumed: Assumptions) -> Iterator[Line]:
    yield Line(item="Runs", quantity=Decimal(assumed.runs), unit="run", usd_each=run.usd)
    if assumed.runs:
        for line in run.lines:
            if line.usd is None:
                yield Line(
                    item=f"Runs: {line.item}",
                    quantity=assumed.runs * line.quantity,
                    unit=line.unit,
                    usd_each=None,
                )
    alarms = Decimal(usage.alarms)
    for endpoint in usage.endpoints:
        hours = Decimal(str(assumed.staging_hours if endpoint.stage == "staging" else HOURS))
        item = f"Endpoint {endpoint.stage}: {endpoint.instance_count} × {endpoint.instance_type}"
        yield prices.line(item, endpoint.instance_count * hours, f"hosting:{endpoint.instance_type}", "hour")
        alarms += endpoint.alarms * hours / HOURS
    yield prices.line("CloudWatch: alarms", alarms, "cloudwatch:alarm", "alarm-month")
    yield prices.line("Secrets Manager: secrets", usage.secrets, "secretsmanager:secret", "secret-month")
    if usage.keys:
        yield prices.line("KMS: keys", usage.keys, "kms:key", "key-month")
    yield prices.line("S3: storage", assumed.storage_gb, "s3:storage", "GB-month")
