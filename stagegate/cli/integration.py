"""What continuous integration calls."""

import json
from pathlib import Path

import click

from stagegate.aws import Services
from stagegate.cli.base import console, main, served
from stagegate.package import package


@main.command("package")
@click.option("--commit", required=True, help="What is checked out.")
@click.option("--base", default="", help="The last commit that was released: what has changed since?")
@click.option(
    "--template",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The platform's template, as `aws cloudformation package` wrote it.",
)
@click.option(
    "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The file to write."
)
@served
def package_command(services: Services, commit: str, base: str, template: Path, output: Path) -> None:
    """Upload what a commit is made of, by its content, and write down what its release is.

    deploy/buildspec-build.yml calls it; the state machine ci reads what it writes.

    \b
    Example:
      stagegate package --commit 3f1c2d… --base 9a41bc… --template platform.yaml --output release.json
    """
    release = package(services, commit=commit, base=base, template=template)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(release, indent=2) + "\n", encoding="utf-8")
    console.print(f"  [green]✔[/] {commit[:12]} starts [bold]{release['Start']}[/]", highlight=False)
