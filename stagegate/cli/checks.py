"""What is checked before anything runs."""

import sys
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import click
from rich.markup import escape

from stagegate.cli.base import as_json, console, main, print_json
from stagegate.config import Config
from stagegate.doctor import RULES, Finding, default_files, examine, read_project
from stagegate.errors import NotFound


@main.command()
@click.argument(
    "files",
    nargs=-1,
    metavar="[FILE]...",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@as_json
@click.pass_obj
def doctor(config: Config, files: tuple[Path, ...], as_json: bool) -> None:
    """Say what will hurt on AWS, from the definitions and the templates alone; exits 1 where something will.

    Without FILE: statemachines/*.asl.json and deploy/*.yaml of the project. docs/doctor.md has the rules.

    \b
    Example:
      stagegate doctor
      stagegate doctor statemachines/model-build.asl.json deploy/platform.yaml --json
    """
    paths = list(files) or default_files(config.root)
    if not paths:
        raise NotFound(f"{config.root} has no statemachines/*.asl.json and no deploy/*.yaml: name a FILE.")
    project = read_project(paths, root=config.root)
    findings = examine(project)
    read = {
        "rules": len(RULES),
        "files": len(paths),
        "states": sum(1 for _ in project.states),
        "resources": sum(1 for _ in project.resources),
    }
    if as_json:
        print_json(read | {"findings": [asdict(finding) for finding in findings]})
    else:
        show(findings)
        counted = ", ".join(f"{number} {what}" for what, number in read.items())
        said = f"  [red]✘[/] {len(findings)} found" if findings else "  [green]✔[/] Nothing found"
        console.print(f"{said}: {counted}.", highlight=False)
    sys.exit(1 if findings else 0)


def show(findings: list[Finding]) -> None:
    """Grouped by file: the rule, where, what is wrong, what it costs, what to do."""
    for file, found in groupby(findings, key=lambda finding: finding.file):
        console.print(f"[bold]{escape(file)}[/]", highlight=False, soft_wrap=True)
        for finding in found:
            where = f"  [red]✘[/] [yellow]{finding.rule}[/]  {escape(finding.where)}"
            console.print(where, highlight=False, soft_wrap=True)
            for text in (finding.wrong, finding.costs, finding.remedy):
                console.print(f"      {escape(text)}", highlight=False, soft_wrap=True)
        console.print()
