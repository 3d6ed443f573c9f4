"""What the commands read of the approvals table, and whether the record of decisions is whole."""

import json
from typing import Any

import boto3
import pytest

from stagegate import audit
from stagegate.approvals import find_approval, list_approvals, rotate_key
from stagegate.aws import Services
from stagegate.config import Config
from stagegate.deployment import Platform
from stagegate.errors import NotFound
from tests.deploy.conftest import Functions
from tests.deploy.conftest import functions as functions  # a fixture


def platform(**changes: str) -> Platform:
    return Platform(
        **{
            "data_bucket": "data",
            "model_build_arn": "arn:build",
            "model_deploy_arn": "arn:deploy",
            "model_package_group": "stagegate-models",
            "approval_table": "approvals",
            "approval_record": "record",
            "signing_key_arn": "key",
            "decision_url": "http://127.0.0.1/",
            "ci_arn": "arn:ci",
            "clone_url": "http://127.0.0.1/v1/repos/stagegate",
            **changes,
        }
    )


@pytest.fixture
def services(functions: Functions) -> Services:
    return Services(Config(target="aws"))


def test_approvals_that_still_wait_are_listed_and_found_by_the_start_of_their_id(
    functions: Functions, services: Services
) -> None:
    functions.ask()
    functions.request(functions.event(execution="decided"))
    functions.send(functions.links()["approve"], comment="good")
    functions.request(functions.event(execution="expired", TimeoutSeconds=-1))

    (waiting,) = list_approvals(services, platform())
    found = list_approvals(services, platform(), pending=False)

    decided = next(approval for approval in found if approval.status == "approved")
    assert (waiting.status, waiting.approvers, waiting.required) == ("pending", ("anna@example.com",), 1)
    assert [(vote.decision, vote.by, vote.source, vote.comment) for vote in decided.votes] == [
        ("approve", "anna@example.com", "192.0.2.7 a browser", "good")
    ]
    assert decided.decided is not None
    assert len(found) == 3
    assert find_approval(services, platform(), waiting.approval_id[:12]) == waiting
    with pytest.raises(NotFound, match="There is no approval 'x'"):
        find_approval(services, platform(), "x")
    with pytest.raises(NotFound, match="3 approvals begin with ''"):
        find_approval(services, platform(), "")


def test_the_token_is_not_read(functions: Functions, services: Services) -> None:
    functions.ask()

    assert "token-1" not in repr(list_approvals(services, platform()))


def test_a_rotated_key_leaves_the_links_before_it_valid_once(
    functions: Functions, services: Services
) -> None:
    link = functions.ask()["approve"]
    links = functions.modules["approval_links"]
    statuses = []

    for _ in range(2):
        rotate_key(services, platform())
        links._known = (0.0, [])
        statuses.append(functions.open(link)["statusCode"])

    assert statuses == [200, 403]


@pytest.fixture
def decided(functions: Functions) -> Functions:
    """Three approvals, decided in different ways: four entries."""
    two: dict[str, Any] = {"Approvers": ["anna@example.com", "carl@example.com"], "Required": 2}
    functions.request(functions.event(execution="both", **two))
    functions.send(functions.links("anna@example.com")["approve"])
    functions.send(functions.links("carl@example.com")["approve"], comment="gut so")
    functions.request(functions.event(execution="rejected"))
    functions.send(functions.links()["reject"], comment="no")
    functions.request(functions.event(execution="silence"))
    functions.expire(execution="silence")
    return functions


def test_an_untouched_record_is_whole(decided: Functions, services: Services) -> None:
    entries = audit.read_record(services, platform())

    assert [entry.content["decision"] for entry in entries] == ["approve", "approve", "reject", "expire"]
    assert audit.verify(services, platform()) == []
    assert audit.verify(services, platform(), expected=f"3:{entries[2].hash}") == []
    assert audit.verify(services, platform(), expected="3:0000")[0].startswith(
        "Entry 3 should have the hash 0000"
    )


def change(number: int, **content: Any) -> None:
    """As somebody with access to the table might, who also computes the entry's own hash anew."""
    import hashlib

    table = boto3.resource("dynamodb").Table("record")
    item = table.get_item(Key={"log": "approvals", "number": number})["Item"]
    body = json.dumps(json.loads(item["body"]) | content, sort_keys=True)
    table.put_item(Item=item | {"body": body, "hash": hashlib.sha256(body.encode()).hexdigest()})


def delete(number: int) -> None:
    boto3.resource("dynamodb").Table("record").delete_item(Key={"log": "approvals", "number": number})


def change_approval(**values: str) -> None:
    table = boto3.resource("dynamodb").Table("approvals")
    item = next(item for item in table.scan()["Items"] if item["status"] == "rejected")
    table.put_item(Item=item | values)


def test_a_change_of_the_content_alone_is_found(decided: Functions, services: Services) -> None:
    table = boto3.resource("dynamodb").Table("record")
    item = table.get_item(Key={"log": "approvals", "number": 1})["Item"]
    table.put_item(Item=item | {"body": item["body"].replace("anna", "eve")})

    wrong = audit.verify(services, platform())

    assert "Entry 1 was changed: its content does not have its hash." in wrong


def test_a_change_with_a_new_hash_is_found(decided: Functions, services: Services) -> None:
    change(2, by="eve@example.com")

    wrong = audit.verify(services, platform())

    assert "Entry 3 does not follow from the one before it." in wrong
    assert any("which is missing or another one." in fault for fault in wrong)


def test_an_entry_that_was_taken_out_is_found(decided: Functions, services: Services) -> None:
    delete(2)

    assert "After entry 1 comes entry 3: what was between them is missing." in audit.verify(
        services, platform()
    )


def test_entries_that_were_taken_off_the_end_are_found(decided: Functions, services: Services) -> None:
    delete(4)

    (wrong,) = audit.verify(services, platform())

    assert wrong.endswith("was decided with entry 4, which is missing or another one.")


def test_an_approval_that_was_changed_is_found(decided: Functions, services: Services) -> None:
    change_approval(status="approved")

    (wrong,) = audit.verify(services, platform())

    assert wrong.endswith("is approved; by the record it is rejected.")


def test_a_decision_that_was_never_recorded_is_found(decided: Functions, services: Services) -> None:
    table = boto3.resource("dynamodb").Table("approvals")
    item = next(item for item in table.scan()["Items"] if item["status"] == "rejected")
    for name in ("record_number", "record_hash"):
        del item[name]
    table.put_item(Item=item)

    (wrong,) = audit.verify(services, platform())

    assert wrong.endswith("is rejected, which is not in the record.")
