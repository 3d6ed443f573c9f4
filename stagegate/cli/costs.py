"""What a release costs on AWS, before there is a bill."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from stagegate import local_server
from stagegate.aws import Services, explained
from stagegate.cli.base import as_json, console, main, print_json
from stagegate.config import Config
from stagegate.cost import (
    PRICES,
    Assumptions,
    as_data,
    estimate,
    measured_minutes,
    read_prices,
    read_usage,
    tables,
)
from stagegate.cost.usage import HOURS
from stagegate.deployment import read_platform
from stagegate.doctor import default_files, read_project
from stagegate.errors import NotFound, NotReachable, StagegateError

_MINUTES = {
    "training": "training_minutes",
    "processing": "processing_minutes",
    "codebuild": "test_minutes",
}
"""The flag that says how long a job of a kind takes, over what was measured."""


class Amount(click.FloatRange):
    """A number of 0 or more, and neither NaN nor infinite."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a number of 0 or more.", param, ctx)
        return number


def _assumption(flag: str, said: str, *, most: float | None = None) -> Callable[..., Any]:
    return click.option(flag, type=Amount(min=0, max=most), help=said)


@main.command()
@click.option("--runs", type=click.IntRange(min=0), help="Runs a month.  [20]")
@_assumption("--staging-hours", "Hours a month that the staging endpoint stands.  [730]", most=HOURS)
@_assumption("--training-minutes", "Of a training job.  [as measured, else 60]")
@_assumption("--processing-minutes", "Of a processing job.  [as measured, else 10]")
@_assumption("--test-minutes", "Of the tests of an endpoint.  [as measured, else 5]")
@_assumption("--storage-gb", "GB that are kept in S3.  [50]")
@click.option(
    "--prices",
    "price_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A price table of your own instead of ours: docs/cost.md.",
)
@as_json
@click.pass_obj
def cost(config: Config, /, price_file: Path | None, as_json: bool, **given: float | None) -> None:
    """Say what a run and a month cost on AWS, item by item.

    From the definitions, the templates, how long the jobs of past runs took, and a dated price table.

    \b
    Example:
      stagegate cost
      stagegate cost --runs 60 --staging-hours 40
    """
    table = read_prices(price_file or PRICES)
    paths = default_files(config.root)
    if not paths:
        raise NotFound(
            f"{config.root} has no statemachines/*.asl.json and no deploy/*.yaml: nothing to count."
        )
    usage = read_usage(read_project(paths, root=config.root), root=config.root)
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    measured, why_not = _measured(config)
    kept = {job.state for job in usage.jobs if _MINUTES[job.kind] not in chosen}
    estimated = estimate(
        usage,
        table,
        Assumptions(**chosen),
        approvers=len(config.approvers),
        mails_by="ses" if config.sender else "sns",
        measured={state: minutes for state, minutes in measured.items() if state in kept},
    )
    if as_json:
        print_json(as_data(estimated))
        return
    for part in tables(estimated):
        console.print(part)
    where = "on this machine" if config.is_local else "on AWS"
    notes = [
        f"List prices of {table.date}, {table.region}" + (f"; {table.note}." if table.note else "."),
        why_not or f"Jobs were measured {where}.",
    ]
    if config.region != table.region:
        notes.append(f"Your region is {config.region}: its prices are others.")
    for note in notes:
        console.print(f"  [dim]{escape(note)}[/]", highlight=False, soft_wrap=True)


def _measured(config: Config) -> tuple[dict[str, float], str]:
    """Minutes of past jobs; without any, why there are none."""
    try:
        with explained(config):
            if config.is_local and not local_server.is_answering(config.endpoint_url):
                raise NotReachable(f"nothing answers at {config.endpoint_url}")
            services = Services(config)
            found = measured_minutes(services, read_platform(services))
    except StagegateError as error:
        return {}, f"No past runs were read, so durations are assumed: {error}"
    return found, "" if found else "No run has succeeded yet, so durations are assumed."
