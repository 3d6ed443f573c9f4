"""Who may decide, and how many it takes."""

from typing import Any

import pytest

from tests.deploy.conftest import Functions

TWO: dict[str, Any] = {
    "Approvers": ["anna@example.com", "carl@example.com", "dora@example.com"],
    "Required": 2,
}


def test_two_of_three_have_to_approve(functions: Functions) -> None:
    functions.ask(**TWO)

    first = functions.send(functions.links("anna@example.com")["approve"], comment="fine")
    again = functions.send(functions.links("anna@example.com")["approve"])
    half = functions.approval(functions.links()["approve"])
    second = functions.send(functions.links("dora@example.com")["approve"])

    assert "your approval counts. 1 approved; 1 more to go." in first["body"]
    assert (again["statusCode"], second["statusCode"]) == (409, 200)
    assert "You have answered already." in again["body"]
    assert half.is_pending
    (taken,) = functions.step_functions.taken
    assert taken["decided_by"] == "anna@example.com, dora@example.com"
    assert [vote["by"] for vote in taken["votes"]] == ["anna@example.com", "dora@example.com"]
    assert [entry["status"] for entry in functions.record()] == ["pending", "approved"]


def test_one_rejection_is_enough(functions: Functions) -> None:
    functions.ask(**TWO)
    functions.send(functions.links("anna@example.com")["approve"])

    functions.send(functions.links("carl@example.com")["reject"], comment="no")

    (taken,) = functions.step_functions.taken
    assert (taken["decision"], taken["decided_by"]) == ("reject", "carl@example.com")


def test_some_of_the_votes_when_the_time_is_over_are_not_enough(functions: Functions) -> None:
    functions.ask(**TWO)
    functions.send(functions.links("anna@example.com")["approve"])

    answer = functions.expire()

    assert answer["decision"] == "expire"
    assert "1 of 2 had approved." in answer["description"]


@pytest.mark.parametrize(
    "started_by",
    [
        "anna@example.com arn:aws:iam::111111111111:user/x",
        "x arn:aws:sts::111111111111:assumed-role/Dev/Anna@Example.com",
        "ANNA@example.com",
    ],
)
def test_nobody_decides_about_a_run_that_they_started(functions: Functions, started_by: str) -> None:
    rules = TWO | {"Required": 1}
    functions.request(functions.event(**rules) | {"StartedBy": started_by})

    own = functions.send(functions.links("anna@example.com")["approve"])
    others = functions.send(functions.links("carl@example.com")["approve"])

    assert (own["statusCode"], others["statusCode"]) == (403, 200)
    assert "under the rule of four eyes somebody else decides" in own["body"]


def test_without_four_eyes_whoever_started_it_may_decide(functions: Functions) -> None:
    functions.request(functions.event(FourEyes=False) | {"StartedBy": "anna@example.com"})

    assert functions.send(functions.links()["approve"])["statusCode"] == 200


def test_who_started_it_is_what_the_package_says_where_the_machine_does_not(functions: Functions) -> None:
    from tests.deploy.conftest import register

    functions.package = register(StartedBy="anna@example.com")
    event = functions.event()
    del event["StartedBy"]
    functions.request(event)

    assert functions.send(functions.links()["approve"])["statusCode"] == 403


def test_the_same_person_by_mail_and_by_iam_counts_once(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = functions.ask(**TWO)
    functions.send(links["approve"])
    arn = "arn:aws:sts::111111111111:assumed-role/Release/anna@example.com"
    monkeypatch.setattr(functions.modules["approval_decision"], "caller_of", lambda identity, **_: arn)
    wish = {"approval_id": functions.approval(links["approve"]).approval_id, "decision": "approve"}

    with pytest.raises(Exception, match="You have answered already"):
        functions.modules["approval_decision"].handler(wish, None)
