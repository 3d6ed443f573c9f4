"""The commands at a prompt: what they refuse, and what they show of the inbox."""

import json
import time

import click
import pytest
from click.testing import CliRunner, Result

from stagegate.cli import main
from stagegate.cli.releases import approval_rules, pairs
from tests.conftest import Local


def stagegate(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, env={"COLUMNS": "160"})


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("Approver=a@x.org", "There is no rule 'Approver' of approval; there are Approvers, Required"),
        ("Required=two", "The rule Required cannot be 'two'."),
        ("FourEyes=yes", "The rule FourEyes cannot be 'yes'."),
        ("Required", "'Required' should read NAME=VALUE"),
    ],
)
def test_a_wrong_rule_of_approval_is_refused(rule: str, message: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        approval_rules(pairs((rule,)))

    assert message in refused.value.message


def test_the_rules_are_given_as_the_state_machine_takes_them() -> None:
    given = ("Approvers=a@x.org,b@x.org", "Required=2", "FourEyes=false", "TimeoutSeconds=60")

    assert approval_rules(pairs(given)) == {
        "Approvers": ["a@x.org", "b@x.org"],
        "Required": 2,
        "FourEyes": False,
        "TimeoutSeconds": 60,
    }


def test_the_inbox_lists_and_shows_mails(local: Local) -> None:
    local.client("sesv2").create_email_identity(EmailIdentity="releases@example.com")
    for count, subject in enumerate(("Approval: [bold]one[/]", "Approval: two"), start=1):
        local.client("sesv2").send_email(
            FromEmailAddress="releases@example.com",
            Destination={"ToAddresses": ["ada@example.com"]},
            Content={"Simple": {"Subject": {"Data": subject}, "Body": {"Text": {"Data": "Look: https://x"}}}},
        )
        deadline = time.monotonic() + 30
        while len(json.loads(local.get("/_stagegate/inbox"))) < count:  # mail is on its way for a moment
            assert time.monotonic() < deadline
            time.sleep(0.02)
    at = ("--endpoint-url", local.endpoint_url, "inbox")

    listed, shown, missing, as_json = (
        stagegate(*at, *more) for more in ((), ("1",), ("3",), ("2", "--json"))
    )

    assert listed.exit_code == shown.exit_code == as_json.exit_code == 0
    assert "Approval: [bold]one[/]" in listed.output and "Approval: two" in listed.output
    assert f"In a browser: {local.endpoint_url}/_stagegate/inbox" in listed.output
    assert "To:    ada@example.com" in shown.output and "Look: https://x" in shown.output
    assert missing.exit_code == 1
    assert [mail["subject"] for mail in json.loads(as_json.stdout)] == ["Approval: two"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--target", "aws", "inbox"),
        ("inbox", "--target", "aws"),
        ("inbox", "--target=aws"),
        ("inbox", "1", "--target", "aws", "--json"),
    ],
    ids=" ".join,
)
def test_the_target_may_stand_before_and_after_the_command(arguments: tuple[str, ...]) -> None:
    refused = stagegate(*arguments)

    assert refused.exit_code == 1
    assert "The inbox is the local runtime's: on AWS, mail goes to its recipients." in refused.stderr


def test_what_stands_after_the_command_is_checked_as_before_it() -> None:
    nowhere, nothing = stagegate("inbox", "--target", "mars"), stagegate("inbox", "--target")

    assert (nowhere.exit_code, nothing.exit_code) == (2, 2)
    assert "'mars' is not one of 'local', 'aws'" in nowhere.stderr
    assert "Option '--target' requires an argument." in nothing.stderr


def test_no_command_has_an_option_that_is_everywhere() -> None:
    def options(command: click.Command) -> set[str]:
        return {name for option in command.params for name in (*option.opts, *option.secondary_opts)}

    def within(group: click.Group) -> set[str]:
        return set().union(
            *(
                options(it) | (within(it) if isinstance(it, click.Group) else set())
                for it in group.commands.values()
            )
        )

    assert options(main) & within(main) == set()


def test_there_is_no_inbox_on_aws_and_none_where_nothing_runs() -> None:
    on_aws = stagegate("--target", "aws", "inbox")
    nowhere = stagegate("--endpoint-url", "http://127.0.0.1:9", "inbox")

    assert (on_aws.exit_code, nowhere.exit_code) == (1, 1)
    assert "The inbox is the local runtime's" in on_aws.output
    assert "start it with `stagegate up`" in nowhere.output
