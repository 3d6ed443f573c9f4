"""A fault between any two calls: no decision is lost, none counts twice, and no run waits for nothing.

The state machine and the person are played as they behave: the machine tries again what failed and begins
another round when the time of one is over; the person opens the link again, or gives up.
"""

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from stagegate import audit
from tests.deploy.conftest import Functions

TRIES = 4


class Killed(BaseException):
    """The function's process is gone."""


def throttled() -> None:
    raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "Rate exceeded"}}, "Any")


def unreachable() -> None:
    raise EndpointConnectionError(endpoint_url="https://dynamodb")


def killed() -> None:
    raise Killed


FAULTS = [
    pytest.param(throttled, False, id="throttled", marks=pytest.mark.slow),
    pytest.param(unreachable, True, id="answer lost"),
    pytest.param(killed, False, id="killed before", marks=pytest.mark.slow),
    pytest.param(killed, True, id="killed after"),
]


def release(functions: Functions, execution: str, *, decision: str, gives_up: bool) -> dict[str, Any]:
    """A request and its answer; gives what the state machine goes on with."""
    taken = functions.step_functions.taken
    taken.clear()
    functions.modules["approval_links"]._known = (0.0, [])  # a cold start: the keys are asked for
    functions.mailbox.mails.clear()
    _persistent(lambda: functions.request(functions.event(execution=execution)))
    _decide(functions, decision, tries=1 if gives_up else TRIES)
    for _ in range(2):
        if not taken:  # the round's time is over, and the next begins
            _persistent(lambda: functions.request(functions.event(execution=execution)))
    if taken:
        return taken[0]
    return _persistent(lambda: functions.expire(execution=execution))


def _persistent(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """As the state machine's Retry: what passes is tried again."""
    for _ in range(TRIES):
        try:
            return call()
        except Killed:
            continue
        except Exception as error:
            assert type(error).__name__ in ("ServiceFailed", "NobodyAsked"), repr(error)
    pytest.fail("the state machine tried in vain")


def _decide(functions: Functions, decision: str, *, tries: int) -> None:
    link = functions.links()[decision]
    for _ in range(tries):
        try:
            page = functions.open(link)
            if page["statusCode"] == 200 and "<form" not in page["body"]:
                return  # it says that it is decided
            if page["statusCode"] == 200:
                form, cookies = functions.form(link)
                answer = functions.post(form | {"comment": "because"}, cookies=cookies)
                if answer["statusCode"] == 200:
                    return
        except (Killed, AssertionError):
            continue


@pytest.mark.parametrize(
    "gives_up",
    [pytest.param(False, id="tries again", marks=pytest.mark.slow), pytest.param(True, id="gives up")],
)
@pytest.mark.parametrize(("fault", "is_after"), FAULTS)
def test_a_fault_at_any_call_loses_no_decision_and_counts_none_twice(
    functions: Functions, fault: Callable[[], None], is_after: bool, gives_up: bool
) -> None:
    calls = functions.calls
    release(functions, "undisturbed", decision="approve", gives_up=False)
    undisturbed = list(calls.made)
    assert len(undisturbed) > 20

    for position in range(len(undisturbed)):
        execution, decision = f"{position}", ("approve", "reject")[position % 2]
        before = len(functions.record())
        calls.made.clear()
        calls.fault, calls.is_after, calls.fault_at = fault, is_after, position

        went_on_with = release(functions, execution, decision=decision, gives_up=gives_up)

        where = f"{undisturbed[position]} ({position})"
        calls.fault = None
        entries = functions.record()[before:]
        assert len(entries) == 1, where
        assert entries[0]["decision"] == went_on_with["decision"], where
        assert went_on_with["decision"] in ({decision, "expire"} if gives_up else {decision}), where
        assert len(functions.step_functions.taken) <= 1, where
        assert functions.mailbox.to("anna@example.com"), where
    assert list(audit.chain_faults(_entries(functions))) == []


def _entries(functions: Functions) -> list[audit.Entry]:
    items = functions.calls.real("dynamodb").scan(TableName="record")["Items"]
    entries = [
        audit.Entry(number=int(item["number"]["N"]), hash=item["hash"]["S"], body=item["body"]["S"])
        for item in items
    ]
    return sorted(entries, key=lambda entry: entry.number)


def test_while_step_functions_does_not_answer_the_decision_is_written_and_said_so(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = functions.ask()["approve"]
    with monkeypatch.context() as down:
        down.setattr(functions.step_functions, "send_task_success", lambda **_: throttled())
        answer = functions.send(link)

    assert answer["statusCode"] == 200
    assert "the run takes the decision by itself, soon" in answer["body"]
    assert not functions.approval(link).delivered
    functions.request(functions.event())
    assert [taken["decision"] for taken in functions.step_functions.taken] == ["approve"]
    assert functions.approval(link).delivered


def test_a_decision_that_was_not_delivered_is_sent_on_when_it_is_made_again(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = functions.ask()["approve"]
    form, cookies = functions.form(link)
    with monkeypatch.context() as down:
        down.setattr(functions.step_functions, "send_task_success", lambda **_: unreachable())
        functions.post(form, cookies=cookies)

    answer = functions.post(form, cookies=cookies)

    assert "The run has been told." in answer["body"]
    assert len(functions.record()) == len(functions.step_functions.taken) == 1
