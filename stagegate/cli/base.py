"""What every command stands on: the group, the configuration, the services, and how things are printed.

Exit status: 0 done, 1 failed, 2 wrong usage.
"""

import json
import sys
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from stagegate import display
from stagegate.aws import Services, explained
from stagegate.config import Config, load_config
from stagegate.deployment import read_platform
from stagegate.errors import StagegateError

console = Console(emoji=False)  # an ARN with ":secret:" is no picture


class Commands(click.Group):
    """The group; prints our own errors as a sentence and exits 1. Its options may stand after the command."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        options = {
            name
            for option in self.params
            if isinstance(option, click.Option) and not option.is_flag
            for name in option.opts
        }
        return super().parse_args(context, _with_options_first(args, options))

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except StagegateError as error:
            Console(stderr=True, emoji=False).print(f"[red]Error:[/] {escape(str(error))}", soft_wrap=True)
            sys.exit(1)


def _with_options_first(args: list[str], options: set[str]) -> list[str]:
    """`up --target aws` as `--target aws up`; what comes after `--` stays where it is.

    Raises BadOptionUsage for one without its value: it would take the command for it.
    """
    first: list[str] = []
    rest: list[str] = []
    position = 0
    while position < len(args) and args[position] != "--":
        name, equals, _ = args[position].partition("=")
        end = position + (1 if name not in options or equals else 2)
        if end > len(args):
            raise click.BadOptionUsage(name, f"Option '{name}' requires an argument.")
        (first if name in options else rest).extend(args[position:end])
        position = end
    return [*first, *rest, *args[position:]]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="stagegate")
@click.option(
    "--target",
    type=click.Choice(["local", "aws"]),
    help="Where the services are; stagegate.toml, else local.",
)
@click.option("--endpoint-url", help="Where the local runtime answers.  [env: AWS_ENDPOINT_URL]")
@click.option("--profile", help="Of AWS's configuration files: another account.  [env: AWS_PROFILE]")
@click.option("--region", help="The AWS region.  [env: AWS_REGION, AWS_DEFAULT_REGION; the profile's]")
@click.option("--project", help="The prefix of all names.  [env: STAGEGATE_PROJECT]")
@click.pass_context
def main(context: click.Context, /, **flags: str | None) -> None:
    """Release machine-learning models through gates: on AWS Step Functions, or unchanged on this machine.

    \b
    Example, from nothing to a model in production:
      stagegate up                    start the local runtime, deploy the platform
      stagegate run scenes.zip        train, evaluate, gate, register; asks for approval
      stagegate approvals             what waits for a person
      stagegate approve ID            staging, tests; asks again; production
      stagegate invoke production cat.jpg
    """
    context.obj = load_config(Path.cwd(), flags=flags)


def command(function: Callable[..., None]) -> click.Command:
    """A command that gets the services, and the platform where it names it; explains what boto3 raises."""
    return main.command()(served(function))


def served(function: Callable[..., None]) -> Callable[..., None]:
    @wraps(function)
    @click.pass_obj
    def run(config: Config, /, **arguments: Any) -> None:
        with explained(config):
            services = Services(config)
            if "platform" in function.__annotations__:
                arguments["platform"] = read_platform(services)
            function(services=services, **arguments)

    return run


enforce_iam = click.option(
    "--enforce-iam", is_flag=True, help="Refuse a role what its policies do not allow, as AWS does."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def print_table(title: str, columns: tuple[str, ...], rows: list[list[str]]) -> None:
    if rows:
        console.print(display.table(title, columns, rows))
    else:
        console.print(f"  No {title.lower()}.")


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, default=lambda value: value.isoformat(), indent=2))


def local_time(time: datetime) -> str:
    return f"{time.astimezone():%m-%d %H:%M:%S}"
