"""The commands, thin: parse, call, print. Exit status: 0 done, 1 failed, 2 wrong usage."""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from stagegate import audit as audit_record
from stagegate import display, local_server, models, pipeline
from stagegate.approvals import decide, find_approval, list_approvals, rotate_key
from stagegate.aws import Services, explained
from stagegate.config import Config, load_config
from stagegate.deployment import Platform, assets_bucket, deploy_platform, read_platform
from stagegate.errors import ConfigurationError, NotFound, NotReachable, ReleaseFailed, StagegateError
from stagegate.inbox import inbox_page, read_inbox

console = Console(emoji=False)  # an ARN with ":secret:" is no picture

_SHOWN = 12  # characters of an approval's id: enough to name it


class Commands(click.Group):
    """The group; prints our own errors as a sentence and exits 1."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except StagegateError as error:
            Console(stderr=True, emoji=False).print(f"[red]Error:[/] {escape(str(error))}", soft_wrap=True)
            sys.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="stagegate")
@click.option(
    "--target",
    type=click.Choice(["local", "aws"]),
    help="Where the services are; stagegate.toml, else local.",
)
@click.option("--endpoint-url", help="Where the local runtime answers.  [env: AWS_ENDPOINT_URL]")
@click.option("--region", help="The AWS region.  [env: AWS_REGION]")
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


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


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


@command
@click.argument("dataset", required=False)
@click.option("--threshold", type=click.FloatRange(0, 1), help="The accuracy that the gate asks for.")
@click.option(
    "--hyperparameter", "hyperparameters", metavar="NAME=VALUE", multiple=True, help="For training."
)
@click.option("--preprocess", "preprocess", metavar="NAME=VALUE", multiple=True, help="For preprocessing.")
@click.option(
    "--cache/--no-cache",
    "use_cache",
    default=True,
    help="Take what earlier runs made from the same code, data and parameters; or run each job.",
)
@click.option(
    "--approval",
    "rules",
    metavar="NAME=VALUE",
    multiple=True,
    help="A rule: Approvers=a@x.org,b@x.org, Required, FourEyes, TimeoutSeconds, ReminderSeconds.",
)
@click.option("--model-package", metavar="ARN", help="Deploy this approved model package by hand instead.")
@click.option("--watch/--no-watch", "watching", default=False, help="Follow the run to its end.")
def run(
    services: Services,
    platform: Platform,
    dataset: str | None,
    threshold: float | None,
    hyperparameters: tuple[str, ...],
    preprocess: tuple[str, ...],
    use_cache: bool,
    rules: tuple[str, ...],
    model_package: str | None,
    watching: bool,
) -> None:
    """Start a release of DATASET: a zip of class folders on this machine, or an s3:// URI.

    \b
    Example:
      stagegate run scenes.zip --watch
      stagegate run s3://bucket/datasets/scenes.zip --threshold 0.8 --hyperparameter epochs=20
      stagegate run --model-package arn:aws:sagemaker:…:model-package/stagegate-models/3
    """
    if (dataset is None) == (model_package is None):
        raise click.UsageError("Give either DATASET or --model-package.")
    approval = approval_rules(pairs(rules))
    if model_package is not None:
        arn = pipeline.start_deploy(services, platform, model_package, approval=approval)
    else:
        assert dataset is not None
        config = replace(
            services.config,
            accuracy_threshold=services.config.accuracy_threshold if threshold is None else threshold,
            hyperparameters={**services.config.hyperparameters, **pairs(hyperparameters)},
            preprocess={**services.config.preprocess, **pairs(preprocess)},
        )
        arn = pipeline.start_build(
            Services(config), platform, dataset=dataset, use_cache=use_cache, approval=approval
        )
    console.print(f"  started [bold]{escape(arn.rsplit(':', 1)[-1])}[/]", highlight=False)
    if watching:
        show(services, arn)


_RULES: dict[str, Callable[[str], Any]] = {
    "Approvers": lambda value: value.split(","),
    "Required": int,
    "FourEyes": {"true": True, "false": False}.__getitem__,
    "TimeoutSeconds": int,
    "ReminderSeconds": int,
}


def approval_rules(given: dict[str, str]) -> dict[str, Any]:
    """The rules of an approval as the state machine takes them."""
    rules = {}
    for name, value in given.items():
        if name not in _RULES:
            raise click.UsageError(f"There is no rule '{name}' of approval; there are {', '.join(_RULES)}.")
        try:
            rules[name] = _RULES[name](value)
        except (ValueError, KeyError) as error:
            raise click.UsageError(f"The rule {name} cannot be '{value}'.") from error
    return rules


def pairs(settings: tuple[str, ...]) -> dict[str, str]:
    """`("epochs=5",)` as {"epochs": "5"}."""
    for setting in settings:
        if "=" not in setting:
            raise click.UsageError(f"'{setting}' should read NAME=VALUE, for example epochs=5.")
    return dict(setting.split("=", 1) for setting in settings)


@command
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
@as_json
def runs(services: Services, platform: Platform, limit: int, as_json: bool) -> None:
    """List the runs of both state machines, newest first.

    \b
    Example:
      stagegate runs --limit 5
    """
    found = pipeline.list_runs(services, platform, limit=limit)
    if as_json:
        print_json([asdict(run) for run in found])
        return
    rows = [
        [
            escape(run.name),
            escape(run.state_machine.removeprefix(f"{services.config.project}-")),
            display.styled(run.status),
            local_time(run.started),
            display.duration(run.seconds),
        ]
        for run in found
    ]
    print_table("Runs", ("run", "state machine", "status", "started", "duration"), rows)


@command
@click.argument("name", metavar="RUN", required=False)
def watch(services: Services, platform: Platform, name: str | None) -> None:
    """Follow RUN, or the latest one, state by state. Exits 1 when it does not succeed.

    \b
    Example:
      stagegate watch
      stagegate watch r-20261123-071500-1a2b
    """
    show(services, pipeline.find_run(services, platform, name).arn)


def show(services: Services, execution_arn: str) -> None:
    ended = display.Following(console, services).run(execution_arn)
    if ended.status != "SUCCEEDED":
        raise ReleaseFailed(f"The run {execution_arn.rsplit(':', 1)[-1]} ended as {ended.status}.")


@command
@click.option("--all", "everything", is_flag=True, help="Also those that have been decided or have expired.")
@as_json
def approvals(services: Services, platform: Platform, everything: bool, as_json: bool) -> None:
    """List what waits for a person's decision.

    \b
    Example:
      stagegate approvals
    """
    found = list_approvals(services, platform, pending=not everything)
    if as_json:
        print_json([asdict(approval) for approval in found])
        return
    rows = [
        [
            escape(approval.approval_id[:_SHOWN]),
            escape(approval.subject),
            display.styled(approval.status),
            f"{len(approval.votes)} of {approval.required}",
            local_time(approval.requested),
            local_time(approval.expires),
        ]
        for approval in found
    ]
    columns = ("id", "subject", "status", "votes", "requested", "expires")
    print_table("Approvals", columns, rows)


@command
@click.argument("approval_id", metavar="ID")
@click.option("--comment", default="", help="Why; kept with the decision.")
def approve(services: Services, platform: Platform, approval_id: str, comment: str) -> None:
    """Approve what ID asks for; its first characters do. `stagegate approvals` lists the ids.

    Who decides is who you are to AWS: the function has STS check it.

    \b
    Example:
      stagegate approve 5f0c1d2e --comment "accuracy as expected"
    """
    answer(services, platform, approval_id, decision="approve", comment=comment)


@command
@click.argument("approval_id", metavar="ID")
@click.option("--comment", required=True, help="Why; kept with the decision.")
def reject(services: Services, platform: Platform, approval_id: str, comment: str) -> None:
    """Reject what ID asks for; its first characters do. A comment says why.

    \b
    Example:
      stagegate reject 5f0c1d2e --comment "glacier got worse"
    """
    answer(services, platform, approval_id, decision="reject", comment=comment)


def answer(services: Services, platform: Platform, name: str, *, decision: str, comment: str) -> None:
    approval = find_approval(services, platform, name)
    message = decide(services, approval.approval_id, decision=decision, comment=comment)
    console.print(f"  [green]✔[/] {escape(message)}")


@command
def rotate_signing_key(services: Services, platform: Platform) -> None:
    """Sign the links of approval mails with a new key. Links that were mailed stay valid until the next time.

    \b
    Example:
      stagegate rotate-signing-key
    """
    rotate_key(services, platform)
    console.print("  [green]✔[/] A new key signs; the one before it is valid until the next rotation.")


@main.command()
@click.argument("number", type=int, required=False)
@as_json
@click.pass_obj
def inbox(config: Config, number: int | None, as_json: bool) -> None:
    """List the mails that the local runtime has delivered, or show the one with NUMBER.

    \b
    Example:
      stagegate inbox
      stagegate inbox 3
    """
    if not config.is_local:
        raise ConfigurationError("The inbox is the local runtime's: on AWS, mail goes to its recipients.")
    if not local_server.is_answering(config.endpoint_url):
        raise NotReachable(f"Nothing answers at {config.endpoint_url}: start it with `stagegate up`.")
    mails = [mail for mail in read_inbox(config) if number in (None, mail.number)]
    if number is not None and not mails:
        raise NotFound(f"There is no mail {number}: see `stagegate inbox`.")
    if as_json:
        print_json([asdict(mail) for mail in mails])
        return
    if number is not None:
        headers = [("From", mails[0].sender), ("To", mails[0].recipient), ("Date", mails[0].date)]
        console.print(f"[bold]{escape(mails[0].subject)}[/]", highlight=False)
        for name, value in headers:
            console.print(f"[dim]{name + ':':<6}[/] {escape(value)}", highlight=False)
        click.echo(f"\n{mails[0].text}")
        return
    rows = [
        [str(mail.number), escape(mail.date), escape(mail.recipient), escape(mail.subject)] for mail in mails
    ]
    print_table("Mails", ("mail", "date", "to", "subject"), rows)
    console.print(f"  In a browser: {inbox_page(config)}", soft_wrap=True)


@main.group()
def audit() -> None:
    """The record of all decisions: who, what, when, from where, why.

    \b
    Example:
      stagegate audit log
      stagegate audit verify
    """


@audit.command("verify")
@click.option(
    "--expect",
    metavar="NUMBER:HASH",
    help="An entry that was seen before: in an execution's output, or printed by an earlier verification.",
)
@served
def audit_verify(services: Services, platform: Platform, expect: str | None) -> None:
    """Check that no entry of the record was changed, taken out or put in. Exits 1 where one was.

    \b
    Example:
      stagegate audit verify
      stagegate audit verify --expect 12:9f86d081884c7d65…
    """
    wrong = audit_record.verify(services, platform, expected=expect)
    for fault in wrong:
        console.print(f"  [red]✘[/] {escape(fault)}", soft_wrap=True)
    entries = audit_record.read_record(services, platform)
    if wrong:
        raise ReleaseFailed(f"The record of {len(entries)} entries is not whole.")
    last = f", the last is {entries[-1].number}:{entries[-1].hash}" if entries else ""
    console.print(
        f"  [green]✔[/] {len(entries)} entries, none changed{last}", soft_wrap=True, highlight=False
    )


@audit.command("log")
@as_json
@served
def audit_log(services: Services, platform: Platform, as_json: bool) -> None:
    """List the entries of the record, oldest first.

    \b
    Example:
      stagegate audit log --json
    """
    entries = audit_record.read_record(services, platform)
    if as_json:
        print_json([entry.content | {"hash": entry.hash} for entry in entries])
        return
    rows = [
        [
            str(entry.number),
            local_time(entry.time),
            display.styled(entry.content["decision"]),
            escape(entry.content.get("by", "nobody")),
            escape(entry.content["subject"]),
            escape(entry.content.get("comment", "")),
            escape(entry.content.get("from", "")),
        ]
        for entry in entries
    ]
    print_table("Record", ("entry", "time", "decision", "by", "subject", "comment", "from"), rows)


@command
@as_json
def models_(services: Services, platform: Platform, as_json: bool) -> None:
    """List the registered model versions, newest first.

    \b
    Example:
      stagegate models
    """
    found = models.list_models(services, platform)
    if as_json:
        print_json([asdict(model) for model in found])
        return
    rows = [
        [
            str(model.version),
            display.styled(model.approval_status),
            escape(model.accuracy),
            escape(model.run_id),
            escape(model.commit[:12]),
            local_time(model.created),
            escape(model.approval_description),
        ]
        for model in found
    ]
    print_table("Models", ("version", "status", "accuracy", "run", "commit", "created", "decision"), rows)


@command
@as_json
def endpoints(services: Services, as_json: bool) -> None:
    """List what serves where: staging and production.

    \b
    Example:
      stagegate endpoints
    """
    found = models.list_endpoints(services)
    if as_json:
        print_json([asdict(endpoint) for endpoint in found])
        return
    rows = [
        [
            endpoint.stage,
            escape(endpoint.name),
            display.styled(endpoint.status),
            escape(endpoint.model_package_arn.rsplit(":", 1)[-1]),
            local_time(endpoint.updated),
        ]
        for endpoint in found
    ]
    print_table("Endpoints", ("stage", "endpoint", "status", "model package", "updated"), rows)


@command
@click.argument("stage", type=click.Choice(models.STAGES))
@click.argument(
    "images", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@as_json
def invoke(services: Services, stage: str, images: tuple[Path, ...], as_json: bool) -> None:
    """Classify IMAGES (.jpg, .png, .npy) by the endpoint of STAGE.

    \b
    Example:
      stagegate invoke production beach.jpg street.png
    """
    found = [models.invoke(services, stage, image=str(image), body=image.read_bytes()) for image in images]
    if as_json:
        print_json([asdict(prediction) for prediction in found])
        return
    console.print(display.predictions_table(stage, [(prediction, None) for prediction in found]))


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


def print_table(title: str, columns: tuple[str, ...], rows: list[list[str]]) -> None:
    if rows:
        console.print(display.table(title, columns, rows))
    else:
        console.print(f"  No {title.lower()}.")


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, default=lambda value: value.isoformat(), indent=2))


def local_time(time: datetime) -> str:
    return f"{time.astimezone():%m-%d %H:%M:%S}"


models_.name = "models"
main.add_command(models_, "models")
main.commands.pop("models-", None)
