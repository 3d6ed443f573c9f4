"""What roles have asked the local runtime for: calls, refusals, and permissions that nothing has used."""

import sys
from typing import Any

import click
from rich.markup import escape

from stagegate import local_server
from stagegate.cli.base import as_json, console, main, print_json
from stagegate.config import Config
from stagegate.errors import NotFound


@main.command()
@click.argument("role", required=False)
@click.option("--calls", is_flag=True, help="The allowed calls too, each with the statement that allows it.")
@click.option("--clear", is_flag=True, help="Begin a new record: what was asked for so far is forgotten.")
@as_json
@click.pass_obj
def iam(config: Config, /, *, role: str | None, calls: bool, clear: bool, as_json: bool) -> None:
    """Say role by role what was refused, or would be on AWS, and which permissions nothing has used.

    Of what ran on the local runtime since the record began. Exits 1 where a role's policies refuse a call.

    \b
    Example:
      stagegate iam
      stagegate iam stagegate-states --calls
    """
    usage = local_server.iam_usage(config.endpoint_url, clear=clear)
    roles = [entry for entry in usage["Roles"] if role in (None, _name(entry), entry["Role"])]
    if role is not None and not roles:
        known = ", ".join(_name(entry) for entry in usage["Roles"]) or "none yet"
        raise NotFound(f"There is no role '{role}'; there are: {known}.")
    if as_json:
        print_json({**usage, "Roles": roles})
    else:
        for entry in roles:
            _print_role(entry, is_enforced=usage["IsEnforced"], with_calls=calls)
    if any(not call["IsAllowed"] for entry in roles for call in entry["Calls"]):
        sys.exit(1)


def _print_role(entry: dict[str, Any], *, is_enforced: bool, with_calls: bool) -> None:
    refused = [call for call in entry["Calls"] if not call["IsAllowed"]]
    missing = "" if entry["Exists"] else "  [red]IAM has no such role[/]"
    said = f"{len(entry['Calls'])} calls" + (f", {len(refused)} refused" if refused else "")
    console.print(f"[bold]{escape(_name(entry))}[/]  [dim]{said}[/]{missing}", soft_wrap=True)
    for call in entry["Calls"]:
        if call["IsAllowed"] and not with_calls:
            continue
        mark = "[green]✔[/]" if call["IsAllowed"] else "[red]✘[/]"
        why = ", ".join(call["Statements"]) if call["IsAllowed"] else call["Reason"]
        line = f"{call['Action']} on {call['Resource']}"
        console.print(f"  {mark} {escape(line)}  [dim]{escape(why)}[/]", soft_wrap=True)
    if refused and not is_enforced:
        console.print("    [yellow]AWS would have refused these; so does stagegate local --enforce-iam[/]")
    for unused in entry["Unused"]:
        for what in (*unused["Actions"], *(f"on {resource}" for resource in unused["Resources"])):
            where = f"unused, {unused['Statement']}"
            console.print(f"  [yellow]·[/] {escape(what)}  [dim]{escape(where)}[/]", soft_wrap=True)


def _name(entry: dict[str, Any]) -> str:
    return str(entry["Role"]).rsplit("/", 1)[-1]
