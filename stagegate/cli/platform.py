"""The platform: shown before it is deployed, and taken away again."""

import sys
from collections.abc import Iterable
from dataclasses import asdict

import click
from rich.markup import escape

from stagegate import display, local_server
from stagegate.aws import Services, explained
from stagegate.cli.base import console, enforce_iam, main
from stagegate.config import Config
from stagegate.deployment import (
    assets_bucket,
    plan_platform,
    read_platform,
    settle,
    verified_sender,
)
from stagegate.destruction import Destruction, destroy, kept, plan_destruction
from stagegate.errors import Declined
from stagegate.stacks import ChangeSet, ResourceChange, StackEvent, ValueChange, discard, execute

_LONGEST_VALUE = 40


@main.command()
@click.option(
    "--yes/--ask",
    "is_agreed",
    default=None,
    help="Whether to deploy without showing the changes and asking.  [default: on one machine, not on AWS]",
)
@enforce_iam
@click.pass_obj
def up(config: Config, is_agreed: bool | None, enforce_iam: bool) -> None:
    """Deploy the platform, deploy/platform.yaml; on one machine, start the local runtime if it does not run.

    On AWS it first shows what CloudFormation would change, and asks.

    \b
    Example:
      stagegate up
      stagegate up --enforce-iam      the same, and roles may do only what their policies allow
      stagegate up --target aws       the same stack in your AWS account
    """
    is_agreed = config.is_local if is_agreed is None else is_agreed
    if not is_agreed:
        check_terminal("stagegate up --yes", "deploys")
    if config.is_local and not local_server.is_answering(config.endpoint_url):
        with display.step(console, f"local runtime at {config.endpoint_url}"):
            local_server.start(config, enforce_iam=enforce_iam)
    elif enforce_iam and not (config.is_local and local_server.iam_usage(config.endpoint_url)["IsEnforced"]):
        raise click.UsageError(
            "--enforce-iam is for a local runtime that this starts; one runs already: `stagegate down` first."
            if config.is_local
            else "--enforce-iam is for the local runtime: AWS always does."
        )
    with explained(config):
        services = Services(config)
        show_events(settle(services))
        deploy(services, is_agreed=is_agreed)
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
    if config.is_local and (address := local_server.console_address(config.endpoint_url)):
        console.print(f"  In a browser: [bold]{address}[/]", soft_wrap=True, highlight=False)
    if platform.clone_url:
        remote = services.config.target
        console.print(
            f"  To release by a push: [bold]git remote add {remote} {escape(platform.clone_url)}[/], "
            f"then [bold]git push {remote} main[/]",
            soft_wrap=True,
            highlight=False,
        )


@main.command("destroy")
@click.option("--yes", "is_agreed", is_flag=True, help="Destroy without asking.")
@click.pass_obj
def destroy_platform(config: Config, is_agreed: bool) -> None:
    """Take the platform away: the endpoints, then everything else but the data, which it names.

    It first shows what goes and what is kept, and asks. What runs is stopped. Interrupted or failed, it goes
    on where it is called again.

    \b
    Example:
      stagegate destroy
      stagegate destroy --target aws
    """
    if not is_agreed:
        check_terminal("stagegate destroy --yes", "destroys")
    with explained(config):
        services = Services(config)
        destruction = plan_destruction(services)
        if destruction.is_nothing:
            console.print(f"  Nothing to destroy: {config.project} has no stack and no assets bucket.")
            show_kept(services, destruction)
            return
        show_destruction(destruction)
        if not is_agreed and not confirm_destruction(services):
            raise Declined("Nothing is destroyed.")
        show_events(destroy(services, destruction))
        console.print(f"  [green]✔[/] {escape(config.project)} is gone")
        show_kept(services, destruction)


def confirm_destruction(services: Services) -> bool:
    config = services.config
    if config.is_local:
        return click.confirm(f"Destroy {config.project} on this machine?")
    where = f"account {services.account()}, {config.region}"
    typed = click.prompt(f"To destroy it in {where}, type the project's name ({config.project})", default="")
    return bool(typed == config.project)


def show_destruction(destruction: Destruction) -> None:
    for name in (*destruction.stacks, ""):
        rows = [
            [
                "[green]kept[/]" if part.is_kept else "[red]-[/]",
                escape(part.logical_id),
                escape(part.resource_type),
                escape(part.name),
            ]
            for part in sorted(destruction.parts, key=lambda part: part.is_kept)
            if part.stack == name
        ]
        title = f"The stack {name}" if name else "In no stack"
        if rows:
            console.print(display.table(title, ("", "resource", "type", "name"), rows))
    if destruction.executions:
        console.print(f"  [red]-[/] executions that run, and are stopped: {len(destruction.executions)}")
    if destruction.assets_bucket:
        console.print(
            f"  [red]-[/] the assets bucket {destruction.assets_bucket}, which has nothing but code and "
            "definitions of this project: `stagegate up` from the same commit puts them there again.",
            soft_wrap=True,
        )


def show_kept(services: Services, destruction: Destruction) -> None:
    """What is still there, with the command that would delete it."""
    left = kept(services, destruction)
    if not left:
        return
    console.print("[bold]Kept[/], with what would delete it:")
    if services.config.is_local:
        console.print(f"  export AWS_ENDPOINT_URL={services.config.endpoint_url}")
    for it in left:
        console.print(f"  [green]{escape(it.name)}[/]  [dim]{it.resource_type}[/]", soft_wrap=True)
        if it.command:
            console.print(f"    {escape(it.command)}", soft_wrap=True, highlight=False)


def deploy(services: Services, *, is_agreed: bool) -> None:
    """Deploy the platform, where it is not agreed upon after a look at what changes."""
    change_set = plan_platform(services)
    if change_set is None:
        console.print("  [green]✔[/] the platform is up to date: no changes")
        return
    if not is_agreed:
        show_change_set(change_set)
        try:
            is_agreed = click.confirm(f"Deploy {counted(len(change_set.changes))}?")
        finally:  # also after Ctrl-C
            if not is_agreed:
                discard(services, change_set)
        if not is_agreed:
            raise Declined(f"Nothing is deployed: the stack '{change_set.stack_name}' is as it was.")
    show_events(execute(services, change_set))


def counted(changes: int) -> str:
    """`these 3 changes`; a change set may change nothing but outputs or parameters."""
    if changes == 0:
        return "the change of the stack's outputs"
    return "this change" if changes == 1 else f"these {changes} changes"


def check_terminal(command: str, does: str) -> None:
    """Raises Declined where nobody can be asked."""
    if not sys.stdin.isatty():
        raise Declined(
            "The standard input is no terminal, so nobody can be asked: "
            f"`{command}` {does} without a question."
        )


def show_change_set(change_set: ChangeSet) -> None:
    rows = [
        [
            *_action(change),
            escape(change.logical_id),
            escape(change.resource_type),
            _causes(change),
        ]
        for change in sorted(change_set.changes, key=_by_weight)
    ]
    console.print(
        display.table(
            f"Changes of the stack {change_set.stack_name}", ("", "action", "resource", "type", "what"), rows
        )
    )
    if change_set.parameters:
        console.print(
            display.table(
                "Parameters",
                ("name", "before", "after"),
                [[escape(it.name), _short(it.before), _short(it.after)] for it in change_set.parameters],
            )
        )


def show_events(events: Iterable[StackEvent]) -> None:
    """A line for each resource that is done, or has failed."""
    for event in events:
        if event.status.endswith("_IN_PROGRESS") and not event.status.startswith("ROLLBACK"):
            continue
        is_bad = "FAILED" in event.status or "ROLLBACK" in event.status
        mark = "[red]✘[/]" if is_bad else "[dim]-[/]" if event.status.startswith("DELETE") else "[green]✔[/]"
        kept = "  kept" if event.status == "DELETE_SKIPPED" else ""
        reason = f"  [red]{escape(event.reason)}[/]" if "FAILED" in event.status else ""
        console.print(
            f"  {mark} {escape(event.logical_id):<32} [dim]{escape(event.resource_type)}[/]{kept}{reason}"
        )


_ACTIONS = {
    "Add": ("[green]+[/]", "add"),
    "Import": ("[green]+[/]", "import"),
    "Modify": ("[yellow]~[/]", "change"),
    "Dynamic": ("[yellow]~[/]", "perhaps change"),
    "Remove": ("[red]-[/]", "[red]remove[/]"),
}
_REPLACEMENTS = {
    "True": ("[red]±[/]", "[red]replace[/]"),
    "Conditional": ("[red]±[/]", "[red]perhaps replace[/]"),
}


def _action(change: ResourceChange) -> tuple[str, str]:
    if change.action == "Remove" and change.is_kept:
        return ("[yellow]-[/]", "let go, and keep")
    return _REPLACEMENTS.get(change.replacement) or _ACTIONS.get(change.action, ("", escape(change.action)))


def _by_weight(change: ResourceChange) -> tuple[int, str]:
    """What takes something away first."""
    weight = 0 if change.action == "Remove" else 1 if change.replacement in _REPLACEMENTS else 2
    return (weight, change.logical_id)


def _causes(change: ResourceChange) -> str:
    return "\n".join(_cause(it) for it in change.properties)


def _cause(change: ValueChange) -> str:
    """The property with its values, where they are short enough to see what differs."""
    before, after = _short(change.before), _short(change.after)
    return escape(change.name) if before == after else f"{escape(change.name)}: {before} → {after}"


def _short(value: str) -> str:
    if value == "{{changeSet:KNOWN_AFTER_APPLY}}":
        return "[dim]known when it is there[/]"
    text = value if len(value) <= _LONGEST_VALUE else f"{value[: _LONGEST_VALUE - 1]}…"
    return escape(text) if text else "[dim]-[/]"
