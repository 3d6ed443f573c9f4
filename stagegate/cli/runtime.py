"""The local runtime and the platform on it: start, deploy, look after, stop."""

import re
import secrets
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from stagegate import display, local_server
from stagegate.aws import Services, explained
from stagegate.cli.base import console, main
from stagegate.config import Config
from stagegate.deployment import assets_bucket, deploy_platform, read_platform, verified_sender


class Age(click.ParamType[timedelta]):
    """A length of time: "30d", "12h", "90m"."""

    name = "age"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        if isinstance(value, timedelta):
            return value
        if (match := re.fullmatch(r"([0-9]{1,5})([smhdw])", value)) is None:
            self.fail(f"'{value}' is no length of time such as 90m, 12h, 30d or 4w", parameter, context)
        return int(match[1]) * _UNITS[match[2]]


_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}


@main.group(invoke_without_command=True)
@click.option("--port", default=4566, show_default=True, help="The port to listen on; 0 takes a free one.")
@click.option(
    "--data", type=click.Path(path_type=Path), help="The data directory.  [default: stagegate.toml's]"
)
@click.option(
    "--smtp", metavar="HOST:PORT", help="Send mail to this server, not to the inbox in the data directory."
)
@click.option("--max-jobs", type=click.IntRange(min=1), help="Jobs that run at once; the rest wait.")
@click.option(
    "--preload",
    metavar="MODULES",
    help="What jobs find imported already, as 'sklearn,xgboost'.  [default: numpy, torch, torchvision]",
)
@click.pass_context
def local(
    context: click.Context,
    port: int,
    data: Path | None,
    smtp: str | None,
    max_jobs: int | None,
    preload: str | None,
) -> None:
    """Run AWS on this machine, in the foreground, until interrupted.

    \b
    Example:
      stagegate local --port 4566 --data /var/lib/stagegate
      AWS_ENDPOINT_URL=http://127.0.0.1:4566 aws stepfunctions list-state-machines
    """
    from stagegate.local.server import run  # the one command that needs the runtime itself

    folder = data or context.obj.data_directory
    if context.invoked_subcommand is not None:
        context.obj = folder
        return
    modules = None if preload is None else tuple(name for name in preload.split(",") if name)
    sys.exit(run(port=port, data=folder, smtp=smtp, max_jobs=max_jobs, preload=modules))


@local.command()
@click.option(
    "--older-than", type=Age(), required=True, metavar="AGE", help="What ended longer ago: 90m, 12h, 30d, 4w."
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.pass_obj
def prune(data: Path, older_than: timedelta, dry_run: bool) -> None:
    """Take away what ended long ago: executions with their history, folders of jobs and builds.

    Jobs, builds and models can still be described; what runs is never touched. The runtime must be stopped
    while its data is pruned.

    \b
    Example:
      stagegate down
      stagegate local prune --older-than 30d --dry-run
    """
    from stagegate.local.server import prune_data

    pruned = prune_data(data, before=datetime.now(UTC) - older_than, is_dry=dry_run)
    said = "Would go" if dry_run else "Gone"
    console.print(
        f"{said}: executions: {pruned.executions:,}, their events: {pruned.events:,}, "
        f"definitions in no use: {pruned.revisions:,}, folders of jobs and builds: {pruned.folders:,} "
        f"({megabytes(pruned.folder_bytes)})",
        soft_wrap=True,
    )
    if not dry_run:
        console.print(f"The database is {megabytes(pruned.database_bytes)} smaller.")


@local.command()
@click.argument("job")
@click.option(
    "--for",
    "length",
    type=Age(),
    default=timedelta(),
    metavar="TIME",
    help="There is no capacity for so long: 30s, 5m.  [default: there is at once]",
)
@click.pass_context
def interrupt(context: click.Context, /, job: str, length: timedelta) -> None:
    """Interrupt a managed spot training job, as AWS may at any time, and so rehearse how it goes on.

    The job gets SIGTERM, and SIGKILL two minutes later; its checkpoints are in S3, and it starts again from
    them when there is capacity.

    \b
    Example:
      stagegate local interrupt train-42 --for 1m
    """
    config: Config = context.find_root().obj
    local_server.interrupt_training_job(config.endpoint_url, job, seconds=length.total_seconds())
    console.print(f"Interrupted: {job}")


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


@main.command()
@click.pass_obj
def up(config: Config) -> None:
    """Start the local runtime if it does not run, and deploy the platform: deploy/platform.yaml.

    \b
    Example:
      stagegate up
      stagegate --target aws up       the same stack in your AWS account
    """
    if config.is_local and not local_server.is_answering(config.endpoint_url):
        with display.step(console, f"local runtime at {config.endpoint_url}"):
            local_server.start(config)
    with explained(config):
        services = Services(config)
        deploy(services)
        platform = read_platform(services)
        is_waiting = bool(config.sender) and not verified_sender(services)
    if is_waiting:
        console.print(
            f"  [yellow]![/] SES has not verified {escape(config.sender)}: follow the link that it mailed "
            "there, then `stagegate up` again. Until then mails go through SNS, as text.",
            soft_wrap=True,
        )
    console.print(
        display.table(
            "Platform",
            ("what", "where"),
            [[escape(name), escape(value)] for name, value in asdict(platform).items()]
            + [["assets bucket", assets_bucket(services)]],
        )
    )


def deploy(services: Services) -> None:
    """Deploy the platform, a line for each resource."""
    changed = False
    for event in deploy_platform(services):
        changed = True
        if event.status.endswith("_IN_PROGRESS") and not event.status.startswith("ROLLBACK"):
            continue
        mark = "[red]✘[/]" if "FAILED" in event.status or "ROLLBACK" in event.status else "[green]✔[/]"
        reason = f"  [red]{escape(event.reason)}[/]" if "FAILED" in event.status else ""
        console.print(
            f"  {mark} {escape(event.logical_id):<32} [dim]{escape(event.resource_type)}[/]{reason}"
        )
    if not changed:
        console.print("  [green]✔[/] the platform is up to date")


@main.command()
@click.pass_obj
def down(config: Config) -> None:
    """Stop the local runtime that `stagegate up` started. What it holds stays in its data directory.

    \b
    Example:
      stagegate down
    """
    if local_server.stop(config.data_directory):
        console.print(f"  [green]✔[/] stopped; the data stays in {config.data_directory}")
    else:
        console.print("  The local runtime was not running.")


@main.command("console")
@click.option("--host", default="127.0.0.1", show_default=True, help="On another one it asks for a token.")
@click.option("--port", default=4567, show_default=True, help="The port to listen on; 0 takes a free one.")
@click.option(
    "--allow-changes/--read-only",
    "allows_changes",
    default=None,
    help="Whether one can decide there.  [default: on one machine, and not on AWS]",
)
@click.pass_obj
def serve_console(config: Config, host: str, port: int, allows_changes: bool | None) -> None:
    """Serve the console, in the foreground, until interrupted: approvals as web pages.

    Whoever opens it acts as who you are to AWS.

    \b
    Example:
      stagegate console
      stagegate --target aws console --allow-changes
    """
    import uvicorn  # with the web application: a third of a second that other commands need not wait

    from stagegate.console.app import LOOPBACK, application

    token = None if host in LOOPBACK else secrets.token_urlsafe(24)
    app = application(
        Services(config),
        allows_changes=config.is_local if allows_changes is None else allows_changes,
        token=token,
    )
    settings = uvicorn.Config(app, host=host, port=port, log_level="warning", server_header=False)
    listener = settings.bind_socket()
    listener.listen()  # who opens the address at once waits, and is not refused
    bound = listener.getsockname()[1]
    query = f"?token={token}" if token else ""
    click.echo(f"Stagegate console is ready at http://{host}:{bound}/{query}")
    uvicorn.Server(settings).run(sockets=[listener])


@main.command()
@click.option("--keep", is_flag=True, help="Leave the runtime running at the end, to look around.")
@click.pass_obj
def demo(config: Config, keep: bool) -> None:
    """Release a model end to end on this machine, from drawn pictures to a production endpoint.

    \b
    Example:
      stagegate demo
    """
    from stagegate.demo import run_demo

    run_demo(console, config, keep=keep)
