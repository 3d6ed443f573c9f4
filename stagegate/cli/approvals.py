"""Decisions: what waits for one, the answers, the mails, and the record of them all."""

from dataclasses import asdict

import click
from rich.markup import escape

from stagegate import audit as audit_record
from stagegate import display, local_server
from stagegate.approvals import decide, find_approval, list_approvals, rotate_key
from stagegate.aws import Services
from stagegate.cli.base import as_json, command, console, local_time, main, print_json, print_table, served
from stagegate.config import Config
from stagegate.deployment import Platform
from stagegate.errors import ConfigurationError, NotFound, NotReachable, ReleaseFailed
from stagegate.inbox import inbox_page, read_inbox

_SHOWN = 12  # characters of an approval's id: enough to name it


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
