"""The local runtime: start, look after, stop; the console, and the demo."""

import errno
import re
import secrets
import socket
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from stagegate import local_server
from stagegate.aws import Services, explained
from stagegate.cli.base import console, enforce_iam, main
from stagegate.config import Config
from stagegate.console_process import READY, ConsoleProcess
from stagegate.errors import ConfigurationError

CONSOLE_PORT = 4567


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


def account_id(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and re.fullmatch(r"\d{12}", value) is None:
        raise click.BadParameter(f"'{value}' is no account: it should have 12 digits.")
    return value


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
@click.option(
    "--faults",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Have go wrong what this file says: docs/faults.md.",
)
@click.option("--account", callback=account_id, help="The number of its account.  [default: 111111111111]")
@enforce_iam
@click.pass_context
def local(
    context: click.Context,
    port: int,
    data: Path | None,
    smtp: str | None,
    max_jobs: int | None,
    preload: str | None,
    faults: Path | None,
    account: str | None,
    enforce_iam: bool,
) -> None:
    """Run AWS on this machine, in the foreground, until interrupted; with the console, at the address that
    it prints.

    \b
    Example:
      stagegate local --port 4566 --data /var/lib/stagegate
      AWS_ENDPOINT_URL=http://127.0.0.1:4566 aws stepfunctions list-state-machines
      stagegate local --faults faults.toml
      stagegate local --port 4600 --data elsewhere --region eu-west-1 --account 222222222222
    """
    from stagegate.local.server import run  # the one command that needs the runtime itself

    config: Config = context.obj
    folder = data or config.data_directory
    if context.invoked_subcommand is not None:
        context.obj = folder
        return
    modules = None if preload is None else tuple(name for name in preload.split(",") if name)
    with ConsoleProcess(config, data=folder.absolute()) as console:
        status = run(
            port=port,
            data=folder,
            smtp=smtp,
            max_jobs=max_jobs,
            preload=modules,
            faults=faults,
            enforce_iam=enforce_iam,
            account=account,
            region=config.region,
            console=console.address,
        )
    sys.exit(status)


@local.command()
@click.option(
    "--older-than", type=Age(), required=True, metavar="AGE", help="What ended longer ago: 90m, 12h, 30d, 4w."
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.pass_obj
def prune(data: Path, older_than: timedelta, dry_run: bool) -> None:
    """Take away what ended long ago: executions with their history, folders of jobs and builds,
    the data of metrics.

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
        f"({megabytes(pruned.folder_bytes)}), data of metrics: {pruned.datapoints:,}",
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
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Beyond this machine it asks for a token."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="The port to listen on; 0 takes a free one.  [default: 4567, else a free one]",
)
@click.option(
    "--allow-changes/--read-only",
    "allows_changes",
    default=None,
    help="Whether one can decide, stop and start there.  [default: on one machine, and not on AWS]",
)
@click.pass_obj
def serve_console(config: Config, host: str, port: int | None, allows_changes: bool | None) -> None:
    """Serve the console, in the foreground, until interrupted: runs, models, jobs, endpoints as web pages.

    Whoever opens it acts as who you are to AWS.

    \b
    Example:
      stagegate console
      stagegate console --target aws --allow-changes
      stagegate console --target aws --profile staging --region eu-west-1 --port 4568
    """
    import uvicorn  # with the web application: a third of a second that other commands need not wait

    from stagegate.console.app import application
    from stagegate.console.guard import is_loopback
    from stagegate.console.patience import CALLS

    services = Services(config, calls=CALLS)
    if not config.is_local:
        with explained(config):
            services.account()  # asks for a code of MFA, where one is needed, and says at once what is wrong
    token = None if is_loopback(host) else secrets.token_urlsafe(24)
    app = application(
        services,
        allows_changes=config.is_local if allows_changes is None else allows_changes,
        token=token,
    )
    settings = uvicorn.Config(
        app,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=1,  # pages that follow a run would hold it for ever
    )
    with listen(host, port) as listener:
        bound = listener.getsockname()[1]
        name = f"[{host}]" if ":" in host else host
        query = f"?token={token}" if token else ""
        click.echo(f"{READY}http://{name}:{bound}/{query}")
        uvicorn.Server(settings).run(sockets=[listener])


def listen(host: str, port: int | None) -> socket.socket:
    """So early that who opens the address at once waits, and is not refused.

    Raises ConfigurationError where it is taken.
    """
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(kind, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for chosen in (CONSOLE_PORT, 0) if port is None else (port,):
        try:
            listener.bind((host, chosen))
            listener.listen()
        except OSError as error:
            wrong = error
        else:
            return listener
    listener.close()
    advice = "another --port, or 0 for a free one" if wrong.errno == errno.EADDRINUSE else "another --host"
    raise ConfigurationError(f"Port {port} of {host} cannot be used: {wrong.strerror}. Give {advice}.")


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
